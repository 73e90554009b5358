//! The second pass: the spans of the chosen traces.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;

use super::files::Files;
use crate::capture::{Filter, Spans};
use crate::trace::{Assembly, EncodedSpan, Limits, Shown, Trace};

/// How many traces are assembled at once, each in one pass over the files. A pass reads the headers of all frames, and
/// only those frames that have such a trace.
const GROUP: usize = 1000;

/// More than the collecting commands have, because nobody waits for memory here while spans arrive.
const LIMITS: Limits = Limits { bytes: 1 << 30, spans_of_a_trace: 1_000_000 };

/// Passes the traces to `show`, in the order of `trace_ids`, until it returns false. A trace whose spans do not all fit
/// into memory comes in parts.
///
/// # Errors
///
/// When a file can't be read.
pub fn load(files: &Files, trace_ids: &[u128], mut show: impl FnMut(&Trace) -> bool) -> Result<()> {
    for group in trace_ids.chunks(GROUP) {
        let mut found = assemble(files, group)?;
        for trace in group.iter().flat_map(|id| found.remove(id).unwrap_or_default()) {
            if !show(&trace.decode()) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn assemble(files: &Files, trace_ids: &[u128]) -> Result<HashMap<u128, Vec<Trace<EncodedSpan>>>> {
    let mut assembly = Assembly::new(LIMITS);
    let mut found: HashMap<u128, Vec<Trace<EncodedSpan>>> = HashMap::new();
    let mut keep = |trace: &Trace<EncodedSpan>| {
        let mut trace = trace.clone();
        if trace.shown == Shown::End {
            // Nothing more will come, and the spans say what is missing.
            trace.shown = Shown::Waited;
        }
        found.entry(trace.id).or_default().push(trace);
    };
    // All spans arrive at once: what is in the file is all there is.
    let now = Instant::now();
    let filter = Filter { traces: Some(trace_ids.iter().copied().collect()), ..Filter::default() };
    let take = |spans: &Spans| {
        for (span, field) in spans.iter() {
            assembly.add(EncodedSpan::new(&spans.process, span, field), now, &mut keep);
        }
    };
    files.read(&filter, take)?;
    assembly.finish(now, &mut keep);
    Ok(found)
}
