//! Trace ids and span ids, and the flags that belong to them.
//!
//! The ids on the wire are random numbers. The `Id`s of tracing's registry can't be used: they are indexes
//! that are reused.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use super::random;

/// The id that all spans of a trace share: 128 bits, never all zero. `Display` writes 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// The id with this number. `None` for 0, which is not a valid id.
    pub fn new(id: u128) -> Option<Self> {
        NonZeroU128::new(id).map(Self)
    }

    /// The id as a number.
    pub fn get(self) -> u128 {
        self.0.get()
    }

    #[cfg(test)]
    pub(crate) fn random() -> Self {
        Self::begin().0
    }

    /// Random ids for a new trace and its first span.
    #[inline]
    pub(crate) fn begin() -> (Self, SpanId) {
        loop {
            let (trace, span) = random::random_ids();
            if let (Some(trace), Some(span)) = (NonZeroU128::new(trace), NonZeroU64::new(span)) {
                return (Self(trace), SpanId(span));
            }
        }
    }

    /// The upper 64 bits, the probes' argument `trace id high`.
    pub fn high(self) -> u64 {
        (self.0.get() >> 64) as u64
    }

    /// The lower 64 bits, the probes' argument `trace id low`.
    pub fn low(self) -> u64 {
        self.0.get() as u64
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The id of a span: 64 bits, never all zero. `Display` writes 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    #[inline]
    pub(crate) fn random() -> Self {
        loop {
            if let Some(id) = NonZeroU64::new(random::random()) {
                return Self(id);
            }
        }
    }

    /// The id with this number. `None` for 0, which is not a valid id.
    pub fn new(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    /// The id as a number, the probes' argument `span id`.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A span's trace id, span id and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ids {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) sampled: bool,
    /// The creator of the trace id declares it random (W3C Trace Context, level 2).
    pub(crate) random: bool,
}

impl Ids {
    /// Ids of a sampled trace. `None` if one of the ids is 0.
    pub(crate) fn from_parts(high: u64, low: u64, span_id: u64) -> Option<Self> {
        let trace_id = TraceId::new(u128::from(high) << 64 | u128::from(low))?;
        Some(Self { trace_id, span_id: SpanId::new(span_id)?, sampled: true, random: false })
    }

    /// W3C's `trace-flags`.
    pub(crate) fn flags(self) -> u8 {
        u8::from(self.sampled) | u8::from(self.random) << 1
    }
}
