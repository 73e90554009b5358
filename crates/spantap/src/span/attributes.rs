//! Makes and reads OpenTelemetry's attributes, whose values are two `Option`s deep.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

/// The attribute that explains what the collector found odd about a span. It is forwarded, and shown in the tree below
/// the span's line.
pub(crate) const ODD: &str = "spantap.odd";

/// Of a resource that came over OTLP: what it says of its process is the client's word.
pub(crate) const OVER_OTLP: &str = "spantap.over_otlp";

/// Marks a span in a batch of the layer that began before anyone listened: its start is not known.
pub(crate) const BEGAN_BEFORE: &str = "tracing_usdt.began_before";

/// The thread that ended a wait, and the name of the span that it was in, to which the wait has a link.
pub(crate) const WAKER: &str = "kernel.waker";
pub(crate) const WAKER_SPAN: &str = "kernel.waker.span";

/// In a span that stands for many short ones of a kind: how many they are.
pub(crate) const SUMMARY_COUNT: &str = "kernel.count";

/// Stand for the fields `BUSY` and `ENTERED` in a span of OpenTelemetry's type, which does not have them. They are removed
/// from the spans of batches; others do not have these fields.
pub(crate) const TOLD_BUSY: &str = "spantap.busy_ns";
pub(crate) const TOLD_ENTERED: &str = "spantap.entered_ns";

/// An attribute with a value.
pub(crate) fn attribute(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The attribute's value; `None` if it has none.
pub(crate) fn value(attribute: &KeyValue) -> Option<&Value> {
    attribute.value.as_ref()?.value.as_ref()
}

/// The value of the attribute with this key.
pub(crate) fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    value(attributes.iter().find(|attribute| attribute.key == key)?)
}

/// The value of the attribute with this key, if it is a string.
pub(crate) fn find_text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match find(attributes, key)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Whether this text in an attribute `error` means that there was no error. tracing-usdt treats the field `error` alike.
pub(crate) fn denies_error(text: &str) -> bool {
    let text = text.trim();
    text.eq_ignore_ascii_case("false") || text == "0" || text == "None"
}

/// Reads a count. It may be a string: Zipkin has no numbers.
pub(crate) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::IntValue(number) => u64::try_from(*number).ok(),
        Value::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}
