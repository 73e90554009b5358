//! A comparison as text: each reason with its figures, where the time comes from, what follows from it, and a trace of each side.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use super::super::finding::{CalledMore, Cause, Change, Diff, Finding, OneSided, Why};
use super::super::measured::Measured;
use super::super::names::Name;
use crate::text::{counted, cut, duration, on_one_line, readable, safe, width};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const WORSE: Style = AnsiColor::Red.on_default();
const BETTER: Style = AnsiColor::Green.on_default();

/// The columns of the figures: `before`, `after` and `change`, with a gap before each.
const FIGURES: usize = 2 + duration::COLUMNS + 2 + duration::COLUMNS + 2 + 7;
/// The columns of the measure, and the gap before it.
const MEASURE: usize = 9;
/// The least columns of a name.
const LEAST: usize = 20;
/// The most columns of a name in a sentence.
const SHORT: usize = 60;
/// The most causes, calls and consequences that are shown for a reason.
const MOST: usize = 4;
/// The most names that are listed as new or vanished.
const MOST_NAMES: usize = 20;
/// Smaller parts of the largest cause are not shown.
const LEAST_PART: f64 = 0.05;

/// The comparison as lines of up to `columns` columns, except for commands, which are never cut. `files` are those of each side, for
/// the commands that show a trace. Empty if nothing has changed.
pub fn table(diff: &Diff, files: &[String; 2], columns: usize, colour: bool) -> String {
    let mut lines = Lines { out: String::new(), columns, colour };
    let reasons: Vec<&Finding> = diff.findings.iter().filter(|of| of.why == Why::Itself).collect();
    if !reasons.is_empty() {
        let name_columns = lines.name_columns(&reasons);
        let head =
            format!("{:name_columns$} {:>8}  {:>7}  {:>7}  {:>7}", "", "", "before", "after", "change");
        lines.styled(BOLD, &head);
        for (place, reason) in reasons.iter().enumerate() {
            if place > 0 {
                lines.plain("");
            }
            lines.reason(reason, name_columns);
            lines.follows(&reason.name, &diff.findings);
            lines.traces(reason.traces, files);
        }
    }
    lines.names("new", "only after", &diff.new, !reasons.is_empty());
    lines.names("vanished", "only before", &diff.vanished, !reasons.is_empty() || !diff.new.is_empty());
    lines.out
}

struct Lines {
    out: String,
    columns: usize,
    colour: bool,
}

impl Lines {
    fn plain(&mut self, line: &str) {
        let _ = writeln!(self.out, "{}", line.trim_end());
    }

    fn styled(&mut self, style: Style, line: &str) {
        match self.colour {
            true => _ = writeln!(self.out, "{style}{}{}", line.trim_end(), style.render_reset()),
            false => self.plain(line),
        }
    }

    /// The width of the column of names.
    fn name_columns(&self, reasons: &[&Finding]) -> usize {
        let most = self.columns.saturating_sub(MEASURE + FIGURES).max(LEAST);
        reasons.iter().map(|of| width(&label(&of.name))).max().unwrap_or(0).clamp(LEAST, most)
    }

    fn reason(&mut self, of: &Finding, name_columns: usize) {
        let shown = of.changes.iter().filter(|change| is_shown(change, &of.changes));
        let figures: Vec<(&'static str, [String; 3], bool)> = shown.map(row).collect();
        let mut name = pad(&cut(&label(&of.name), name_columns), name_columns);
        if figures.is_empty() {
            self.styled(BOLD, &name);
        }
        for (measure, [before, after, change], is_worse) in figures {
            let rest = format!(" {measure:>8}  {before:>7}  {after:>7}  ");
            let change = format!("{change:>7}");
            match self.colour {
                true => {
                    let style = if is_worse { WORSE } else { BETTER };
                    let (bold, reset) = (BOLD, BOLD.render_reset());
                    let _ = writeln!(self.out, "{bold}{name}{reset}{rest}{style}{change}{reset}");
                }
                false => self.plain(&(name + &rest + &change)),
            }
            name = " ".repeat(name_columns);
        }
        let causes = causes(&of.causes);
        if !causes.is_empty() {
            let text = format!("average {}: {}", by_how_much(of), causes.join(", "));
            self.wrapped(&text);
        }
        for CalledMore { name, change } in of.calls.iter().take(MOST) {
            let [before, after] = [change.before, change.after].map(times);
            self.wrapped(&format!("calls {} {before} -> {after} times", short(name)));
        }
        self.more(of.calls.len(), "call");
    }

    /// Says what has changed because of this reason.
    fn follows(&mut self, reason: &Name, findings: &[Finding]) {
        let is_because = |of: &&Finding| of.why == Why::Follows(reason.clone());
        let follow: Vec<&Finding> = findings.iter().filter(is_because).collect();
        let describe = |of: &&Finding| {
            let by_preference =
                [Measured::P95, Measured::P50, Measured::P99, Measured::Mean, Measured::Errors];
            let find = |measured| of.changes.iter().find(|change| change.measured == measured);
            let change = by_preference.into_iter().find_map(find);
            let change = change.map(|change| format!(" {} {}", measure(change.measured), percent(change)));
            short(&of.name) + &change.unwrap_or_default()
        };
        let shown: Vec<String> = follow.iter().take(MOST).map(describe).collect();
        if !shown.is_empty() {
            let more = follow.len().saturating_sub(MOST);
            let more = if more > 0 {
                format!(", and {}", counted(more as u64, "more name", "more names"))
            } else {
                String::new()
            };
            self.wrapped(&format!("because of it: {}{more}", shown.join(", ")));
        }
    }

    fn traces(&mut self, traces: [Option<u128>; 2], files: &[String; 2]) {
        for ((when, files), trace) in ["before", "after"].into_iter().zip(files).zip(traces) {
            let Some(id) = trace else { continue };
            let line = format!("  {:<8}spantap view {files} --trace {id:032x}", format!("{when}:"));
            self.styled(DIM, &line);
        }
    }

    fn names(&mut self, what: &str, when: &str, names: &[OneSided], is_after_more: bool) {
        if names.is_empty() {
            return;
        }
        if is_after_more {
            self.plain("");
        }
        self.styled(BOLD, &format!("{what}, {when}:"));
        for OneSided { name, figures, .. } in names.iter().take(MOST_NAMES) {
            let rest = format!(
                "{}, average {}",
                counted(figures.spans, "span", "spans"),
                readable(figures.mean_ns.round() as u64)
            );
            let left = self.columns.saturating_sub(4 + width(&rest)).max(LEAST);
            self.plain(&format!("  {}  {rest}", cut(&label(name), left)));
        }
        let more = names.len().saturating_sub(MOST_NAMES);
        if more > 0 {
            self.plain(&format!("  and {}", counted(more as u64, "more name", "more names")));
        }
    }

    fn more(&mut self, all: usize, what: &str) {
        let more = all.saturating_sub(MOST);
        if more > 0 {
            self.plain(&format!(
                "  and {}",
                counted(more as u64, &format!("more {what}"), &format!("more {what}s"))
            ));
        }
    }

    /// A sentence, on as many lines as it takes. It is escaped already.
    fn wrapped(&mut self, text: &str) {
        let room = self.columns.saturating_sub(4).max(LEAST);
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.is_empty() && width(&line) + 1 + width(word) > room {
                self.plain(&format!("  {line}"));
                line = "  ".into();
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.plain(&format!("  {line}"));
    }
}

/// A change in words: `shop: sqlite p95 7.06 ms -> 9.16 ms (+30%)`. `called` is what is called more or less often.
pub fn sentence(name: &Name, called: Option<&Name>, change: &Change) -> String {
    let (measure, [before, after, by], _) = row(change);
    let of = called.map(|name| format!(" of {}", short(name))).unwrap_or_default();
    format!("{} {measure}{of} {} -> {} ({by})", short(name), before.trim(), after.trim())
}

/// The own time is shown if nothing else has changed: otherwise the causes have it.
fn is_shown(change: &Change, all: &[Change]) -> bool {
    let is_whole = |change: &Change| change.measured.is_duration() && change.measured != Measured::Own;
    change.measured != Measured::Own || !all.iter().any(is_whole)
}

fn row(change: &Change) -> (&'static str, [String; 3], bool) {
    let value = |value: f64| match change.measured {
        Measured::Errors => share(value),
        Measured::Calls => times(value),
        _ => duration::column(value.round() as u64),
    };
    (
        measure(change.measured),
        [value(change.before), value(change.after), percent(change)],
        change.after > change.before,
    )
}

fn measure(measured: Measured) -> &'static str {
    match measured {
        Measured::Mean => "average",
        measured => measured.word(),
    }
}

/// `+52%`, `x3.1` from +200% on, `-8%`.
fn percent(change: &Change) -> String {
    match change.relative() {
        relative if relative.is_infinite() => "from 0".into(),
        relative if relative >= 2.0 => match relative + 1.0 {
            times if times < 9.95 => format!("x{times:.1}"),
            times if times < 999_999.5 => format!("x{times:.0}"),
            _ => "x999999".into(),
        },
        relative => format!("{:+.0}%", 100.0 * relative),
    }
}

fn share(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0%".into(),
        percent if percent < 0.1 => "<0.1%".into(),
        percent if percent < 99.95 => format!("{percent:.1}%"),
        _ => "100%".into(),
    }
}

fn times(times: f64) -> String {
    if times < 9.95 { format!("{times:.1}") } else { format!("{times:.0}") }
}

fn signed(ns: f64) -> String {
    let sign = if ns < 0.0 { '-' } else { '+' };
    format!("{sign}{}", readable(ns.abs().round() as u64))
}

fn by_how_much(of: &Finding) -> String {
    signed(of.figures[1].mean_ns - of.figures[0].mean_ns)
}

fn causes(causes: &[Cause]) -> Vec<String> {
    let least = causes.first().map_or(0.0, |largest| LEAST_PART * largest.change_ns.abs());
    let shown = causes.iter().filter(|cause| cause.change_ns.abs() >= least).take(MOST);
    let describe = |cause: &Cause| {
        let what = match &cause.called {
            Some(name) => format!("in {}", short(name)),
            None if cause.what == "self" => "its own time".into(),
            None => cause.what.into(),
        };
        format!("{what} {}", signed(cause.change_ns))
    };
    shown.map(describe).collect()
}

/// The name, escaped, on one line.
fn label(Name { service, span }: &Name) -> String {
    let or = |text: &str, empty: &str| match text {
        "" => empty.to_owned(),
        text => safe(&on_one_line(text)),
    };
    format!("{}: {}", or(service, "(no service)"), or(span, "(no name)"))
}

/// The name in a sentence, escaped.
pub fn short(name: &Name) -> String {
    cut(&label(name), SHORT)
}

fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}
