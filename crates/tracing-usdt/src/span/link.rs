//! Links from a span to spans that are not its parent, and their binary form in a span's record.

use crate::bounds::text_cost;
use crate::bytes::take;
use crate::propagation::Ids;

/// Maximum cost of all links of a span. [`MAX_LINKS`] links without trace states fit.
pub(crate) const MAX_COST: usize = 12 * 1024;
/// Maximum number of links of a span, OpenTelemetry's default.
pub(crate) const MAX_LINKS: u32 = 128;

/// Cost of a link without a trace state in OTLP, where it is longer than in Zipkin.
const EMPTY_COST: usize = 92;

const SAMPLED: u8 = 1;
const RANDOM: u8 = 1 << 1;
const LOCAL: u8 = 1 << 2;

/// The target of a link.
pub(crate) struct Link<'a> {
    pub(crate) ids: Ids,
    /// The target is known to be a span of this process.
    pub(crate) is_local: bool,
    pub(crate) trace_state: &'a str,
}

impl<'a> Link<'a> {
    /// Upper bound on the bytes that the link adds to a datagram.
    pub(crate) fn cost(&self) -> usize {
        let state_cost = if self.trace_state.is_empty() { 0 } else { text_cost(self.trace_state) };
        EMPTY_COST + state_cost
    }

    /// Appends the link: its trace id, span id, flags, and its trace state with its length in front.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        let flags =
            flag(self.ids.sampled, SAMPLED) | flag(self.ids.random, RANDOM) | flag(self.is_local, LOCAL);
        out.extend_from_slice(&self.ids.trace_id.get().to_le_bytes());
        out.extend_from_slice(&self.ids.span_id.get().to_le_bytes());
        out.push(flags);
        out.extend_from_slice(&(self.trace_state.len() as u32).to_le_bytes());
        out.extend_from_slice(self.trace_state.as_bytes());
    }

    /// Takes the first link from `bytes`. `None` if there are no more.
    pub(crate) fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let [low, high, span_id] = [(); 3].map(|()| u64::from_le_bytes(take(bytes)));
        let [flags] = take(bytes);
        let length = u32::from_le_bytes(take(bytes)) as usize;
        let (trace_state, after) = bytes.split_at(length.min(bytes.len()));
        *bytes = after;
        let ids = Ids::from_parts(high, low, span_id)?;
        Some(Self {
            ids: Ids { sampled: flags & SAMPLED != 0, random: flags & RANDOM != 0, ..ids },
            is_local: flags & LOCAL != 0,
            trace_state: std::str::from_utf8(trace_state).unwrap_or_default(),
        })
    }
}
