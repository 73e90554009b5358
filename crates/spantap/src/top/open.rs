//! Spans that are open for long, as they are shown.

use std::time::Instant;

use crate::open::{EndedProcess, OpenSpan};
use crate::terminal::ended_line;
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

/// The most spans of a process that has ended. Others are counted in the first line.
const MAX_OF_A_PROCESS: usize = 20;

/// What was open in a process that has ended, in lines.
pub(super) fn ended_lines(ended: &EndedProcess) -> Vec<String> {
    let span = |of: &OpenSpan| {
        let so_far = of.span.end_time_unix_nano.saturating_sub(of.span.start_time_unix_nano);
        format!("  open for {}", view::open_span(&of.process, &of.span, so_far))
    };
    let head = ended_line(ended).trim_end().to_owned();
    std::iter::once(head).chain(ended.spans.iter().take(MAX_OF_A_PROCESS).map(span)).collect()
}
