//! Files of an OpenTelemetry collector's file exporter, and of spantap's sink `jsonl`.

use super::*;
use crate::capture::compress::compress;

/// A line as a collector writes it: with empty ids, empty lists and an empty status.
const LINE: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"roll"}},{"key":"process.pid","value":{"intValue":"4711"}},{"key":"host.name","value":{"stringValue":"elsewhere"}}]},"scopeSpans":[{"scope":{"name":"opentelemetry.instrumentation.flask","version":"0.40b0"},"spans":[{"traceId":"9cb5bf738137b2248dc7b20445ec2e1c","spanId":"0000000000000002","parentSpanId":"","name":"span 2","kind":2,"startTimeUnixNano":"1694388218052842000","endTimeUnixNano":"1694388218053415000","attributes":[{"key":"http.method","value":{"stringValue":"GET"}},{"key":"net.host.port","value":{"intValue":"5001"}}],"status":{}},{"traceId":"9cb5bf738137b2248dc7b20445ec2e1c","spanId":"0000000000000003","parentSpanId":"0000000000000002","name":"span 3","kind":3,"startTimeUnixNano":"1694388218052942000","endTimeUnixNano":"1694388218053315000","status":{"code":2}}]}],"schemaUrl":"https://opentelemetry.io/schemas/1.21.0"}]}"#;

pub(super) fn line(number: u64) -> String {
    LINE.replace("\"spanId\":\"0000000000000002\"", &format!("\"spanId\":\"{:016x}\"", 2 * number))
        .replace("\"spanId\":\"0000000000000003\"", &format!("\"spanId\":\"{:016x}\"", 2 * number + 1))
        .replace("span 2", &format!("span {}", 2 * number))
        .replace("span 3", &format!("span {}", 2 * number + 1))
}

pub(super) fn message(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

pub(super) fn protobuf(number: u64) -> Bytes {
    request(&[2 * number, 2 * number + 1].map(|id| span(7, id, START..START + 5)))
}

#[test]
fn json_lines_are_read() {
    let folder = Folder::new();
    let path = folder.write(format!("{}\n{}\n", line(1), line(2)).as_bytes());
    assert_eq!(read(&path), (vec![2, 3, 4, 5], Damage::default()));
    let spans = Capture::open(&path).unwrap().next().unwrap().unwrap();
    assert_eq!((&*spans.process.service, spans.process.sender), ("roll", Sender::UNKNOWN));
    assert_eq!(spans.process.resource.attributes.len(), 3, "nothing of this machine is added");
    let trace_id = 0x9cb5_bf73_8137_b224_8dc7_b204_45ec_2e1c;
    assert_eq!(
        read_with(&path, Filter { traces: Some([trace_id].into_iter().collect()), ..Filter::default() }).0,
        [2, 3, 4, 5]
    );
    assert_eq!(
        read_with(&path, Filter { traces: Some([1].into_iter().collect()), ..Filter::default() }).0,
        [0; 0]
    );
}

#[test]
fn json_lines_that_are_cut_anywhere_are_read_up_to_the_cut() {
    let (first, second) = (line(1), line(2));
    let whole = format!("{first}\n{second}\n");
    let folder = Folder::new();
    for length in
        (1..whole.len()).step_by(7).chain([first.len(), first.len() + 1, whole.len() - 1, whole.len()])
    {
        let (found, damage) = read(&folder.write(&whole.as_bytes()[..length]));
        // A whole object counts without its line break.
        let (expected, end): (&[u64], _) = match length {
            _ if length < first.len() => (&[], 0),
            _ if length < whole.len() - 1 => (&[2, 3], (first.len() + 1).min(length)),
            _ => (&[2, 3, 4, 5], length),
        };
        let tail_bytes = (length - end) as u64;
        assert_eq!(
            (found, damage),
            (expected.to_vec(), Damage { tail_bytes, ..Damage::default() }),
            "{length}"
        );
    }
}

#[test]
fn other_lines_are_left_out() {
    let folder = Folder::new();
    let lines = [
        &line(1),
        "",
        "{\"resourceMetrics\":[{}]}",
        "{\"resourceLogs\":[]}",
        "oops",
        &line(2),
        "{\"a\":1}",
        "\u{1}",
    ];
    let (found, damage) = read(&folder.write((lines.join("\n") + "\n").as_bytes()));
    assert_eq!(found, [2, 3, 4, 5]);
    assert_eq!((damage.places, damage.bytes, damage.tail_bytes), (3, 5 + 8 + 2, 0));
    // One span of a line is not valid.
    let odd = line(1).replace("\"spanId\":\"0000000000000003\"", "\"spanId\":\"x\"");
    let (found, damage) = read(&folder.write(odd.as_bytes()));
    assert_eq!((found, damage.refused, damage.places), (vec![2], 1, 0));
}

#[test]
fn json_lines_can_be_read_while_they_grow() {
    let folder = Folder::new();
    let path = folder.write(format!("{}\n{}", line(1), &line(2)[..100]).as_bytes());
    let mut capture = Capture::open(&path).unwrap();
    assert_eq!((ids(&mut capture), capture.damage().tail_bytes), (vec![2, 3], 100));
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    write!(file, "{}\n{}\n", &line(2)[100..], line(3)).unwrap();
    assert_eq!((ids(&mut capture), capture.damage().is_none()), (vec![4, 5, 6, 7], true));
}

#[test]
fn messages_behind_their_lengths_are_read() {
    type Encode = fn(u64) -> Vec<u8>;
    let cases: [(&str, Encode); 4] = [
        ("format: proto", |number| protobuf(number).to_vec()),
        ("format: proto, compression: zstd", |number| compress(&protobuf(number)).unwrap()),
        ("compression: zstd", |number| compress(line(number).as_bytes()).unwrap()),
        ("a custom encoding", |number| line(number).into_bytes()),
    ];
    let folder = Folder::new();
    for (what, encode) in cases {
        let (first, second) = (message(&encode(1)), message(&encode(2)));
        let whole = [&first[..], &second].concat();
        assert_eq!(read(&folder.write(&whole)), (vec![2, 3, 4, 5], Damage::default()), "{what}");
        for length in first.len()..whole.len() {
            let tail_bytes = (length - first.len()) as u64;
            let damage = Damage { tail_bytes, ..Damage::default() };
            assert_eq!(read(&folder.write(&whole[..length])), (vec![2, 3], damage), "{what}: {length}");
        }
    }
}

#[test]
fn damaged_messages_are_left_out() {
    let folder = Folder::new();
    let long = [&(100_u32 << 20).to_be_bytes()[..], b"\x0a"].concat();
    let not_zstd = message(b"\x28\xb5\x2f\xfdnothing of it");
    let empty = message(b"");
    let whole = [message(&protobuf(1)), not_zstd.clone(), empty, message(&protobuf(2)), long].concat();
    let (found, damage) = read(&folder.write(&whole));
    assert_eq!(found, [2, 3, 4, 5]);
    assert_eq!((damage.places, damage.bytes, damage.tail_bytes), (2, not_zstd.len() as u64 + 5, 0));
}
