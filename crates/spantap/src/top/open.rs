//! Spans that are open for long, as they are shown.

use std::time::Instant;

use crate::open::OpenSpan;
use crate::view;

/// The most columns of the fields: more than any screen shows.
const MAX_FIELDS: usize = 300;

/// A span that has not ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Open {
    pub(super) service: String,
    pub(super) name: String,
    /// Its fields, on one line.
    pub(super) fields: String,
    pub(super) trace_id: String,
    pub(super) age_ns: u64,
}

impl Open {
    pub(super) fn new(open: &OpenSpan) -> Self {
        let (process, span) = (&open.process, &open.span);
        Self {
            service: process.service.clone(),
            name: span.name.clone(),
            fields: view::fields_of(process, span, MAX_FIELDS),
            trace_id: const_hex::encode(&span.trace_id),
            age_ns: open.age_ns(Instant::now()),
        }
    }
}
