//! HTTP headers as a carrier.
//!
//! A value may have bytes that are not text. Headers with lists have one member between two commas, so such a value is
//! passed on member by member: baggage loses only the bad ones. A `traceparent` or `tracestate` is still invalid.

use http::{HeaderMap, HeaderValue};

use super::{Extract, Inject};

/// Replaces a member that is not text. It is invalid in every header of a context.
const INVALID: &str = "\u{fffd}";

/// ```
/// use tracing_usdt::SpanContext;
///
/// let mut headers = http::HeaderMap::new();
/// assert_eq!(SpanContext::extract(&headers), None);
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// headers.insert("traceparent", text.parse()?);
/// let context = SpanContext::extract(&headers).unwrap();
/// assert_eq!(context.to_traceparent(), text);
/// # Ok::<_, http::header::InvalidHeaderValue>(())
/// ```
impl Extract for HeaderMap {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.get_all(name).iter().flat_map(|value| {
            let whole = value.to_str().ok();
            let members = whole.is_none().then(|| value.as_bytes().split(|byte| *byte == b','));
            let members =
                members.into_iter().flatten().map(|member| std::str::from_utf8(member).unwrap_or(INVALID));
            whole.into_iter().chain(members)
        })
    }
}

impl Inject for HeaderMap {
    fn set(&mut self, name: &'static str, value: String) {
        match HeaderValue::try_from(value) {
            Ok(value) => _ = self.insert(name, value),
            // A header left in place would hold the context of another span.
            Err(_) => Inject::remove(self, name),
        }
    }

    fn remove(&mut self, name: &'static str) {
        HeaderMap::remove(self, name);
    }
}
