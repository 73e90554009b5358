//! What a span says about a call to something else: to whom, whether it only reads, and what it was given.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::looked::Looked;
use super::names::shortened;
use super::shape::{has_placeholder, of_query, of_statement, of_url, place_in_a_list, reads_on};
use crate::span::attributes::{find_text, value};

/// Attributes of the layer, of spantap and of the kernel, and of the connection: they say nothing about the call.
const ABOUT_THE_SPAN: [&str; 14] = [
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
    "network.",
    "net.",
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

/// What a call asks for, in words that have no values in them.
const ASKED: [&str; 13] = [
    "db.collection.name",
    "db.operation.name",
    "db.namespace",
    "db.sql.table",
    "db.operation",
    "db.name",
    "rpc.service",
    "rpc.method",
    "messaging.destination.name",
    "http.request.method",
    "http.method",
    "url.template",
    "graphql.operation.name",
];
const STATEMENT: [&str; 2] = ["db.query.text", "db.statement"];
const URL: [&str; 4] = ["url.full", "http.url", "url.path", "http.target"];
/// The ends of statements that lock what they read.
const LOCKS_ROWS: [&str; 4] = ["FOR UPDATE", "FOR SHARE", "FOR NO KEY UPDATE", "FOR KEY SHARE"];
const QUERY_OF_URL: &str = "url.query";

/// Starts of the keys of attributes without values of the caller.
const WITHOUT_VALUES: [&str; 3] = ["db.", "server.", "peer."];
const PARAMETERS: [&str; 2] = ["db.query.parameter", "db.operation.parameter"];

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

/// The most functions around a call that count as the call.
const MOST_AROUND: usize = 3;
/// How much of such a function is the call, in percent.
const LEAST_OF_AROUND: u64 = 80;

/// Of a longer value, the beginning is looked at.
const MAX_CHARACTERS: usize = 1_000;

/// A span that calls something, or that does little but that: the spans from it to the call.
pub(super) struct Call(Vec<Span>);

impl Call {
    /// The call of a span, if it is one.
    pub(super) fn of(looked: &Looked<'_>, place: usize) -> Option<Self> {
        let mut spans = Vec::new();
        let mut at = place;
        loop {
            let span = looked.spans[at].decode()?.span;
            let is_call = is_call(&span);
            spans.push(span);
            if is_call {
                return Some(Self(spans));
            }
            if spans.len() > MOST_AROUND {
                return None;
            }
            at = looked.children(at).max_by_key(|child| looked.spans[*child].duration_ns())?;
            let (ns, of_ns) = (looked.spans[at].duration_ns(), looked.spans[place].duration_ns());
            if u128::from(ns) * 100 < u128::from(of_ns) * u128::from(LEAST_OF_AROUND) {
                return None;
            }
        }
    }

    fn attributes(&self) -> impl Iterator<Item = &KeyValue> {
        self.0.iter().flat_map(|span| &span.attributes)
    }

    fn text(&self, key: &str) -> Option<&str> {
        // The innermost span is the call itself.
        let mut texts = self.0.iter().filter_map(|span| find_text(&span.attributes, key));
        texts.rfind(|text| !text.is_empty())
    }

    fn first_text(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.text(key))
    }

    /// Whether it changes nothing, as far as it says so.
    pub(super) fn is_read(&self) -> bool {
        let method = self.first_text(&["http.request.method", "http.method"]);
        if let Some(method) = method {
            return ["GET", "HEAD"].iter().any(|read| method.eq_ignore_ascii_case(read));
        }
        let keys = ["db.operation.name", "db.operation", "db.query.text", "db.statement", "db.query.summary"];
        let word = self.first_text(&keys).and_then(|text| text.split_whitespace().next()).unwrap_or_default();
        ["SELECT", "GET", "MGET", "HGET", "HGETALL", "FIND", "COUNT"].iter().any(|read| word.eq_ignore_ascii_case(read))
            // A row that is locked is for a change.
            && !keys.into_iter().filter_map(|key| self.text(key)).any(|text| {
                let text = cut(text).to_ascii_uppercase();
                LOCKS_ROWS.iter().any(|words| text.contains(words))
            })
    }

    /// Whether what follows may depend on it for its name's sake.
    pub(super) fn is_guard(&self) -> bool {
        let names = self.0.iter().map(|span| span.name.to_ascii_lowercase());
        names.into_iter().any(|name| GUARDS.iter().any(|word| name.contains(word)))
    }

    /// Whom it asks.
    pub(super) fn peer(&self) -> Option<String> {
        let server = self.first_text(&["peer.service", "server.address", "net.peer.name", "rpc.service"]);
        let system = self.first_text(&["db.system.name", "db.system", "messaging.system"]);
        let port = self.attributes().find(|attribute| attribute.key == "server.port").and_then(text_of);
        (server.is_some() || system.is_some())
            .then(|| [server, system, port.as_deref()].map(Option::unwrap_or_default).join(" "))
    }

    /// What it asks for and whom.
    pub(super) fn asked(&self) -> Asked {
        let of = |keys: &[&'static str], shape: fn(&str) -> String| {
            let texts = keys.iter().filter_map(|key| Some((*key, self.text(key)?)));
            texts.map(|(key, text)| (key, shape(cut(text)))).collect::<Vec<_>>()
        };
        let what = [
            of(&ASKED, str::to_owned),
            of(&STATEMENT, of_statement),
            of(&URL, of_url),
            of(&[QUERY_OF_URL], of_query),
        ];
        Asked { what: hash(&what), peer: hash(&self.peer()) }
    }

    /// The statement, without values.
    pub(super) fn statement(&self) -> Option<String> {
        self.first_text(&STATEMENT).map(|text| of_statement(cut(text)))
    }

    /// The place in a list that its URL asks for.
    pub(super) fn place_in_a_list(&self) -> String {
        let urls = URL.iter().chain([&QUERY_OF_URL]).filter_map(|key| self.text(key));
        urls.map(|url| place_in_a_list(cut(url))).collect()
    }

    /// Whether its statement reads the next part of a list.
    pub(super) fn reads_on(&self) -> bool {
        self.first_text(&STATEMENT).is_some_and(|text| reads_on(cut(text)))
    }

    /// Whether its statement got values, and no attribute may have them.
    pub(super) fn has_values_that_are_not_recorded(&self) -> bool {
        let starts = |key: &str, of: &[&str]| of.iter().any(|start| key.starts_with(start));
        self.first_text(&STATEMENT).is_some_and(|text| has_placeholder(cut(text)))
            && self.given().all(|(key, _)| starts(key, &WITHOUT_VALUES) && !starts(key, &PARAMETERS))
    }

    /// The attributes that say what the call was given, and their values.
    ///
    /// Of a key that several of its spans have, the outermost.
    pub(super) fn given(&self) -> impl Iterator<Item = (&str, String)> {
        let mut seen = HashSet::new();
        self.0.iter().flat_map(given).filter(move |(key, _)| seen.insert(*key))
    }
}

/// What calls ask for and whom, each as one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Asked {
    pub(super) what: u64,
    peer: u64,
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The beginning of a text.
fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_CHARACTERS).map_or(text, |(end, _)| &text[..end])
}

/// Whether it asks something outside of its own code.
fn is_call(span: &Span) -> bool {
    let is = |kind: SpanKind| span.kind == kind as i32;
    let has = |start: &str| span.attributes.iter().any(|attribute| attribute.key.starts_with(start));
    let is_answer = is(SpanKind::Server) || is(SpanKind::Consumer);
    let says_so = ["db.", "rpc.", "messaging.", "server.address", "peer.service"].into_iter().any(has);
    is(SpanKind::Client) || is(SpanKind::Producer) || (!is_answer && says_so)
}

/// The attributes of a span that say what it was given, and their values.
pub(super) fn given(span: &Span) -> impl Iterator<Item = (&str, String)> {
    let is_given = |attribute: &&KeyValue| {
        // With a dot at its end, it is the start of a key.
        let is = |of: &&str| attribute.key == **of || (of.ends_with('.') && attribute.key.starts_with(*of));
        !ABOUT_THE_SPAN.iter().chain(&RESULTS).any(is)
    };
    let given = span.attributes.iter().filter(is_given);
    given.filter_map(|attribute| Some((shortened(&attribute.key), text_of(attribute)?)))
}

fn text_of(attribute: &KeyValue) -> Option<String> {
    Some(match value(attribute)? {
        Value::StringValue(text) => cut(text).to_owned(),
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
