//! Estimates the memory that a message takes once it is decoded, before it is.
//!
//! An empty link has 2 bytes in a request, and some 100 in memory. A request can have millions of them.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

use super::super::faults::ALLOCATION;
use super::fields::{Fields, Value};

/// A message with lists in it.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Span,
    Event,
    Link,
    /// A `Resource`, which has its attributes in the field 1.
    Resource,
    /// An `InstrumentationScope`, which has them in the field 3.
    Scope,
    Pair,
    Value,
    Array,
    Map,
}

/// prost reads no more levels.
const LEVELS: usize = 100;

/// At most the bytes that `message` takes when it is decoded, while no list has room to grow.
pub(super) fn decoded(kind: Kind, message: &[u8]) -> usize {
    message.len().saturating_add(kind.own_bytes()).saturating_add(lists(kind, message, LEVELS))
}

/// The bytes of the messages in a message.
fn lists(kind: Kind, message: &[u8], levels: usize) -> usize {
    let mut total = 0_usize;
    let mut fields = Fields(message);
    loop {
        let rest = fields.0.len();
        let (number, value) = match fields.next() {
            Ok(Some(field)) => field,
            Ok(None) => return total,
            // prost may read on, so the rest counts as much as it can become: an item for two bytes each.
            Err(_) => {
                return total.saturating_add((rest / 2 + 1).saturating_mul(size_of::<Link>() + ALLOCATION));
            }
        };
        let (Some(of_field), Value::Bytes(bytes)) = (kind.of_field(number), value) else { continue };
        let below = if levels > 0 { lists(of_field, bytes, levels - 1) } else { 0 };
        total = total.saturating_add(of_field.own_bytes()).saturating_add(below);
    }
}

impl Kind {
    fn of_field(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Self::Span, 9)
            | (Self::Event, 3)
            | (Self::Link, 4)
            | (Self::Resource, 1)
            | (Self::Scope, 3)
            | (Self::Map, 1) => Self::Pair,
            (Self::Span, 11) => Self::Event,
            (Self::Span, 13) => Self::Link,
            (Self::Pair, 2) | (Self::Array, 1) => Self::Value,
            (Self::Value, 5) => Self::Array,
            (Self::Value, 6) => Self::Map,
            _ => return None,
        })
    }

    fn own_bytes(self) -> usize {
        ALLOCATION
            + match self {
                Self::Span => size_of::<Span>(),
                Self::Event => size_of::<Event>(),
                Self::Link => size_of::<Link>(),
                Self::Pair => size_of::<KeyValue>(),
                Self::Value | Self::Array | Self::Map => size_of::<AnyValue>(),
                Self::Resource | Self::Scope => 0,
            }
    }
}
