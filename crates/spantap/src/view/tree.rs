//! Draws a trace as a tree: a line for each span, and below it lines for errors, notes, links and events.
//!
//! ```text
//!   duration  bar (when in its parent)  busy  span  fields
//! ```
//!
//! With [`Look::critical_path`], the bar and the column `busy` show the part on the critical path instead.
//!
//! The columns of fixed width come first, so that they are at the same place in all traces, and fields can use the room
//! after a short name.

use std::collections::HashMap;
use std::ops::Range;

use anstyle::Style;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

use super::bar::{Heavy, Interval, bar, point};
use super::event::{event_text, is_exception, repeats_error, target_elsewhere};
use super::excerpt::{Part, excerpt};
use super::guide::Guides;
use super::head::head;
use super::line::{BOLD, BOLD_RED, CYAN, DIM, Line, PLAIN, RED, YELLOW};
use super::look::Look;
use super::notes::notes;
use super::path::Path;
use super::service::is_same;
use super::{account, fields, service};
use crate::span::account::Account;
use crate::span::attributes::{WAKER, WAKER_SPAN, find, find_text};
use crate::span::is_error;
use crate::text::{counted, cut, duration, on_one_line, readable, width, wrap};
use crate::trace::tree::{Place, Row, rows};
use crate::trace::{Shown, Trace, TraceSpan};

/// The most events and links of a span that are shown. Others are counted.
const MAX_EVENTS: usize = 4;
const MAX_LINKS: usize = 2;
/// The most lines of an error or a note.
const MAX_LINES: usize = 3;
/// Widths, in columns.
const MAX_SERVICE: usize = 30;
const MAX_TARGET: usize = 30;
const MIN_NAME: usize = 10;

/// Draws the trace as whole lines. They contain no escape sequences other than colours.
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

/// What all rows of a tree share.
struct Drawing<'a, 'b> {
    trace: &'a Trace,
    rows: &'b [Row<'a>],
    names: HashMap<&'a [u8], &'a str>,
    look: &'b Look,
    guides: Guides<'a, 'b>,
    columns: Columns,
    has_processes: bool,
    path: Option<Path>,
}

/// The layout, which is the same for all trees in a terminal.
struct Columns {
    /// The width of the bar.
    bar: usize,
    /// Where the busy share ends, if it is shown.
    busy: Option<usize>,
    /// Where the tree starts.
    tree: usize,
}

/// The width of the column before the bar: a sign and a duration.
const TOOK: usize = duration::COLUMNS + 1;

impl Columns {
    fn new(width: usize) -> Self {
        let bar = (width / 5).clamp(8, 32);
        let bar_end = TOOK + 1 + bar;
        // A narrow terminal leaves out the busy share, which the bar shows as well, although less exactly.
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
            path: look.critical_path.then(|| Path::new(rows)),
        }
    }

    fn parent(&self, row: &Row<'a>) -> Option<&'a TraceSpan> {
        match row.place {
            Place::Child(parent) => Some(self.rows[parent].span),
            _ => None,
        }
    }

    /// The interval that the full width of a row's bar stands for: the parent's, or the span's own for a root.
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
        for note in notes(row, self.parent(row)) {
            out.push_str(&self.below(index, YELLOW, "! ", &note));
        }
        for link in row.span.span.links.iter().take(MAX_LINKS) {
            out.push_str(&self.below(index, DIM, "", &self.link(&row.span.span, link)));
        }
        let links = row.span.span.links.len().saturating_sub(MAX_LINKS) as u64;
        if links > 0 {
            out.push_str(&self.below(index, DIM, "… ", &counted(links, "more link", "more links")));
        }
        out + &self.events(index, row) + &self.dropped(index, &row.span.span)
    }

    /// The line for what the sender or the decoder dropped.
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

    /// The word for spans without an end. Those of a program that ends normally are sent as far as they got.
    fn unfinished(&self) -> &'static str {
        if self.trace.shown == Shown::ProcessEnded { "still open" } else { "unfinished" }
    }

    fn span(&self, index: usize, row: &Row<'a>) -> String {
        let TraceSpan { process, span } = row.span;
        let (parent, is_error) = (self.parent(row), is_error(span));
        let interval = Interval::of(span);
        let (heavy, shares) = match &self.path {
            Some(path) => (Heavy::Parts(path.parts(index)), path.share(index)),
            None => {
                let shares = fields::shares(span);
                (shares.map_or(Heavy::All, Heavy::Busy), shares)
            }
        };
        let mut line = Line::new(self.look);
        line.put(PLAIN, &format!(" {}", duration::column(interval.duration_ns())));
        line.to(TOOK + 1);
        let bar_style = if is_error { RED } else { CYAN };
        line.put(bar_style, &bar(interval, self.scale(row), heavy, self.columns.bar));
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
            is_unfinished(span).then(|| (YELLOW, 1, format!("({})", self.unfinished()))),
            self.is_late(row).then(|| (YELLOW, 1, "(late)".to_owned())),
            is_other.then(|| (DIM, 2, cut(&service::label(process), MAX_SERVICE))),
        ];
        let marks = || marks.iter().flatten();
        // The marks have reserved room, so that a long name does not push them off the line.
        let reserved: usize = marks().map(|(_, gap, mark)| gap + width(mark)).sum();
        let room = line.room().saturating_sub(reserved).max(MIN_NAME);
        let name = if span.name.is_empty() { "(no name)" } else { &span.name };
        line.put(name_style, &cut(name, room));
        for (style, gap, mark) in marks() {
            line.gap(*gap);
            line.put(*style, mark);
        }
        fields::put_span(&mut line, span, &process.resource, is_error);
        line.end()
    }

    /// The line for the span's account, if it has one that is worth showing.
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

    /// Lines of text below a row.
    fn below(&self, index: usize, style: Style, mark: &str, text: &str) -> String {
        let guide = self.guides.below(index);
        let used = self.columns.tree + width(&guide) + width(mark);
        let lines = wrap(&on_one_line(text), self.look.width().saturating_sub(used).max(2), MAX_LINES);
        let mut out = String::new();
        for (index, part) in lines.iter().enumerate() {
            let mut line = Line::new(self.look);
            line.to(self.columns.tree);
            line.put(DIM, &guide);
            if index == 0 {
                line.put(style, mark)
            } else {
                line.gap(width(mark))
            }
            line.put(style, part);
            out.push_str(&line.end());
        }
        out
    }

    /// Whether the span arrived after the trace was first shown. If all spans did, only the head shows it.
    fn is_late(&self, row: &Row<'a>) -> bool {
        let spans = self.trace.spans.len();
        self.trace.late < spans && row.arrival >= spans - self.trace.late
    }

    fn link(&self, span: &Span, link: &Link) -> String {
        let is_here = link.trace_id == self.trace.id.to_be_bytes();
        let of_trace = match is_here {
            true => String::new(),
            false => format!(" of trace {}", const_hex::encode(&link.trace_id)),
        };
        let verb = if find(&span.attributes, WAKER).is_some() { "woken by" } else { "follows from" };
        let here = || self.names.get(&*link.span_id).copied().filter(|_| is_here);
        let id = const_hex::encode(&link.span_id);
        match find_text(&span.attributes, WAKER_SPAN).or_else(here) {
            Some(name) => format!("{verb} {name} ({id}){of_trace}"),
            None => format!("{verb} span {id}{of_trace}"),
        }
    }

    fn events(&self, index: usize, row: &Row<'a>) -> String {
        let span = &row.span.span;
        let error = error_text(span);
        let mut events: Vec<&Event> =
            span.events.iter().filter(|event| !repeats_error(event, error)).collect();
        let more = events.len().saturating_sub(MAX_EVENTS) as u64;
        // Exceptions take precedence. The chosen events are shown in the order of their arrival.
        let mut chosen: Vec<usize> = (0..events.len()).collect();
        chosen.sort_by_key(|&event| !is_exception(events[event]));
        chosen.truncate(MAX_EVENTS);
        chosen.sort_unstable();
        events = chosen.into_iter().map(|event| events[event]).collect();
        let mut out: String = events.into_iter().map(|event| self.event(index, row, event)).collect();
        if more > 0 {
            out.push_str(&self.below(index, DIM, "… ", &counted(more, "more event", "more events")));
        }
        out
    }

    /// The line of an event: its time since the span's start, a point at its place in the bar, and its text.
    fn event(&self, index: usize, row: &Row<'a>, event: &Event) -> String {
        let start_ns = row.span.span.start_time_unix_nano;
        let is_exception = is_exception(event);
        let sign = if event.time_unix_nano < start_ns { '-' } else { '+' };
        let at = format!("{sign}{}", readable(event.time_unix_nano.abs_diff(start_ns)));
        let mut line = Line::new(self.look);
        line.put(DIM, &format!("{at:>TOOK$}"));
        line.to(TOOK + 1);
        let style = if is_exception { RED } else { DIM };
        // If the span is outside of its parent, its bar is moved, and the event with it.
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
            line.put(DIM, &format!("{}: ", cut(&on_one_line(target), MAX_TARGET)));
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
        // In little room, the guide is left out, never the count.
        let room = self.look.width().saturating_sub(width(&text));
        if self.columns.tree + width(&guide) <= room {
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

/// Whether the program ended while the span was open.
fn is_unfinished(span: &Span) -> bool {
    match find(&span.attributes, "tracing_usdt.unfinished") {
        Some(Value::BoolValue(is_unfinished)) => *is_unfinished,
        // Zipkin's tags are strings.
        Some(Value::StringValue(text)) => text == "true",
        _ => false,
    }
}

/// The error of a failed span. `None` if the span has no message and an exception event shows the error.
fn error_text(span: &Span) -> Option<&str> {
    let status = span.status.as_ref().filter(|_| is_error(span))?;
    match status.message.trim() {
        "" if span.events.iter().any(is_exception) => None,
        "" => Some("failed"),
        message => Some(message),
    }
}
