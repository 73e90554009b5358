//! A span's context: the part of its identity that other processes see, and its W3C text form.

use super::baggage::Baggage;
use super::ids::{Ids, SpanId, TraceId};
use super::trace_state::TraceState;

/// The identity of a span across processes: its trace id, span id and flags, the trace's `tracestate`, and the
/// program's [`Baggage`]. A request carries it from the caller to the callee.
///
/// ```
/// use std::collections::HashMap;
/// use tracing_usdt::{SpanContext, SpanExt};
///
/// let headers = HashMap::from([(
///     "traceparent".to_owned(),
///     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
/// )]);
/// // For an incoming request:
/// let span = match SpanContext::extract(&headers) {
///     Some(caller) => caller.in_scope(|| tracing::info_span!("request")),
///     None => tracing::info_span!("request"),
/// };
/// // For an outgoing request:
/// let mut headers = HashMap::new();
/// if let Some(context) = span.trace_context() {
///     context.inject(&mut headers);
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpanContext {
    pub(crate) ids: Ids,
    pub(crate) trace_state: TraceState,
    pub(crate) baggage: Baggage,
}

impl SpanContext {
    /// A context with the given ids, an empty `tracestate` and no baggage.
    pub fn new(trace_id: TraceId, span_id: SpanId, sampled: bool) -> Self {
        let ids = Ids { trace_id, span_id, sampled, random: false };
        Self::of(ids)
    }

    fn of(ids: Ids) -> Self {
        Self { ids, trace_state: TraceState::NONE, baggage: Baggage::NONE }
    }

    /// The id of the trace that the span belongs to.
    pub fn trace_id(&self) -> TraceId {
        self.ids.trace_id
    }

    /// The id of the span.
    pub fn span_id(&self) -> SpanId {
        self.ids.span_id
    }

    /// Whether the trace is sampled, that is, whether its spans are sent.
    pub fn is_sampled(&self) -> bool {
        self.ids.sampled
    }

    /// W3C's `trace-flags`: 1 if the trace is sampled, 2 if the creator of the trace id declares it random.
    pub fn trace_flags(&self) -> u8 {
        self.ids.flags()
    }

    /// The `tracestate`: data that tracing systems attach to the trace.
    pub fn trace_state(&self) -> &TraceState {
        &self.trace_state
    }

    /// The same context with another `tracestate`.
    pub fn with_trace_state(self, trace_state: TraceState) -> Self {
        Self { trace_state, ..self }
    }

    /// The baggage: what the program has attached to the trace.
    pub fn baggage(&self) -> &Baggage {
        &self.baggage
    }

    /// The same context with other baggage.
    pub fn with_baggage(self, baggage: Baggage) -> Self {
        Self { baggage, ..self }
    }

    /// Reads a W3C `traceparent`, such as
    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
    ///
    /// `None` if the text is invalid by [the specification]: wrong lengths, upper-case digits, all-zero ids,
    /// version `ff`, or more than four parts in version `00`.
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
        let is_complete = parts.next().is_none() || version > 0;
        let ids = Ids { trace_id, span_id, sampled: flags & 1 != 0, random: flags & 2 != 0 };
        (version != 0xff && is_complete).then_some(Self::of(ids))
    }

    /// The context as a W3C `traceparent`.
    pub fn to_traceparent(&self) -> String {
        let Ids { trace_id, span_id, .. } = self.ids;
        format!("00-{trace_id}-{span_id}-{:02x}", self.ids.flags())
    }

    /// The environment variables `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`. A child process that gets them
    /// continues this span: its root spans become children of this span.
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use tracing_usdt::SpanExt;
    ///
    /// let span = tracing::info_span!("backup");
    /// Command::new("pg_dump").envs(span.trace_context().iter().flat_map(|context| context.env())).spawn()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn env(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        // Includes empty ones, because the child would inherit this process's own otherwise.
        [
            ("TRACEPARENT", self.to_traceparent()),
            ("TRACESTATE", self.trace_state.to_string()),
            ("BAGGAGE", self.baggage.to_string()),
        ]
        .into_iter()
    }
}

/// Reads `text` as exactly so many lower-case hex digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower)).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples and edge cases of the specification: each text, and the text that its context is written as.
    #[test]
    fn reads_traceparent_as_the_specification_requires() {
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
            // Unknown flags are not passed on.
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
                Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"),
            ),
            // A later version may have more parts and flags; the known ones are used.
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
            // Characters that are not digits, and upper-case digits.
            ("0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A", None),
            ("00-.af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}-01", None),
            // All-zero ids.
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
    fn ids_and_flags_match_the_text() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = SpanContext::from_traceparent(text).expect("the specification's own example");
        assert_eq!(read.trace_id().get(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(
            (read.trace_id().high(), read.trace_id().low()),
            (0x0af7_6519_16cd_43dd, 0x8448_eb21_1c80_319c)
        );
        assert_eq!(read.span_id().get(), 0xb7ad_6b71_6920_3331);
        assert!(read.is_sampled());
        for flags in ["00", "01", "02", "03"] {
            let read = SpanContext::from_traceparent(&format!("{}{flags}", &text[..53]));
            assert_eq!(read.map(|context| format!("{:02x}", context.trace_flags())).as_deref(), Some(flags));
        }
    }

    #[test]
    fn env_sets_all_variables() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = SpanContext::from_traceparent(text).expect("the specification's own example");
        let variables =
            [("TRACEPARENT", text.to_owned()), ("TRACESTATE", String::new()), ("BAGGAGE", String::new())];
        assert_eq!(context.env().collect::<Vec<_>>(), variables);
        let state = TraceState::parse(["a=1"]).expect("a tracestate");
        let context = context.with_trace_state(state).with_baggage(Baggage::parse(["k=v"]));
        let all: Vec<_> = context.env().collect();
        assert_eq!(all[1..], [("TRACESTATE", "a=1".to_owned()), ("BAGGAGE", "k=v".to_owned())]);
    }
}
