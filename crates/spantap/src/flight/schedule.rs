//! When the next file is to be written.

use std::time::{Duration, Instant};

use super::trigger::{Kind, Trigger};

/// What has happened since the last file.
#[derive(Debug)]
pub(super) struct Schedule {
    /// How long spans are kept now: not as long as the user wants if the memory is full.
    kept: Duration,
    pending: Option<Pending>,
    /// When the last file was written.
    last: Option<Instant>,
}

/// A file that is to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pending {
    /// What happened first; or a death, if there was one.
    pub(super) why: Trigger,
    /// How often something else happened.
    pub(super) more: u64,
    due: Instant,
    /// Not later than this, whatever else happens.
    latest: Instant,
}

impl Schedule {
    pub(super) fn new(kept: Duration) -> Self {
        Self { kept, pending: None, last: None }
    }

    /// Spans are kept for so long from now on.
    pub(super) fn set_kept(&mut self, kept: Duration) {
        self.kept = kept;
    }

    /// Adds something that happened to the next file.
    pub(super) fn add(&mut self, trigger: Trigger, now: Instant) {
        let kind = trigger.kind();
        if !self.count(kind, now) {
            let due = self.due_for(kind, now);
            self.pending = Some(Pending { why: trigger, more: 0, due, latest: due + kind.wait(self.kept) });
        } else if let Some(pending) = self.pending.as_mut().filter(|_| kind == Kind::Death) {
            pending.why = trigger;
        }
    }

    /// Counts something that happened, if a file is to be written in any case; so nobody has to describe it. Returns false
    /// if none is.
    pub(super) fn count(&mut self, kind: Kind, now: Instant) -> bool {
        let due = self.due_for(kind, now);
        let Some(pending) = &mut self.pending else { return false };
        pending.more += 1;
        // One that waits for the spacing does not hold up another, and one that has just happened waits for its trace.
        pending.due = if due < pending.due { due } else { due.min(pending.latest) };
        true
    }

    fn due_for(&self, kind: Kind, now: Instant) -> Instant {
        let earliest = self.last.map_or(now, |last| last + kind.spacing(self.kept));
        earliest.max(now + kind.wait(self.kept))
    }

    /// When the next file is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.due)
    }

    /// The next file, if it is due at `now`; with `None`, in any case. It counts as written then.
    pub(super) fn take(&mut self, now: Option<Instant>) -> Option<Pending> {
        let is_due = |pending: &mut Pending| now.is_none_or(|now| pending.due <= now);
        let pending = self.pending.take_if(is_due)?;
        self.last = now.or(self.last);
        Some(pending)
    }

    /// Gives back a file that could not be written, to be tried again after `pause`.
    pub(super) fn give_back(&mut self, mut failed: Pending, now: Instant, pause: Duration) {
        (failed.due, failed.latest) = (now + pause, now + pause);
        if let Some(newer) = self.pending.take() {
            failed.more += newer.more + 1;
        }
        self.pending = Some(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn span() -> Trigger {
        let (query, name, service) = ("error".to_owned(), "GET /".to_owned(), "shop".to_owned());
        Trigger::Span { query, name, service, duration_ns: 1_200_000_000, trace_id: 7 }
    }

    /// When files are written, in seconds, if these triggers happen; and how many triggers each has.
    fn written(kept: u64, triggers: &[(u64, Trigger)]) -> Vec<(u64, u64)> {
        let start = Instant::now();
        let mut schedule = Schedule::new(SECOND * kept as u32);
        let mut files = Vec::new();
        for second in 0..1_000 {
            let now = start + SECOND * second as u32;
            if let Some(pending) = schedule.take(Some(now)) {
                files.push((second, pending.more + 1));
            }
            triggers.iter().filter(|(at, _)| *at == second).for_each(|(_, of)| schedule.add(of.clone(), now));
        }
        files
    }

    #[test]
    fn a_trace_is_given_time_to_be_whole() {
        assert_eq!(written(300, &[(10, span())]), [(15, 1)]);
        // The second one, too, but not for ever.
        assert_eq!(written(300, &[(10, span()), (14, span())]), [(19, 2)]);
        let many: Vec<_> = (10..20).map(|at| (at, span())).collect();
        assert_eq!(written(300, &many), [(20, 10)]);
    }

    #[test]
    fn a_signal_is_answered_at_once_but_not_too_often() {
        assert_eq!(written(300, &[(10, Trigger::Signal)]), [(11, 1)]);
        assert_eq!(written(300, &[(10, Trigger::Signal), (10, Trigger::Signal)]), [(11, 2)]);
        assert_eq!(written(300, &[(10, Trigger::Signal), (12, Trigger::Signal)]), [(11, 1), (21, 1)]);
        assert_eq!(written(300, &[(10, Trigger::Signal), (60, Trigger::Signal)]), [(11, 1), (61, 1)]);
        assert_eq!(written(300, &[(10, span()), (11, Trigger::Signal)]), [(12, 2)]);
    }

    #[test]
    fn queries_that_choose_all_the_time_write_each_span_twice() {
        let many: Vec<_> = (0..560).map(|at| (at, span())).collect();
        let files = written(100, &many);
        let times: Vec<u64> = files.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, (0..12).map(|file| 10 + 55 * file).collect::<Vec<_>>()[..times.len()], "{files:?}");
        assert!(times.len() >= 9);
        // None of them is lost from the count.
        assert_eq!(files.iter().map(|(_, count)| count).sum::<u64>(), 560);
        // While they wait, a signal does not.
        let with_signal = [(0, span()), (10, span()), (20, Trigger::Signal)];
        assert_eq!(written(100, &with_signal), [(5, 1), (21, 2)]);
    }

    /// As when the memory is full, which holds less than the user wants.
    #[test]
    fn a_file_has_the_span_that_was_chosen_however_long_spans_are_kept() {
        let start = Instant::now();
        for kept in 4..100 {
            let mut schedule = Schedule::new(300 * SECOND);
            schedule.set_kept(kept * SECOND);
            let mut oldest = None;
            for second in 0..1000 {
                let now = start + second * SECOND;
                if schedule.take(Some(now)).is_some() {
                    let chosen = std::mem::take(&mut oldest).expect("a span was chosen");
                    assert!(
                        second - chosen <= kept,
                        "chosen at {chosen}, written at {second}, kept for {kept}"
                    );
                }
                schedule.add(span(), now);
                oldest.get_or_insert(second);
            }
        }
    }

    #[test]
    fn a_failed_write_is_repeated_with_its_reasons() {
        let start = Instant::now();
        let mut schedule = Schedule::new(300 * SECOND);
        schedule.add(Trigger::Signal, start);
        let failed = schedule.take(Some(start + SECOND)).expect("it is due");
        schedule.add(span(), start + SECOND);
        schedule.give_back(failed, start + SECOND, 5 * SECOND);
        assert_eq!(schedule.take(Some(start + 5 * SECOND)), None);
        let again = schedule.take(Some(start + 6 * SECOND)).expect("it is due again");
        assert_eq!((again.why, again.more), (Trigger::Signal, 1));
    }

    #[test]
    fn a_death_is_the_reason_that_is_said() {
        let start = Instant::now();
        let mut schedule = Schedule::new(300 * SECOND);
        (0..5).for_each(|_| schedule.add(span(), start));
        assert!(schedule.count(Kind::Span, start));
        let death = Trigger::Death("it died".into());
        schedule.add(death.clone(), start);
        let pending = schedule.take(None).expect("at the end");
        assert_eq!((pending.why, pending.more), (death, 6));
    }
}
