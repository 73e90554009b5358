//! Finds what is wrong in traces: few findings, and only such that the traces prove. A healthy program has none.
//!
//! [`Findings`] takes traces, one after the other, and keeps sums of what it has seen in bounded memory. Each kind of finding has a
//! file that looks at a trace and says at the end what it found: `repeated`, `serial`, `gap`, `held`, `blocked` and `errors`. The
//! thresholds are at the top of these files, and in the manual. They look at a trace as `looked` has it: who the children of a span
//! are, and what the trace waited for. `call` reads what a span says about a call, `shape` what its statement or URL asks for, `threads` what began on a thread and when,
//! `names` knows the services and names of spans, and how many there were over time (`over_time`). `evidence` is how often something was
//! seen, what it cost and where, and `parts` which traces are not whole.
//!
//! [`Finding`] is the result, [`lines()`] writes it for people, and [`json()`] for scripts.

mod blocked;
mod call;
mod errors;
mod evidence;
mod finding;
mod gap;
mod held;
mod json;
mod lines;
mod looked;
#[cfg(test)]
pub(crate) mod made;
mod names;
mod over_time;
mod parts;
mod repeated;
mod serial;
mod shape;
#[cfg(test)]
mod tests;
mod threads;

use std::cmp::Reverse;

pub use finding::{Finding, Found, Kind};
pub use json::json;
pub use lines::lines;
pub(crate) use lines::sentence;

use crate::text::counted;
use crate::trace::{Breakdown, EncodedSpan, Trace};
use blocked::Blocked;
use errors::Errors;
use gap::Gaps;
use held::Held;
use looked::Looked;
use names::Names;
use parts::Parts;
use repeated::Repeated;
use serial::Serial;

/// The most findings that are shown. More are no help.
const MAX_SHOWN: usize = 8;
/// So many errors of these, if there are others. In an outage, many names fail.
const MAX_ERRORS: usize = 4;

/// What costs less than this share of the time of the traces in which its span occurs is not worth a look: one in so many. Others may
/// stay open for hours.
const LEAST_SHARE: u64 = 100;
/// Nor is what costs less than this in all, in nanoseconds.
const LEAST_NS: u64 = 2_000_000;

/// What was seen in traces so far.
#[derive(Debug, Default)]
pub struct Findings {
    names: Names,
    traces: u64,
    /// The durations of all traces.
    total_ns: u64,
    /// Traces that were not whole.
    incomplete: u64,
    parts: Parts,
    repeated: Repeated,
    serial: Serial,
    gaps: Gaps,
    held: Held,
    blocked: Blocked,
    errors: Errors,
}

impl Findings {
    /// Looks at a trace. `breakdowns` says where the time of its spans goes.
    pub(crate) fn add(&mut self, trace: &Trace<EncodedSpan>, breakdowns: &[Option<Breakdown>]) {
        let is_whole = self.parts.is_whole(trace);
        self.incomplete += u64::from(!is_whole);
        let looked = Looked::new(trace, breakdowns, is_whole, &mut self.names);
        self.traces += 1;
        self.total_ns = self.total_ns.saturating_add(looked.duration_ns());
        let duration_ns = looked.duration_ns();
        looked.named().for_each(|(_, name)| self.names.occurs(name, looked.trace_id, duration_ns));
        self.repeated.look(&looked);
        self.serial.look(&looked);
        self.gaps.look(&looked);
        self.held.look(&looked);
        self.blocked.look(&looked);
        self.errors.look(&looked);
    }

    /// A trace that is not looked at.
    pub(crate) fn skip(&mut self, trace: &Trace<EncodedSpan>) {
        self.parts.is_whole(trace);
        self.held.skip(trace.times());
    }

    /// Forgets what was seen, but not which traces came in parts.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self { parts: std::mem::take(&mut self.parts), ..Self::default() };
    }

    /// All that was found, the most important first.
    pub(crate) fn all(&self) -> Found {
        let blocked = self.blocked.found(&self.names);
        let mut held = self.held.found(&self.names);
        // Who waits for a lock holds its thread meanwhile, which is the same finding.
        held.retain(|held| {
            !blocked.iter().any(|of| (&of.service, &of.name) == (&held.service, &held.name))
                || !held.is_for_a_lock
        });
        // While all threads are held, tasks wait that nobody blocks.
        let is_held = |service: &str, ns: u64| {
            held.iter().any(|held| *held.service == *service && held.finding.cost_ns >= ns)
        };
        let mut gaps = self.gaps.found(&self.names);
        let all_gaps = gaps.len();
        gaps.retain(|gap| !is_held(&gap.service, gap.cost_ns));
        let hidden_gaps = all_gaps - gaps.len();
        let mut all: Vec<Finding> = self.repeated.found(&self.names);
        all.extend(self.serial.found(&self.names));
        all.extend(gaps);
        all.extend(held.into_iter().map(|held| held.finding));
        all.extend(blocked);
        all.retain(|of| {
            let traces_ns = self.names.traces_ns(&of.service, &of.name);
            of.cost_ns >= LEAST_NS.max(traces_ns / LEAST_SHARE)
        });
        all.extend(self.errors.found(&self.names));
        // An error matters more than time.
        all.sort_by_key(|finding| (finding.kind != Kind::NewError, Reverse(finding.cost_ns)));
        let mut lacks = self.lacks();
        if hidden_gaps > 0 {
            let gaps = counted(hidden_gaps as u64, "gap is", "gaps are");
            lacks.push(format!(
                "{gaps} not shown: a held thread of the same service costs more, for which tasks may wait"
            ));
        }
        Found { findings: all, more: 0, traces: self.traces, total_ns: self.total_ns, lacks }
    }

    /// The most important of what was found.
    pub(crate) fn found(&self) -> Found {
        self.all().at_most(MAX_SHOWN, MAX_ERRORS)
    }

    /// Whether a finding may point to this trace first, as far as is known now. For whoever keeps the traces of findings.
    pub(crate) fn may_show(&self, trace_id: u128) -> bool {
        let mut may_show = false;
        let mut each = |id| may_show |= id == trace_id;
        self.repeated.examples(&mut each);
        self.serial.examples(&mut each);
        self.gaps.examples(&mut each);
        self.held.examples(&mut each);
        self.blocked.examples(&mut each);
        self.errors.examples(&mut each);
        may_show
    }

    /// What was not looked at, a line each.
    fn lacks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.incomplete > 0 {
            let traces = counted(self.incomplete, "trace or part of one was", "traces or parts of them were");
            lines
                .push(format!("{traces} not looked at for gaps, held threads and errors: spans are missing"));
        }
        if self.held.unknown() > 0 {
            let spans = counted(
                self.held.unknown(),
                "span that may have held a thread was",
                "spans that may have held a thread were",
            );
            lines.push(format!("{spans} not judged: too much began meanwhile"));
        }
        if self.names.left_out() > 0 {
            let spans = counted(self.names.left_out(), "span was", "spans were");
            lines.push(format!("{spans} not looked at: there are more than {} names", names::MAX_NAMES));
        }
        let left_out = self.repeated.left_out()
            + self.serial.left_out()
            + self.gaps.left_out()
            + self.held.left_out()
            + self.blocked.left_out()
            + self.errors.left_out();
        if left_out > 0 {
            let times = counted(left_out, "observation was", "observations were");
            lines.push(format!("{times} not counted: there are too many different ones"));
        }
        lines
    }
}
