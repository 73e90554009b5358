//! OTLP: a datagram is one `ExportTraceServiceRequest`, which can be POSTed to `/v1/traces`.
//!
//! `json` and `protobuf` write the same content. What both need is here.

pub(super) mod json;
pub(super) mod protobuf;

use std::borrow::Cow;

use super::value::value_text;
use crate::fields::{List, Value};
use crate::span::{ClosedSpan, Link};

/// The instrumentation scope of all spans.
const SCOPE: (&str, &str) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));

/// Bits of `flags` above W3C's: 0x100 says that it is known whether the parent is remote, 0x200 that it is.
const LOCAL: u32 = 0x100;
const REMOTE: u32 = 0x300;

fn span_flags(span: &ClosedSpan<'_>) -> u32 {
    u32::from(span.identity.ids.flags()) | if span.identity.remote { REMOTE } else { LOCAL }
}

fn link_flags(link: &Link<'_>) -> u32 {
    u32::from(link.ids.flags()) | if link.is_local { LOCAL } else { 0 }
}

/// OTLP's `AnyValue`. Its integers have 64 bits with a sign; larger ones become text.
enum AnyValue<'a> {
    Text(Cow<'a, str>),
    Integer(i64),
    Double(f64),
    Bool(bool),
    List(List<'a>),
}

impl<'a> From<Value<'a>> for AnyValue<'a> {
    fn from(value: Value<'a>) -> Self {
        let integer = match value {
            Value::Text(text) => return Self::Text(text.into()),
            Value::F64(number) => return Self::Double(number),
            Value::Bool(is_true) => return Self::Bool(is_true),
            Value::List(items) => return Self::List(items),
            Value::I64(n) => Ok(n),
            Value::U64(n) => i64::try_from(n),
            Value::I128(n) => i64::try_from(n),
            Value::U128(n) => i64::try_from(n),
        };
        integer.map_or_else(|_| Self::Text(value_text(value)), Self::Integer)
    }
}
