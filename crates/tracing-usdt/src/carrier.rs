//! What a span context travels in: the headers of a request, by W3C's names.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use crate::context::SpanContext;
use crate::trace_state::TraceState;

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "tonic")]
mod tonic;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Where a context is read from.
pub trait Extract {
    /// All values of a header, in their order. `name` is in lower case; headers may be in any.
    ///
    /// A value that is no text must not be passed over, or another one would be taken for the only one: it
    /// is given as something that no header says, such as `"\u{fffd}"`.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str>;
}

/// Where a context is written to.
pub trait Inject {
    /// Sets a header, in place of those of the same name.
    fn set(&mut self, name: &'static str, value: String);

    /// Takes a header out.
    fn remove(&mut self, name: &'static str);
}

impl SpanContext {
    /// Reads the context of whoever sent a request. `None` if there is none, or more than one, or one that
    /// can't be read: then the request begins a trace of its own.
    pub fn extract(carrier: &impl Extract) -> Option<Self> {
        let mut parents = carrier.values(TRACEPARENT);
        let context = Self::from_traceparent(parents.next()?.trim_matches([' ', '\t']))?;
        if parents.next().is_some() {
            return None;
        }
        let state = TraceState::parse(carrier.values(TRACESTATE)).unwrap_or_default();
        Some(context.with_trace_state(state))
    }

    /// Writes the context for whoever gets a request, in place of another one.
    pub fn inject(&self, carrier: &mut impl Inject) {
        carrier.set(TRACEPARENT, self.to_traceparent());
        match self.trace_state.is_empty() {
            true => carrier.remove(TRACESTATE),
            false => carrier.set(TRACESTATE, self.trace_state.to_string()),
        }
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
    fn what_is_injected_is_extracted() {
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
    fn what_can_not_be_read_begins_a_new_trace() {
        let extract = |headers: &[(&str, &str)]| SpanContext::extract(&map(headers));
        assert_eq!(extract(&[]), None);
        assert_eq!(extract(&[("tracestate", "a=1")]), None);
        assert_eq!(extract(&[("traceparent", "rubbish"), ("tracestate", "a=1")]), None);
        assert_eq!(extract(&[("traceparent", PARENT), ("Traceparent", PARENT)]), None, "which of them?");
        let without_state = extract(&[("traceparent", PARENT), ("tracestate", "A=1")]).expect("a context");
        assert!(without_state.trace_state().is_empty());
        assert!(extract(&[("traceparent", &format!(" {PARENT}\t"))]).is_some());
    }
}
