//! The second pass: the spans of the chosen traces.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::files::Files;
use crate::capture::{Filter, Spans};
use crate::process::Process;
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
    let mut processes = Processes::default();
    let take = |spans: Spans| {
        let process = processes.known(&spans.process);
        for (span, field) in spans.iter() {
            assembly.add(EncodedSpan::new(&process, span, field), now, &mut keep);
        }
    };
    files.read(&filter, |spans| spans, take)?;
    assembly.finish(now, &mut keep);
    Ok(found)
}

/// The processes of the spans, by service. Each thread that reads has its own description of a process, and so has each
/// file, but the spans of one process have to share one.
#[derive(Default)]
struct Processes(HashMap<String, Vec<Arc<Process>>>);

impl Processes {
    fn known(&mut self, process: &Arc<Process>) -> Arc<Process> {
        let of_service = self.0.entry(process.service.clone()).or_default();
        match of_service.iter().find(|known| **known == *process) {
            Some(known) => Arc::clone(known),
            None => {
                of_service.push(Arc::clone(process));
                Arc::clone(process)
            }
        }
    }
}
