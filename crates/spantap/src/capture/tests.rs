//! Captures that are cut, flipped, rotated and written by others.

#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tempfile::TempDir;

use super::frame::{Found, Header};
use super::*;
use crate::decode::LOSSES;
use crate::process::Sender;
use crate::span::Summary;
use crate::span::attributes::attribute;

mod collector;
mod damaged;
mod growing;
mod pipes;

/// 2027, in nanoseconds since 1970.
const START: u64 = 1_800_000_000_000_000_000;

pub(super) fn span(trace: u128, id: u64, times: Range<u64>) -> Span {
    Span {
        trace_id: trace.to_be_bytes().into(),
        span_id: id.to_be_bytes().into(),
        name: format!("span {id}"),
        start_time_unix_nano: times.start,
        end_time_unix_nano: times.end,
        ..Span::default()
    }
}

pub(super) fn request(spans: &[Span]) -> Bytes {
    let attributes = vec![
        attribute("service.name", Value::StringValue("shop".into())),
        attribute("process.pid", Value::IntValue(7)),
        attribute("process.real_user.id", Value::IntValue(1000)),
    ];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans: spans.to_vec(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

/// A frame with two spans, numbered `2 * number` and the next, in the trace `number`; they start that many seconds after
/// [`START`].
fn frame(number: u64) -> Vec<u8> {
    let start = START + number * 1_000_000_000;
    let spans = [2 * number, 2 * number + 1].map(|id| span(number.into(), id, start..start + 5));
    encode(request(&spans)).unwrap()
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("capture.spans")
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(), bytes).unwrap();
        self.path()
    }
}

/// The numbers of the spans that are left to read.
fn ids(capture: &mut Capture) -> Vec<u64> {
    let mut ids = Vec::new();
    for spans in capture {
        let spans = spans.unwrap();
        for (summary, field) in spans.iter() {
            let decoded = ScopeSpans::decode(field).unwrap().spans.remove(0);
            assert_eq!(decoded.span_id, summary.span_id.to_be_bytes());
            assert_eq!(decoded.name, format!("span {}", summary.span_id));
            ids.push(summary.span_id);
        }
    }
    ids
}

fn read(path: &Path) -> (Vec<u64>, Damage) {
    read_with(path, Filter::default())
}

fn read_with(path: &Path, filter: Filter) -> (Vec<u64>, Damage) {
    let mut capture = Capture::open(path).unwrap().with_filter(filter);
    (ids(&mut capture), capture.damage().clone())
}

/// The same on several threads.
fn read_in_parallel(path: &Path, filter: Filter) -> (Vec<u64>, Damage) {
    let capture = Capture::open(path).unwrap().with_filter(filter);
    let ids = |spans: Spans| spans.iter().map(|(summary, _)| summary.span_id).collect::<Vec<_>>();
    let mut results = capture.in_parallel(ids).unwrap();
    let ids = results.by_ref().flat_map(|ids| ids.unwrap()).collect();
    (ids, results.capture().damage().clone())
}

fn record(path: &Path, rotation: Rotation, numbers: Range<u64>) {
    let (mut file, cut) = CaptureFile::open(path, rotation).unwrap();
    assert_eq!(cut, 0);
    numbers.for_each(|number| file.append(&frame(number)).unwrap());
}

#[test]
fn what_is_recorded_is_read_back() {
    let folder = Folder::new();
    record(&folder.path(), Rotation::default(), 1..3);
    record(&folder.path(), Rotation::default(), 3..4);
    assert_eq!(read(&folder.path()), (vec![2, 3, 4, 5, 6, 7], Damage::default()));
    assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let spans = Capture::open(&folder.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(spans.process.service, "shop");
    assert_eq!(spans.process.sender, Sender { pid: 7, uid: 1000, gid: 0 });
    assert_eq!(spans.process.resource.attributes.len(), 3, "nothing of this machine is added");
}

#[test]
fn a_capture_that_is_cut_anywhere_is_read_up_to_the_cut() {
    let frames = [frame(1), frame(2), frame(3)];
    let whole = frames.concat();
    let folder = Folder::new();
    for length in 0..=whole.len() {
        let path = folder.write(&whole[..length]);
        let (mut end, mut expected) = (0, Vec::new());
        for (number, frame) in (1..).zip(&frames) {
            if end + frame.len() <= length {
                end += frame.len();
                expected.extend([2 * number, 2 * number + 1]);
            }
        }
        let tail_bytes = (length - end) as u64;
        assert_eq!(read(&path), (expected.clone(), Damage { tail_bytes, ..Damage::default() }), "{length}");
        // What is recorded next comes after the last whole frame.
        let (mut file, cut) = CaptureFile::open(&path, Rotation::default()).unwrap();
        file.append(&frame(9)).unwrap();
        expected.extend([18, 19]);
        assert_eq!((cut, read(&path)), (tail_bytes, (expected, Damage::default())), "{length}");
    }
}

#[test]
fn flipped_bits_lose_no_more_than_their_frame_and_are_reported() {
    let frames = [frame(1), frame(2), frame(3)];
    let whole = frames.concat();
    let folder = Folder::new();
    for bit in 0..8 * whole.len() {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (found, damage) = read(&folder.write(&flipped));
        let hit = if bit / 8 < frames[0].len() {
            1
        } else if bit / 8 < frames[0].len() + frames[1].len() {
            2
        } else {
            3
        };
        let expected: Vec<u64> = (2..8).filter(|id| id / 2 != hit).collect();
        assert_eq!(found, expected, "{bit}");
        let lost = damage.bytes + damage.tail_bytes;
        assert_eq!(lost, frames[hit as usize - 1].len() as u64, "{bit}: {damage:?}");
    }
}

#[test]
fn frames_without_selected_spans_are_not_read() {
    let mut bytes = [frame(1), frame(2), frame(3)].concat();
    // Damage in the body of the first frame, which reading it would find.
    let body = frame(1).len() - 5;
    bytes[body] ^= 1;
    let folder = Folder::new();
    let path = folder.write(&bytes);
    let second = START + 2_000_000_000;
    let filters = [
        Filter { traces: Some([2].into_iter().collect()), ..Filter::default() },
        Filter { since_ns: second, until_ns: second + 900, ..Filter::default() },
        Filter { since_ns: second + 5, until_ns: second + 6, ..Filter::default() },
    ];
    for filter in filters {
        assert_eq!(read_with(&path, filter.clone()), (vec![4, 5], Damage::default()), "{filter:?}");
    }
    assert_eq!(
        read_with(&path, Filter { traces: Some([9].into_iter().collect()), ..Filter::default() }).0,
        [0; 0]
    );
    assert_eq!(read(&path).1.spans, 2);
}

#[test]
fn a_filter_selects_spans_within_a_frame() {
    let spans =
        [span(1, 1, START..START + 9), span(2, 2, START..START + 9), span(1, 3, START + 8..START + 9)];
    let folder = Folder::new();
    let path = folder.write(&encode(request(&spans)).unwrap());
    let trace = Filter { traces: Some([1].into_iter().collect()), ..Filter::default() };
    assert_eq!(read_with(&path, trace.clone()).0, [1, 3]);
    assert_eq!(read_with(&path, Filter { until_ns: START + 7, ..trace }).0, [1]);
}

#[test]
fn frames_behind_one_that_was_cut_off_are_found() {
    // As after a write that failed and could not be undone.
    let whole = frame(1);
    let folder = Folder::new();
    for length in 1..whole.len() {
        let path = folder.write(&[&whole[..length], &frame(2), &frame(3)].concat());
        let (found, damage) = read(&path);
        assert_eq!(
            (found, damage.bytes, damage.tail_bytes),
            (vec![4, 5, 6, 7], length as u64, 0),
            "{length}"
        );
        // Also if nothing of the first frame is wanted.
        let trace = Filter { traces: Some([2].into_iter().collect()), ..Filter::default() };
        assert_eq!(read_with(&path, trace).0, [4, 5], "{length}");
    }
}

#[test]
fn a_capture_can_be_read_while_it_grows() {
    let folder = Folder::new();
    let path = folder.write(b"");
    let mut capture = Capture::open(&path).unwrap();
    assert_eq!(ids(&mut capture), [0; 0]);
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    for number in 1..4 {
        let whole = frame(number);
        let (first, rest) = whole.split_at(40 * number as usize);
        file.write_all(first).unwrap();
        assert_eq!(ids(&mut capture), [0; 0]);
        assert_eq!(capture.damage().tail_bytes, first.len() as u64);
        file.write_all(rest).unwrap();
        assert_eq!(ids(&mut capture), [2 * number, 2 * number + 1]);
    }
    assert!(capture.damage().is_none());
}

#[test]
fn a_newer_capture_is_refused() {
    let mut newer = [&frame::MAGIC[..], &2_u32.to_le_bytes(), &20_u32.to_le_bytes()].concat();
    newer.extend(crc32fast::hash(&newer).to_le_bytes());
    let folder = Folder::new();
    let path = folder.write(&[frame(1), newer.clone()].concat());
    let mut capture = Capture::open(&path).unwrap();
    assert!(capture.next().unwrap().is_ok());
    let error = format!("{:#}", capture.next().unwrap().unwrap_err());
    assert!(error.contains("a newer spantap wrote it (version 2 of the format)"), "{error}");
    assert!(capture.next().is_none());
    let before = fs::read(&path).unwrap();
    let refused = CaptureFile::open(&path, Rotation::default()).map(drop).unwrap_err();
    assert!(format!("{refused:#}").contains("a newer spantap"), "{refused:#}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn other_files_are_refused_and_stay_as_they_are() {
    let folder = Folder::new();
    for content in [&b"notes"[..], b"{\"resourceSpans\":[]}\n", b"\x7fELF\x02\x01"] {
        let path = folder.write(content);
        let refused = CaptureFile::open(&path, Rotation::default()).map(drop).unwrap_err();
        assert!(format!("{refused:#}").contains("it is not a capture: choose another path"), "{refused:#}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let path = folder.write(b"");
    let (_file, _) = CaptureFile::open(&path, Rotation::default()).unwrap();
    let refused = CaptureFile::open(&path, Rotation::default()).map(drop).unwrap_err();
    assert!(format!("{refused:#}").contains("another program records to it"), "{refused:#}");
    assert!(CaptureFile::open("/dev/null".as_ref(), Rotation::default()).is_err());
}

#[test]
fn files_that_have_no_spans_are_refused_with_a_way_out() {
    let folder = Folder::new();
    let cases = [
        (&b"\x1f\x8b\x08"[..], "with gzip -d"),
        (b"\x28\xb5\x2f\xfd\x04", "with zstd -d"),
        (b"some text", "it is neither a capture nor a file of an OpenTelemetry collector"),
        (b"\x7fELF\x02\x01\x01\x00", "it is neither a capture"),
    ];
    for (content, expected) in cases {
        let error = format!("{:#}", Capture::open(&folder.write(content)).map(drop).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    let error = format!("{:#}", Capture::open(folder.0.path()).map(drop).unwrap_err());
    assert!(error.contains("it is a folder; give the files in it"), "{error}");
    assert!(Capture::open("/dev/null".as_ref()).is_err());
}

#[test]
fn a_new_file_begins_when_one_is_full() {
    let folder = Folder::new();
    let max_bytes = 2 * frame(1).len() as u64 + 10;
    record(&folder.path(), Rotation { max_bytes, max_age: None, keep: 2 }, 1..8);
    let read = |suffix: &str| read(Path::new(&format!("{}{suffix}", folder.path().display())));
    assert_eq!(read("").0, [14, 15]);
    assert_eq!(read(".1").0, [10, 11, 12, 13]);
    assert_eq!(read(".2").0, [6, 7, 8, 9]);
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 3);
}

#[test]
fn a_new_file_begins_when_one_is_old() {
    let folder = Folder::new();
    let aged = Rotation { max_age: Some(Duration::from_secs(3600)), ..Rotation::default() };
    record(&folder.path(), aged, 1..3);
    assert_eq!(read(&folder.path()).0, [2, 3, 4, 5]);
    // The age is that of the file, not of the program.
    record(&folder.path(), Rotation { max_age: Some(Duration::ZERO), ..aged }, 3..4);
    assert_eq!(read(&folder.path()).0, [6, 7]);
}

#[test]
fn a_file_that_someone_renames_is_made_again() {
    let folder = Folder::new();
    let (mut file, _) = CaptureFile::open(&folder.path(), Rotation::default()).unwrap();
    file.append(&frame(1)).unwrap();
    let moved = folder.0.path().join("moved");
    fs::rename(folder.path(), &moved).unwrap();
    file.append(&frame(2)).unwrap();
    assert_eq!((read(&moved).0, read(&folder.path()).0), (vec![2, 3], vec![4, 5]));
}

#[test]
fn reports_of_losses_are_summed_and_are_no_spans() {
    let report = Span {
        name: LOSSES.into(),
        attributes: vec![attribute(format!("{LOSSES}.buffer_full"), Value::IntValue(3))],
        ..span(1, 1, START..START + 1)
    };
    let folder = Folder::new();
    let path = folder.write(&encode(request(&[report, span(1, 2, START..START + 1)])).unwrap());
    let mut capture = Capture::open(&path).unwrap();
    assert_eq!((ids(&mut capture), capture.lost_by_senders()), (vec![2], 3));
}

#[test]
fn attributes_that_spantap_added_are_kept() {
    let key = crate::span::zipkin::ZIPKIN_ID;
    let shared = Span {
        attributes: vec![attribute(key, Value::StringValue("0000000000000001".into()))],
        ..span(1, 2, START..START + 1)
    };
    let folder = Folder::new();
    let path = folder.write(&encode(request(&[shared])).unwrap());
    let spans = Capture::open(&path).unwrap().next().unwrap().unwrap();
    let decoded = ScopeSpans::decode(spans.iter().next().unwrap().1).unwrap();
    assert_eq!(decoded.spans[0].attributes[0].key, key);
}

#[test]
fn several_threads_read_the_same_in_the_same_order() {
    let mut bytes: Vec<u8> = (1..100).flat_map(frame).collect();
    let folder = Folder::new();
    let path = folder.write(&bytes);
    let trace = Filter { traces: Some([50].into_iter().collect()), ..Filter::default() };
    for filter in [Filter::default(), trace.clone()] {
        assert_eq!(read_in_parallel(&path, filter.clone()), read_with(&path, filter));
    }
    assert_eq!(read_in_parallel(&path, trace).0, [100, 101]);
    bytes[5_000] ^= 1;
    bytes.truncate(bytes.len() - 1);
    let path = folder.write(&bytes);
    let (found, damage) = read_in_parallel(&path, Filter::default());
    assert_eq!((damage.places, found.len()), (1, 2 * 97), "{damage}");
    assert_eq!((found, damage), read(&path));
}

#[test]
fn a_panic_on_another_thread_is_an_error() {
    let folder = Folder::new();
    let path = folder.write(&[frame(1), frame(2)].concat());
    let mut results = Capture::open(&path).unwrap().in_parallel(|_| panic!("a test")).unwrap();
    let error = results.next().unwrap().map(|(): ()| ()).unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
}

#[test]
fn nested_values_count_for_the_memory_that_they_take() {
    let list = |values| Value::ArrayValue(ArrayValue { values });
    let value = |value| AnyValue { value: Some(value) };
    let many = list((0..100).map(|_| AnyValue::default()).collect());
    let map = Value::KvlistValue(KeyValueList { values: vec![attribute("a", many.clone())] });
    let attributes = [many, map, list(vec![value(Value::IntValue(1))]), Value::StringValue("text".into())];
    let long_key = attribute("k".repeat(200), attributes[0].clone());
    let attributes = attributes.into_iter().map(|value| attribute("key", value)).chain([long_key]).collect();
    let nested = Span { attributes, ..span(1, 2, START..START + 1) };
    let folder = Folder::new();
    let path = folder.write(&encode(request(&[nested.clone(), span(1, 3, START..START + 1)])).unwrap());
    let spans = Capture::open(&path).unwrap().next().unwrap().unwrap();
    let summaries: Vec<_> = spans.iter().map(|(summary, _)| summary.clone()).collect();
    assert!(summaries[0].fits(&Summary::of(&nested).unwrap()), "{:?}", summaries[0]);
    assert_eq!(summaries[1].decoded, Summary::of(&span(1, 3, START..START + 1)).unwrap().decoded);
}

#[test]
fn headers_that_lie_are_damage() {
    let spans = [span(1, 1, START..START + 1)];
    let Found::Header(honest) = Header::read(&encode(request(&spans)).unwrap()) else { unreachable!() };
    let whole = encode(request(&spans)).unwrap();
    let body = &whole[honest.length()..];
    let with = |header: Header| {
        let mut bytes = Vec::new();
        header.put(&mut bytes);
        [&bytes, body, &frame(2)].concat()
    };
    let folder = Folder::new();
    for raw in [0, honest.raw - 1, honest.raw + 1, 16 << 20] {
        let (found, damage) = read(&folder.write(&with(Header { raw, ..honest.clone() })));
        assert_eq!((found, damage.places, damage.tail_bytes), (vec![4, 5], 1, 0), "{raw}");
    }
    for body in [0, honest.body - 1, honest.body + 1, 16 << 20] {
        let (found, damage) = read(&folder.write(&with(Header { body, ..honest.clone() })));
        assert_eq!((found, damage.places, damage.tail_bytes), (vec![4, 5], 1, 0), "{body}");
    }
    // The number of spans is only information.
    assert_eq!(read(&folder.write(&with(Header { spans: 9, ..honest.clone() }))).0, [1, 4, 5]);
}
