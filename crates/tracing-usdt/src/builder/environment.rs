//! Reads the environment variables, and reports values that can't be used.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::delivery::Delivery;
use crate::encode::Format;
use crate::error::{Error, Reporter};
use crate::fields::Limits;
use crate::propagation::{Baggage, SpanContext, TraceState, is_token};
use crate::sampler::Sampler;

/// Access to the variables that `docs/wire.md` lists. An empty variable counts as unset, as OpenTelemetry
/// specifies.
pub(super) struct Environment<'a> {
    pub(super) read: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) reporter: Arc<Reporter>,
}

impl Environment<'_> {
    /// The socket's path. Spaces around a path are part of it.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        (self.read)("TRACING_USDT_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The variable's value without spaces and line ends around it, which files and shells may add.
    pub(super) fn text(&self, variable: &str) -> Option<String> {
        let value = (self.read)(variable)?;
        let value = value.to_string_lossy();
        Some(value.trim()).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// The variable's value as `parse` reads it. Reports an error if `parse` returns `None`.
    fn parsed<T>(
        &self,
        variable: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.text(variable)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.reporter.report(Error::Environment { variable, value, expected });
        }
        parsed
    }

    /// Like [`parsed`](Self::parsed), for a word that may be written in capitals.
    fn word<T>(
        &self,
        variable: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.parsed(variable, expected, |word| parse(&word.to_ascii_lowercase()))
    }

    /// Whether the environment disables datagrams, even if the program sets a socket.
    pub(super) fn is_disabled(&self) -> bool {
        self.word("OTEL_SDK_DISABLED", "true or false", |word| match word {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
        .unwrap_or(false)
    }

    pub(super) fn format(&self) -> Option<Format> {
        if self.text("TRACING_USDT_FORMAT").is_none() {
            return Some(Format::default());
        }
        let expected = "zipkin, otlp-json or otlp-protobuf; no datagrams are sent";
        self.word("TRACING_USDT_FORMAT", expected, |format| match format {
            "zipkin" => Some(Format::Zipkin),
            "otlp" | "otlp-json" => Some(Format::OtlpJson),
            "otlp-protobuf" => Some(Format::OtlpProtobuf),
            _ => None,
        })
    }

    pub(super) fn delivery(&self) -> Delivery {
        let expected = "background or inline; background is used";
        self.word("TRACING_USDT_DELIVERY", expected, |delivery| match delivery {
            "background" => Some(Delivery::Background),
            "inline" => Some(Delivery::Inline),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// The limits: set in code, or the variable for spans, or the variable for all attributes, or the default.
    pub(super) fn limits(&self, attributes: Option<u32>, characters: Option<usize>) -> Limits {
        let limit = |variables: [&'static str; 2]| {
            variables
                .into_iter()
                .find_map(|variable| self.parsed(variable, "a whole number", |value| value.parse().ok()))
        };
        let defaults = Limits::default();
        let attributes = attributes
            .or_else(|| limit(["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"]))
            .unwrap_or(defaults.attributes);
        let variables = ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"];
        let characters = characters
            .or_else(|| limit(variables).map(|limit| limit as usize))
            .unwrap_or(defaults.characters);
        Limits { attributes, characters, ..defaults }
    }

    pub(super) fn max_wait(&self) -> Duration {
        self.parsed("TRACING_USDT_MAX_WAIT_MS", "a whole number of milliseconds", |value| value.parse().ok())
            .map_or(Duration::ZERO, Duration::from_millis)
    }

    pub(super) fn open_spans(&self) -> Option<Duration> {
        self.word("TRACING_USDT_OPEN_SPANS", "a time such as 500ms, 1s or 2m", parse_time)
    }

    pub(super) fn resource_attributes(&self) -> Vec<(String, String)> {
        self.parsed(
            "OTEL_RESOURCE_ATTRIBUTES",
            "key=value pairs with commas between, keys and values percent-encoded; no pair is used",
            parse_attributes,
        )
        .unwrap_or_default()
    }

    pub(super) fn sampler(&self) -> Sampler {
        let name = self.text("OTEL_TRACES_SAMPLER").unwrap_or_default();
        let takes_ratio = name.to_ascii_lowercase().ends_with("traceidratio");
        let ratio = if takes_ratio {
            self.parsed("OTEL_TRACES_SAMPLER_ARG", "a ratio from 0 to 1", |value| {
                value.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
            })
        } else {
            None
        };
        self.word(
            "OTEL_TRACES_SAMPLER",
            "always_on, always_off, traceidratio, or one of these with parentbased_ before it",
            |name| Sampler::from_name(name, ratio.unwrap_or(1.0)),
        )
        .unwrap_or_default()
    }

    pub(super) fn parent(&self) -> Option<SpanContext> {
        let parent = self.parsed(
            "TRACEPARENT",
            "a W3C trace context such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            SpanContext::from_traceparent,
        )?;
        let state = self.parsed("TRACESTATE", "a W3C trace state such as rojo=00f067aa0ba902b7", |text| {
            TraceState::parse([text])
        });
        Some(parent.with_trace_state(state.unwrap_or_default()))
    }

    /// The baggage of the process. It may come without a parent.
    pub(super) fn baggage(&self) -> Baggage {
        let expected = "W3C baggage such as user.id=7,tier=gold";
        let parse = |text: &str| Some(Baggage::parse([text])).filter(|baggage| !baggage.is_empty());
        self.parsed("BAGGAGE", expected, parse).unwrap_or_default()
    }

    pub(super) fn baggage_attributes(&self) -> Vec<String> {
        let expected = "keys of baggage with commas between; no key is used";
        self.parsed("TRACING_USDT_BAGGAGE_ATTRIBUTES", expected, |text| {
            let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
            keys.map(|key| is_token(key).then(|| key.to_owned())).collect()
        })
        .unwrap_or_default()
    }
}

/// Reads a whole number with a unit. `None` also for 0.
fn parse_time(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    match unit.trim_start() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

/// Reads `OTEL_RESOURCE_ATTRIBUTES`: `key=value` pairs with commas between, keys and values percent-encoded.
/// `None` if a pair has no `=` or a part can't be decoded: OpenTelemetry's specification then drops all pairs.
pub(crate) fn parse_attributes(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let key = percent_decode(key.trim()).filter(|key| !key.is_empty())?;
            Some((key, percent_decode(value.trim())?))
        })
        .collect()
}

/// `None` if a `%` is not followed by two hex digits, which `percent_encoding` would accept, or if the result
/// is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let has_digits =
        |after: &str| after.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(has_digits) {
        return None;
    }
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_attributes_follow_opentelemetrys_specification() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let cases = [
            ("", Some(vec![])),
            ("a=1, b = 2 ", Some(vec![pair("a", "1"), pair("b", "2")])),
            ("a=x%2Cy%3D%20z", Some(vec![pair("a", "x,y= z")])),
            ("a=b=c", Some(vec![pair("a", "b=c")])),
            ("team%2Cname%3D=core", Some(vec![pair("team,name=", "core")])),
            ("caf%C3%A9=1", Some(vec![pair("caf\u{e9}", "1")])),
            ("a%=1", None),
            ("%zz=1", None),
            ("a%ff=1,b=2", None),
            ("a", None),
            ("=1", None),
            ("a=%2", None),
            ("a=%ff", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_attributes(text), expected, "{text:?}");
        }
    }
}
