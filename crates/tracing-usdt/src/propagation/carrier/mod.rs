//! Carriers: where a span context is read from and written to, such as the headers of a request. The names
//! are W3C's.
//!
//! `http` makes HTTP headers a carrier, and `tonic` gRPC metadata.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use super::baggage::Baggage;
use super::context::SpanContext;
use super::trace_state::TraceState;

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "tonic")]
mod tonic;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// A carrier that a context is read from, such as the headers of an incoming request.
pub trait Extract {
    /// All values of the header `name`, in order. `name` is in lower case, but must match headers in any case.
    ///
    /// Implementations must not skip a value that is not text, because a second value makes a context
    /// invalid. They yield an invalid value in its place, such as `"\u{fffd}"`. They may split a value at its commas and
    /// replace only the members that are not text.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str>;
}

/// A carrier that a context is written to, such as the headers of an outgoing request.
pub trait Inject {
    /// Sets a header. Replaces all headers of the same name.
    fn set(&mut self, name: &'static str, value: String);

    /// Removes all headers of this name.
    fn remove(&mut self, name: &'static str);
}

impl SpanContext {
    /// Reads the sender's context from a request, with its `tracestate` and its baggage. `None` if the request has
    /// no context, more than one, or an invalid one: then it should begin a new trace. It may still have
    /// [baggage](Baggage::extract).
    pub fn extract(carrier: &impl Extract) -> Option<Self> {
        let mut parents = carrier.values(TRACEPARENT);
        let context = Self::from_traceparent(parents.next()?.trim_matches([' ', '\t']))?;
        if parents.next().is_some() {
            return None;
        }
        let state = TraceState::parse(carrier.values(TRACESTATE)).unwrap_or_default();
        Some(context.with_trace_state(state).with_baggage(Baggage::extract(carrier)))
    }

    /// Writes this context into a request, replacing any other context: the headers `tracestate` and `baggage` are
    /// removed if this context has none. So a proxy that copies headers does not pass on what it has replaced.
    pub fn inject(&self, carrier: &mut impl Inject) {
        carrier.set(TRACEPARENT, self.to_traceparent());
        set_or_remove(carrier, TRACESTATE, self.trace_state.to_string());
        self.baggage.inject(carrier);
    }
}

fn set_or_remove(carrier: &mut impl Inject, name: &'static str, value: String) {
    match value.is_empty() {
        true => carrier.remove(name),
        false => carrier.set(name, value),
    }
}

impl Baggage {
    /// Reads the baggage of a request, whether or not it has a context. It is empty if the request has none.
    ///
    /// [`SpanContext::extract`] does this too. This is for requests without a context:
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tracing_usdt::{Baggage, SpanExt};
    ///
    /// let headers = HashMap::from([("baggage".to_owned(), "user.id=7".to_owned())]);
    /// let span = tracing::info_span!("request");
    /// span.set_baggage(Baggage::extract(&headers));
    /// ```
    pub fn extract(carrier: &impl Extract) -> Self {
        Self::parse(carrier.values(BAGGAGE))
    }

    /// Writes this baggage into a request, in place of other baggage. If this is empty, the header is removed.
    pub fn inject(&self, carrier: &mut impl Inject) {
        set_or_remove(carrier, BAGGAGE, self.to_string());
    }
}

macro_rules! map {
    ($map:ty $(, $hasher:ident)?) => {
        impl$(<$hasher: BuildHasher>)? Extract for $map {
            fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
                let is_named = move |(key, value): (&'a String, &'a String)| {
                    key.eq_ignore_ascii_case(name).then_some(&**value)
                };
                self.iter().filter_map(is_named)
            }
        }

        impl$(<$hasher: BuildHasher>)? Inject for $map {
            fn set(&mut self, name: &'static str, value: String) {
                Inject::remove(self, name);
                self.insert(name.to_owned(), value);
            }

            fn remove(&mut self, name: &'static str) {
                self.retain(|key, _| !key.eq_ignore_ascii_case(name));
            }
        }
    };
}

map!(HashMap<String, String, S>, S);
map!(BTreeMap<String, String>);

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn map(headers: &[(&str, &str)]) -> BTreeMap<String, String> {
        headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn extracts_an_injected_context() {
        let read = SpanContext::extract(&map(&[("Traceparent", PARENT), ("TRACESTATE", "a=1,b=2")]));
        let read = read.expect("a context");
        assert_eq!((read.to_traceparent().as_str(), read.trace_state().as_str()), (PARENT, "a=1,b=2"));
        let mut headers = map(&[("TraceParent", "old"), ("tracestate", "old"), ("other", "stays")]);
        read.inject(&mut headers);
        assert_eq!(headers, map(&[("traceparent", PARENT), ("tracestate", "a=1,b=2"), ("other", "stays")]));
        assert_eq!(SpanContext::extract(&headers), Some(read.clone()));
        read.with_trace_state(TraceState::default()).inject(&mut headers);
        assert_eq!(headers, map(&[("traceparent", PARENT), ("other", "stays")]));
    }

    #[test]
    fn baggage_is_extracted_and_injected_with_and_without_a_context() {
        let headers = map(&[("traceparent", PARENT), ("Baggage", "a=1, b = 2;p ,rubbish")]);
        let read = SpanContext::extract(&headers).expect("a context");
        assert_eq!(read.baggage().to_string(), "a=1,b=2;p");
        let mut headers = map(&[("BAGGAGE", "old=1"), ("other", "stays")]);
        read.inject(&mut headers);
        assert_eq!(headers, map(&[("traceparent", PARENT), ("baggage", "a=1,b=2;p"), ("other", "stays")]));
        // What an earlier context has left in the map does not stay.
        read.with_baggage(Baggage::default()).inject(&mut headers);
        assert_eq!(headers, map(&[("traceparent", PARENT), ("other", "stays")]));

        let mut headers = map(&[("baggage", "k=v")]);
        assert_eq!(SpanContext::extract(&headers), None);
        let alone = Baggage::extract(&headers);
        assert_eq!(alone.get("k").as_deref(), Some("v"));
        Baggage::default().inject(&mut headers);
        assert_eq!(headers, map(&[]));
        alone.inject(&mut headers);
        assert_eq!(headers, map(&[("baggage", "k=v")]));
    }

    #[test]
    fn rejects_missing_invalid_and_ambiguous_contexts() {
        let extract = |headers: &[(&str, &str)]| SpanContext::extract(&map(headers));
        assert_eq!(extract(&[]), None);
        assert_eq!(extract(&[("tracestate", "a=1")]), None);
        assert_eq!(extract(&[("traceparent", "rubbish"), ("tracestate", "a=1")]), None);
        assert_eq!(extract(&[("traceparent", PARENT), ("Traceparent", PARENT)]), None, "ambiguous");
        let without_state = extract(&[("traceparent", PARENT), ("tracestate", "A=1")]).expect("a context");
        assert!(without_state.trace_state().is_empty());
        assert!(extract(&[("traceparent", &format!(" {PARENT}\t"))]).is_some());
    }
}
