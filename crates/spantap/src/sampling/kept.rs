//! Kept spans, on their way to the sinks: gathers them by process and scope, and adds the rule and the weight to each.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, message};

use super::positions::Position;
use super::rule::{Share, is_ratio};
use super::rules::{Kept, Rules};
use crate::encode::Chunk;
use crate::process::Process;
use crate::span::attributes::{attribute, find, find_text};
use crate::span::numbers::{ATTRIBUTES, SCOPE_SPANS, SPANS};
use crate::span::{ALLOCATION, decode_field, next_message};

/// The attributes of a kept span: the rule that kept its trace, how many traces it stands for, and whether spans of the
/// trace that came before were dropped.
const RULE: &str = "spantap.sampling.rule";
const WEIGHT: &str = "spantap.sampling.weight";
const INCOMPLETE: &str = "spantap.sampling.incomplete";

/// The bytes after which kept spans become chunks. A sink splits a chunk that is too large for a request.
const CHUNK_BYTES: usize = 512 << 10;

/// What spans of one scope in one batch have in common.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) process: Arc<Process>,
    /// The fields of the `ScopeSpans` other than its spans.
    scope: Box<[u8]>,
    /// The position of the sender, if it numbers its spans.
    pub(super) position: Option<Arc<Position>>,
}

impl Origin {
    pub(super) fn new(process: &Arc<Process>, scope: &[u8], position: Option<&Arc<Position>>) -> Self {
        Self { process: Arc::clone(process), scope: scope.into(), position: position.cloned() }
    }

    /// Roughly the memory that it takes, without that of the process, which is shared.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.scope.len() + 2 * ALLOCATION
    }
}

/// Kept spans that are not passed on yet.
#[derive(Debug)]
pub(super) struct Output {
    /// The attribute with each rule, as a field of a `Span`.
    rules: Vec<Vec<u8>>,
    /// Whether each rule is a ratio, or a query and a ratio.
    ratios: Vec<bool>,
    scopes: Vec<Scope>,
    /// The place of each origin among the scopes, by its address. `scopes` holds the origin, so no other one has it.
    places: HashMap<usize, usize>,
    bytes: usize,
    chunks: Vec<Chunk>,
    /// Used again for each span.
    added: Vec<u8>,
}

#[derive(Debug)]
struct Scope {
    origin: Arc<Origin>,
    /// The spans, as fields of a `ScopeSpans`.
    fields: Vec<u8>,
    spans: u32,
}

impl Output {
    pub(super) fn new(rules: &Rules) -> Self {
        let ratios = rules.iter().map(|rule| matches!(rule.share, Share::Ratio(_))).collect();
        let rules = rules.iter().map(|rule| {
            let mut field = Vec::new();
            let rule = attribute(RULE, Value::StringValue(rule.label().to_owned()));
            message::encode(ATTRIBUTES, &rule, &mut field);
            field
        });
        Self {
            rules: rules.collect(),
            ratios,
            scopes: Vec::new(),
            places: HashMap::new(),
            bytes: 0,
            chunks: Vec::new(),
            added: Vec::new(),
        }
    }

    /// Adds a span, as the field `spans` of a `ScopeSpans`.
    pub(super) fn keep(&mut self, origin: &Arc<Origin>, field: &[u8], kept: Kept) {
        match sampled_before(field) {
            Some((field, before)) => {
                let is_incomplete = kept.is_incomplete || before.is_incomplete;
                let is_ratio = self.ratios.get(usize::from(kept.rule)) == Some(&true);
                let weight = match is_ratio && before.is_ratio {
                    // Both read the same bits of the trace id, so the smaller ratio has decided alone.
                    true => kept.weight.max(before.weight),
                    false => kept.weight * before.weight,
                };
                self.keep_new(origin, &field, Kept { weight, is_incomplete, ..kept });
            }
            None => self.keep_new(origin, field, kept),
        }
    }

    fn keep_new(&mut self, origin: &Arc<Origin>, field: &[u8], kept: Kept) {
        self.added.clear();
        self.added.extend_from_slice(self.rules.get(usize::from(kept.rule)).map_or(&[], Vec::as_slice));
        let weight = attribute(WEIGHT, Value::DoubleValue(kept.weight));
        message::encode(ATTRIBUTES, &weight, &mut self.added);
        if kept.is_incomplete {
            let incomplete = attribute(INCOMPLETE, Value::BoolValue(true));
            message::encode(ATTRIBUTES, &incomplete, &mut self.added);
        }
        let added = std::mem::take(&mut self.added);
        self.add(origin, field, &added);
        self.added = added;
    }

    /// Adds a span as it is.
    pub(super) fn pass(&mut self, origin: &Arc<Origin>, field: &[u8]) {
        self.add(origin, field, &[]);
    }

    /// Adds a span with more fields at its end: fields of a message that is encoded may come in any order.
    fn add(&mut self, origin: &Arc<Origin>, field: &[u8], added: &[u8]) {
        let place = *self.places.entry(Arc::as_ptr(origin).addr()).or_insert_with(|| {
            self.scopes.push(Scope { origin: Arc::clone(origin), fields: Vec::new(), spans: 0 });
            self.scopes.len() - 1
        });
        let Some(scope) = self.scopes.get_mut(place) else { return };
        match content(field).filter(|_| !added.is_empty()) {
            Some(span) => {
                encode_key(SPANS, WireType::LengthDelimited, &mut scope.fields);
                encode_varint((span.len() + added.len()) as u64, &mut scope.fields);
                scope.fields.extend_from_slice(span);
                scope.fields.extend_from_slice(added);
            }
            None => scope.fields.extend_from_slice(field),
        }
        scope.spans += 1;
        self.bytes += field.len() + added.len();
        if self.bytes >= CHUNK_BYTES {
            self.close();
        }
    }

    /// Makes a chunk of each process's spans.
    fn close(&mut self) {
        self.places.clear();
        self.bytes = 0;
        let mut of_processes: Vec<(Arc<Process>, Vec<u8>, u32)> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        for Scope { origin, fields, spans } in self.scopes.drain(..) {
            let place = *places.entry(Arc::as_ptr(&origin.process).addr()).or_insert_with(|| {
                of_processes.push((Arc::clone(&origin.process), Vec::new(), 0));
                of_processes.len() - 1
            });
            let Some((_, out, count)) = of_processes.get_mut(place) else { continue };
            encode_key(SCOPE_SPANS, WireType::LengthDelimited, out);
            encode_varint((origin.scope.len() + fields.len()) as u64, out);
            out.extend_from_slice(&origin.scope);
            out.extend_from_slice(&fields);
            *count += spans;
        }
        let chunks = of_processes.into_iter().map(|(process, scopes, spans)| {
            // Without unused capacity, which would not be counted.
            let scope_spans = scopes.into_boxed_slice().into();
            Chunk { scope_spans, spans, ..Chunk::encode(&process, &[]) }
        });
        self.chunks.extend(chunks);
    }

    /// Whether there are as many spans as a chunk should have.
    pub(super) fn has_chunk(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// What was kept since the last call.
    pub(super) fn take(&mut self) -> Vec<Chunk> {
        if !self.scopes.is_empty() {
            self.close();
        }
        std::mem::take(&mut self.chunks)
    }
}

struct Before {
    weight: f64,
    /// It was kept by a ratio.
    is_ratio: bool,
    is_incomplete: bool,
}

/// What another spantap has decided about the span, and the span without that: it stands for what was dropped here and there,
/// and a key must not be there twice.
fn sampled_before(field: &[u8]) -> Option<(Vec<u8>, Before)> {
    memmem::find(field, WEIGHT.as_bytes())?;
    let mut span = decode_field(field)?;
    let weight = match find(&span.attributes, WEIGHT)? {
        Value::DoubleValue(weight) if weight.is_finite() && *weight >= 1.0 => *weight,
        _ => 1.0,
    };
    let is_ratio = find_text(&span.attributes, RULE).is_some_and(is_ratio);
    let is_incomplete = find(&span.attributes, INCOMPLETE) == Some(&Value::BoolValue(true));
    span.attributes.retain(|of| ![RULE, WEIGHT, INCOMPLETE].contains(&&*of.key));
    let spans = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    Some((spans.encode_to_vec(), Before { weight, is_ratio, is_incomplete }))
}

/// The message in a field.
fn content(mut field: &[u8]) -> Option<&[u8]> {
    next_message(&mut field).filter(|_| field.is_empty())
}
