//! What a span says about a call to something else: to whom, whether it only reads, and what it was given.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::span::attributes::{find_text, value};
use crate::trace::EncodedSpan;

/// Attributes of the layer, of spantap and of the kernel: they say nothing about the call.
const ABOUT_THE_SPAN: [&str; 12] = [
    "busy_ns",
    "idle_ns",
    "thread.",
    "code.",
    "kernel.",
    "spantap.",
    "tracing_usdt.",
    "process.",
    "otel.",
    "level",
    "target",
    "host.",
];

/// Attributes that are known only after the call.
const RESULTS: [&str; 9] = [
    "http.response.",
    "db.response.",
    "rpc.response.",
    "rpc.grpc.status_code",
    "http.status_code",
    "error",
    "error.type",
    "error.message",
    "exception.",
];

/// Words for something that what follows may depend on, even if it gets nothing from it.
const GUARDS: [&str; 18] = [
    "auth",
    "login",
    "session",
    "token",
    "permission",
    "policy",
    "limit",
    "check",
    "valid",
    "verify",
    "lock",
    "acquire",
    "connect",
    "begin",
    "start",
    "init",
    "ensure",
    "migrat",
];

/// Words in the keys of attributes that say how far a list was read: the next call needs the answer to the one before.
const PLACES_IN_A_LIST: [&str; 9] =
    ["page", "offset", "cursor", "after", "before", "attempt", "retr", "position", "sequence"];

/// A decoded span.
pub(super) struct Call(Span);

impl Call {
    pub(super) fn of(span: &EncodedSpan) -> Option<Self> {
        Some(Self(span.decode()?.span))
    }

    fn text(&self, key: &str) -> Option<&str> {
        find_text(&self.0.attributes, key).filter(|text| !text.is_empty())
    }

    fn first_text(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.text(key))
    }

    /// Whether it asks something outside of its own code.
    pub(super) fn is_call(&self) -> bool {
        let is = |kind: SpanKind| self.0.kind == kind as i32;
        let has = |start: &str| self.0.attributes.iter().any(|attribute| attribute.key.starts_with(start));
        let is_answer = is(SpanKind::Server) || is(SpanKind::Consumer);
        is(SpanKind::Client)
            || is(SpanKind::Producer)
            || (!is_answer
                && ["db.", "rpc.", "messaging.", "server.address", "peer.service"].into_iter().any(has))
    }

    /// Whether it changes nothing, as far as it says so.
    pub(super) fn is_read(&self) -> bool {
        let method = self.first_text(&["http.request.method", "http.method"]);
        if let Some(method) = method {
            return ["GET", "HEAD"].iter().any(|read| method.eq_ignore_ascii_case(read));
        }
        let statement = self.first_text(&[
            "db.operation.name",
            "db.operation",
            "db.query.text",
            "db.statement",
            "db.query.summary",
        ]);
        let word = statement.and_then(|text| text.split_whitespace().next()).unwrap_or_default();
        ["SELECT", "GET", "MGET", "HGET", "HGETALL", "FIND", "COUNT"].iter().any(|read| word.eq_ignore_ascii_case(read))
            // A row that is locked is for a change.
            && !statement.is_some_and(|text| text.to_ascii_uppercase().contains("FOR UPDATE"))
    }

    /// Whether what follows may depend on it for its name's sake.
    pub(super) fn is_guard(&self) -> bool {
        let name = self.0.name.to_ascii_lowercase();
        GUARDS.iter().any(|word| name.contains(word))
    }

    /// Whom it asks.
    pub(super) fn peer(&self) -> Option<String> {
        let server = self.first_text(&["peer.service", "server.address", "net.peer.name", "rpc.service"]);
        let system = self.first_text(&["db.system.name", "db.system", "messaging.system"]);
        let port =
            self.0.attributes.iter().find(|attribute| attribute.key == "server.port").and_then(text_of);
        (server.is_some() || system.is_some())
            .then(|| [server, system, port.as_deref()].map(Option::unwrap_or_default).join(" "))
    }

    /// The attributes that say what the call was given, and their values.
    pub(super) fn given(&self) -> impl Iterator<Item = (&str, String)> {
        let is_given = |attribute: &&KeyValue| {
            // With a dot at its end, it is the start of a key.
            let is =
                |of: &&str| attribute.key == **of || (of.ends_with('.') && attribute.key.starts_with(*of));
            !ABOUT_THE_SPAN.iter().chain(&RESULTS).any(|of| is(of))
        };
        self.0
            .attributes
            .iter()
            .filter(is_given)
            .filter_map(|attribute| Some((&*attribute.key, text_of(attribute)?)))
    }
}

/// Whether the attribute's value says how far a list was read.
pub(super) fn is_place_in_a_list(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    PLACES_IN_A_LIST.iter().any(|word| key.contains(word))
}

fn text_of(attribute: &KeyValue) -> Option<String> {
    Some(match value(attribute)? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(is) => is.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        _ => return None,
    })
}

/// The words of a value: what is between characters that are neither letters nor digits.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// The words of a value that are among known ones, and the others, each as one number.
pub(super) fn known_and_others(text: &str, known: &HashSet<String>) -> (Option<u64>, u64) {
    let (mut of_known, mut of_others, mut has_known) = (DefaultHasher::new(), DefaultHasher::new(), false);
    for word in words(text) {
        if known.contains(word) {
            has_known = true;
            word.hash(&mut of_known);
        } else {
            word.hash(&mut of_others);
        }
    }
    (has_known.then(|| of_known.finish()), of_others.finish())
}
