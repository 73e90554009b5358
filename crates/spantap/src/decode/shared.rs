//! Splits shared spans of Zipkin. There, the client and the server of a request each report one half of the same span,
//! under one id. In OpenTelemetry these are two spans, so one of them gets an id of its own.
//!
//! A half with `shared` is a server's. Its new id is a hash of the trace, the shared id, its service and its pid. Its
//! parent is the shared id, which is the client's half. If a client repeats a request, each server that received it has
//! a half of its own. A limit: servers of one service that report through one agent have the agent's pid, and count as
//! one.
//!
//! Without `shared`, the half that arrives first keeps the id. Within a datagram the client's half goes first. If the
//! server's half arrives in an earlier datagram, the client's half gets the new id, and backends show both with the same
//! parent. The tree in the terminal puts them in order.
//!
//! Children name the shared id as their parent. They are attached to the half of their own service. If both halves have
//! the same service, they are attached to the half of their own process, or else to the server's. This requires that the
//! half is known. A child that arrives in an earlier datagram keeps the shared id, so backends show it below the client's
//! half.
//!
//! The ids as they were sent stay in the attributes [`ZIPKIN_ID`] and [`ZIPKIN_PARENT_ID`], for the tree and for Zipkin
//! backends.

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::spans::{self, Spans};
use crate::process::Process;
use crate::span::attributes::{attribute, find_text};
use crate::span::zipkin::{MAX_HALVES, ZIPKIN_ID, ZIPKIN_PARENT_ID};

/// The most ids of client and server spans in each of the two generations that are remembered: 10 MB in all.
const MAX_IDS: usize = 1 << 15;

/// The trace id and span id that a span was sent with.
type SentId = (u128, u64);

/// The halves that arrived lately, in two generations: when `recent` is full, it replaces `older`.
#[derive(Debug, Default)]
pub(super) struct Shared {
    recent: HashMap<SentId, Vec<Half>>,
    older: HashMap<SentId, Vec<Half>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Client,
    Server,
}

/// Identifies the process of a half. The service is hashed.
#[derive(Clone, Copy, PartialEq, Debug)]
struct ProcessId {
    service: u64,
    pid: u32,
}

#[derive(Clone, Copy, Debug)]
struct Half {
    role: Role,
    process: ProcessId,
    /// The id with which it is forwarded.
    id: u64,
}

/// Marks a span that its sender declares as shared.
pub(super) fn mark(span: &mut Span) {
    // A client keeps its id.
    if span.kind != SpanKind::Client as i32 {
        put_id(span, ZIPKIN_ID, span.span_id.clone());
    }
}

fn put_id(span: &mut Span, key: &str, id: Vec<u8>) {
    span.attributes.push(attribute(key, Value::StringValue(const_hex::encode(id))));
}

fn is_marked(span: &Span) -> bool {
    find_text(&span.attributes, ZIPKIN_ID).is_some()
}

fn role(span: &Span) -> Option<Role> {
    match span.kind() {
        SpanKind::Client => Some(Role::Client),
        SpanKind::Server => Some(Role::Server),
        SpanKind::Unspecified | SpanKind::Internal if !is_marked(span) => None,
        SpanKind::Producer | SpanKind::Consumer if !is_marked(span) => None,
        _ => Some(Role::Server),
    }
}

fn sent_id(span: &Span, id: &[u8]) -> Option<SentId> {
    let trace = span.trace_id.as_slice().try_into().ok()?;
    Some((u128::from_be_bytes(trace), u64::from_be_bytes(id.try_into().ok()?)))
}

impl ProcessId {
    fn of(process: &Process) -> Self {
        Self { service: hash(process.service.bytes()), pid: process.sender.pid }
    }
}

impl Shared {
    /// Gives each half of a shared span in a datagram an id of its own, and each child its own parent.
    pub(super) fn split(&mut self, spans: &mut Spans) {
        if self.recent.is_empty() && spans::each(spans).all(|span| role(span).is_none()) {
            return;
        }
        // Clients first, because the first half keeps the id.
        for wanted in [Role::Client, Role::Server] {
            for (process, scopes) in spans.iter_mut() {
                let process = ProcessId::of(process);
                let spans = scopes.iter_mut().flat_map(|scope| &mut scope.spans);
                let spans = spans.filter(|span| role(span) == Some(wanted));
                spans.for_each(|span| self.give_id(span, wanted, process));
            }
        }
        for (process, scopes) in spans.iter_mut() {
            let process = ProcessId::of(process);
            let spans = scopes.iter_mut().flat_map(|scope| &mut scope.spans);
            spans.for_each(|span| self.give_parent(span, process));
        }
    }

    fn give_id(&mut self, span: &mut Span, role: Role, process: ProcessId) {
        let Some(sent) = sent_id(span, &span.span_id) else { return };
        let is_marked = is_marked(span);
        let halves = self.halves(sent);
        let known = halves.iter().find(|half| half.role == role && half.process == process);
        let id = match known {
            Some(known) => known.id,
            None => {
                let is_taken = halves.iter().any(|half| half.id == sent.1);
                let id = if is_marked || is_taken { own_id(sent, role, process) } else { sent.1 };
                if halves.len() < MAX_HALVES {
                    halves.push(Half { role, process, id });
                }
                id
            }
        };
        if id == sent.1 {
            return;
        }
        let shared = std::mem::replace(&mut span.span_id, id.to_be_bytes().into());
        if !is_marked {
            put_id(span, ZIPKIN_ID, shared.clone());
        }
        if role == Role::Server {
            let parent = std::mem::replace(&mut span.parent_span_id, shared);
            if !parent.is_empty() {
                put_id(span, ZIPKIN_PARENT_ID, parent);
            }
        }
    }

    fn give_parent(&self, span: &mut Span, process: ProcessId) {
        let Some(parent) = sent_id(span, &span.parent_span_id) else { return };
        let Some(halves) = self.recent.get(&parent).or_else(|| self.older.get(&parent)) else { return };
        // The span is itself a half: its parent is already right.
        if halves.iter().any(|half| span.span_id == half.id.to_be_bytes()) {
            return;
        }
        let of_service = halves.iter().filter(|half| half.process.service == process.service);
        let rank = |half: &&Half| (half.process.pid == process.pid, half.role == Role::Server);
        let best = of_service.max_by_key(rank);
        if let Some(half) = best.filter(|half| half.id != parent.1) {
            let sent = std::mem::replace(&mut span.parent_span_id, half.id.to_be_bytes().into());
            put_id(span, ZIPKIN_PARENT_ID, sent);
        }
    }

    fn halves(&mut self, sent: SentId) -> &mut Vec<Half> {
        if !self.recent.contains_key(&sent) {
            if self.recent.len() >= MAX_IDS {
                self.older = std::mem::take(&mut self.recent);
            }
            let halves = self.older.remove(&sent).unwrap_or_default();
            self.recent.insert(sent, halves);
        }
        self.recent.entry(sent).or_default()
    }
}

/// The new id of a half. It depends only on the arguments, so every collector gives the half the same id.
fn own_id((trace, id): SentId, role: Role, process: ProcessId) -> u64 {
    let role = [u8::from(role == Role::Server)];
    let (service, pid) = (process.service.to_be_bytes(), process.pid.to_be_bytes());
    let parts = [&trace.to_be_bytes()[..], &id.to_be_bytes(), &role, &service, &pid];
    hash(parts.concat().into_iter()).max(1)
}

/// FNV-1a with 64 bits, followed by MurmurHash3's finalizer.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}
