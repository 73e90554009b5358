//! `spantap record`: what it keeps of a program's spans, also when it is killed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::{Build, Fixture, Linkage, MadeUp, Spantap, send, wait_until};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message;
use spantap::capture::{Capture, Damage, Filter};

/// The spans of a file by their ids, each with the name of its service; and what is damaged.
fn read(file: &Path, filter: Filter) -> (BTreeMap<Vec<u8>, (String, Span)>, Damage) {
    let mut capture = Capture::open(file).unwrap().with_filter(filter);
    let mut found = BTreeMap::new();
    for spans in &mut capture {
        let spans = spans.unwrap();
        for (_, field) in spans.iter() {
            let mut span = ScopeSpans::decode(field).unwrap().spans.remove(0);
            // Lines of JSON always have a status.
            span.status.get_or_insert_default();
            let before = found.insert(span.span_id.clone(), (spans.process.service.clone(), span));
            assert!(before.is_none(), "it came twice: {before:?}");
        }
    }
    (found, capture.damage().clone())
}

fn all(file: &Path) -> (BTreeMap<Vec<u8>, (String, Span)>, Damage) {
    read(file, Filter::default())
}

#[test]
fn every_span_of_a_program_is_recorded_whole() {
    for format in ["zipkin", "otlp-json", "otlp-protobuf"] {
        let folder = tempfile::tempdir().unwrap();
        let [capture, lines] = ["capture.spans", "spans.jsonl"].map(|name| folder.path().join(name));
        let to = format!("jsonl={}", lines.display());
        let spantap = Spantap::record(&capture, &["--to", &to]);
        let mut command = std::process::Command::new(Build::Release.path(Linkage::Executable, 0));
        command.env("TRACING_USDT_FORMAT", format).env("TRACING_USDT_DELIVERY", "background");
        let mut fixture = Fixture::spawn(&mut command, Some(spantap.socket()));
        fixture.run("threads 2 500");
        fixture.run("flush");
        let stats = fixture.run("stats");
        let sent: usize = stats.split(' ').nth(1).unwrap().parse().unwrap();
        fixture.end();
        let ended = spantap.terminate();
        assert!(ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
        assert!(ended.stderr.contains(&format!("capture={}: ", capture.display())), "{}", ended.stderr);
        assert!(ended.stderr.contains(" spans recorded, "), "{}", ended.stderr);

        let (found, damage) = all(&capture);
        assert_eq!((found.len(), damage), (sent, Damage::default()), "{format}");
        let (in_lines, damage) = all(&lines);
        assert!(damage.is_none(), "{damage}");
        let differs = found.iter().zip(&in_lines).find(|(one, other)| one != other);
        assert_eq!(differs, None, "{format}: the capture and the file of JSON");
        // One trace alone.
        let (_, span) = found.values().next().unwrap();
        let trace_id = u128::from_be_bytes(span.trace_id.as_slice().try_into().unwrap());
        let (of_trace, _) =
            read(&capture, Filter { traces: Some([trace_id].into_iter().collect()), ..Filter::default() });
        let expected = found.iter().filter(|(_, (_, of))| of.trace_id == span.trace_id);
        assert!(of_trace.iter().eq(expected), "{format}");
    }
}

#[test]
fn a_program_is_recorded_from_start_to_end_and_appended() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let fixture = Build::Release.path(Linkage::Executable, 0);
    let program = ["sh", "-c", "echo threads 1 20 | $0", fixture.to_str().unwrap()];
    let mut recorded = 0;
    for _ in 0..2 {
        let ended = Spantap::record_program(&capture, &program).wait();
        assert!(ended.status.success(), "{ended:?}");
        let (found, damage) = all(&capture);
        assert!(found.len() > recorded && damage.is_none(), "{} spans, {damage}: {ended:?}", found.len());
        recorded = found.len();
    }
}

/// spantap waits half a second for a frame to fill; the rest is for a busy machine.
const LOST: Duration = Duration::from_secs(2);

#[test]
fn a_killed_recorder_loses_only_the_last_moment() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let spantap = Spantap::record(&capture, &[]);
    let spans = MadeUp::many(200_000);
    let begin = Instant::now();
    let mut sent = Vec::new();
    for spans in spans.chunks(40) {
        send(spantap.socket(), spans);
        sent.extend(spans.iter().map(|span| (begin.elapsed(), span.id())));
        std::thread::sleep(Duration::from_millis(2));
        if begin.elapsed() > LOST + Duration::from_secs(2) {
            break;
        }
    }
    let killed_after = begin.elapsed();
    drop(spantap.kill());
    let (found, damage) = all(&capture);
    let ids: BTreeSet<String> = found.values().map(|(_, span)| hex(&span.span_id)).collect();
    let missing: Vec<_> =
        sent.iter().filter(|(at, id)| *at + LOST < killed_after && !ids.contains(id)).collect();
    assert!(missing.is_empty() && !ids.is_empty(), "{} of {}, {damage}", missing.len(), sent.len());
    assert_eq!(damage.places, 0, "{damage}");

    // The next recording goes on behind the last whole frame.
    let spantap = Spantap::record(&capture, &[]);
    send(spantap.socket(), &[MadeUp(1_000_000)]);
    wait_until("the span is recorded", || all(&capture).0.len() > ids.len());
    assert!(spantap.terminate().status.success());
    let (found, damage) = all(&capture);
    assert_eq!((found.len(), damage), (ids.len() + 1, Damage::default()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_second_recorder_of_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let first = Spantap::record(&capture, &[]);
    let second = Spantap::record_program(&capture, &["true"]).wait();
    assert!(second.stderr.contains("another program records to it"), "{second:?}");
    assert_eq!(second.status.code(), Some(1));
    assert!(first.terminate().status.success());
}

#[test]
fn old_files_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let spantap = Spantap::record(&capture, &["--max-size", "16KiB", "--keep-files", "2"]);
    let spans = MadeUp::many(20_000);
    let older = |number: u32| folder.path().join(format!("capture.spans.{number}"));
    for spans in spans.chunks(1_000) {
        send(spantap.socket(), spans);
        // Each frame has what comes within half a second.
        std::thread::sleep(Duration::from_millis(100));
    }
    let ended = spantap.terminate();
    assert!(ended.status.success(), "{ended:?}");
    assert!(older(1).exists() && older(2).exists() && !older(3).exists(), "{ended:?}");
    let mut found = 0;
    for file in [older(2), older(1), capture] {
        let (spans, damage) = all(&file);
        assert!(!spans.is_empty() && damage.is_none(), "{file:?}: {damage}");
        found += spans.len();
    }
    assert!(found < spans.len());
}

#[test]
fn spans_that_could_not_be_recorded_are_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("removed");
    std::fs::create_dir(&inner).unwrap();
    let capture = inner.join("capture.spans");
    let spantap = Spantap::record(&capture, &["--flush-timeout", "100ms"]);
    wait_until("spantap has opened the capture", || capture.exists());
    std::fs::remove_dir_all(&inner).unwrap();
    send(spantap.socket(), &MadeUp::many(3));
    let ended = spantap.terminate();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("3 spans"), "{ended:?}");
}

#[test]
fn a_file_that_is_no_capture_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let other = folder.path().join("capture.spans.1");
    std::fs::write(&other, "notes").unwrap();
    let ended = Spantap::record_program(&capture, &["true"]).wait();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("capture.spans.1 is not a capture"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "notes");
}
