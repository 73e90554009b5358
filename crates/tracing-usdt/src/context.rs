//! Who a span is: trace id, span id, whether its trace is sampled; and the W3C text that carries
//! them from process to process.
//!
//! The registry's `Id`s are slab indexes and are reused; what goes on the wire is drawn here.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use crate::remote;
use crate::thread;
use crate::trace_state::TraceState;

/// 128 random bits, never all zero, shared by every span of a trace. Printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// `None` for 0, which is no id.
    pub fn new(id: u128) -> Option<Self> {
        NonZeroU128::new(id).map(Self)
    }

    /// As a number.
    pub fn get(self) -> u128 {
        self.0.get()
    }

    #[cfg(test)]
    pub(crate) fn random() -> Self {
        Self::begin().0
    }

    /// A new trace, and its first span.
    #[inline]
    pub(crate) fn begin() -> (Self, SpanId) {
        loop {
            let (trace, span) = thread::random_ids();
            if let (Some(trace), Some(span)) = (NonZeroU128::new(trace), NonZeroU64::new(span)) {
                return (Self(trace), SpanId(span));
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
    #[inline]
    pub(crate) fn random() -> Self {
        loop {
            if let Some(id) = NonZeroU64::new(thread::random()) {
                return Self(id);
            }
        }
    }

    /// `None` for 0, which is no id.
    pub fn new(id: u64) -> Option<Self> {
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

/// What a span is known by, and whether its trace is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ids {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) sampled: bool,
    /// Whoever drew the trace id says that it is random.
    pub(crate) random: bool,
}

impl Ids {
    /// Of a sampled trace: nothing is handed over of others.
    pub(crate) fn from_parts(high: u64, low: u64, span_id: u64) -> Option<Self> {
        let trace_id = TraceId::new(u128::from(high) << 64 | u128::from(low))?;
        Some(Self { trace_id, span_id: SpanId::new(span_id)?, sampled: true, random: false })
    }

    /// W3C's `trace-flags`.
    pub(crate) fn flags(self) -> u8 {
        u8::from(self.sampled) | u8::from(self.random) << 1
    }
}

/// What a span is known by in other processes: its ids, whether its trace is sampled, and what other tracing
/// systems say of the trace. This is what travels with a request.
///
/// ```
/// use std::collections::HashMap;
/// use tracing_usdt::{SpanContext, SpanExt};
///
/// let headers = HashMap::from([(
///     "traceparent".to_owned(),
///     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
/// )]);
/// // Where a request comes in:
/// let span = match SpanContext::extract(&headers) {
///     Some(caller) => caller.in_scope(|| tracing::info_span!("request")),
///     None => tracing::info_span!("request"),
/// };
/// // Where one goes out:
/// let mut headers = HashMap::new();
/// if let Some(context) = span.context() {
///     context.inject(&mut headers);
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpanContext {
    pub(crate) ids: Ids,
    pub(crate) trace_state: TraceState,
}

impl SpanContext {
    /// Of ids that came from elsewhere.
    pub fn new(trace_id: TraceId, span_id: SpanId, sampled: bool) -> Self {
        let ids = Ids { trace_id, span_id, sampled, random: false };
        Self { ids, trace_state: TraceState::default() }
    }

    /// The trace it belongs to.
    pub fn trace_id(&self) -> TraceId {
        self.ids.trace_id
    }

    /// The span itself.
    pub fn span_id(&self) -> SpanId {
        self.ids.span_id
    }

    /// Whether the trace's spans are sent.
    pub fn is_sampled(&self) -> bool {
        self.ids.sampled
    }

    /// What tracing systems say of the trace.
    pub fn trace_state(&self) -> &TraceState {
        &self.trace_state
    }

    /// The same with another `tracestate`.
    pub fn with_trace_state(self, trace_state: TraceState) -> Self {
        Self { trace_state, ..self }
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
    /// assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
    /// assert_eq!(context.to_traceparent(), text);
    /// assert_eq!(SpanContext::from_traceparent("rubbish"), None);
    /// ```
    ///
    /// [the specification]: https://www.w3.org/TR/trace-context-2/#traceparent-header-field-values
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = TraceId::new(hex(parts.next()?, 32)?)?;
        let span_id = SpanId::new(hex(parts.next()?, 16)? as u64)?;
        let flags = hex(parts.next()?, 2)?;
        // A later version may append parts; version 00 has exactly these.
        let ends = parts.next().is_none() || version > 0;
        let ids = Ids { trace_id, span_id, sampled: flags & 1 != 0, random: flags & 2 != 0 };
        (version != 0xff && ends).then_some(Self { ids, trace_state: TraceState::default() })
    }

    /// The text of a `traceparent`.
    pub fn to_traceparent(&self) -> String {
        let Ids { trace_id, span_id, .. } = self.ids;
        format!("00-{trace_id}-{span_id}-{:02x}", self.ids.flags())
    }

    /// What a child process finds in its environment, so that its root spans continue this one:
    /// `TRACEPARENT` and `TRACESTATE`.
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use tracing_usdt::SpanExt;
    ///
    /// let span = tracing::info_span!("backup");
    /// Command::new("pg_dump").envs(span.context().iter().flat_map(|context| context.env())).spawn()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn env(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        // Also where it is empty: our own process may have been given another.
        [("TRACEPARENT", self.to_traceparent()), ("TRACESTATE", self.trace_state.to_string())].into_iter()
    }

    /// Runs `f`; spans that begin in it on this thread, and are roots otherwise, continue this one.
    ///
    /// For a span that is made where its parent is known, this is better than
    /// [`set_parent`](crate::SpanExt::set_parent) afterwards: the sampler knows of the parent in time, and
    /// the probe `new_span` has the right trace id.
    pub fn in_scope<T>(&self, f: impl FnOnce() -> T) -> T {
        remote::within(self, f)
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower)).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification, and its edge cases: what is read, as it is written again.
    #[test]
    fn traceparent_is_read_as_the_specification_says() {
        let cases = [
            // 3.2.2.3 and 3.3.1
            (
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
            ),
            // Level 2: the trace id is random.
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
                Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"),
            ),
            // Flags that nobody knows are not passed on.
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
                Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"),
            ),
            // A later version may have more; what is known of it is used.
            (
                "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ),
            (
                "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-will-be-like",
                Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what-the-future", None),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.", None),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            // Lengths, too long and too short.
            ("000-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c0-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033310-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-001", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", None),
            // Digits that are none, or upper-case.
            ("0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A", None),
            ("00-.af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}-01", None),
            // Ids of zeros.
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
            ("", None),
            ("-", None),
            ("00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01", None),
            (" 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ];
        for (text, expected) in cases {
            let read = SpanContext::from_traceparent(text);
            assert_eq!(read.map(|context| context.to_traceparent()).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_ids_are_those_of_the_text() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = SpanContext::from_traceparent(text).expect("the specification's own example");
        assert_eq!(read.trace_id().get(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(
            (read.trace_id().high(), read.trace_id().low()),
            (0x0af7_6519_16cd_43dd, 0x8448_eb21_1c80_319c)
        );
        assert_eq!(read.span_id().get(), 0xb7ad_6b71_6920_3331);
        assert!(read.is_sampled());
    }

    #[test]
    fn a_child_process_is_given_both_variables() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = SpanContext::from_traceparent(text).expect("the specification's own example");
        let variables = [("TRACEPARENT", text.to_owned()), ("TRACESTATE", String::new())];
        assert_eq!(context.env().collect::<Vec<_>>(), variables);
        let state = TraceState::parse(["a=1"]).expect("a tracestate");
        let both: Vec<_> = context.with_trace_state(state).env().collect();
        assert_eq!(both[1], ("TRACESTATE", "a=1".to_owned()));
    }
}
