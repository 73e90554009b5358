//! The thread that shows traces as they come: puts spans together, and prints those trees for which a
//! reader has time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::feed::Feed;
use super::screen::Screen;
use super::summary::{minute_line, status_line};
use crate::figures::Figures;
use crate::sink::Sinks;
use crate::trace::{Assembly, EncodedSpan, Limits, Trace};
use crate::view::{self, Look};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Which traces are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shows {
    /// Of more than so many a second, only those with errors, and of these as many again.
    pub a_second: Option<u32>,
    /// Shorter ones are left out.
    pub min_duration: Duration,
    /// A status line below them; else the figures come each minute.
    pub status: bool,
}

/// What the thread works on.
pub struct Live {
    /// Which traces.
    pub shows: Shows,
    /// Where to.
    pub screen: Arc<Screen>,
    /// What is counted, and told.
    pub figures: Arc<Figures>,
    /// For their figures.
    pub sinks: Arc<Sinks>,
}

impl Live {
    /// Runs until no more spans can come, and shows what is left.
    pub fn run(self, feed: &Feed) {
        let mut assembly = Assembly::new(Limits::default());
        let mut budget = Budget::new(self.shows.a_second, Instant::now());
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
                if self.shows.status {
                    let total = self.figures.total();
                    let line = status_line(&self.figures, &total, &self.sinks, spans_before);
                    spans_before = total.spans;
                    self.screen.status(&line);
                }
            }
            if now >= next_minute {
                next_minute = now + MINUTE;
                if !self.shows.status {
                    self.screen.tell(&minute_line(&self.figures, &self.sinks));
                }
            }
        }
        self.screen.status("");
    }

    fn show(&self, trace: &Trace<EncodedSpan>, budget: &mut Budget, now: Instant) {
        if !self.is_long_enough(trace) {
            // As the user wished.
            return;
        }
        if !budget.allows(has_error(trace), now) {
            self.figures.traces_not_shown.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.figures.traces_shown.fetch_add(1, Ordering::Relaxed);
        let look = Look::new(self.screen.columns(), self.screen.colour());
        self.screen.print(&(view::tree(&trace.decode(), &look) + "\n"));
    }

    fn is_long_enough(&self, trace: &Trace<EncodedSpan>) -> bool {
        let starts = trace.spans.iter().map(|span| span.times.0).min();
        let ends = trace.spans.iter().map(|span| span.times.1).max();
        let duration = ends.unwrap_or(0).saturating_sub(starts.unwrap_or(0));
        u128::from(duration) >= self.shows.min_duration.as_nanos()
    }
}

fn has_error(trace: &Trace<EncodedSpan>) -> bool {
    trace.spans.iter().any(|span| span.is_error)
}

/// How many more traces in this second.
struct Budget {
    a_second: Option<u32>,
    since: Instant,
    shown: u32,
    errors: u32,
}

impl Budget {
    fn new(a_second: Option<u32>, now: Instant) -> Self {
        Self { a_second, since: now, shown: 0, errors: 0 }
    }

    fn allows(&mut self, error: bool, now: Instant) -> bool {
        let Some(most) = self.a_second else { return true };
        if now.saturating_duration_since(self.since) >= SECOND {
            (self.since, self.shown, self.errors) = (now, 0, 0);
        }
        if self.shown < most {
            self.shown += 1;
            return true;
        }
        // Those that are looked for.
        let allowed = error && self.errors < most;
        self.errors += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_traces_the_first_are_shown_and_as_many_again_with_errors() {
        let start = Instant::now();
        let mut budget = Budget::new(Some(2), start);
        let mut shown = |error, after| budget.allows(error, start + after);
        let none = Duration::ZERO;
        assert_eq!([false; 3].map(|error| shown(error, none)), [true, true, false]);
        assert_eq!([true; 3].map(|error| shown(error, none)), [true, true, false]);
        assert!(shown(false, SECOND), "a new second");
    }

    #[test]
    fn without_a_limit_all_are_shown() {
        let now = Instant::now();
        let mut budget = Budget::new(None, now);
        assert!((0..1000).all(|_| budget.allows(false, now)));
    }
}
