//! What was open in a process when it ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Last, OpenSpan, sort};
use crate::process::Process;
use crate::trace::{Shown, Trace, TraceSpan};

/// A process that has ended, or executed another program, while spans were open.
#[derive(Debug)]
pub struct EndedProcess {
    /// The process.
    pub process: Arc<Process>,
    /// The spans that were open by its last report, those that were open for longest first.
    pub spans: Vec<OpenSpan>,
    /// How many were open, with those for which the report had no room.
    pub count: u64,
    /// How long ago the last report arrived.
    pub silent: Duration,
}

impl EndedProcess {
    pub(super) fn of(last: Last, now: Instant) -> Self {
        let mut spans: Vec<OpenSpan> = last.spans.iter().map(|held| last.open(held)).collect();
        sort(&mut spans);
        let silent = now.saturating_duration_since(last.arrived);
        Self { process: last.process, spans, count: last.count, silent }
    }

    /// The spans as traces, to be drawn.
    pub fn traces(&self) -> Vec<Trace> {
        let mut traces: Vec<Trace> = Vec::new();
        for OpenSpan { process, span, .. } in &self.spans {
            let Ok(id) = <[u8; 16]>::try_from(&*span.trace_id).map(u128::from_be_bytes) else { continue };
            let span = TraceSpan { process: Arc::clone(process), span: (**span).clone() };
            match traces.iter_mut().find(|trace| trace.id == id) {
                Some(trace) => trace.spans.push(span),
                None => traces.push(Trace {
                    id,
                    spans: vec![span],
                    shown: Shown::ProcessEnded,
                    duplicates: 0,
                    left_out: 0,
                    late: 0,
                }),
            }
        }
        traces
    }
}
