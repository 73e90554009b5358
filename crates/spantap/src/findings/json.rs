//! Findings for scripts. `docs/json.md` defines them; a change that could break a script gets a new [`VERSION`].

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

use super::finding::Found;
use crate::text::write_json;

/// The version of the schema.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct OfFinding<'a> {
    version: u32,
    kind: &'static str,
    service: &'a str,
    name: &'a str,
    what: &'a str,
    why: &'a str,
    cost_ns: u64,
    times: u64,
    traces: u64,
    all_traces: u64,
    all_ns: u64,
    trace_ids: Vec<String>,
    details: &'a Map<String, Value>,
}

/// Writes an object for each finding, one per line.
///
/// # Errors
///
/// When `out` fails.
pub fn json(found: &Found, out: &mut impl Write) -> io::Result<()> {
    for finding in &found.findings {
        let of = OfFinding {
            version: VERSION,
            kind: finding.kind.id(),
            service: &finding.service,
            name: &finding.name,
            what: &finding.what,
            why: &finding.why,
            cost_ns: finding.cost_ns,
            times: finding.times,
            traces: finding.traces,
            all_traces: found.traces,
            all_ns: found.total_ns,
            trace_ids: finding.trace_ids.iter().map(|id| format!("{id:032x}")).collect(),
            details: &finding.details,
        };
        write_json(&of, out)?;
    }
    Ok(())
}
