//! A link from a span to another one that is not its parent, as a span's record keeps it.

use crate::context::Ids;
use crate::fields::{take, text_cost};

/// All links of a span. Without trace states there is room for as many as are counted.
pub(crate) const MAX_COST: usize = 12 * 1024;
/// OpenTelemetry's default.
pub(crate) const MAX_LINKS: u32 = 128;

/// One without a trace state, in OTLP, where it is longer.
const EMPTY_COST: usize = 92;

const SAMPLED: u8 = 1;
const RANDOM: u8 = 1 << 1;
const LOCAL: u8 = 1 << 2;

/// To whom a span is linked.
pub(crate) struct Link<'a> {
    pub(crate) ids: Ids,
    /// It is known to be a span of this process.
    pub(crate) is_local: bool,
    pub(crate) trace_state: &'a str,
}

impl<'a> Link<'a> {
    /// What it adds to a datagram, at most.
    pub(crate) fn cost(&self) -> usize {
        let of_state = if self.trace_state.is_empty() { 0 } else { text_cost(self.trace_state) };
        EMPTY_COST + of_state
    }

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

    /// The first of those in `bytes`, which goes on to the next one. `None` if there is none.
    pub(crate) fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let [low, high, span_id] = [(); 3].map(|()| u64::from_le_bytes(take(bytes)));
        let [flags] = take(bytes);
        let length = u32::from_le_bytes(take(bytes)) as usize;
        let (trace_state, after) = bytes.split_at(length.min(bytes.len()));
        *bytes = after;
        let known = Ids::from_parts(high, low, span_id)?;
        Some(Self {
            ids: Ids { sampled: flags & SAMPLED != 0, random: flags & RANDOM != 0, ..known },
            is_local: flags & LOCAL != 0,
            trace_state: std::str::from_utf8(trace_state).unwrap_or_default(),
        })
    }
}
