//! Spans that stay encoded as they were sent, and what the assembly of traces needs to know of them.

use std::ops::Range;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};
#[cfg(feature = "ebpf")]
use prost::encoding::{WireType, encode_key, encode_varint, message};

use super::attributes::{BEGAN_BEFORE, TOLD_BUSY, TOLD_ENTERED, count, find, value};
use super::numbers::SPANS;
#[cfg(feature = "ebpf")]
use super::numbers::{ATTRIBUTES, SCOPE_SPANS};
use super::{is_error, is_kernel_scope};

/// Encoded spans of a process, as the fields `scope_spans` of a `ResourceSpans`.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct EncodedScopes {
    /// The fields.
    pub bytes: Vec<u8>,
    /// The spans, and where each is among the bytes, as the field `spans` of a `ScopeSpans`.
    pub spans: Vec<(Summary, Range<usize>)>,
}

/// What the assembly of traces needs to know of a span.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    pub(crate) parent_id: Option<u64>,
    /// The start and the end, in nanoseconds since 1970.
    pub(crate) times: (u64, u64),
    /// Whether its status is an error.
    pub(crate) is_error: bool,
    /// The layer's attribute `busy_ns`.
    pub(crate) busy_ns: Option<u64>,
    /// For how long threads said that they were in it, if that is not `busy_ns`. Only in the layer's batches.
    pub(crate) entered_ns: Option<u64>,
    /// The layer says that it began before anyone listened.
    pub(crate) began_before: bool,
    /// Whether it is kernel activity.
    pub(crate) is_kernel: bool,
    pub(crate) decoded: DecodedSize,
}

/// Roughly the memory of the lists of a span when it is decoded, without their texts.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default, Debug)]
pub(crate) struct DecodedSize(pub(crate) usize);

impl EncodedScopes {
    /// Adds spans of the same process.
    pub(crate) fn append(&mut self, other: Self) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let moved = |field: Range<usize>| field.start + before..field.end + before;
        self.spans.extend(other.spans.into_iter().map(|(span, field)| (span, moved(field))));
    }

    /// Adds to each span the attributes that `added` returns, and leaves out those spans for which it returns `None`.
    #[cfg(feature = "ebpf")]
    pub(crate) fn add_attributes(&mut self, mut added: impl FnMut(&Summary) -> Option<Vec<KeyValue>>) {
        let Self { bytes, spans } = std::mem::take(self);
        let mut spans = spans.into_iter().peekable();
        let (mut rest, mut content, mut field) = (bytes.as_slice(), Vec::new(), Vec::new());
        while let Some(scope) = next_message(&mut rest) {
            let end = bytes.len() - rest.len();
            let mut at = end - scope.len();
            let first = self.spans.len();
            content.clear();
            while let Some((mut span, range)) = spans.next_if(|(_, range)| range.end <= end) {
                content.extend_from_slice(bytes.get(at..range.start).unwrap_or_default());
                at = range.end;
                let Some(attributes) = added(&span) else { continue };
                let mut encoded = bytes.get(range).unwrap_or_default();
                field.clear();
                field.extend_from_slice(next_message(&mut encoded).unwrap_or_default());
                for attribute in &attributes {
                    message::encode(ATTRIBUTES, attribute, &mut field);
                    span.decoded.add_attribute(0);
                }
                let start = content.len();
                put_message(SPANS, &field, &mut content);
                self.spans.push((span, start..content.len()));
            }
            content.extend_from_slice(bytes.get(at..end).unwrap_or_default());
            put_message(SCOPE_SPANS, &content, &mut self.bytes);
            let start = self.bytes.len() - content.len();
            for (_, range) in self.spans.iter_mut().skip(first) {
                *range = range.start + start..range.end + start;
            }
        }
    }

    /// Passes each scope to `each`: its fields other than its spans, and its spans as [`iter`](Self::iter) has them.
    pub(crate) fn each_scope(
        &self,
        mut each: impl FnMut(&[u8], &mut dyn Iterator<Item = (&Summary, &[u8])>),
    ) {
        let (mut rest, mut at) = (self.bytes.as_slice(), 0);
        while let Some(message) = next_message(&mut rest) {
            let end = self.bytes.len() - rest.len();
            let of_scope = self.spans.get(at..).unwrap_or_default();
            let of_scope = of_scope.iter().take_while(|(_, range)| range.end <= end);
            let count = of_scope.clone().count();
            at += count;
            if count > 0 {
                let fields = fields_without_spans(message).unwrap_or_default();
                let field = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
                each(&fields, &mut of_scope.map(|(span, range)| (span, field(range))));
            }
        }
    }

    /// The spans, decoded, with their scopes. Leaves out what can't be decoded.
    pub(crate) fn decode(&self) -> Vec<ScopeSpans> {
        let mut spans = self.spans.iter().peekable();
        let (mut rest, mut scopes) = (self.bytes.as_slice(), Vec::new());
        while let Some(message) = next_message(&mut rest) {
            let end = self.bytes.len() - rest.len();
            let mut scope = None;
            while let Some((_, range)) = spans.next_if(|(_, range)| range.end <= end) {
                let scope = scope.get_or_insert_with(|| scope_of(message).unwrap_or_default());
                scope.spans.extend(self.bytes.get(range.clone()).and_then(decode_field));
            }
            scopes.extend(scope);
        }
        scopes
    }

    /// The spans, each with its encoding as the field `spans` of a `ScopeSpans`.
    pub fn iter(&self) -> impl Iterator<Item = (&Summary, &[u8])> {
        self.spans.iter().map(|(span, field)| (span, self.bytes.get(field.clone()).unwrap_or_default()))
    }
}

/// The fields of a `ScopeSpans` other than its spans. `None` if they can't be decoded.
fn scope_of(message: &[u8]) -> Option<ScopeSpans> {
    ScopeSpans::decode(&*fields_without_spans(message)?).ok()
}

/// The same, encoded.
fn fields_without_spans(message: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut fields) = (message, Vec::new());
    while !rest.is_empty() {
        let field = rest;
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        if number != SPANS {
            fields.extend_from_slice(field.get(..field.len() - rest.len())?);
        }
    }
    Some(fields)
}

/// Reads a field that is a message, and returns the message.
pub(crate) fn next_message<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    decode_key(rest).ok()?;
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let (message, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(message)
}

#[cfg(feature = "ebpf")]
fn put_message(number: u32, message: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(message.len() as u64, out);
    out.extend_from_slice(message);
}

impl Summary {
    /// The summary of a decoded span, one of those in `scope`. `None` if it has no valid ids.
    pub fn in_scope(span: &Span, scope: &ScopeSpans) -> Option<Self> {
        Some(Self { is_kernel: is_kernel_scope(scope), ..Self::of(span)? })
    }

    /// The summary of a decoded span that is no kernel activity. `None` if it has no valid ids.
    pub fn of(span: &Span) -> Option<Self> {
        let number = |key| find(&span.attributes, key).and_then(count);
        Some(Self {
            trace_id: u128::from_be_bytes(span.trace_id.as_slice().try_into().ok()?),
            span_id: span_id(&span.span_id)?,
            parent_id: span_id(&span.parent_span_id),
            times: (span.start_time_unix_nano, span.end_time_unix_nano),
            is_error: is_error(span),
            busy_ns: number(TOLD_BUSY).or_else(|| number("busy_ns")),
            entered_ns: number(TOLD_ENTERED),
            began_before: matches!(
                find(&span.attributes, BEGAN_BEFORE),
                Some(any_value::Value::BoolValue(true))
            ),
            is_kernel: false,
            decoded: DecodedSize::of(span),
        })
    }
}

impl Summary {
    /// From the start to the end.
    pub(crate) fn duration_ns(&self) -> u64 {
        let (start, end) = self.times;
        end.saturating_sub(start)
    }

    /// Whether this summary of an encoded span is right, given that of the decoded span. The encoded size may be larger
    /// than needed.
    pub fn fits(&self, decoded: &Self) -> bool {
        let size = decoded.decoded;
        // OpenTelemetry's type does not have the layer's own fields, and a span does not know its scope.
        let (busy_ns, entered_ns, is_kernel) = (decoded.busy_ns, decoded.entered_ns, decoded.is_kernel);
        self.decoded >= size
            && Self { decoded: size, busy_ns, entered_ns, is_kernel, ..self.clone() } == *decoded
    }
}

/// Decodes a span from the field `spans` of a `ScopeSpans`.
pub(crate) fn decode_field(field: &[u8]) -> Option<Span> {
    ScopeSpans::decode(field).ok()?.spans.pop()
}

fn span_id(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The memory of an allocation in addition to its size.
pub(crate) const ALLOCATION: usize = 16;

impl DecodedSize {
    pub(crate) fn of(span: &Span) -> Self {
        let mut decoded = Self::default();
        decoded.add_attributes(&span.attributes);
        for event in &span.events {
            decoded.add_event();
            decoded.add_attributes(&event.attributes);
        }
        for link in &span.links {
            decoded.add_link();
            decoded.add_attributes(&link.attributes);
        }
        decoded
    }

    fn add_attributes(&mut self, attributes: &[KeyValue]) {
        for attribute in attributes {
            self.add_attribute(match value(attribute) {
                Some(any_value::Value::ArrayValue(list)) => list.encoded_len(),
                Some(any_value::Value::KvlistValue(map)) => map.encoded_len(),
                _ => 0,
            });
        }
    }

    /// Adds an attribute, whose value contains other values in `nested` bytes.
    pub(crate) fn add_attribute(&mut self, nested: usize) {
        // An empty value in a list takes two bytes encoded, and about 30 decoded.
        self.0 += size_of::<KeyValue>() + 2 * ALLOCATION + 32 * nested;
    }

    pub(crate) fn add_event(&mut self) {
        self.0 += size_of::<Event>();
    }

    pub(crate) fn add_link(&mut self) {
        self.0 += size_of::<Link>() + 3 * ALLOCATION;
    }
}

#[cfg(all(test, feature = "ebpf"))]
mod tests {
    use super::*;
    use crate::decode::Decoder;
    use crate::process::Sender;
    use crate::span::attributes::attribute;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

    fn span(id: u64) -> Span {
        let start_time_unix_nano = 1_800_000_000_000_000_000;
        Span {
            trace_id: vec![7; 16],
            span_id: id.to_be_bytes().to_vec(),
            name: format!("{id}").repeat(100),
            start_time_unix_nano,
            end_time_unix_nano: start_time_unix_nano + id,
            ..Span::default()
        }
    }

    fn scope(name: &str, ids: &[u64]) -> ScopeSpans {
        let scope = InstrumentationScope { name: name.to_owned(), ..InstrumentationScope::default() };
        let spans = ids.iter().copied().map(span).collect();
        ScopeSpans { scope: Some(scope), spans, schema_url: "of this scope".to_owned() }
    }

    fn encoded(scopes: &[ScopeSpans]) -> EncodedScopes {
        let resource_spans = ResourceSpans { scope_spans: scopes.to_vec(), ..ResourceSpans::default() };
        let bytes = ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec();
        let sender = Sender { pid: 1, uid: 2, gid: 3 };
        let mut decoded = Decoder::default().decode(&bytes, sender, 1_800_000_000_000_000_000);
        decoded.encoded.remove(0).1
    }

    #[test]
    fn each_scope_comes_with_its_own_fields_and_spans() {
        let scopes = [scope("one", &[1, 2, 3]), scope("two", &[]), scope("three", &[4, 200])];
        let mut found = Vec::new();
        encoded(&scopes).each_scope(|fields, spans| {
            let mut bytes = fields.to_vec();
            for (summary, field) in spans {
                let span = decode_field(field).expect("a span");
                assert!(summary.fits(&Summary::of(&span).expect("its ids")));
                bytes.extend_from_slice(field);
            }
            found.push(ScopeSpans::decode(&*bytes).expect("a scope"));
        });
        assert_eq!(found, [scopes[0].clone(), scopes[2].clone()]);
    }

    fn added(id: u64) -> KeyValue {
        attribute("added", any_value::Value::IntValue(i64::try_from(id).expect("a small id")))
    }

    #[test]
    fn attributes_are_added_and_spans_left_out_in_every_scope() {
        let mut scopes = [scope("one", &[1, 2, 3]), scope("two", &[]), scope("three", &[4, 200])];
        let mut found = encoded(&scopes);
        found.add_attributes(|span| (span.span_id != 2).then(|| vec![added(span.span_id); 3]));
        for scope in &mut scopes {
            scope.spans.retain(|span| span.span_id != 2_u64.to_be_bytes());
            for span in &mut scope.spans {
                span.attributes = vec![added(Summary::of(span).expect("its ids").span_id); 3];
            }
        }
        let decoded = ResourceSpans::decode(&*found.bytes).expect("the fields of one");
        assert_eq!(decoded.scope_spans, scopes);
        // Each range is that of its span.
        for ((summary, field), span) in found.iter().zip(scopes.iter().flat_map(|scope| &scope.spans)) {
            let of_field = ScopeSpans::decode(field).expect("a span");
            assert_eq!(of_field.spans, std::slice::from_ref(span));
            assert!(summary.fits(&Summary::of(span).expect("its ids")), "{summary:?}");
        }
        assert_eq!(found.spans.len(), 4);
    }
}
