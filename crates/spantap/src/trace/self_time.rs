//! A span's own time: its duration without the time in which a child was open.

use super::tree::{Place, Row};

/// A span's parent, and its start and end in nanoseconds.
pub(crate) type Timed = (Option<usize>, (u64, u64));

/// The own time of each row's span, in nanoseconds. Children that overlap count once, and only as far as they are within
/// the span.
pub fn self_times_ns(rows: &[Row<'_>]) -> Vec<u64> {
    let timed = |row: &Row<'_>| {
        let parent = match row.place {
            Place::Child(parent) => Some(parent),
            _ => None,
        };
        (parent, (row.span.span.start_time_unix_nano, row.span.span.end_time_unix_nano))
    };
    // Rows of siblings are in the order of their start.
    own_times_ns(&rows.iter().map(timed).collect::<Vec<_>>(), 0..rows.len())
}

/// The own time of each span. `by_start` has the places of the spans, siblings in the order of their start.
pub(crate) fn own_times_ns(spans: &[Timed], by_start: impl Iterator<Item = usize>) -> Vec<u64> {
    let mut own: Vec<u64> = spans.iter().map(|(_, (start, end))| end.saturating_sub(*start)).collect();
    for ((parent, _), in_parent_ns) in spans.iter().zip(times_in_parents_ns(spans, by_start)) {
        if let Some(own) = parent.and_then(|parent| own.get_mut(parent)) {
            *own = own.saturating_sub(in_parent_ns);
        }
    }
    own
}

/// How much of its parent's time each span takes. What several siblings take counts for the first of them.
pub(crate) fn times_in_parents_ns(spans: &[Timed], by_start: impl Iterator<Item = usize>) -> Vec<u64> {
    // In that order, what the children before cover ends at a single time.
    let mut covered_until: Vec<u64> = spans.iter().map(|(_, (start, _))| *start).collect();
    let mut times = vec![0; spans.len()];
    for place in by_start {
        let (Some(parent), (start, end)) = spans[place] else { continue };
        let (_, of_parent) = spans[parent];
        let (start, end) = (start.max(covered_until[parent]), end.min(of_parent.1));
        if end > start {
            covered_until[parent] = end;
            times[place] = end - start;
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::trace::timed::{id, timed};
    use crate::trace::tree;

    fn self_times(spans: &[(u64, u64, Range<u64>)]) -> Vec<(u64, u64)> {
        let trace = timed(spans);
        let rows = tree::rows(&trace);
        rows.iter().map(id).zip(self_times_ns(&rows)).collect()
    }

    #[test]
    fn is_the_duration_without_the_children() {
        let found = self_times(&[(1, 0, 0..100), (2, 1, 10..30), (3, 1, 50..60), (4, 2, 10..25)]);
        assert_eq!(found, [(1, 70), (2, 5), (4, 15), (3, 10)]);
    }

    #[test]
    fn children_at_the_same_time_count_once() {
        assert_eq!(self_times(&[(1, 0, 0..100), (2, 1, 10..40), (3, 1, 20..30), (4, 1, 35..60)])[0], (1, 50));
    }

    #[test]
    fn only_the_part_of_a_child_within_its_parent_counts() {
        assert_eq!(self_times(&[(1, 0, 10..20), (2, 1, 0..12), (3, 1, 18..90), (4, 1, 200..300)])[0], (1, 6));
    }
}
