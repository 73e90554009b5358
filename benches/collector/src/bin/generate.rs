//! Makes a recording of 100,000 spans in protobuf with this many names, each as often as the others:
//! `generate <file> <names>`. Traces have five spans, a root and four children one after the other. The attributes are
//! like those that the layer sends.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use bench_collector::{arguments, print, recording};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, status::StatusCode};
use prost::Message;
use serde_json::json;

const SPANS: u64 = 100_000;
const OF_TRACE: u64 = 5;
const OF_DATAGRAM: u64 = 100;

/// One span in so many has failed.
const ERROR_EVERY: u64 = 97;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments();
    let [path, names] = &arguments[..] else { return Err("usage: generate <file> <names>".into()) };
    let names: u64 = names.parse()?;
    if !(1..=SPANS).contains(&names) {
        return Err(format!("the number of names is {names}, not from 1 to {SPANS}").into());
    }
    let now_ns = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let mut file = BufWriter::new(File::create(path)?);
    for first in (0..SPANS).step_by(OF_DATAGRAM as usize) {
        let spans = (first..first + OF_DATAGRAM).map(|index| span(index, names, now_ns)).collect();
        recording::write(&mut file, &request(spans).encode_to_vec())?;
    }
    file.flush()?;
    print(&json!({ "spans": SPANS, "datagrams": SPANS / OF_DATAGRAM }))
}

fn span(index: u64, names: u64, now_ns: u64) -> Span {
    let (trace, child) = (index / OF_TRACE, index % OF_TRACE);
    let id = |index: u64| scattered(index).max(1).to_be_bytes();
    let trace_id = [id(trace), id(trace + SPANS)].concat();
    // Powers of two from 16 µs to 0.5 s.
    let root_ns = 16_384 << (scattered(trace) % 16);
    let part_ns = root_ns / 5;
    let (began_ns, duration_ns) = match child {
        0 => (now_ns, root_ns),
        child => (now_ns + (child - 1) * part_ns, part_ns + scattered(index) % (part_ns / 4)),
    };
    let has_failed = index % ERROR_EVERY == 0;
    Span {
        trace_id,
        span_id: id(index).to_vec(),
        parent_span_id: if child == 0 { Vec::new() } else { id(trace * OF_TRACE).to_vec() },
        name: format!("operation {:06}", index % names),
        start_time_unix_nano: began_ns,
        end_time_unix_nano: began_ns + duration_ns,
        attributes: vec![
            attribute("code.file.path", Value::StringValue("src/orders/checkout.rs".to_owned())),
            attribute("code.line.number", Value::IntValue(120)),
            attribute("code.module.name", Value::StringValue("shop::orders::checkout".to_owned())),
            attribute("thread.id", Value::IntValue(4)),
            attribute("thread.name", Value::StringValue("tokio-runtime-worker".to_owned())),
            attribute("item", Value::IntValue(index as i64)),
        ],
        status: has_failed.then(|| Status { code: StatusCode::Error.into(), ..Status::default() }),
        ..Span::default()
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let service = attribute("service.name", Value::StringValue("generate".to_owned()));
    let resource = Resource { attributes: vec![service], ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Another number for each index, so that ids and durations are in no order: one step of SplitMix64.
fn scattered(index: u64) -> u64 {
    let mixed = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
