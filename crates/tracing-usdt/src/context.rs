//! Who a span is: trace id, span id, whether its trace is sampled; and the W3C text that carries
//! them from process to process.
//!
//! The registry's `Id`s are slab indexes and are reused; what goes on the wire is drawn here.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use crate::fields::take;
use crate::thread;

/// 128 random bits, never all zero, shared by every span of a trace. Printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    pub(crate) fn random() -> Self {
        Self::draw(&mut thread::random_wide)
    }

    /// Of the first bits drawn that are not all zero.
    #[inline]
    pub(crate) fn draw(bits: &mut dyn FnMut() -> u128) -> Self {
        loop {
            if let Some(id) = NonZeroU128::new(bits()) {
                return Self(id);
            }
        }
    }

    /// The upper 64 bits, as the probes carry them.
    pub fn high(self) -> u64 {
        (self.0.get() >> 64) as u64
    }

    /// The lower 64 bits, as the probes carry them.
    pub fn low(self) -> u64 {
        self.0.get() as u64
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// 64 random bits, never all zero. Printed as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    pub(crate) fn random() -> Self {
        loop {
            if let Some(id) = NonZeroU64::new(thread::random()) {
                return Self(id);
            }
        }
    }

    pub(crate) fn from_u64(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    /// The id as the probes carry it.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a span is known by, here and in other processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpanContext {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// The span itself.
    pub span_id: SpanId,
    /// Whether the trace's spans are sent.
    pub sampled: bool,
}

impl SpanContext {
    pub(crate) const BYTES: usize = 24;

    /// The ids, for handing them over.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id.0.get().to_le_bytes());
        bytes[16..].copy_from_slice(&self.span_id.get().to_le_bytes());
        bytes
    }

    /// Of a sampled trace: nothing is handed over of others.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let [low, high, span_id] = [(); 3].map(|()| u64::from_le_bytes(take(&mut bytes)));
        Self::from_parts(high, low, span_id)
    }

    pub(crate) fn from_parts(high: u64, low: u64, span_id: u64) -> Option<Self> {
        let trace_id = TraceId(NonZeroU128::new(u128::from(high) << 64 | u128::from(low))?);
        Some(Self { trace_id, span_id: SpanId::from_u64(span_id)?, sampled: true })
    }

    /// Reads a W3C `traceparent`, such as
    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
    ///
    /// `None` where the text is not one by [the specification]: wrong lengths, upper-case digits,
    /// all-zero ids, version `ff`, more than four parts in version `00`.
    ///
    /// ```
    /// use tracing_usdt::SpanContext;
    ///
    /// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    /// let context = SpanContext::from_traceparent(text).unwrap();
    /// assert_eq!(context.span_id.to_string(), "00f067aa0ba902b7");
    /// assert_eq!(SpanContext::from_traceparent("rubbish"), None);
    /// ```
    ///
    /// [the specification]: https://www.w3.org/TR/trace-context-2/#traceparent-header-field-values
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = NonZeroU128::new(hex(parts.next()?, 32)?)?;
        let span_id = NonZeroU64::new(hex(parts.next()?, 16)? as u64)?;
        let flags = hex(parts.next()?, 2)?;
        // A later version may append parts; version 00 has exactly these.
        let ends = parts.next().is_none() || version > 0;
        (version != 0xff && ends).then_some(Self {
            trace_id: TraceId(trace_id),
            span_id: SpanId(span_id),
            sampled: flags & 1 == 1,
        })
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower)).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_is_read_as_the_specification_says() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = SpanContext::from_traceparent(good).expect("the specification's own example");
        assert_eq!(read.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(read.trace_id.high(), 0x0af7_6519_16cd_43dd);
        assert_eq!(read.trace_id.low(), 0x8448_eb21_1c80_319c);
        assert_eq!(read.span_id.get(), 0xb7ad_6b71_6920_3331);
        assert!(read.sampled);

        let cases = [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true),
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", false),
            ("00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01", false),
            ("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("", false),
        ];
        for (text, valid) in cases {
            let read = SpanContext::from_traceparent(text);
            assert_eq!(read.is_some(), valid, "{text:?} was read as {read:?}");
        }
    }
}
