//! What a query chooses (`choosing`), what its errors say (`faults`), and what holds for every text (`laws`).
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

mod choosing;
mod faults;
mod laws;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};
use prost::Message;

use super::{Query, Subject};
use crate::process::{Process, Sender};
use crate::span::Summary;
use crate::span::attributes::attribute;

/// A span and its process.
#[derive(Debug)]
struct Sample {
    span: Span,
    process: Process,
}

impl Sample {
    fn is_chosen(&self, query: &str) -> bool {
        let query: Query = query.parse().unwrap_or_else(|error| panic!("{query}: {error}"));
        let decoded = query.matches(&Subject::new(&self.span, &self.process));
        assert_eq!(self.is_chosen_encoded(&query).unwrap_or(decoded), decoded, "{query}");
        decoded
    }

    /// `None` if the span has no ids: there are no encoded spans like that.
    fn is_chosen_encoded(&self, query: &Query) -> Option<bool> {
        // As read from a file: such a summary has `busy_ns` only if it is a number.
        let summary = Summary { busy_ns: None, ..Summary::of(&self.span)? };
        let field = ScopeSpans { spans: vec![self.span.clone()], ..ScopeSpans::default() }.encode_to_vec();
        Some(query.matches(&Subject::encoded(&summary, &field, &self.process)))
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn list(key: &str, values: &[&str]) -> KeyValue {
    let values = values.iter().map(|text| AnyValue { value: Some(Value::StringValue((*text).to_owned())) });
    attribute(key, Value::ArrayValue(ArrayValue { values: values.collect() }))
}

/// An order that took 150 ms, and 6 ms of them waiting for the disk.
fn order() -> Sample {
    let start_time_unix_nano = 1_800_000_000_000_000_000;
    let span = Span {
        trace_id: const_hex::decode("4bf92f3577b34da6a3ce929d0e0e4736").unwrap(),
        span_id: const_hex::decode("b7ad6b7169203331").unwrap(),
        parent_span_id: const_hex::decode("00f067aa0ba902b7").unwrap(),
        name: "GET /orders".to_owned(),
        kind: 2,
        start_time_unix_nano,
        end_time_unix_nano: start_time_unix_nano + 150_000_000,
        status: Some(Status { code: 2, message: "no stock".to_owned() }),
        attributes: vec![
            number("http.response.status_code", 503),
            text("http.status_code", "503"),
            attribute("share", Value::DoubleValue(0.25)),
            attribute("cached", Value::BoolValue(false)),
            text("hit", "false"),
            attribute("retried", Value::BoolValue(true)),
            attribute("empty", Value::StringValue(String::new())),
            list("header", &["text/html", "text/plain"]),
            number("id", 9_007_199_254_740_993),
            text("large", "340282366920938463463"),
            number("waited_ms", 7),
            text("elapsed", "1.5ms"),
            number("timeout", 2_000_000),
            text("user id", "7"),
            text("name", "the attribute"),
            text("only", "the span's"),
            text("level", "WARN"),
            text("target", "shop::orders"),
            text("busy_ns", "100000000"),
            number("kernel.on_cpu_ns", 94_000_000),
            number("kernel.disk_ns", 6_000_000),
            KeyValue { key: "nothing".to_owned(), ..KeyValue::default() },
        ],
        ..Span::default()
    };
    let attributes =
        vec![text("service.name", "shop"), number("process.pid", 4242), text("only", "the resource's")];
    let process = Process {
        sender: Sender { pid: 4242, uid: 0, gid: 0 },
        service: "shop".to_owned(),
        resource: Resource { attributes, ..Resource::default() },
    };
    Sample { span, process }
}

/// A root without attributes.
fn bare() -> Sample {
    let Sample { span, process } = order();
    let span = Span { parent_span_id: Vec::new(), attributes: Vec::new(), status: None, kind: 0, ..span };
    Sample { span, process: Process { service: String::new(), resource: Resource::default(), ..process } }
}
