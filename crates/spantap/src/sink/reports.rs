//! Notices to the user about a backend: it fails, it works again, it rejects spans. They report changes, not every
//! request, and a backend that flaps only now and then.

use std::time::{Duration, Instant};

use crate::text::Notices;

/// An outage that begins this soon after a reported one is only reported if it lasts.
const BETWEEN_OUTAGES: Duration = Duration::from_secs(10);
/// Rejections within this time are reported together.
const BETWEEN_REJECTIONS: Duration = Duration::from_secs(60);

/// The notices of one sink.
pub(super) struct Reports {
    target: String,
    notices: Notices,
    outage: Option<Outage>,
    last_outage: Option<Instant>,
    last_rejection: Option<Instant>,
    rejected_since: u64,
    too_large: bool,
}

struct Outage {
    since: Instant,
    is_reported: bool,
}

impl Reports {
    pub(super) fn new(target: String, notices: Notices) -> Self {
        Self {
            target,
            notices,
            outage: None,
            last_outage: None,
            last_rejection: None,
            rejected_since: 0,
            too_large: false,
        }
    }

    /// Records an attempt that failed at `now` and is repeated.
    pub(super) fn fails(&mut self, why: &str, now: Instant) {
        let outage = self.outage.get_or_insert(Outage { since: now, is_reported: false });
        let recent = self.last_outage.is_some_and(|last| now.duration_since(last) < BETWEEN_OUTAGES);
        if outage.is_reported || recent {
            return;
        }
        outage.is_reported = true;
        self.last_outage = Some(now);
        self.notices.say(format!("{}: {why}; spans are kept and sent when it works again", self.target));
    }

    /// Records an answer of the backend, while `queued` spans waited.
    pub(super) fn works(&mut self, queued: u64) {
        let Some(outage) = self.outage.take().filter(|outage| outage.is_reported) else { return };
        let seconds = outage.since.elapsed().as_secs_f64();
        self.notices
            .say(format!("{} works again after {seconds:.1} s; {queued} spans were waiting", self.target));
    }

    /// Records that a request was too large and its spans are sent in smaller ones. Reported once.
    pub(super) fn too_large(&mut self, why: &str) {
        if !std::mem::replace(&mut self.too_large, true) {
            self.notices.say(format!("{}: {why}; its spans are sent in smaller requests", self.target));
        }
    }

    /// Records that the backend rejected `spans`; 0 for a message without a rejection.
    pub(super) fn rejection(&mut self, spans: u64, message: Option<&str>) {
        if spans == 0 && message.is_none() {
            return;
        }
        self.rejected_since += spans;
        if self.last_rejection.is_some_and(|last| last.elapsed() < BETWEEN_REJECTIONS) {
            return;
        }
        self.last_rejection = Some(Instant::now());
        let reason = message.unwrap_or("it gave no reason");
        let line = match std::mem::take(&mut self.rejected_since) {
            0 => format!("{} answered: {reason}", self.target),
            1 => format!("{} rejected 1 span, which is lost: {reason}", self.target),
            spans => format!("{} rejected {spans} spans, which are lost: {reason}", self.target),
        };
        self.notices.say(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_reported_once_and_flapping_seldom() {
        let (notices, receiver) = Notices::new();
        let mut reports = Reports::new("sink".into(), notices);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let lines = || receiver.try_iter().collect::<Vec<_>>();
        reports.works(0);
        assert_eq!(lines(), [""; 0]);
        reports.fails("refused", at(0));
        reports.fails("refused", at(1));
        reports.fails("503", at(60));
        assert_eq!(lines(), ["sink: refused; spans are kept and sent when it works again"]);
        reports.works(1_234);
        reports.works(0);
        let back = lines();
        assert_eq!(back.len(), 1);
        assert!(
            back[0].starts_with("sink works again after ") && back[0].ends_with("1234 spans were waiting")
        );

        reports.fails("again", at(100));
        reports.works(1);
        assert_eq!(lines().len(), 2);
        reports.fails("flaps", at(101));
        reports.works(1);
        assert_eq!(lines(), [""; 0]);
        reports.fails("stays away", at(102));
        reports.fails("stays away", at(111));
        assert_eq!(lines().len(), 1);
    }

    #[test]
    fn rejections_are_reported_once_a_minute() {
        let (notices, receiver) = Notices::new();
        let mut reports = Reports::new("sink".into(), notices);
        reports.rejection(0, None);
        reports.rejection(2, Some("too old"));
        reports.rejection(3, Some("too old"));
        let lines: Vec<String> = receiver.try_iter().collect();
        assert_eq!(lines, ["sink rejected 2 spans, which are lost: too old"]);
    }
}
