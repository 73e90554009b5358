//! The thread that shows traces as they arrive: assembles them from spans, and prints as many as a person can read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::feed::Feed;
use super::screen::Screen;
use super::summary::{ended_line, ended_lines, minute_line, status_line, still_open_line};
use crate::open::{OpenSpan, OpenSpans};
use crate::query::{Query, Subject};
use crate::search::is_chosen;
use crate::sink::Sinks;
use crate::stats::Stats;
use crate::text::counted;
use crate::trace::{Assembly, EncodedSpan, Limits, Trace};
use crate::view::{self, Look};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The most lines in a second about spans that were reported open for the first time.
const MAX_NEW_OPEN: usize = 3;

/// What the live view shows.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The most traces per second, and the most traces with errors beyond these; `None` shows all.
    pub max_traces: Option<u32>,
    /// Traces that are shorter are not shown.
    pub min_duration: Duration,
    /// Only traces with a span that this query chooses are shown.
    pub query: Option<Query>,
    /// Whether nothing is shown but the status.
    pub quiet: bool,
    /// Whether there is a status line; without it, a line with the counters is written every minute.
    pub status: bool,
}

/// The live view.
pub struct Live {
    /// What to show.
    pub options: LiveOptions,
    /// The output.
    pub screen: Arc<Screen>,
    /// The counters, which the view updates and shows.
    pub stats: Arc<Stats>,
    /// The sinks, whose counters the view shows.
    pub sinks: Arc<Sinks>,
    /// The spans that are open for long.
    pub open: Arc<OpenSpans>,
}

impl Live {
    /// Runs until the feed is closed, then shows the remaining traces.
    pub fn run(self, feed: &Feed) {
        let mut assembly = Assembly::new(Limits::default());
        let mut budget = Budget::new(self.options.max_traces, Instant::now());
        let (mut next_second, mut next_minute) = (Instant::now(), Instant::now() + MINUTE);
        let mut spans_before = 0;
        loop {
            let until = assembly.next_due().map_or(next_second, |due| due.min(next_second));
            let received = feed.next(until.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            let mut show = |trace: &Trace<EncodedSpan>| self.show(trace, &mut budget, now);
            match received {
                Ok(spans) => spans.into_iter().for_each(|span| assembly.add(span, now, &mut show)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    assembly.finish(now, &mut show);
                    break;
                }
            }
            assembly.due(now, &mut show);
            if now >= next_second {
                next_second = now + SECOND;
                self.show_open(now);
                self.show_ended(false);
                if self.options.status {
                    let total = self.stats.total();
                    let line = status_line(&self.stats, &total, &self.sinks, &self.open, spans_before);
                    spans_before = total.spans;
                    self.screen.status(&line);
                }
            }
            if now >= next_minute {
                next_minute = now + MINUTE;
                if !self.options.status {
                    self.screen.print_notice(&minute_line(&self.stats, &self.sinks, &self.open));
                }
            }
        }
        self.show_open(Instant::now());
        self.show_ended(true);
        if let Some(line) = still_open_line(&self.open).filter(|_| !self.options.quiet) {
            self.screen.print_notice(&line);
        }
        self.screen.status("");
    }

    /// Tells the user of spans that were reported open for the first time.
    fn show_open(&self, now: Instant) {
        if self.options.quiet || self.open.is_empty() {
            return;
        }
        let (new, others) = self.open.take_new(MAX_NEW_OPEN, |open| self.chooses(open));
        let mut lines: String = new
            .iter()
            .map(|open| {
                let text = view::open_span(&open.process, &open.span, open.age_ns(now));
                format!("spantap: still open after {text}\n")
            })
            .collect();
        if others > 0 {
            lines +=
                &format!("spantap: and {} that are still open\n", counted(others, "more span", "more spans"));
        }
        if !lines.is_empty() {
            self.screen.print_notice(&lines);
        }
    }

    /// Whether the user's query, if there is one, chooses the span.
    fn chooses(&self, open: &OpenSpan) -> bool {
        let chooses = |query: &Query| query.matches(&Subject::new(&open.span, &open.process));
        self.options.query.as_ref().is_none_or(chooses)
    }

    /// Shows what was open in processes that have ended: the traces, or a line for each span if no traces are shown.
    fn show_ended(&self, is_last: bool) {
        if self.open.is_empty() {
            return;
        }
        for ended in self.open.take_ended(is_last) {
            if self.options.quiet {
                self.screen.print_notice(&ended_lines(&ended, |open| self.chooses(open)));
                continue;
            }
            self.screen.print_notice(&ended_line(&ended));
            let look = Look::new(self.screen.columns(), self.screen.colour());
            for trace in ended.traces() {
                let chooses = |query: &Query| {
                    trace.spans.iter().any(|of| query.matches(&Subject::new(&of.span, &of.process)))
                };
                if self.options.query.as_ref().is_none_or(chooses) {
                    self.screen.print(&(view::tree(&trace, &look) + "\n"));
                }
            }
        }
    }

    fn show(&self, trace: &Trace<EncodedSpan>, budget: &mut Budget, now: Instant) {
        // Not counted as "not shown": the user asked for it.
        if !self.is_long_enough(trace) || !self.is_chosen(trace) {
            return;
        }
        if !budget.allows(trace.has_error(), now) {
            self.stats.traces_not_shown.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.stats.traces_shown.fetch_add(1, Ordering::Relaxed);
        let look = Look::new(self.screen.columns(), self.screen.colour());
        self.screen.print(&(view::tree(&trace.decode(), &look) + "\n"));
    }

    fn is_chosen(&self, trace: &Trace<EncodedSpan>) -> bool {
        self.options.query.as_ref().is_none_or(|query| is_chosen(trace, query))
    }

    fn is_long_enough(&self, trace: &Trace<EncodedSpan>) -> bool {
        let (start, end) = trace.times();
        u128::from(end.saturating_sub(start)) >= self.options.min_duration.as_nanos()
    }
}

/// Limits the traces that are shown in a second.
struct Budget {
    max_traces: Option<u32>,
    since: Instant,
    shown: u32,
    errors: u32,
}

impl Budget {
    fn new(max_traces: Option<u32>, now: Instant) -> Self {
        Self { max_traces, since: now, shown: 0, errors: 0 }
    }

    fn allows(&mut self, error: bool, now: Instant) -> bool {
        let Some(most) = self.max_traces else { return true };
        if now.saturating_duration_since(self.since) >= SECOND {
            (self.since, self.shown, self.errors) = (now, 0, 0);
        }
        if self.shown < most {
            self.shown += 1;
            return true;
        }
        // Users look for errors first, so these have a budget of their own.
        let allowed = error && self.errors < most;
        self.errors += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_with_errors_have_a_budget_of_their_own() {
        let start = Instant::now();
        let mut budget = Budget::new(Some(2), start);
        let mut shown = |error, after| budget.allows(error, start + after);
        let none = Duration::ZERO;
        assert_eq!([false; 3].map(|error| shown(error, none)), [true, true, false]);
        assert_eq!([true; 3].map(|error| shown(error, none)), [true, true, false]);
        assert!(shown(false, SECOND), "a new second");
    }

    #[test]
    fn without_a_limit_all_traces_are_shown() {
        let now = Instant::now();
        let mut budget = Budget::new(None, now);
        assert!((0..1000).all(|_| budget.allows(false, now)));
    }
}
