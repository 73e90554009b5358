//! The graph of spans that come one by one.

use super::batch::Batch;
use super::call_graph::CallGraph;
use super::calls::{Calls, Limits};
use super::names::By;
use crate::query::Query;
use crate::trace::EncodedSpan;

/// The most spans of a trace whose parents are found in any order.
const MAX_OF_A_TRACE: usize = 500_000;

/// A graph that grows. It takes as much memory as [`read`](super::read()), and for a moment a little more while it is shown.
pub struct Growing {
    by: By,
    query: Option<Query>,
    calls: Calls,
}

impl Growing {
    /// A graph without calls. With a query, only calls whose called span the query chooses count.
    pub fn new(by: By, query: Option<Query>) -> Self {
        Self { by, query, calls: Calls::new(by, Limits::default()) }
    }

    /// The same for traces that come whole, so that few spans have to be kept to find parents.
    pub(crate) fn of_whole_traces(by: By) -> Self {
        let limits = Limits { spans: MAX_OF_A_TRACE, waiting: MAX_OF_A_TRACE, ..Limits::default() };
        Self { by, query: None, calls: Calls::new(by, limits) }
    }

    /// Adds a span.
    pub fn add(&mut self, span: &EncodedSpan) {
        self.calls.add(&Batch::of_one(span, self.by, self.query.as_ref()));
    }

    /// Who has called whom so far. A request whose parent has not come yet is one of an unknown caller.
    pub fn so_far(&self) -> CallGraph {
        self.calls.so_far()
    }
}
