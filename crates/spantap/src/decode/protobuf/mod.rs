//! Decodes an OTLP `ExportTraceServiceRequest` in protobuf of any OpenTelemetry exporter.
//!
//! `fields` reads the fields of a message. Spans stay encoded if `plain` finds nothing in them that has to be changed
//! or reported. Otherwise `typed` decodes and checks the spans of the same process one by one, once `size` has found that
//! they take no more memory than a request may. `open` reads a report of open spans.

mod fields;
mod open;
mod plain;
mod size;
mod typed;

use std::borrow::Cow;

use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use prost::Message;

use super::fault::{Fault, Found};
use super::faults::{Faults, OF_PROCESS};
use super::open::OpenReport;
use crate::process::Sequence;
use crate::span::EncodedScopes;
use crate::span::numbers::RESOURCE_SPANS;
use fields::{Fields, Value};

pub(super) use typed::resource;

/// The field of a request in which this project's layer numbers its datagrams; see `docs/wire.md`.
const SEQUENCE: u32 = 1017;

/// The field of a request in which the layer reports its open spans.
const OPEN: u32 = 1018;

/// The field `SEQUENCE`.
#[derive(Clone, PartialEq, Message)]
struct SequenceMessage {
    #[prost(string, tag = "1")]
    sender: String,
    #[prost(uint64, tag = "2")]
    sent_before: u64,
    #[prost(uint64, tag = "3")]
    spans: u64,
    #[prost(uint64, tag = "4")]
    lost_before: u64,
}

/// Spans of a process.
pub(super) enum Scopes {
    Encoded(EncodedScopes),
    Typed(Vec<ScopeSpans>),
}

/// Whether a datagram is protobuf. Its first field has the number 1, so it begins with a byte that JSON has as a line
/// break, and then its length. A length that could be a character of JSON is one only if the fields add up.
pub(super) fn is_protobuf(datagram: &[u8]) -> bool {
    match datagram {
        [0x0a, b' ' | b'\t' | b'\n' | b'\r' | b'{' | b'[', ..] => adds_up(datagram).is_some(),
        [0x0a, _, ..] => true,
        _ => false,
    }
}

/// Whether the fields are those of a request, up to its end.
fn adds_up(datagram: &[u8]) -> Option<()> {
    let mut fields = Fields(datagram);
    while let Some(field) = fields.next().ok()? {
        match field {
            (RESOURCE_SPANS, Value::Bytes(bytes)) => fields::each(bytes, |_, _| ()).ok()?,
            (number, Value::Bytes(_)) if number > RESOURCE_SPANS => {}
            _ => return None,
        }
    }
    Some(())
}

/// Reads a request. Passes the spans of each `ResourceSpans` to `take`, with the encoded resource.
pub(super) fn request(
    bytes: &[u8],
    faults: &mut Faults,
    mut take: impl FnMut(&[u8], Scopes, &mut Faults),
) -> Result<(Option<Sequence>, Option<OpenReport>), Found> {
    let (mut sequence, mut open) = (None, None);
    fields::each(bytes, |number, bytes| match number {
        RESOURCE_SPANS => match faults.grow(OF_PROCESS).and_then(|()| resource_spans(bytes, faults)) {
            Ok((resource, scopes)) => take(&resource, scopes, faults),
            Err(found) => faults.add(found),
        },
        SEQUENCE => sequence = SequenceMessage::decode(bytes).ok().and_then(SequenceMessage::read),
        OPEN => match open::report(bytes, faults) {
            Ok(report) => open = Some(report),
            Err(found) => faults.add(found),
        },
        _ => {}
    })?;
    Ok((sequence, open))
}

impl SequenceMessage {
    fn read(self) -> Option<Sequence> {
        let Self { sender, sent_before, spans, lost_before } = self;
        Some(Sequence { sender: u64::from_str_radix(&sender, 16).ok()?, sent_before, spans, lost_before })
    }
}

fn resource_spans<'a>(bytes: &'a [u8], faults: &mut Faults) -> Result<(Cow<'a, [u8]>, Scopes), Found> {
    if let Some((resource, scopes)) = plain::resource_spans(bytes, faults) {
        return Ok((Cow::Borrowed(resource), Scopes::Encoded(scopes)));
    }
    typed::resource_spans(bytes, faults).map(|(resource, scopes)| (resource, Scopes::Typed(scopes)))
}

impl From<prost::DecodeError> for Found {
    fn from(error: prost::DecodeError) -> Self {
        Self::new(Fault::BadProtobuf, error.to_string())
    }
}
