//! Looking at OpenTelemetry's attributes, whose values are two `Option`s deep.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

/// What the collector found odd about a span, in words: on the span that is forwarded, and below its line in the tree.
pub(crate) const ODD: &str = "spantap.odd";

/// The ids that a span of Zipkin's and its parent were sent with, in hex, where they are forwarded with others. Only
/// spantap sets them: a sender's attribute with one of these keys gets another key.
pub(crate) const ZIPKIN_ID: &str = "zipkin.id";
pub(crate) const ZIPKIN_PARENT_ID: &str = "zipkin.parent_id";

/// What it says, if anything.
pub(crate) fn value(attribute: &KeyValue) -> Option<&Value> {
    attribute.value.as_ref()?.value.as_ref()
}

/// Of the attribute of that key.
pub(crate) fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    value(attributes.iter().find(|attribute| attribute.key == key)?)
}

/// The same, if it is a text.
pub(crate) fn find_text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match find(attributes, key)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Whether an attribute `error` of this text says that there was no error: the rule of tracing-usdt for its fields.
pub(crate) fn denies_error(text: &str) -> bool {
    let text = text.trim();
    text.eq_ignore_ascii_case("false") || text == "0" || text == "None"
}

/// A count; senders whose format has no numbers write it as a text.
pub(crate) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::IntValue(number) => u64::try_from(*number).ok(),
        Value::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}
