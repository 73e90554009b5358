//! The critical path: what a request waited for at each moment. Less time on it is a shorter request.
//!
//! As Jaeger and Uber's CRISP find it: from the end of the root, walk back in time. The child that ended last is on the
//! path, and its own path is found the same way. Before that child began, it is the child that ended last until then, and
//! so on. The rest is the span's own. A child that ran beside one on the path is not on it, even if it took longer.
//!
//! ```text
//! request  ━━━───────────━━    heavy: on the path
//!   read     ──────            ended while `query` was open
//!   query     ━━━━━━━━━━━      the last to end
//! ```
//!
//! A part of a child outside its parent does not count: a child that outlives its parent is cut at the parent's end, and one
//! that begins earlier, as when clocks differ, at the parent's start.

use std::cmp::Reverse;

use super::self_time::Timed;
use super::tree::{Place, Row};
use crate::span::attributes::{SUMMARY_COUNT, find};

/// A part of the critical path, in which it is in one span and in none of its children.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The index of the span's row.
    pub row: usize,
    /// Its start, in nanoseconds since 1970.
    pub start_ns: u64,
    /// Its end, later than its start.
    pub end_ns: u64,
}

/// The critical path of the trace, in the order of time. The segments cover the longest root without gaps, and do not
/// overlap. Spans below other roots are not on it. If no span is a root, it is that of the longest span without its parent.
pub fn critical_path(rows: &[Row<'_>]) -> Vec<Segment> {
    let Some(root) = longest_root(rows) else { return Vec::new() };
    let timed: Vec<Timed> = rows.iter().map(|row| (waiting_parent(row), times(row))).collect();
    path_below(&timed, root)
}

/// The critical path of a span and what is below it, whose parents may form no circle. The rows of the segments are places in
/// `spans`.
pub(crate) fn path_below(spans: &[Timed], root: usize) -> Vec<Segment> {
    let children = Children::of(spans);
    let (_, (start_ns, end_ns)) = spans[root];
    let mut back = Vec::new();
    let mut open = vec![Walk { row: root, start_ns, end_ns, at_ns: end_ns, next: children.first[root] }];
    while let Some(walk) = open.last_mut() {
        let (row, until_ns) = (walk.row, walk.at_ns);
        let child = walk.last_child(spans, &children);
        // The time between the child's end, or the span's start, and what follows is the span's own.
        let from_ns = child.as_ref().map_or(walk.start_ns, |child| child.end_ns);
        if from_ns < until_ns {
            back.push(Segment { row, start_ns: from_ns, end_ns: until_ns });
        }
        match child {
            Some(child) => {
                walk.at_ns = child.start_ns;
                open.push(child);
            }
            None => drop(open.pop()),
        }
    }
    back.reverse();
    back
}

fn times(row: &Row<'_>) -> (u64, u64) {
    (row.span.span.start_time_unix_nano, row.span.span.end_time_unix_nano)
}

/// The first of the longest among the rows at the best place: a root, else a span without its parent, else a circle.
fn longest_root(rows: &[Row<'_>]) -> Option<usize> {
    let best = rows.first()?.place;
    let duration_ns = |index: &usize| {
        let (start_ns, end_ns) = times(&rows[*index]);
        (end_ns.saturating_sub(start_ns), Reverse(*index))
    };
    (0..rows.len()).filter(|&index| rows[index].place == best).max_by_key(duration_ns)
}

/// The rows of the children of each row, the one that ended last first. Among those that ended together, the longest comes
/// first.
struct Children {
    rows: Vec<usize>,
    /// Where the children of each row begin in `rows`, and where the last ones end.
    first: Vec<usize>,
}

impl Children {
    fn of(spans: &[Timed]) -> Self {
        let mut first = vec![0; spans.len() + 1];
        let mut children = Vec::with_capacity(spans.len());
        for (index, (parent, _)) in spans.iter().enumerate() {
            if let Some(parent) = *parent {
                first[parent + 1] += 1;
                children.push((parent, index));
            }
        }
        (1..first.len()).for_each(|index| first[index] += first[index - 1]);
        children.sort_unstable_by_key(|&(parent, index)| {
            let (_, (start_ns, end_ns)) = spans[index];
            (parent, Reverse(end_ns), start_ns, index)
        });
        Self { rows: children.into_iter().map(|(_, index)| index).collect(), first }
    }
}

/// The parent that may have waited for this span. A summary of short kernel activity has no place in time: it only says
/// between which moments the activity was.
fn waiting_parent(row: &Row<'_>) -> Option<usize> {
    match row.place {
        Place::Child(parent) if find(&row.span.span.attributes, SUMMARY_COUNT).is_none() => Some(parent),
        _ => None,
    }
}

/// How far the walk has come in a span.
struct Walk {
    row: usize,
    /// The part of the span that its ancestors leave.
    start_ns: u64,
    end_ns: u64,
    /// The path is known from here on.
    at_ns: u64,
    /// The next child to look at, in [`Children::rows`].
    next: usize,
}

impl Walk {
    /// The child that ended last before `at_ns`.
    fn last_child(&mut self, spans: &[Timed], children: &Children) -> Option<Walk> {
        while self.next < children.first[self.row + 1] {
            let row = children.rows[self.next];
            self.next += 1;
            let (_, (start_ns, end_ns)) = spans[row];
            let (start_ns, end_ns) = (start_ns.max(self.start_ns), end_ns.min(self.end_ns));
            if start_ns < end_ns && end_ns <= self.at_ns {
                return Some(Walk { row, start_ns, end_ns, at_ns: end_ns, next: children.first[row] });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use proptest::prelude::*;

    use super::*;
    use crate::span::attributes::attribute;
    use crate::trace::Trace;
    use crate::trace::timed::{id, timed};
    use crate::trace::tree;

    fn path_of(trace: &Trace) -> Vec<(u64, Range<u64>)> {
        let rows = tree::rows(trace);
        let part = |segment: Segment| (id(&rows[segment.row]), segment.start_ns..segment.end_ns);
        critical_path(&rows).into_iter().map(part).collect()
    }

    fn path(spans: &[(u64, u64, Range<u64>)]) -> Vec<(u64, Range<u64>)> {
        path_of(&timed(spans))
    }

    #[test]
    fn the_child_that_ended_last_is_on_the_path_and_what_ran_beside_it_is_not() {
        let found = path(&[(1, 0, 0..100), (2, 1, 10..70), (3, 1, 60..90), (4, 1, 20..60), (5, 4, 30..60)]);
        assert_eq!(found, [(1, 0..20), (4, 20..30), (5, 30..60), (3, 60..90), (1, 90..100)]);
    }

    #[test]
    fn a_child_is_cut_at_the_ends_of_its_parent() {
        // 3 outlives its parent 2, which outlives the root. 4 and 5 are outside of their parents.
        let spans =
            [(1, 0, 10..50), (2, 1, 30..60), (3, 2, 40..90), (4, 2, 70..80), (5, 1, 0..5), (6, 1, 0..20)];
        assert_eq!(path(&spans), [(6, 10..20), (1, 20..30), (2, 30..40), (3, 40..50)]);
    }

    #[test]
    fn of_children_that_end_together_the_longest_counts() {
        assert_eq!(path(&[(1, 0, 0..9), (2, 1, 5..9), (3, 1, 2..9)]), [(1, 0..2), (3, 2..9)]);
        // Both outlive the root: the later one held it up last.
        assert_eq!(path(&[(1, 0, 0..9), (2, 1, 2..10), (3, 1, 5..11)]), [(1, 0..5), (3, 5..9)]);
    }

    #[test]
    fn only_the_longest_root_has_a_path() {
        let spans = [(1, 0, 0..5), (2, 0, 3..9), (3, 2, 4..6), (4, 99, 0..100)];
        assert_eq!(path(&spans), [(2, 3..4), (3, 4..6), (2, 6..9)]);
        assert_eq!(path(&[(4, 99, 0..7), (5, 98, 0..6)]), [(4, 0..7)], "without a root");
        assert_eq!(path(&[(4, 5, 2..7), (5, 4, 0..6)]), [(5, 0..2), (4, 2..6)], "in a circle");
        assert_eq!(path(&[(1, 0, 5..5), (2, 1, 0..9)]), [], "of a root without duration");
        assert_eq!(path(&[]), []);
    }

    #[test]
    fn a_summary_of_short_kernel_activity_is_not_on_the_path() {
        let mut trace = timed(&[(1, 0, 0..9), (2, 1, 1..8), (3, 1, 2..4)]);
        trace.spans[1].span.attributes.push(attribute("kernel.count", Value::IntValue(3)));
        assert_eq!(path_of(&trace), [(1, 0..2), (3, 2..4), (1, 4..9)]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_spans_does_not_overflow_the_stack() {
        const SPANS: u64 = 100_000;
        let chain: Vec<_> = (1..=SPANS).map(|id| (id, id - 1, id..4 * SPANS - id)).collect();
        assert_eq!(path(&chain).len() as u64, 2 * SPANS - 1);
        // Each span starts with its parent and ends before it, so only its own rest is left to the parent.
        let circle: Vec<_> = (1..=SPANS).map(|id| (id, id % SPANS + 1, 0..id)).collect();
        assert_eq!(path(&circle).len(), 1);
    }

    proptest! {
        #[test]
        fn segments_cover_the_root_once_and_lie_within_their_spans(
            spans in prop::collection::vec((1u64..30, 0u64..30, 0u64..60, 0u64..60), 0..40)
        ) {
            let spans: Vec<_> =
                spans.into_iter().map(|(id, parent, start, length)| (id, parent, start..start + length)).collect();
            let trace = timed(&spans);
            let rows = tree::rows(&trace);
            let path = critical_path(&rows);
            let top_of = |mut row: usize| {
                while let Place::Child(parent) = rows[row].place {
                    row = parent;
                }
                row
            };
            for segment in &path {
                let (start_ns, end_ns) = times(&rows[segment.row]);
                prop_assert!(start_ns <= segment.start_ns && segment.start_ns < segment.end_ns);
                prop_assert!(segment.end_ns <= end_ns);
            }
            for pair in path.windows(2) {
                prop_assert_eq!(pair[0].end_ns, pair[1].start_ns);
                prop_assert_ne!(pair[0].row, pair[1].row);
            }
            let longest = (0..rows.len())
                .filter(|&row| rows[row].place == rows[0].place)
                .map(|row| times(&rows[row]).1 - times(&rows[row]).0)
                .max()
                .unwrap_or(0);
            let sum: u64 = path.iter().map(|segment| segment.end_ns - segment.start_ns).sum();
            prop_assert_eq!(sum, longest);
            if let (Some(first), Some(last)) = (path.first(), path.last()) {
                prop_assert_eq!(top_of(first.row), top_of(last.row));
                prop_assert_eq!((first.start_ns, last.end_ns), times(&rows[top_of(first.row)]));
            }
        }
    }
}
