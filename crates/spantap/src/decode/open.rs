//! Reports of spans that are still open. `docs/wire.md` describes them.
//!
//! Their spans are not among those of a datagram, so that nothing takes them for spans that have ended.

use opentelemetry_proto::tonic::trace::v1::Span;

use super::fault::{Fault, Found};
use super::faults::Faults;

/// What a process reports of its open spans.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OpenReport {
    /// When the process looked, in nanoseconds since 1970.
    pub at_ns: u64,
    /// The spans are open for at least so long.
    pub threshold_ns: u64,
    /// How many such spans there are.
    pub count: u64,
    /// The oldest of them. Each ends at the time of the report.
    pub spans: Vec<Span>,
}

/// The most spans of a report that are kept. The layer sends fewer.
const MAX_SPANS: usize = 1000;

impl OpenReport {
    /// Leaves out spans without a start or an end, and those that are too many. They still count.
    pub(super) fn checked(mut self, faults: &mut Faults) -> Self {
        self.count = self.count.max(self.spans.len() as u64);
        self.spans.retain(|span| {
            let has_times = span.start_time_unix_nano > 0 && span.end_time_unix_nano > 0;
            if !has_times {
                faults.add(Found::new(Fault::WrongType, "an open span without its start or end"));
            }
            has_times
        });
        if self.spans.len() > MAX_SPANS {
            faults.leave_out(Found::new(
                Fault::LeftOut,
                format!("a report of {} open spans", self.spans.len()),
            ));
            self.spans.truncate(MAX_SPANS);
        }
        self
    }
}
