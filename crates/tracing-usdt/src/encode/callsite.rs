//! The encoded parts of a span that are the same for all spans of a callsite, encoded once.

use super::span::fixed_attributes;
use super::{otlp, zipkin};
use crate::callsite::{Callsite, Encoded};
use crate::fields::Vocabulary;
use crate::json::json_string;

/// The encoded parts, which the callsite's first span makes.
#[inline]
pub(super) fn encoded(callsite: &'static Callsite) -> &'static Encoded {
    callsite.encoded.get_or_init(|| Box::new(encode(callsite)))
}

#[cold]
fn encode(callsite: &Callsite) -> Encoded {
    let metadata = callsite.metadata;
    Encoded {
        name: json_string(metadata.name()),
        zipkin: zipkin::members(|write| fixed_attributes(metadata, write)),
        otlp: otlp::json::members(|write| fixed_attributes(metadata, write)),
        otlp_protobuf: otlp::protobuf::attributes(|write| fixed_attributes(metadata, write)),
        is_plain: !callsite.fields().iter().any(|field| Vocabulary::is_reserved(field.name)),
    }
}
