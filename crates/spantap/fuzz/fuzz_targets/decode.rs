//! Decodes any bytes, and passes the spans on to the encoder, the assembly and the view.
//!
//! ```sh
//! cargo +nightly fuzz run --fuzz-dir crates/spantap/fuzz decode
//! ```
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use spantap::encode::Chunk;
use spantap::decode::Decoder;
use spantap::process::Sender;
use spantap::span::Summary;
use spantap::trace::{Assembly, EncodedSpan, Limits, Trace};
use spantap::view::{Look, tree};

const SENDER: Sender = Sender { pid: 1, uid: 2, gid: 3 };
const NOW_NS: u64 = 1_767_225_600_000_000_000;

fuzz_target!(|bytes: &[u8]| {
    let decoded = Decoder::default().decode(bytes, SENDER, NOW_NS);
    let is_refused = decoded.faults.iter().any(|(found, _)| found.fault.refuses());
    let mut assembly = Assembly::new(Limits::default());
    let now = Instant::now();
    let mut spans = 0;
    for (process, scopes) in decoded.processes {
        assert_eq!(process.sender, SENDER);
        let mut encoded = Vec::new();
        let chunk = Chunk::encode_each(&process, &scopes, |_, span, bytes| {
            let span = Summary::of(span).expect("the decoder has checked its ids");
            encoded.push(EncodedSpan::new(&process, &span, bytes));
        });
        let back = chunk.decode().expect("an encoded chunk can be decoded");
        // Compared as text, because a NaN is not equal to itself.
        assert_eq!(format!("{:?}", back.scope_spans), format!("{scopes:?}"));
        spans += scopes.iter().map(|scope| scope.spans.len()).sum::<usize>();
        for span in scopes.into_iter().flat_map(|scope| scope.spans) {
            assert!(span.trace_id.len() == 16 && span.trace_id.iter().any(|byte| *byte != 0));
            assert!(span.span_id.len() == 8 && span.span_id.iter().any(|byte| *byte != 0));
            assert!(matches!(span.parent_span_id.len(), 0 | 8));
            assert!(0 < span.start_time_unix_nano && span.start_time_unix_nano <= span.end_time_unix_nano);
        }
        encoded.into_iter().for_each(|span| assembly.add(span, now, &mut check_view));
    }
    for (process, scopes) in decoded.encoded {
        assert_eq!(process.sender, SENDER);
        spans += scopes.spans.len();
        let encoded: Vec<EncodedSpan> =
            scopes.iter().map(|(span, bytes)| EncodedSpan::new(&process, span, bytes)).collect();
        // What stays as it was sent is valid, and its summaries are those of the decoded spans.
        let summaries: Vec<Summary> = scopes.iter().map(|(span, _)| span.clone()).collect();
        let mut chunk = Chunk::encode(&process, &[]);
        chunk.add_encoded(scopes);
        let back = chunk.decode().expect("valid protobuf");
        let decoded: Vec<_> = back.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
        assert_eq!(decoded.len(), summaries.len());
        for (span, summary) in decoded.into_iter().zip(&summaries) {
            assert!(summary.fits(&Summary::of(span).expect("ids")), "{summary:?} {span:?}");
        }
        encoded.into_iter().for_each(|span| assembly.add(span, now, &mut check_view));
    }
    assembly.finish(now, &mut check_view);
    // Each input is accepted, refused, or has no spans. What serde_json can't read counts as empty here, because the
    // decoder reads more: half surrogates and deep nesting.
    let has_spans = ExportTraceServiceRequest::decode(bytes).is_ok_and(|request| {
        let scopes = request.resource_spans.iter().flat_map(|spans| &spans.scope_spans);
        scopes.map(|scope| scope.spans.len()).sum::<usize>() > 0
    });
    let is_empty = !has_spans && serde_json::from_str(String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}'))
        .map_or(true, |json: serde_json::Value| match &json {
            serde_json::Value::Array(spans) => spans.is_empty(),
            json => ["resourceSpans", "resource_spans"].iter().any(|name| match &json[name] {
                serde_json::Value::Array(list) => list.is_empty(),
                serde_json::Value::Object(list) => list.is_empty(),
                _ => false,
            }),
        });
    assert!(is_refused || spans > 0 || is_empty);
});

fn check_view(trace: &Trace<EncodedSpan>) {
    let decoded = trace.decode();
    assert_eq!(decoded.spans.len(), trace.spans.len());
    for line in tree(&decoded, &Look::new(80, false)).lines() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
