//! Zipkin's shared spans: the client and the server of a request report the same span, each its half of it, under one
//! id. To OpenTelemetry they are two spans, so that one of them gets an id of its own.
//!
//! A half that says `shared` is a server's: it gets an id that is made of the trace, the shared id, its service and its
//! pid, and the shared id is its parent, which is the client's half. If a client repeats a request, each server that got
//! it has a half of its own. A limit: servers of one service that report through one agent have its pid in common, and
//! count as one.
//!
//! Without `shared`, what comes first keeps the id: the halves of one datagram are sorted, but if a server's half comes in
//! a datagram before its client's, it's the client's that gets the new id, and for a backend both have the same parent
//! then. The tree in the terminal puts them in order.
//!
//! Children name the shared id. They go below the half of their own service; if both halves are of one service, below that
//! of their own process, or else the server's. That takes a half that is known when the child comes. A child that comes in a
//! datagram before its parent's half keeps the shared id, and so a backend shows it below the client's half.
//!
//! What was sent stays in attributes, for the tree and for a backend that speaks Zipkin: [`ZIPKIN_ID`], [`ZIPKIN_PARENT_ID`].

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::Spans;
use super::value::attribute;
use crate::attributes::{ZIPKIN_ID, ZIPKIN_PARENT_ID, find_text};
use crate::process::Process;

/// So many ids of clients' and servers' spans are remembered, and as many before those: 10 MB.
const MOST: usize = 1 << 15;

/// Halves of one id. More are hostile.
pub(crate) const MOST_HALVES: usize = 8;

/// A trace and the id of a span in it, as they were sent.
type Sent = (u128, u64);

/// The ids that were seen lately.
#[derive(Debug, Default)]
pub(super) struct Shared {
    recent: HashMap<Sent, Vec<Half>>,
    before: HashMap<Sent, Vec<Half>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Client,
    Server,
}

/// A process, by what tells it from others.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Who {
    service: u64,
    pid: u32,
}

#[derive(Clone, Copy, Debug)]
struct Half {
    role: Role,
    who: Who,
    /// Under which it is forwarded.
    id: u64,
}

/// Notes that a span is one half of a shared one, by its sender's word.
pub(super) fn mark(span: &mut Span) {
    // A client has its id to itself.
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

fn sent(span: &Span, id: &[u8]) -> Option<Sent> {
    let trace = span.trace_id.as_slice().try_into().ok()?;
    Some((u128::from_be_bytes(trace), u64::from_be_bytes(id.try_into().ok()?)))
}

impl Who {
    fn of(process: &Process) -> Self {
        Self { service: hash(process.service.bytes()), pid: process.sender.pid }
    }
}

impl Shared {
    /// Gives each half of a shared span in a datagram an id of its own, and each child its own parent.
    pub(super) fn split(&mut self, spans: &mut Spans) {
        if self.recent.is_empty() && super::each(spans).all(|span| role(span).is_none()) {
            return;
        }
        // Clients keep their ids.
        for of in [Role::Client, Role::Server] {
            for (process, scopes) in spans.iter_mut() {
                let who = Who::of(process);
                let spans = scopes.iter_mut().flat_map(|scope| &mut scope.spans);
                spans.filter(|span| role(span) == Some(of)).for_each(|span| self.give_id(span, of, who));
            }
        }
        for (process, scopes) in spans.iter_mut() {
            let who = Who::of(process);
            scopes.iter_mut().flat_map(|scope| &mut scope.spans).for_each(|span| self.give_parent(span, who));
        }
    }

    fn give_id(&mut self, span: &mut Span, role: Role, who: Who) {
        let Some(sent) = sent(span, &span.span_id) else { return };
        let is_marked = is_marked(span);
        let halves = self.halves(sent);
        let known = halves.iter().find(|half| half.role == role && half.who == who);
        let id = match known {
            Some(known) => known.id,
            None => {
                let is_taken = halves.iter().any(|half| half.id == sent.1);
                let id = if is_marked || is_taken { own_id(sent, role, who) } else { sent.1 };
                if halves.len() < MOST_HALVES {
                    halves.push(Half { role, who, id });
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

    fn give_parent(&self, span: &mut Span, who: Who) {
        let Some(parent) = sent(span, &span.parent_span_id) else { return };
        let Some(halves) = self.recent.get(&parent).or_else(|| self.before.get(&parent)) else { return };
        // The server's half is below the client's.
        if halves.iter().any(|half| span.span_id == half.id.to_be_bytes()) {
            return;
        }
        let of_service = halves.iter().filter(|half| half.who.service == who.service);
        let best = of_service.max_by_key(|half| (half.who.pid == who.pid, half.role == Role::Server));
        if let Some(half) = best.filter(|half| half.id != parent.1) {
            let sent = std::mem::replace(&mut span.parent_span_id, half.id.to_be_bytes().into());
            put_id(span, ZIPKIN_PARENT_ID, sent);
        }
    }

    fn halves(&mut self, of: Sent) -> &mut Vec<Half> {
        if !self.recent.contains_key(&of) {
            if self.recent.len() >= MOST {
                self.before = std::mem::take(&mut self.recent);
            }
            let halves = self.before.remove(&of).unwrap_or_default();
            self.recent.insert(of, halves);
        }
        self.recent.entry(of).or_default()
    }
}

/// The id of a half: the same wherever and whenever it is made.
fn own_id((trace, id): Sent, role: Role, who: Who) -> u64 {
    let role = [u8::from(role == Role::Server)];
    let (service, pid) = (who.service.to_be_bytes(), who.pid.to_be_bytes());
    let parts = [&trace.to_be_bytes()[..], &id.to_be_bytes(), &role, &service, &pid];
    hash(parts.concat().into_iter()).max(1)
}

/// FNV-1a of 64 bits, with the bits spread at the end as MurmurHash does it.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}
