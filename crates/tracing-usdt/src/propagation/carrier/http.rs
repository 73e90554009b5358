//! HTTP headers as a carrier.

use http::{HeaderMap, HeaderValue};

use super::{Extract, Inject};

/// Replaces a value that is not visible ASCII. It is invalid in every header of a context.
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
        self.get_all(name).iter().map(|value| value.to_str().unwrap_or(INVALID))
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
