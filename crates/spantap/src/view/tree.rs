//! A trace as a tree: a line for each span, and lines below it for what is not told in a column.
//!
//! ```text
//!   took  when in its parent  busy  span  fields
//! ```
//!
//! The columns of numbers come first, so that they stay where they are from one trace to the next,
//! and the room after a short name is the fields'.

use std::collections::HashMap;
use std::ops::Range;

use anstyle::Style;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};

use super::account;
use super::bar::{Interval, bar, point};
use super::excerpt::{Part, excerpt};
use super::guide::Guides;
use super::head::head;
use super::line::{BOLD, BOLD_RED, CYAN, DIM, Line, PLAIN, RED, YELLOW};
use super::number::counted;
use super::service::is_same;
use super::{Look, duration, fields, location, readable, service, text};
use crate::account::{Account, PARTIAL};
use crate::attributes::{ODD, find, find_text};
use crate::trace::tree::{Place, Row, rows};
use crate::trace::{Trace, TraceSpan};

/// Of a span; the others are counted.
const MOST_EVENTS: usize = 4;
const MOST_LINKS: usize = 2;
/// Of an error or a note.
const MOST_LINES: usize = 3;
/// Between the end of a span and the start of its child: more of it is odd.
const LONG_NS: u64 = 60_000_000_000;
/// Columns.
const MOST_OF_SERVICE: usize = 30;
const MOST_OF_TARGET: usize = 30;
const LEAST_OF_NAME: usize = 10;

/// The trace, several lines, each with its end. Nothing in it but the colours is an escape sequence.
pub fn tree(trace: &Trace, look: &Look) -> String {
    let rows = rows(trace);
    let drawing = Drawing::new(trace, &rows, look);
    let is_failed = |index: usize| is_error(&rows[index].span.span);
    let mut out = head(trace, &rows, look);
    for part in excerpt(rows.len(), look.lines, is_failed, |index| drawing.row(index)) {
        match part {
            Part::Lines(lines) => out.push_str(&lines),
            Part::Gap(range) => {
                let errors = range.clone().filter(|&index| is_failed(index)).count();
                out.push_str(&drawing.gap(range, errors));
            }
        }
    }
    out
}

/// By its status.
pub fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

/// What drawing a row takes.
struct Drawing<'a, 'b> {
    trace: &'a Trace,
    rows: &'b [Row<'a>],
    names: HashMap<&'a [u8], &'a str>,
    look: &'b Look,
    guides: Guides<'a, 'b>,
    columns: Columns,
    has_processes: bool,
}

/// Where the columns are: the same for all trees in a terminal.
struct Columns {
    bar: usize,
    /// Where it ends.
    busy: Option<usize>,
    tree: usize,
}

/// Before the bar: a sign, and a duration.
const TOOK: usize = duration::COLUMNS + 1;

impl Columns {
    fn new(width: usize) -> Self {
        let bar = (width / 5).clamp(8, 32);
        let bar_end = TOOK + 1 + bar;
        // The bar shows it too, if not to the percent.
        let busy = (width >= 60).then_some(bar_end + 5);
        Self { bar, busy, tree: busy.unwrap_or(bar_end) + 2 }
    }
}

impl<'a, 'b> Drawing<'a, 'b> {
    fn new(trace: &'a Trace, rows: &'b [Row<'a>], look: &'b Look) -> Self {
        let columns = Columns::new(look.width());
        let ids = trace.spans.iter().map(|TraceSpan { span, .. }| (&*span.span_id, &*span.name));
        Self {
            trace,
            rows,
            names: ids.collect(),
            look,
            guides: Guides::new(rows, (look.width() - columns.tree) / 2),
            has_processes: trace.spans.iter().any(|span| !is_same(&span.process, &rows[0].span.process)),
            columns,
        }
    }

    fn parent(&self, row: &Row<'a>) -> Option<&'a TraceSpan> {
        match row.place {
            Place::Child(parent) => Some(self.rows[parent].span),
            _ => None,
        }
    }

    /// The whole width of a row's bar: the parent's time, or for a root its own.
    fn scale(&self, row: &Row<'a>) -> Interval {
        Interval::of(&self.parent(row).unwrap_or(row.span).span)
    }

    /// All lines of a row.
    fn row(&self, index: usize) -> String {
        let row = &self.rows[index];
        let mut out = self.span(index, row);
        out.push_str(&self.account(index, row).unwrap_or_default());
        if let Some(error) = error_text(&row.span.span) {
            out.push_str(&self.below(index, RED, "✗ ", error));
        }
        for note in self.notes(row) {
            out.push_str(&self.below(index, YELLOW, "! ", &note));
        }
        for link in row.span.span.links.iter().take(MOST_LINKS) {
            out.push_str(&self.below(index, DIM, "", &self.link(link)));
        }
        let links = row.span.span.links.len().saturating_sub(MOST_LINKS) as u64;
        if links > 0 {
            out.push_str(&self.below(index, DIM, "… ", &counted(links, "more link", "more links")));
        }
        out + &self.events(index, row) + &self.dropped(index, &row.span.span)
    }

    /// What its sender or the decoder left out.
    fn dropped(&self, index: usize, span: &Span) -> String {
        let kinds = [
            (span.dropped_attributes_count, "attribute", "attributes"),
            (span.dropped_events_count, "event", "events"),
            (span.dropped_links_count, "link", "links"),
        ];
        let dropped = kinds.into_iter().filter(|(count, ..)| *count > 0);
        let texts: Vec<String> = dropped.map(|(count, one, many)| counted(count.into(), one, many)).collect();
        match texts.is_empty() {
            true => String::new(),
            false => self.below(index, DIM, "… ", &format!("dropped: {}", texts.join(", "))),
        }
    }

    fn span(&self, index: usize, row: &Row<'a>) -> String {
        let TraceSpan { process, span } = row.span;
        let (parent, is_error) = (self.parent(row), is_error(span));
        let (interval, shares) = (Interval::of(span), fields::shares(span));
        let mut line = Line::new(self.look);
        line.put(PLAIN, &format!(" {}", duration::column(interval.duration_ns())));
        line.to(TOOK + 1);
        let bar_style = if is_error { RED } else { CYAN };
        line.put(bar_style, &bar(interval, self.scale(row), shares, self.columns.bar));
        if let (Some(end), Some(shares)) = (self.columns.busy, shares) {
            let percent = shares.percent();
            line.to(end - percent.len());
            line.put(DIM, &percent);
        }
        line.to(self.columns.tree);
        line.put(DIM, &self.guides.span(index));
        let name_style = match parent {
            _ if is_error => BOLD_RED,
            None => BOLD,
            Some(_) => PLAIN,
        };
        let is_other = self.has_processes && parent.is_none_or(|parent| !is_same(&parent.process, process));
        let marks = [
            level(&span.attributes).map(|(style, level)| (style, 1, level.to_owned())),
            is_unfinished(span).then(|| (YELLOW, 1, "(unfinished)".to_owned())),
            self.is_late(row).then(|| (YELLOW, 1, "(late)".to_owned())),
            is_other.then(|| (DIM, 2, text::cut(&service::label(process), MOST_OF_SERVICE))),
        ];
        let marks = || marks.iter().flatten();
        // A long name does not push them off the line.
        let reserved: usize = marks().map(|(_, gap, mark)| gap + text::width(mark)).sum();
        let room = line.room().saturating_sub(reserved).max(LEAST_OF_NAME);
        let name = if span.name.is_empty() { "(no name)" } else { &span.name };
        line.put(name_style, &text::cut(name, room));
        for (style, gap, mark) in marks() {
            line.gap(*gap);
            line.put(*style, mark);
        }
        fields::put_span(&mut line, span, &process.resource, is_error);
        line.end()
    }

    /// Where its threads were, if that is known and not all on the CPU.
    fn account(&self, index: usize, row: &Row<'a>) -> Option<String> {
        let account = Account::of(&row.span.span.attributes)?;
        if !account::is_worth_a_line(account) {
            return None;
        }
        let mut line = Line::new(self.look);
        line.to(TOOK + 1);
        account::put_bar(&mut line, account, self.columns.bar);
        line.to(self.columns.tree);
        line.put(DIM, &self.guides.below(index));
        account::put_legend(&mut line, account);
        Some(line.end())
    }

    /// A text that belongs to a row, on lines of its own.
    fn below(&self, index: usize, style: Style, mark: &str, text: &str) -> String {
        let guide = self.guides.below(index);
        let used = self.columns.tree + text::width(&guide) + text::width(mark);
        let lines =
            text::wrap(&text::on_one_line(text), self.look.width().saturating_sub(used).max(2), MOST_LINES);
        let mut out = String::new();
        for (index, part) in lines.iter().enumerate() {
            let mut line = Line::new(self.look);
            line.to(self.columns.tree);
            line.put(DIM, &guide);
            if index == 0 {
                line.put(style, mark)
            } else {
                line.gap(text::width(mark))
            }
            line.put(style, part);
            out.push_str(&line.end());
        }
        out
    }

    /// What is odd about where it hangs and when it was.
    fn notes(&self, row: &Row<'a>) -> Vec<String> {
        let mut notes = Vec::new();
        let parent_id = || const_hex::encode(&row.span.span.parent_span_id);
        match row.place {
            Place::ParentMissing => notes.push(format!("parent missing: {}", parent_id())),
            Place::Circle => notes.push(format!("its parent {} is below it", parent_id())),
            _ => {}
        }
        if let Some(why) = find_text(&row.span.span.attributes, PARTIAL) {
            notes.push(format!("seen in part: {why}"));
        }
        if let Some(odd) = find_text(&row.span.span.attributes, ODD) {
            notes.push(odd.to_owned());
        }
        if let Some(parent) = self.parent(row) {
            let (parents, own) = (Interval::of(&parent.span), Interval::of(&row.span.span));
            let is_other = !is_same(&parent.process, &row.span.process);
            let cause = if is_other { ": clocks differ" } else { ", as if the clock had been set back" };
            if let Some(early @ 1..) = parents.start_ns.checked_sub(own.start_ns) {
                notes.push(format!("starts {} before its parent{cause}", readable(early)));
            }
            let later = |ns: u64| ns.checked_sub(parents.end_ns).filter(|late| *late > 0);
            // Of the same process, it is a task that went on; or the clock was set forward.
            match (later(own.start_ns), later(own.end_ns)) {
                (Some(late), _) if is_other || late >= LONG_NS => {
                    notes.push(format!("starts {} after its parent ended", readable(late)));
                }
                (None, Some(late)) if is_other => {
                    notes.push(format!("ends {} after its parent", readable(late)))
                }
                _ => {}
            }
        }
        notes
    }

    /// The last of those that came. If all are, the head says so.
    fn is_late(&self, row: &Row<'a>) -> bool {
        let spans = self.trace.spans.len();
        self.trace.late < spans && row.arrival >= spans - self.trace.late
    }

    fn link(&self, link: &Link) -> String {
        let is_here = link.trace_id == self.trace.id.to_be_bytes();
        match self.names.get(&*link.span_id).filter(|_| is_here) {
            Some(name) => format!("follows from {name} ({})", const_hex::encode(&link.span_id)),
            None if is_here => format!("follows from span {}", const_hex::encode(&link.span_id)),
            None => format!(
                "follows from span {} of trace {}",
                const_hex::encode(&link.span_id),
                const_hex::encode(&link.trace_id)
            ),
        }
    }

    fn events(&self, index: usize, row: &Row<'a>) -> String {
        let span = &row.span.span;
        let error = error_text(span);
        let mut events: Vec<&Event> = span.events.iter().filter(|event| !is_told(event, error)).collect();
        let more = events.len().saturating_sub(MOST_EVENTS) as u64;
        // Errors stay, and all in the order in which they came.
        let mut chosen: Vec<usize> = (0..events.len()).collect();
        chosen.sort_by_key(|&event| !is_exception(events[event]));
        chosen.truncate(MOST_EVENTS);
        chosen.sort_unstable();
        events = chosen.into_iter().map(|event| events[event]).collect();
        let mut out: String = events.into_iter().map(|event| self.event(index, row, event)).collect();
        if more > 0 {
            out.push_str(&self.below(index, DIM, "… ", &counted(more, "more event", "more events")));
        }
        out
    }

    /// When it was, counted from the span's start, and what.
    fn event(&self, index: usize, row: &Row<'a>, event: &Event) -> String {
        let start_ns = row.span.span.start_time_unix_nano;
        let is_exception = is_exception(event);
        let sign = if event.time_unix_nano < start_ns { '-' } else { '+' };
        let at = format!("{sign}{}", readable(event.time_unix_nano.abs_diff(start_ns)));
        let mut line = Line::new(self.look);
        line.put(DIM, &format!("{at:>TOOK$}"));
        line.to(TOOK + 1);
        let style = if is_exception { RED } else { DIM };
        // Where its span's bar is.
        let (own, scale) = (Interval::of(&row.span.span), self.scale(row));
        let drawn_ns =
            event.time_unix_nano.wrapping_sub(own.start_ns).wrapping_add(own.moved_to(scale).start_ns);
        line.put(style, &point(drawn_ns, scale, self.columns.bar));
        line.to(self.columns.tree);
        line.put(DIM, &self.guides.below(index));
        if let Some((style, level)) = level(&event.attributes) {
            line.put(style, level);
            line.gap(1);
        }
        if let Some(target) = target_elsewhere(event, &row.span.span) {
            line.put(DIM, &format!("{}: ", text::cut(&text::on_one_line(target), MOST_OF_TARGET)));
        }
        let text = event_text(event);
        line.put(style, &text);
        fields::put_event(&mut line, &event.attributes, if text.is_empty() { 0 } else { fields::GAP });
        line.end()
    }

    fn gap(&self, rows: Range<usize>, errors: usize) -> String {
        let mut text = format!("… {}", counted(rows.len() as u64, "more span", "more spans"));
        if errors > 0 {
            text.push_str(&format!(", {}", counted(errors as u64, "error", "errors")));
        }
        let guide = self.guides.instead(rows);
        let mut line = Line::new(self.look);
        // The number is there in any case: rather than it, the guide is left out.
        let room = self.look.width().saturating_sub(text::width(&text));
        if self.columns.tree + text::width(&guide) <= room {
            line.to(self.columns.tree);
            line.put(DIM, &guide);
        } else {
            line.to(self.columns.tree.min(room));
        }
        line.put(YELLOW, &text);
        line.end()
    }
}

fn level(attributes: &[KeyValue]) -> Option<(Style, &str)> {
    match find_text(attributes, "level")? {
        level @ "ERROR" => Some((RED, level)),
        level @ "WARN" => Some((YELLOW, level)),
        _ => None,
    }
}

/// The program ended while it was open.
fn is_unfinished(span: &Span) -> bool {
    match find(&span.attributes, "tracing_usdt.unfinished") {
        Some(Value::BoolValue(is_unfinished)) => *is_unfinished,
        // Zipkin has no other values.
        Some(Value::StringValue(text)) => text == "true",
        _ => false,
    }
}

/// The target of an event that comes from another crate than its span, such as a library's log line.
fn target_elsewhere<'a>(event: &'a Event, span: &Span) -> Option<&'a str> {
    let target = find_text(&event.attributes, "target")?;
    let own = find_text(&span.attributes, "target")?;
    let of_crate = |target: &str| target.split("::").next().unwrap_or_default().to_owned();
    (of_crate(target) != of_crate(own)).then_some(target)
}

/// What the line below a failed span says, unless an event says it.
fn error_text(span: &Span) -> Option<&str> {
    let status = span.status.as_ref().filter(|_| is_error(span))?;
    match status.message.trim() {
        "" if span.events.iter().any(is_exception) => None,
        "" => Some("failed"),
        message => Some(message),
    }
}

fn is_exception(event: &Event) -> bool {
    event.name == "exception"
        || find(&event.attributes, "exception.message").is_some()
        || find_text(&event.attributes, "level") == Some("ERROR")
}

/// Whether it is what made the span fail, and the span's line of that says so.
fn is_told(event: &Event, error: Option<&str>) -> bool {
    let said = find_text(&event.attributes, "exception.message").unwrap_or(&event.name);
    let is_all = fields::of_event(&event.attributes).next().is_none();
    is_exception(event) && is_all && error == Some(said.trim())
}

/// What an event is called, if its fields don't tell more than that.
fn event_text(event: &Event) -> String {
    let part = |key: &str| find_text(&event.attributes, key).filter(|text| !text.is_empty());
    let location = location::of_event(&event.name);
    let has_fields = fields::of_event(&event.attributes).next().is_some();
    let name = match location {
        Some(_) if has_fields => String::new(),
        Some(location) => location::short(location),
        None if event.name.is_empty() => "(no name)".to_owned(),
        None => event.name.clone(),
    };
    let text = match (part("exception.type"), part("exception.message")) {
        (Some(kind), Some(message)) => format!("✗ {kind}: {message}"),
        (Some(text), None) | (None, Some(text)) => format!("✗ {text}"),
        (None, None) => name,
    };
    text::on_one_line(&text)
}
