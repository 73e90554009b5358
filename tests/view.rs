//! `spantap view`: what it shows of files of spans, to people and to scripts.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs::{File, read, write};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use e2e::{Build, Fixture, Following, Linkage, Spantap, program, wait_until};
use serde_json::{Value, json};
use spantap::capture::Capture;

/// Runs `spantap view` with these arguments.
fn view(args: &[&str]) -> Output {
    Command::new(program("spantap"))
        .arg("view")
        .args(args)
        .env("COLUMNS", "100")
        .env("TZ", "UTC")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The traces that `--json` prints.
fn traces(args: &[&str]) -> Vec<Value> {
    let output = view(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(traces: &[Value]) -> Vec<&str> {
    traces.iter().map(|trace| trace["trace_id"].as_str().unwrap()).collect()
}

/// A file of OTLP in JSON with three traces of the service shop: a `GET /` of 3 ms with an `sql` of 1 ms in it, a failed `GET /cart` of
/// 20 ms, and a `POST /order` of 5 ms.
fn shop(folder: &Path) -> PathBuf {
    let span = |trace: u8, id: u8, parent: u8, name: &str, from: u64, to: u64, more: Value| {
        let mut span = json!({
            "traceId": format!("{trace:032x}"),
            "spanId": format!("{id:016x}"),
            "name": name,
            "startTimeUnixNano": (1_800_000_000_000_000_000 + from).to_string(),
            "endTimeUnixNano": (1_800_000_000_000_000_000 + to).to_string(),
        });
        if parent > 0 {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        span.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        span
    };
    let attribute = |key: &str, value: Value| json!({ "key": key, "value": value });
    let failed = json!({ "kind": 2, "status": { "code": 2, "message": "no cart" } });
    let rows = json!({
        "attributes": [attribute("rows", json!({ "intValue": "3" })), attribute("busy_ns", json!({ "intValue": "400000" }))],
        "events": [{ "name": "hit", "timeUnixNano": "1800000000001500000" }],
    });
    let spans = [
        span(1, 2, 1, "sql", 1_000_000, 2_000_000, rows),
        span(1, 1, 0, "GET /", 0, 3_000_000, json!({ "kind": 2 })),
        span(2, 3, 0, "GET /cart", 10_000_000, 30_000_000, failed),
        span(3, 4, 0, "POST /order", 40_000_000, 45_000_000, json!({ "kind": 2 })),
    ];
    let resource = json!({ "attributes": [attribute("service.name", json!({ "stringValue": "shop" }))] });
    // Each in a line of its own.
    let lines = spans.map(|span| {
        json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": [span] }] }] })
            .to_string()
    });
    let path = folder.join("shop.jsonl");
    write(&path, lines.join("\n") + "\n").unwrap();
    path
}

#[test]
fn traces_are_drawn_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let output = view(&[shop(folder.path()).to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let expected = "\
trace 00000000000000000000000000000001  2027-01-15 08:00:00.000  3.00 ms  2 spans  shop[?]
 3.00 ms ━━━━━━━━━━━━━━━━━━━━       GET /
 1.00 ms       ╺━━━━━━╸             └ sql  rows=3
 +500 µs           •                    hit

trace 00000000000000000000000000000002  2027-01-15 08:00:00.010  20.0 ms  1 span  1 error  shop[?]
 20.0 ms ━━━━━━━━━━━━━━━━━━━━       GET /cart
                                      ✗ no cart

trace 00000000000000000000000000000003  2027-01-15 08:00:00.040  5.00 ms  1 span  shop[?]
 5.00 ms ━━━━━━━━━━━━━━━━━━━━       POST /order

";
    assert_eq!(stdout(&output), expected);
    assert_eq!(stderr(&output), "");
}

#[test]
fn the_bars_show_the_critical_path_with_one_legend() {
    let folder = tempfile::tempdir().unwrap();
    let shop = shop(folder.path());
    let output = view(&[shop.to_str().unwrap(), "--critical-path"]);
    let drawn = stdout(&output);
    assert_eq!(drawn.matches("critical path").count(), 1, "{drawn}");
    assert!(drawn.contains(" 3.00 ms ━━━━━━╾──────╼━━━━━━  67%  GET /\n"), "{drawn}");
    assert!(drawn.contains(" 1.00 ms       ╺━━━━━━╸        33%  └ sql"), "{drawn}");
}

#[test]
fn a_trace_in_json_has_what_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let shop = shop(folder.path());
    let [trace] = &*traces(&[shop.to_str().unwrap(), "--trace", "00000000000000000000000000000001"]) else {
        panic!("one trace was asked for")
    };
    let expected = json!({
        "version": 1,
        "trace_id": "00000000000000000000000000000001",
        "start_time": "2027-01-15T08:00:00Z",
        "start_unix_nano": "1800000000000000000",
        "duration_ns": 3_000_000,
        "errors": 0,
        "missing_parents": 0,
        "left_out_spans": 0,
        "duplicate_spans": 0,
        "critical_path": [
            { "span": 0, "offset_ns": 0, "duration_ns": 1_000_000 },
            { "span": 1, "offset_ns": 1_000_000, "duration_ns": 1_000_000 },
            { "span": 0, "offset_ns": 2_000_000, "duration_ns": 1_000_000 },
        ],
        "processes": [{ "service": "shop", "resource": { "service.name": "shop" } }],
        "spans": [
            {
                "span_id": "0000000000000001", "parent_span_id": null, "parent": null, "depth": 0, "name": "GET /", "kind": "server",
                "process": 0, "offset_ns": 0, "duration_ns": 3_000_000, "self_ns": 2_000_000, "critical_path_ns": 2_000_000, "busy_ns": null,
                "error": false, "status_message": null, "attributes": {}, "events": [], "links": [],
            },
            {
                "span_id": "0000000000000002", "parent_span_id": "0000000000000001", "parent": 0, "depth": 1, "name": "sql",
                "kind": null, "process": 0, "offset_ns": 1_000_000, "duration_ns": 1_000_000, "self_ns": 1_000_000,
                "critical_path_ns": 1_000_000, "busy_ns": 400_000, "error": false, "status_message": null,
                "attributes": { "rows": 3, "busy_ns": 400_000 },
                "events": [{ "name": "hit", "offset_ns": 1_500_000, "attributes": {} }], "links": [],
            },
        ],
    });
    assert_eq!(*trace, expected);
    // Each field is in the document.
    let document = e2e::Document::json();
    let mut fields = BTreeSet::new();
    let mut next = vec![trace];
    while let Some(value) = next.pop() {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    fields.insert(key.clone());
                    if !["attributes", "resource"].contains(&&**key) {
                        next.push(value);
                    }
                }
            }
            Value::Array(list) => next.extend(list),
            _ => {}
        }
    }
    let headings = [
        "## The trace",
        "## A part of the critical path",
        "## A process",
        "## A span",
        "## An event, a link",
    ];
    let rows = headings.into_iter().flat_map(|heading| document.table(heading));
    let documented: BTreeSet<String> =
        rows.flat_map(|row| e2e::quoted(&row[0]).map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(fields, documented);
}

#[test]
fn the_user_chooses_traces() {
    let folder = tempfile::tempdir().unwrap();
    let shop = shop(folder.path());
    let shop = shop.to_str().unwrap();
    let [one, two, three] = [1, 2, 3].map(|id| format!("{id:032x}"));
    let cases: [(&[&str], &[&str]); 13] = [
        (&[], &[&one, &two, &three]),
        (&["--sort", "duration"], &[&two, &three, &one]),
        (&["--limit", "2"], &[&two, &three]),
        (&["--limit", "1", "--sort", "duration"], &[&two]),
        (&["--trace", &three, "--trace", "0000000000000001"], &[&one, &three]),
        (&["--where", "error"], &[&two]),
        (&["--since", "2027-01-15T08:00:00.03Z"], &[&two, &three]),
        (&["--since", "2027-01-15 08:00:00.0301"], &[&three]),
        (&["--until", "2027-01-15T09:00:00.009+01:00"], &[&one]),
        (&["--since", "2027-01-15 08:00", "--until", "2027-01-16"], &[&one, &two, &three]),
        // The whole trace is shown.
        (&["--where", "rows == 3"], &[&one]),
        (&["--where", "duration > 2ms and kind == server and service == 'shop'"], &[&one, &two, &three]),
        // By the spans that match, not by the others.
        (&["--where", "name == 'sql' or name glob 'POST *'", "--sort", "duration"], &[&three, &one]),
    ];
    for (args, expected) in cases {
        assert_eq!(ids(&traces(&[&[shop], args].concat())), expected, "{args:?}");
    }
}

#[test]
fn the_exit_code_tells_whether_a_trace_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let shop = shop(folder.path());
    let shop = shop.to_str().unwrap();
    let nothing = folder.path().join("missing");
    let cases: [(&[&str], i32, &str); 8] = [
        (&[shop, "--limit", "1"], 0, "spantap: showed 1 of 3 traces; --limit 0 shows all\n"),
        (&[shop, "--where", "duration > 1min"], 1, "spantap: no trace matches, among 4 spans\n"),
        (&[shop, "--since", "1s", "--until", "1s"], 1, "spantap: no trace matches, among 0 spans\n"),
        (
            &[shop, "--trace", "00000000000000000000000000000077"],
            1,
            "spantap: no span of trace 00000000000000000000000000000077 was found\n",
        ),
        (&[shop, "--trace", "5cc26a1b"], 2, "a trace id has 32 hexadecimal digits, or 16"),
        (&[shop, "--since", "noon"], 2, "write a time such as '2026-11-30 10:00'"),
        // The other file is shown all the same.
        (&[nothing.to_str().unwrap(), shop], 2, "spantap: can't read "),
        (&[shop, "--where", "duration > 100"], 2, "column 12: `duration` needs a unit: write 100ms or 100s"),
    ];
    for (args, code, expected) in cases {
        let output = view(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
}

/// The file is read twice, and a pipe can be read once.
#[test]
fn a_pipe_is_read_like_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let shop = shop(folder.path());
    let mut command = Command::new(program("spantap"));
    command.args(["view", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut piped = command.spawn().unwrap();
    std::io::copy(&mut File::open(&shop).unwrap(), &mut piped.stdin.take().unwrap()).unwrap();
    let piped = piped.wait_with_output().unwrap();
    assert!(piped.status.success(), "{piped:?}");
    assert_eq!(stdout(&piped), stdout(&view(&[shop.to_str().unwrap(), "--json"])));
    assert!(!piped.stdout.is_empty());
}

#[test]
fn the_end_of_the_output_ends_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let shop = shop(folder.path());
    let files = vec![shop.to_str().unwrap(); 1000];
    let mut command = Command::new(program("spantap"));
    let mut view = command
        .arg("view")
        .args(files)
        .args(["--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(view.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = view.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Real spans, with the errors, events and links of the fixture.
#[test]
fn every_span_of_a_capture_is_in_one_trace() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let spantap = Spantap::record(&capture, &[]);
    let mut fixture = Fixture::start(
        &Build::Release.path(Linkage::Executable, 0),
        Linkage::Executable,
        Some(spantap.socket()),
    );
    for _ in 0..2 {
        fixture.run("threads 2 300");
        fixture.run("flush");
        let before = std::fs::metadata(&capture).map_or(0, |file| file.len());
        wait_until("a frame is written", || {
            std::fs::metadata(&capture).is_ok_and(|file| file.len() > before)
        });
    }
    fixture.end();
    assert!(spantap.terminate().status.success());

    let mut recorded = BTreeSet::new();
    for spans in Capture::open(&capture).unwrap() {
        let spans = spans.unwrap();
        recorded.extend(spans.iter().map(|(_, field)| span_id(field)));
    }
    let traces = traces(&[capture.to_str().unwrap()]);
    let shown: Vec<&str> = traces
        .iter()
        .flat_map(|trace| trace["spans"].as_array().unwrap())
        .map(|span| span["span_id"].as_str().unwrap())
        .collect();
    assert!(shown.len() > 100, "{}", shown.len());
    assert_eq!(shown.len(), recorded.len());
    assert_eq!(shown.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), recorded);

    // A flipped bit in the first frame: the others are shown, and the damage is reported.
    let mut bytes = read(&capture).unwrap();
    bytes[500] ^= 1;
    let damaged = folder.path().join("damaged.spans");
    write(&damaged, &bytes).unwrap();
    let output = view(&[damaged.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("damaged and left out"), "{}", stderr(&output));
    assert!(!output.stdout.is_empty());

    // A recording that goes on: what is whole is shown.
    let torn = folder.path().join("torn.spans");
    write(&torn, read(&capture).unwrap()).unwrap();
    File::options().write(true).open(&torn).unwrap().set_len(bytes.len() as u64 - 3).unwrap();
    let output = view(&[torn.to_str().unwrap(), capture.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{output:?}");
    assert!(stderr(&output).contains("an incomplete record of "), "{}", stderr(&output));
}

fn span_id(field: &[u8]) -> String {
    use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
    use prost::Message;
    let span = ScopeSpans::decode(field).unwrap().spans.remove(0);
    span.span_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ids and the number of spans of the traces in lines of JSON.
fn shown(output: &str) -> BTreeSet<String> {
    let trace =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["trace_id"].as_str().unwrap().to_owned();
    output.lines().map(trace).collect()
}

#[test]
fn a_replay_shows_the_same_traces_in_the_time_that_they_took() {
    let folder = tempfile::tempdir().unwrap();
    let shop = shop(folder.path());
    let shop = shop.to_str().unwrap();
    for args in
        [&[][..], &["--where", "error"], &["--since", "2027-01-15 08:00:00.0301"], &["--where", "rows == 3"]]
    {
        let args = [&[shop, "--json"], args].concat();
        let replay = view(&[&args[..], &["--speed", "10x"]].concat());
        assert!(replay.status.success() && stderr(&replay).is_empty(), "{replay:?}");
        assert_eq!(shown(&stdout(&replay)), shown(&stdout(&view(&args))), "{args:?}");
    }
    let replay = view(&[shop, "--speed", "1", "--where", "duration > 1min"]);
    assert_eq!(replay.status.code(), Some(1), "{replay:?}");
    assert!(stderr(&replay).contains("no trace matches"), "{replay:?}");
    let replay = view(&[shop, "missing", "--speed", "1"]);
    assert_eq!(replay.status.code(), Some(2), "{replay:?}");

    // Two roots, a second apart: at half the speed, two seconds. How exact it is, `capture::Pace` tests.
    let span = |id: u8, at: &str| {
        json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [{
            "traceId": format!("{id:032x}"), "spanId": format!("{id:016x}"), "name": "root",
            "startTimeUnixNano": at, "endTimeUnixNano": at,
        }] }] }] })
        .to_string()
    };
    let path = folder.path().join("pause.jsonl");
    write(&path, [span(1, "1800000000000000000"), span(2, "1800000001000000000")].join("\n")).unwrap();
    let begin = std::time::Instant::now();
    assert!(view(&[path.to_str().unwrap(), "--speed", "0.5"]).status.success());
    assert!(begin.elapsed() >= std::time::Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn traces_are_shown_while_they_are_recorded_also_into_new_files() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let spantap = Spantap::record(&capture, &["--max-size", "1KiB", "--keep-files", "3"]);
    wait_until("the capture is there", || capture.exists());
    let following = Following::start("view", &["--json", capture.to_str().unwrap()]);
    let mut fixture = Fixture::start(
        &Build::Release.path(Linkage::Executable, 0),
        Linkage::Executable,
        Some(spantap.socket()),
    );
    let first_file = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&capture).unwrap());
    let before = first_file();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        fixture.run("tree");
        // Its two traces are shown before the next ones are made.
        for trace in [following.next(), following.next()] {
            assert!(seen.insert(trace["trace_id"].as_str().unwrap().to_owned()), "{trace}");
            assert_eq!(trace["missing_parents"], 0, "{trace}");
        }
    }
    assert_ne!(first_file(), before, "a new file was begun");
    fixture.end();
    assert!(spantap.terminate().status.success());
    assert_eq!(following.interrupt(), (Some(0), String::new()));
}

#[test]
fn following_without_a_trace_is_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    write(&capture, "").unwrap();
    let following = Following::start("view", &["--json", capture.to_str().unwrap(), "--where", "error"]);
    let (code, said) = following.interrupt();
    assert_eq!((code, &*said), (Some(1), "spantap: no trace matches, among 0 spans\n"));
    // A pipe has no end to wait at.
    let output = view(&["-", "-f"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
