//! The times of a span: its creation, enters and exits.

use crate::clock::{Monotonic, wall_offset};

/// The times of an open span.
pub(crate) struct Timing {
    start: Monotonic,
    /// The start in nanoseconds since 1970, by the wall clock at that time. The offset of the parent is not
    /// reused: a span that lasts as long as a daemon may be older than the last step of the clock.
    start_wall_ns: u64,
    last_exit: Option<Monotonic>,
    /// Number of enters without an exit, on all threads.
    depth: u32,
    /// The last enter that changed `depth` from 0 to 1.
    busy_since: Monotonic,
    busy_ns: u64,
    /// As in [`Elapsed`].
    entered_ns: u64,
}

impl Timing {
    #[inline]
    pub(crate) fn start(now: Monotonic) -> Self {
        let start_wall_ns = wall_offset(now).nanos(now);
        Self {
            start: now,
            start_wall_ns,
            last_exit: None,
            depth: 0,
            busy_since: now,
            busy_ns: 0,
            entered_ns: 0,
        }
    }

    /// When it began to be timed.
    pub(crate) fn began(&self) -> Monotonic {
        self.start
    }

    pub(crate) fn start_wall_ns(&self) -> u64 {
        self.start_wall_ns
    }

    /// Only the outermost enter starts busy time, so that a span entered twice is not busy twice.
    pub(crate) fn enter(&mut self, now: Monotonic) {
        if self.depth == 0 {
            self.busy_since = now;
        }
        self.depth = self.depth.saturating_add(1);
    }

    /// Ignores an exit without an enter, which only a faulty caller makes.
    pub(crate) fn exit(&mut self, now: Monotonic) {
        let Some(depth) = self.depth.checked_sub(1) else { return };
        self.depth = depth;
        if depth == 0 {
            // No sum of times that have passed overflows: that would take 584 years.
            self.busy_ns = self.busy_ns.wrapping_add(now.since(self.busy_since));
            self.last_exit = Some(now);
        }
    }

    /// A thread has exited the span that published it for `ns`.
    pub(crate) fn add_entered(&mut self, ns: u64) {
        self.entered_ns = self.entered_ns.saturating_add(ns);
    }

    /// Whether no thread has said that it was in the span.
    #[inline]
    pub(super) fn entered_nowhere(&self) -> bool {
        self.entered_ns == 0
    }

    /// The elapsed times of a plain span that has been exited as often as entered, as most are when they are closed.
    #[inline]
    pub(crate) fn finished(&self) -> Option<Elapsed> {
        let end = self.last_exit.filter(|_| self.depth == 0)?;
        Some(Elapsed { entered_ns: 0, ..self.elapsed(end, self.busy_ns) })
    }

    /// The elapsed times of a span that is closed. Its duration ends with the last exit, or `now` if the span
    /// was never entered or is still entered.
    #[inline]
    pub(crate) fn finish(&self, now: impl Fn() -> Monotonic) -> Elapsed {
        let (end, busy_ns) = match self.last_exit {
            Some(exit) if self.depth == 0 => (exit, self.busy_ns),
            _ if self.depth == 0 => (now(), self.busy_ns),
            _ => {
                let now = now();
                (now, self.busy_ns.saturating_add(now.since(self.busy_since)))
            }
        };
        self.elapsed(end, busy_ns)
    }

    /// The elapsed times of a span that is still open. Its duration ends `now`, whether or not it is entered.
    pub(crate) fn so_far(&self, now: Monotonic) -> Elapsed {
        let entered_ns = if self.depth > 0 { now.since(self.busy_since) } else { 0 };
        self.elapsed(now, self.busy_ns.saturating_add(entered_ns))
    }

    #[inline]
    fn elapsed(&self, end: Monotonic, busy_ns: u64) -> Elapsed {
        let duration_ns = end.since(self.start).max(1);
        Elapsed { duration_ns, busy_ns: busy_ns.min(duration_ns), entered_ns: self.entered_ns }
    }
}

/// The elapsed times of a span.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Elapsed {
    /// At least 1, because 0 means unknown in the probe `close`.
    pub(crate) duration_ns: u64,
    /// How long the span was entered, of its duration.
    pub(crate) busy_ns: u64,
    /// How long threads said in their context that they were in it. The time of each counts, so this may be more than
    /// the duration. 0 while nobody asked.
    pub(crate) entered_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Monotonic {
        Monotonic::from_ns(ns)
    }

    fn finish(timing: Timing, ns: u64) -> (u64, u64) {
        let elapsed = timing.finish(|| at(ns));
        (elapsed.duration_ns, elapsed.busy_ns)
    }

    #[test]
    fn duration_ends_with_the_last_exit() {
        let mut timing = Timing::start(at(100));
        timing.enter(at(110));
        timing.exit(at(130));
        timing.enter(at(150));
        timing.exit(at(155));
        assert_eq!(finish(timing, 900), (55, 25));
    }

    #[test]
    fn nested_enters_count_busy_time_once() {
        let mut timing = Timing::start(at(0));
        timing.enter(at(10));
        timing.enter(at(20));
        timing.exit(at(30));
        timing.exit(at(40));
        assert_eq!(finish(timing, 50), (40, 30));
    }

    #[test]
    fn a_span_never_entered_lasts_until_its_close() {
        assert_eq!(finish(Timing::start(at(5)), 25), (20, 0));
        assert_eq!(finish(Timing::start(at(5)), 5), (1, 0), "0 would mean unknown");
    }

    #[test]
    fn a_span_still_entered_is_busy_until_its_close() {
        let mut timing = Timing::start(at(5));
        timing.enter(at(10));
        timing.enter(at(11));
        assert_eq!(finish(timing, 25), (20, 15));
    }
}
