//! A trace as it is looked at.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::names::{NameId, Names};
use crate::trace::{Breakdown, EncodedSpan, Timed, Trace, path_below};

/// A trace, with who is below whom.
pub(super) struct Looked<'a> {
    pub(super) trace_id: u128,
    /// Whether all of its spans are here. If not, a span may have children that nobody sees.
    pub(super) is_whole: bool,
    pub(super) spans: &'a [EncodedSpan],
    pub(super) breakdowns: &'a [Option<Breakdown>],
    /// The name of each span of the program. `None` for kernel activity, for spans whose parents form a circle, and if there are too
    /// many names.
    pub(super) names: Vec<Option<NameId>>,
    parents: Vec<Option<usize>>,
    /// The children of all spans, by their start, and where those of each span begin.
    children: Vec<usize>,
    first: Vec<usize>,
    /// All spans that a root leads to, parents before their children.
    order: Vec<usize>,
    times: (u64, u64),
    path_ns: OnceCell<Vec<u64>>,
}

impl<'a> Looked<'a> {
    /// Counts the spans of the trace in `names`, if it is whole.
    pub(super) fn new(
        trace: &'a Trace<EncodedSpan>,
        breakdowns: &'a [Option<Breakdown>],
        is_whole: bool,
        names: &mut Names,
    ) -> Self {
        let spans = &*trace.spans;
        let places: HashMap<u64, usize> =
            spans.iter().enumerate().rev().map(|(place, span)| (span.span_id, place)).collect();
        let parent = |span: &EncodedSpan| span.parent_id.and_then(|id| places.get(&id)).copied();
        let parents: Vec<Option<usize>> = spans.iter().map(parent).collect();
        let mut first = vec![0; spans.len() + 1];
        parents.iter().flatten().for_each(|parent| first[parent + 1] += 1);
        (1..first.len()).for_each(|place| first[place] += first[place - 1]);
        let mut children: Vec<usize> = (0..spans.len()).filter(|place| parents[*place].is_some()).collect();
        children.sort_unstable_by_key(|place| (parents[*place], spans[*place].times, *place));
        let mut order: Vec<usize> = (0..spans.len()).filter(|place| parents[*place].is_none()).collect();
        let mut next = 0;
        while let Some(place) = order.get(next).copied() {
            next += 1;
            order.extend_from_slice(&children[first[place]..first[place + 1]]);
        }
        let mut of_spans = vec![None; spans.len()];
        for place in &order {
            let span = &spans[*place];
            if !span.is_kernel {
                of_spans[*place] = names.of_span(&span.process.service, span.name(), span.times.0);
                if is_whole {
                    of_spans[*place].into_iter().for_each(|name| names.count(name, span.times.0));
                }
            }
        }
        Self {
            trace_id: trace.id,
            is_whole,
            spans,
            breakdowns,
            names: of_spans,
            parents,
            children,
            first,
            order,
            times: trace.times(),
            path_ns: OnceCell::new(),
        }
    }

    pub(super) fn duration_ns(&self) -> u64 {
        self.times.1.saturating_sub(self.times.0)
    }

    /// The spans of the program that have a name, with it.
    pub(super) fn named(&self) -> impl Iterator<Item = (usize, NameId)> {
        self.names.iter().enumerate().filter_map(|(place, name)| Some((place, (*name)?)))
    }

    pub(super) fn parent(&self, place: usize) -> Option<usize> {
        self.parents[place]
    }

    /// The ancestors, the parent first.
    pub(super) fn ancestors(&self, place: usize) -> impl Iterator<Item = usize> {
        // A span with a name is in no circle.
        std::iter::successors(self.parents[place], |place| self.parents[*place])
    }

    /// The children by their start, with those that are kernel activity.
    pub(super) fn all_children(&self, place: usize) -> &[usize] {
        &self.children[self.first[place]..self.first[place + 1]]
    }

    /// The children by their start, without kernel activity.
    pub(super) fn children(&self, place: usize) -> impl Iterator<Item = usize> {
        self.all_children(place).iter().copied().filter(|child| !self.spans[*child].is_kernel)
    }

    /// For how long the trace waited for a span and what is below it.
    pub(super) fn path_ns(&self, place: usize) -> u64 {
        self.path_ns.get_or_init(|| self.find_path())[place]
    }

    fn find_path(&self) -> Vec<u64> {
        let mut path_ns = vec![0; self.spans.len()];
        let is_root = |place: &&usize| self.parents[**place].is_none() && !self.spans[**place].is_kernel;
        let Some(root) = self.order.iter().filter(is_root).max_by_key(|place| {
            let span = &self.spans[**place];
            (span.parent_id.is_none(), span.duration_ns())
        }) else {
            return path_ns;
        };
        // Kernel activity is a part of its span here.
        let timed: Vec<Timed> = (0..self.spans.len())
            .map(|place| {
                (self.parents[place].filter(|_| self.names[place].is_some()), self.spans[place].times)
            })
            .collect();
        for segment in path_below(&timed, *root) {
            path_ns[segment.row] += segment.end_ns - segment.start_ns;
        }
        for place in self.order.iter().rev() {
            if let Some(parent) = self.parents[*place] {
                path_ns[parent] += path_ns[*place];
            }
        }
        path_ns
    }
}
