//! Puts the spans of a trace in the order in which a tree shows them.
//!
//! Parent ids are untrusted. A span whose parent is missing becomes a root. Parents that form a circle are cut at the
//! span that started first. So every span has exactly one row. Nothing here recurses, so a chain may have any length.

use super::assembled::{Trace, TraceSpan};
use super::parents::{Parent, parents};

/// One span at its place in the tree.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The span.
    pub span: &'a TraceSpan,
    /// The index of the span in [`Trace::spans`].
    pub arrival: usize,
    /// Where the span is attached.
    pub place: Place,
    /// How many ancestors the span has.
    pub depth: usize,
    /// Whether no sibling follows.
    pub is_last: bool,
    /// Whether children follow.
    pub has_children: bool,
}

/// Where a span is attached in the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A root: the span has no parent.
    Root,
    /// Shown as a root: the parent is not among the spans.
    ParentMissing,
    /// Shown as a root: the parent is a descendant.
    Circle,
    /// A child of the row with this index.
    Child(usize),
}

/// One row for each span: children below their parent, siblings in the order of their start. Roots come first, then
/// spans whose parents are missing, then circles.
pub fn rows(trace: &Trace) -> Vec<Row<'_>> {
    let parents = parents(trace);
    let rows = Vec::with_capacity(trace.spans.len());
    let mut forest = Forest { trace, children: children(trace, &parents), rows };
    for (parent, place) in [(Parent::None, Place::Root), (Parent::Missing, Place::ParentMissing)] {
        let mut tops: Vec<usize> = (0..parents.len()).filter(|&index| parents[index] == parent).collect();
        tops.sort_by_key(|&index| start(trace, index));
        tops.into_iter().for_each(|top| forest.add(top, place));
    }
    forest.add_circles(&parents);
    forest.rows
}

fn start(trace: &Trace, index: usize) -> u64 {
    trace.spans[index].span.start_time_unix_nano
}

/// The children of each span, by their start, and by their arrival if they start at the same time.
fn children(trace: &Trace, parents: &[Parent]) -> Vec<Vec<usize>> {
    let mut children = vec![Vec::new(); parents.len()];
    for (index, parent) in parents.iter().enumerate() {
        if let Parent::Span(parent) = *parent {
            children[parent].push(index);
        }
    }
    children.iter_mut().for_each(|siblings| siblings.sort_by_key(|&index| start(trace, index)));
    children
}

struct Forest<'a> {
    trace: &'a Trace,
    children: Vec<Vec<usize>>,
    rows: Vec<Row<'a>>,
}

impl Forest<'_> {
    /// Adds the rows of a span and of all its descendants.
    fn add(&mut self, top: usize, place: Place) {
        let mut next = vec![(top, place, 0, true)];
        while let Some((index, place, depth, is_last)) = next.pop() {
            // In a circle, the top is also a descendant: cut it there.
            let mut children = std::mem::take(&mut self.children[index]);
            children.retain(|&child| child != top);
            let row = self.rows.len();
            let span = &self.trace.spans[index];
            let has_children = !children.is_empty();
            self.rows.push(Row { span, arrival: index, place, depth, is_last, has_children });
            let last = children.last().copied();
            let below = children.into_iter().rev();
            next.extend(below.map(|child| (child, Place::Child(row), depth + 1, Some(child) == last)));
        }
    }

    /// Adds the spans that no root leads to.
    fn add_circles(&mut self, parents: &[Parent]) {
        let mut seen = vec![false; parents.len()];
        self.rows.iter().for_each(|row| seen[row.arrival] = true);
        let mut unseen: Vec<usize> = (0..parents.len()).filter(|&index| !seen[index]).collect();
        unseen.sort_by_key(|&index| start(self.trace, index));
        for index in unseen {
            if !seen[index] {
                let top = earliest_of_circle(self.trace, parents, index);
                let first = self.rows.len();
                self.add(top, Place::Circle);
                self.rows[first..].iter().for_each(|row| seen[row.arrival] = true);
            }
        }
    }
}

/// The earliest span of the circle that the ancestors of the span at `index` form.
fn earliest_of_circle(trace: &Trace, parents: &[Parent], index: usize) -> usize {
    let parent = |index: usize| match parents[index] {
        Parent::Span(parent) => parent,
        Parent::None | Parent::Missing => index,
    };
    // Floyd's algorithm: two walkers, one twice as fast as the other, meet inside the circle.
    let (mut slow, mut fast) = (parent(index), parent(parent(index)));
    while slow != fast {
        (slow, fast) = (parent(slow), parent(parent(fast)));
    }
    let mut earliest = slow;
    let mut at = parent(slow);
    while at != slow {
        if (start(trace, at), at) < (start(trace, earliest), earliest) {
            earliest = at;
        }
        at = parent(at);
    }
    earliest
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_proto::tonic::trace::v1::Span;
    use proptest::prelude::*;

    use super::*;
    use crate::process::{Process, Sender};
    use crate::trace::Shown;

    /// A trace of spans given as (id, parent or 0, start).
    fn trace(spans: impl IntoIterator<Item = (u64, u64, u64)>) -> Trace {
        let sender = Sender { pid: 1, uid: 0, gid: 0 };
        let process = Arc::new(Process { sender, service: String::new(), resource: Default::default() });
        let span = |(id, parent, start): (u64, u64, u64)| {
            let parent_span_id = if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() };
            let span = Span {
                span_id: id.to_be_bytes().to_vec(),
                parent_span_id,
                name: id.to_string(),
                start_time_unix_nano: start,
                ..Span::default()
            };
            TraceSpan { process: Arc::clone(&process), span }
        };
        let spans = spans.into_iter().map(span).collect();
        Trace { id: 1, spans, shown: Shown::Complete, duplicates: 0, left_out: 0, late: 0 }
    }

    /// Each row as `depth:name`, with `!` after the last sibling.
    fn outline(trace: &Trace) -> String {
        let row = |row: &Row<'_>| {
            let last = if row.is_last && row.depth > 0 { "!" } else { "" };
            format!("{}:{}{last}", row.depth, row.span.span.name)
        };
        rows(trace).iter().map(row).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn children_follow_their_parent_in_the_order_of_their_start() {
        let trace = trace([(5, 3, 9), (4, 1, 8), (3, 1, 2), (6, 3, 4), (1, 0, 1)]);
        assert_eq!(outline(&trace), "0:1 1:3 2:6 2:5! 1:4!");
    }

    #[test]
    fn spans_without_their_parent_follow_the_roots() {
        let trace = trace([(2, 9, 1), (3, 2, 2), (4, 0, 7), (5, 0, 6)]);
        assert_eq!(outline(&trace), "0:5 0:4 0:2 1:3!");
        assert_eq!(rows(&trace)[2].place, Place::ParentMissing);
    }

    #[test]
    fn circles_are_cut_at_their_earliest_span_and_show_every_span() {
        // 2 is its own parent. 3 -> 4 -> 5 -> 3 is a circle, and 6 and 7 are below it.
        let spans = [(7, 6, 0), (6, 4, 1), (3, 5, 30), (4, 3, 10), (5, 4, 20), (2, 2, 40), (1, 0, 50)];
        let trace = trace(spans);
        assert_eq!(outline(&trace), "0:1 0:4 1:6 2:7! 1:5! 2:3! 0:2");
        let places: Vec<Place> = rows(&trace).iter().map(|row| row.place).collect();
        assert_eq!((places[1], places[6]), (Place::Circle, Place::Circle));
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_spans_does_not_overflow_the_stack() {
        const SPANS: u64 = 100_000;
        let chain = trace((1..=SPANS).rev().map(|id| (id, id - 1, 0)));
        assert_eq!(rows(&chain).last().map(|row| row.depth), Some(SPANS as usize - 1));
        let circle = trace((1..=SPANS).map(|id| (id, id % SPANS + 1, 0)));
        assert_eq!(rows(&circle).len(), SPANS as usize);
    }

    proptest! {
        #[test]
        fn every_span_has_one_row_below_its_parent(
            spans in prop::collection::vec((1u64..30, 0u64..40, any::<u64>()), 0..40)
        ) {
            let trace = trace(spans);
            let rows = rows(&trace);
            let mut arrivals: Vec<usize> = rows.iter().map(|row| row.arrival).collect();
            arrivals.sort_unstable();
            prop_assert_eq!(arrivals, (0..trace.spans.len()).collect::<Vec<_>>());
            for (index, row) in rows.iter().enumerate() {
                match row.place {
                    Place::Child(parent) => {
                        prop_assert!(parent < index && rows[parent].depth + 1 == row.depth);
                        prop_assert_eq!(&rows[parent].span.span.span_id, &row.span.span.parent_span_id);
                    }
                    _ => prop_assert_eq!(row.depth, 0),
                }
            }
        }
    }
}
