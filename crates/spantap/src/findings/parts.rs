//! Which traces came in parts: what comes of such a trace later looks whole, but is not.

use std::collections::{HashSet, VecDeque};

use crate::trace::{EncodedSpan, Shown, Trace};

/// The latest traces that are known to have come in parts.
const MAX_PARTS: usize = if cfg!(test) { 50 } else { 65_536 };

/// The ids of the latest incomplete traces.
#[derive(Default, Debug)]
pub(super) struct Parts {
    ids: HashSet<u128>,
    by_age: VecDeque<(u128, u64)>,
    /// When the latest of those that were forgotten began. A root begins before the spans below it.
    forgotten_ns: u64,
}

impl Parts {
    /// Whether all spans of the trace are here, as far as is known. If not, that is kept in mind.
    pub(super) fn is_whole(&mut self, trace: &Trace<EncodedSpan>) -> bool {
        let from_ns = trace.times().0;
        if trace.shown == Shown::Complete && trace.left_out == 0 {
            return !self.ids.contains(&trace.id) && from_ns > self.forgotten_ns;
        }
        if self.ids.insert(trace.id) {
            self.by_age.push_back((trace.id, from_ns));
        }
        if self.by_age.len() > MAX_PARTS
            && let Some((id, from_ns)) = self.by_age.pop_front()
        {
            self.ids.remove(&id);
            self.forgotten_ns = self.forgotten_ns.max(from_ns);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::made::{MS, span, trace};

    fn is_whole(parts: &mut Parts, id: u128, from_ns: u64, shown: Shown) -> bool {
        let mut trace = trace(id, vec![span(1, 0, "a", (from_ns, from_ns + MS))]);
        trace.shown = shown;
        parts.is_whole(&trace)
    }

    #[test]
    fn the_rest_of_a_trace_is_not_taken_for_all_of_it() {
        let mut parts = Parts::default();
        assert!(is_whole(&mut parts, 1, 0, Shown::Complete));
        assert!(!is_whole(&mut parts, 2, MS, Shown::Waited));
        assert!(!is_whole(&mut parts, 2, 0, Shown::Complete));
        assert!(is_whole(&mut parts, 3, 0, Shown::Complete));
    }

    #[test]
    fn of_those_that_are_forgotten_the_time_is_known() {
        let mut parts = Parts::default();
        for number in 1..=2 * MAX_PARTS as u64 {
            assert!(!is_whole(&mut parts, number.into(), number * MS, Shown::NoRoom));
        }
        assert_eq!((parts.ids.len(), parts.by_age.len()), (MAX_PARTS, MAX_PARTS));
        assert!(!is_whole(&mut parts, 1, MS, Shown::Complete), "its first part was forgotten");
        assert!(is_whole(&mut parts, 1_000, (MAX_PARTS as u64 + 1) * MS, Shown::Complete), "began later");
    }
}
