//! What the user is told of a backend: that it fails, that it works again, that it refuses spans. A
//! change, not every request; a backend that comes and goes all the time is told of now and then.

use std::time::{Duration, Instant};

use crate::notices::Notices;

/// An outage soon after one that was told of is told of if it lasts.
const BETWEEN_OUTAGES: Duration = Duration::from_secs(10);
/// Refusals of this long are told of together.
const BETWEEN_REJECTIONS: Duration = Duration::from_secs(60);

/// Of one sink.
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
    told: bool,
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

    /// An attempt failed at `now`, and is made again.
    pub(super) fn fails(&mut self, why: &str, now: Instant) {
        let outage = self.outage.get_or_insert(Outage { since: now, told: false });
        let recent = self.last_outage.is_some_and(|last| now.duration_since(last) < BETWEEN_OUTAGES);
        if outage.told || recent {
            return;
        }
        outage.told = true;
        self.last_outage = Some(now);
        self.notices.say(format!("{}: {why}; spans are kept and sent when it works again", self.target));
    }

    /// The backend has answered, while `queued` spans waited.
    pub(super) fn works(&mut self, queued: u64) {
        let Some(outage) = self.outage.take().filter(|outage| outage.told) else { return };
        let seconds = outage.since.elapsed().as_secs_f64();
        self.notices
            .say(format!("{} works again after {seconds:.1} s; {queued} spans were waiting", self.target));
    }

    /// A request was too large, and its spans are sent again in smaller ones. Said once.
    pub(super) fn too_large(&mut self, why: &str) {
        if !std::mem::replace(&mut self.too_large, true) {
            self.notices.say(format!("{}: {why}; its spans are sent in smaller requests", self.target));
        }
    }

    /// The backend refused `spans`, or none and had something to say.
    pub(super) fn rejection(&mut self, spans: u64, message: Option<&str>) {
        if spans == 0 && message.is_none() {
            return;
        }
        self.rejected_since += spans;
        if self.last_rejection.is_some_and(|last| last.elapsed() < BETWEEN_REJECTIONS) {
            return;
        }
        self.last_rejection = Some(Instant::now());
        let said = message.unwrap_or("it did not say why");
        let line = match std::mem::take(&mut self.rejected_since) {
            0 => format!("{} says: {said}", self.target),
            1 => format!("{} rejected 1 span, which is lost: {said}", self.target),
            spans => format!("{} rejected {spans} spans, which are lost: {said}", self.target),
        };
        self.notices.say(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_a_flapping_backend_now_and_then() {
        let (notices, told) = Notices::new();
        let mut reports = Reports::new("sink".into(), notices);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let lines = || told.try_iter().collect::<Vec<_>>();
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
    fn rejections_are_told_once_in_a_while() {
        let (notices, told) = Notices::new();
        let mut reports = Reports::new("sink".into(), notices);
        reports.rejection(0, None);
        reports.rejection(2, Some("too old"));
        reports.rejection(3, Some("too old"));
        let lines: Vec<String> = told.try_iter().collect();
        assert_eq!(lines, ["sink rejected 2 spans, which are lost: too old"]);
    }
}
