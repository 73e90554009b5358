//! Reads files into a graph.

use super::batch::Batch;
use super::call_graph::CallGraph;
use super::calls::{Calls, Limits};
use super::names::By;
use crate::capture::{Filter, Spans};
use crate::query::Query;
use crate::search::{Files, Read};

/// What was found in the files.
#[derive(Debug)]
pub struct Found {
    /// Who calls whom.
    pub graph: CallGraph,
    /// What else the files had.
    pub read: Read,
}

/// Finds who calls whom. With a query, only calls whose called span the query chooses.
///
/// Reads the files once. The memory does not depend on their size: see `Limits`.
pub fn read(files: &Files, by: By, query: Option<Query>) -> Found {
    let mut calls = Calls::new(by, Limits::default());
    let each = move |spans: Spans| Batch::new(&spans, by, query.as_ref());
    let read = files.read(&Filter::default(), each, |batch| calls.add(&batch));
    Found { graph: calls.so_far(), read }
}
