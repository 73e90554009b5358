//! Any bytes through the decoder, and whatever comes out of it on to where spans go: the encoder, the
//! assembly and the view.
//!
//! ```sh
//! cargo +nightly fuzz run --fuzz-dir crates/spantap/fuzz decode
//! ```
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use spantap::chunk::Chunk;
use spantap::decode::Decoder;
use spantap::process::Sender;
use spantap::trace::{Assembly, EncodedSpan, Limits, Trace};
use spantap::view::{Look, tree};

const SENDER: Sender = Sender { pid: 1, uid: 2, gid: 3 };
const NOW_NS: u64 = 1_767_225_600_000_000_000;

fuzz_target!(|bytes: &[u8]| {
    let decoded = Decoder::default().decode(bytes, SENDER, NOW_NS);
    let refused = decoded.faults.iter().any(|(found, _)| found.fault.refuses());
    let mut assembly = Assembly::new(Limits::default());
    let now = Instant::now();
    let mut spans = 0;
    for (process, scopes) in decoded.processes {
        assert_eq!(process.sender, SENDER);
        let mut encoded = Vec::new();
        let chunk = Chunk::encode_each(&process, &scopes, |span, bytes| {
            encoded.push(EncodedSpan::new(&process, span, bytes).expect("its ids are right"));
        });
        let back = chunk.decode().expect("what was encoded is decoded");
        // A double that is no number is equal to nothing.
        assert_eq!(format!("{:?}", back.scope_spans), format!("{scopes:?}"));
        spans += scopes.iter().map(|scope| scope.spans.len()).sum::<usize>();
        for span in scopes.into_iter().flat_map(|scope| scope.spans) {
            assert!(span.trace_id.len() == 16 && span.trace_id.iter().any(|byte| *byte != 0));
            assert!(span.span_id.len() == 8 && span.span_id.iter().any(|byte| *byte != 0));
            assert!(matches!(span.parent_span_id.len(), 0 | 8));
            assert!(0 < span.start_time_unix_nano && span.start_time_unix_nano <= span.end_time_unix_nano);
        }
        encoded.into_iter().for_each(|span| assembly.add(span, now, &mut look_at));
    }
    assembly.finish(now, &mut look_at);
    // Taken or refused: nothing vanishes. What says that it holds nothing is neither. Whether it does is left open where
    // this reader knows less than the decoder: half characters, deep nesting.
    let is_empty = serde_json::from_str(String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}'))
        .map_or(true, |json: serde_json::Value| match &json {
            serde_json::Value::Array(spans) => spans.is_empty(),
            json => ["resourceSpans", "resource_spans"].iter().any(|name| match &json[name] {
                serde_json::Value::Array(list) => list.is_empty(),
                serde_json::Value::Object(list) => list.is_empty(),
                _ => false,
            }),
        });
    assert!(refused || spans > 0 || is_empty);
});

fn look_at(trace: &Trace<EncodedSpan>) {
    let decoded = trace.decode();
    assert_eq!(decoded.spans.len(), trace.spans.len());
    for line in tree(&decoded, &Look::new(80, false)).lines() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
