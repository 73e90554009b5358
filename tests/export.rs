//! `spantap export`: files that other programs open, read by such programs where they are there.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{read, read_to_string, write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{Browser, Build, CHROMIUM, Fixture, Linkage, Spantap, need, program, query, wait_until};
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use roxmltree::Document;
use serde_json::{Value, json};
use spantap::capture::encode;

/// Runs spantap with these arguments.
fn spantap(args: &[&str]) -> Output {
    Command::new(program("spantap")).args(args).env("TZ", "UTC").output().unwrap()
}

/// Runs `spantap export` with these arguments, which have to succeed, and returns what it prints.
fn exported(args: &[&str]) -> String {
    let output = spantap(&[&["export"], args].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A span, for [`line`].
struct Made {
    service: &'static str,
    trace: u64,
    id: u64,
    parent: u64,
    name: String,
    /// In milliseconds.
    time: std::ops::Range<u64>,
    attributes: Value,
    failed: bool,
}

const START_NS: u64 = 1_800_000_000_000_000_000;

fn made(service: &'static str, ids: (u64, u64, u64), name: &str, time: std::ops::Range<u64>) -> Made {
    let (trace, id, parent) = ids;
    Made { service, trace, id, parent, name: name.to_owned(), time, attributes: json!({}), failed: false }
}

impl Made {
    fn with(self, attributes: Value) -> Self {
        Self { attributes, ..self }
    }

    fn failed(self) -> Self {
        Self { failed: true, ..self }
    }
}

fn attributes(of: &Value) -> Vec<Value> {
    let value = |value: &Value| match value {
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        other => json!({ "stringValue": other }),
    };
    of.as_object().unwrap().iter().map(|(key, of)| json!({ "key": key, "value": value(of) })).collect()
}

/// A span in OTLP as JSON, in a line of its own.
fn line(made: &Made) -> String {
    let Made { service, trace, id, parent, name, time, .. } = made;
    let mut span = json!({
        "traceId": format!("{trace:032x}"),
        "spanId": format!("{id:016x}"),
        "name": name,
        "startTimeUnixNano": (START_NS + time.start * 1_000_000).to_string(),
        "endTimeUnixNano": (START_NS + time.end * 1_000_000).to_string(),
        "attributes": attributes(&made.attributes),
    });
    if *parent > 0 {
        span["parentSpanId"] = format!("{parent:016x}").into();
    }
    if made.failed {
        span["status"] = json!({ "code": 2, "message": "it is broken" });
    }
    let resource =
        json!({ "attributes": attributes(&json!({ "service.name": service, "process.pid": 4242 })) });
    let scope = json!({ "name": "made.up", "version": "1.2" });
    let scopes = json!([{ "scope": scope, "spans": [span], "schemaUrl": "https://example.org/schema" }]);
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": scopes }] }).to_string() + "\n"
}

fn file(folder: &Path, name: &str, spans: &[Made]) -> PathBuf {
    let path = folder.join(name);
    write(&path, spans.iter().map(line).collect::<String>()).unwrap();
    path
}

/// Two requests to shop. Both ask bank; one fails there. Children come first.
fn shop(folder: &Path) -> PathBuf {
    let states = json!({ "kernel.on_cpu_ns": 1_000_000, "kernel.disk_ns": 2_000_000, "kernel.run_queue_ns": 1_000_000, "kernel.lock_ns": 750_000 });
    let spans = [
        made("bank", (1, 3, 2), "pay", 3..9),
        made("shop", (1, 2, 1), "call", 2..10),
        made("shop", (1, 4, 1), "save;all", 12..17).with(states),
        made("shop", (1, 1, 0), "order", 0..20),
        made("bank", (2, 3, 2), "pay", 102..106).failed(),
        made("shop", (2, 2, 1), "call", 101..107),
        made("shop", (2, 1, 0), "order", 100..110).failed(),
    ];
    file(folder, "shop.jsonl", &spans)
}

#[test]
fn folded_stacks_have_the_self_time_of_each_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let expected = "\
shop;order 11000000
shop;order;call 4000000
shop;order;call;bank;pay 10000000
shop;order;save:all 5000000
";
    assert_eq!(exported(&[path.to_str().unwrap(), "--to", "folded=-"]), expected);
    let expected = "\
shop;order 11000000
shop;order;call 4000000
shop;order;call;bank;pay 10000000
shop;order;save:all;[cpu] 1000000
shop;order;save:all;[run queue] 1000000
shop;order;save:all;[disk] 2000000
shop;order;save:all;[lock] 750000
shop;order;save:all;[idle] 250000
";
    assert_eq!(exported(&[path.to_str().unwrap(), "--to", "folded-causes=-"]), expected);
}

#[test]
fn the_traces_are_those_that_view_chooses() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let first = "shop;order 7000000\nshop;order;call 2000000\nshop;order;call;bank;pay 6000000\nshop;order;save:all 5000000\n";
    let second = "shop;order 4000000\nshop;order;call 2000000\nshop;order;call;bank;pay 4000000\n";
    let id = format!("{:032x}", 1);
    let cases: [(&[&str], &str); 4] = [
        (&["--where", "error"], second),
        (&["--where", "duration > 15ms"], first),
        (&["--trace", &id], first),
        (&["--since", "2027-01-15T08:00:00.1Z"], second),
    ];
    for (options, expected) in cases {
        let args = [&[path.to_str().unwrap(), "--to", "folded=-"], options].concat();
        assert_eq!(exported(&args), expected, "{options:?}");
        let args = [&[path.to_str().unwrap(), "--to", "otlp-json=-"], options].concat();
        assert_eq!(exported(&args).lines().count(), expected.lines().count(), "{options:?}");
    }
}

#[test]
fn otlp_json_is_read_back_as_the_same_traces() {
    let folder = tempfile::tempdir().unwrap();
    let lines = shop(folder.path());
    // The same spans in a capture.
    let capture = folder.path().join("shop.spans");
    let mut all = TracesData::default();
    for line in read_to_string(&lines).unwrap().lines() {
        all.resource_spans.extend(serde_json::from_str::<TracesData>(line).unwrap().resource_spans);
    }
    write(&capture, encode(all.encode_to_vec().into()).unwrap()).unwrap();
    for path in [lines, capture] {
        let again = folder.path().join("again.jsonl");
        let target = format!("otlp-json={}", again.display());
        assert_eq!(exported(&[path.to_str().unwrap(), "--to", &target]), "");
        let [before, after] =
            [&path, &again].map(|path| spantap(&["view", path.to_str().unwrap(), "--json"]));
        assert!(before.status.success() && !before.stdout.is_empty(), "{before:?}");
        assert_eq!(before.stdout, after.stdout);
        for line in read_to_string(&again).unwrap().lines() {
            let spans: Value = serde_json::from_str(line).unwrap();
            let scope = &spans["resourceSpans"][0]["scopeSpans"][0];
            let name_and_version = (&scope["scope"]["name"], &scope["scope"]["version"]);
            assert_eq!(name_and_version, (&"made.up".into(), &"1.2".into()), "{line}");
            assert_eq!(scope["schemaUrl"], "https://example.org/schema");
        }
    }
}

/// Real spans, in the frames of a capture.
#[test]
fn a_capture_is_exported_whole() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let spantap = Spantap::record(&capture, &[]);
    let fixture = Build::Release.path(Linkage::Executable, 0);
    let mut fixture = Fixture::start(&fixture, Linkage::Executable, Some(spantap.socket()));
    fixture.run("threads 2 300");
    fixture.run("flush");
    wait_until("a frame is written", || std::fs::metadata(&capture).is_ok_and(|file| file.len() > 1_000));
    fixture.end();
    assert!(spantap.terminate().status.success());

    let again = folder.path().join("again.jsonl");
    let [otlp, folded] =
        ["otlp-json", "folded"].map(|name| format!("{name}={}", folder.path().join(name).display()));
    let target = format!("otlp-json={}", again.display());
    exported(&[capture.to_str().unwrap(), "--to", &target, "--to", &otlp, "--to", &folded]);
    let [before, after] = [&capture, &again]
        .map(|path| self::spantap(&["view", path.to_str().unwrap(), "--json", "--sort", "duration"]));
    let lines = |output: &Output| -> BTreeSet<String> {
        String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
    };
    assert!(lines(&before).len() > 100, "{before:?}");
    assert_eq!(lines(&before), lines(&after));
    assert_eq!(read(&again).unwrap(), read(folder.path().join("otlp-json")).unwrap());
    // The self times are those of `view`.
    let own = |line: &String| -> u64 {
        let trace: Value = serde_json::from_str(line).unwrap();
        trace["spans"].as_array().unwrap().iter().map(|span| span["self_ns"].as_u64().unwrap()).sum()
    };
    let folded = read_to_string(folder.path().join("folded")).unwrap();
    let values = folded.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
    assert_eq!(values.sum::<u64>(), lines(&before).iter().map(own).sum::<u64>(), "{folded}");
}

/// Names that could be taken for something else.
fn hostile() -> Vec<String> {
    let names = [
        "</script><script>document.title='owned'</script>",
        "\"'><img src=x onerror=document.title='owned'>",
        "<!--<script>",
        "]]>&amp;&lt;",
        "\u{202e}gnp.exe\u{202c}",
        "\u{2028}\u{2029}\u{0}\u{1b}[31m\u{7f}\u{9b}",
        "a\nb;c 5\r\n",
        "\u{fffe}\u{ffff}",
        "${7*7}{{7*7}}`",
        "",
    ];
    names.into_iter().map(str::to_owned).chain(["x".repeat(10_000), "é😀\u{301}".repeat(50)]).collect()
}

fn hostile_file(folder: &Path) -> PathBuf {
    let spans = (0..).zip(hostile()).map(|(id, name)| {
        let attributes = json!({ name.clone(): name, "thread.id": 7, "thread.name": name });
        Made { name, ..made("shop", (id + 1, id + 1, 0), "", 10 * id..10 * id + 5) }.with(attributes)
    });
    file(folder, "hostile.jsonl", &spans.collect::<Vec<_>>())
}

fn is_shown(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[test]
fn hostile_names_stay_one_frame_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = hostile_file(folder.path());
    let folded = exported(&[path.to_str().unwrap(), "--to", "folded=-"]);
    assert_eq!(folded.lines().count(), hostile().len(), "{folded}");
    for line in folded.lines() {
        let (stack, value) = line.rsplit_once(' ').unwrap();
        assert_eq!((stack.split(';').count(), value), (2, "5000000"), "{line}");
        assert!(line.chars().all(is_shown), "{line:?}");
    }
    let svg = exported(&[path.to_str().unwrap(), "--to", "flamegraph=-"]);
    assert!(svg.chars().all(|c| c == '\n' || is_shown(c)), "{svg:?}");
    let document = Document::parse(&svg).unwrap();
    let elements: BTreeSet<&str> = document
        .descendants()
        .filter(roxmltree::Node::is_element)
        .map(|node| node.tag_name().name())
        .collect();
    assert_eq!(elements, BTreeSet::from(["g", "rect", "style", "svg", "text", "title"]));
}

/// The tooltips of a flame graph, with the places and widths of their boxes.
fn boxes(svg: &str) -> Vec<(String, f64, f64, f64)> {
    let document = Document::parse(svg).unwrap();
    let groups = document.descendants().filter(|node| node.tag_name().name() == "g");
    let of = |group: roxmltree::Node<'_, '_>| {
        let child = |name| group.children().find(|child| child.tag_name().name() == name).unwrap();
        let number = |name| child("rect").attribute(name).unwrap().parse::<f64>().unwrap();
        (child("title").text().unwrap().to_owned(), number("x"), number("y"), number("width"))
    };
    groups.map(of).collect()
}

#[test]
fn a_flame_graph_has_a_box_as_wide_as_the_time_of_each_stack() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let svg = exported(&[path.to_str().unwrap(), "--to", "flamegraph=-"]);
    let boxes = boxes(&svg);
    let find = |start: &str| boxes.iter().find(|(title, ..)| title.starts_with(start)).unwrap();
    assert_eq!(boxes.len(), 7, "{boxes:?}");
    let (title, left, top, width) = find("order");
    assert_eq!(title, "order: 30.0 ms, 100.0%; self 11.0 ms; 2 spans");
    for (name, share, below) in
        [("call", 14.0 / 30.0, 1.0), ("pay", 10.0 / 30.0, 3.0), ("save;all", 5.0 / 30.0, 1.0)]
    {
        let (title, x, y, of) = find(name);
        assert!((of / width - share).abs() < 0.001, "{title}: {of} of {width}");
        assert!(*x >= left - 0.01 && x + of <= left + width + 0.01, "{title}");
        assert!((y - top - 19.0 * below).abs() < 0.1, "{title}");
    }
    let svg = exported(&[path.to_str().unwrap(), "--to", "flamegraph-causes=-"]);
    for text in [
        "[disk]: 2.00 ms, 6.7%",
        "[cpu]: 1.00 ms, 3.3%",
        "[run queue]: 1.00 ms, 3.3%",
        "[lock]: 750 µs, 2.5%",
        "[idle]: 250 µs, 0.8%",
    ] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
}

#[test]
fn a_flame_graph_is_a_picture() {
    if !need(&["rsvg-convert"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for path in [shop(folder.path()), hostile_file(folder.path())] {
        let svg = folder.path().join("flame.svg");
        exported(&[path.to_str().unwrap(), "--to", &format!("flamegraph={}", svg.display())]);
        let png = Command::new("rsvg-convert").arg(&svg).output().unwrap();
        assert!(png.status.success(), "{png:?}");
        assert!(png.stdout.starts_with(b"\x89PNG"), "{} bytes", png.stdout.len());
    }
}

#[test]
fn a_long_recursion_and_many_names_stay_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let deep = (1..=5_000).map(|id| made("shop", (1, id, id - 1), "again", 0..20_000 - id));
    let path = file(folder.path(), "deep.jsonl", &deep.collect::<Vec<_>>());
    let output = spantap(&["export", path.to_str().unwrap(), "--to", "folded=-"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 199, "{}", text.len());
    let sum: u64 = text.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    assert_eq!(sum, 19_999_000_000);
    let expected = "counted the time of 4,801 spans for their ancestors";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    assert!(read_to_string(report(folder.path(), &path)).unwrap().contains(expected));
}

#[test]
fn parents_in_a_circle_do_not_hang_it() {
    let folder = tempfile::tempdir().unwrap();
    let spans =
        [made("a", (1, 1, 2), "x", 0..5), made("a", (1, 2, 1), "y", 1..3), made("a", (1, 3, 3), "z", 0..5)];
    let path = file(folder.path(), "circle.jsonl", &spans);
    let folded = exported(&[path.to_str().unwrap(), "--to", "folded=-"]);
    // The circle of x and y is cut above y. Each is a child of the other: x is open all the time that y is.
    assert_eq!(folded, "a;y;x 3000000\na;z 5000000\n");
}

#[test]
fn a_name_of_blanks_has_a_frame() {
    let folder = tempfile::tempdir().unwrap();
    let spans = [
        made(" ", (1, 1, 0), "order", 0..20),
        made("a", (2, 1, 0), " \n ", 0..5),
        made("a", (3, 1, 0), "\u{3000}", 0..5),
    ];
    let path = file(folder.path(), "blank.jsonl", &spans);
    let folded = exported(&[path.to_str().unwrap(), "--to", "folded=-"]);
    assert_eq!(folded, "(no service);order 20000000\na;(no name) 10000000\n");
    let to = folder.path().join("trace.pftrace");
    exported(&[path.to_str().unwrap(), "--to", &format!("perfetto={}", to.display())]);
    assert!(
        perfetto(&to).slices.iter().all(|(track, name)| !track.trim().is_empty() && !name.trim().is_empty())
    );
}

#[test]
fn otlp_json_keeps_numbers_that_json_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = line(&made("a", (1, 1, 0), "odd", 0..5).with(json!({ "ODD": 1 })));
    for odd in ["\"NaN\"", "\"Infinity\"", "\"-Infinity\"", "1.5"] {
        text = text.replace("\"intValue\":\"1\"", &format!("\"doubleValue\":{odd}"));
        let path = folder.path().join("odd.jsonl");
        write(&path, &text).unwrap();
        let again = exported(&[path.to_str().unwrap(), "--to", "otlp-json=-"]);
        assert!(again.contains(&format!("\"doubleValue\":{odd}")), "{odd}: {again}");
        text = text.replace(&format!("\"doubleValue\":{odd}"), "\"intValue\":\"1\"");
    }
}

#[test]
fn what_can_t_be_exported_is_an_error_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let path = path.to_str().unwrap();
    let before = read(path).unwrap();
    let here = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let link = here("link");
    std::os::unix::fs::symlink(path, &link).unwrap();
    let (onto_itself, folded, svg) =
        (format!("folded={link}"), format!("folded={}", here("a")), format!("flamegraph={}", here("a")));
    let nowhere = format!("folded={}", here("none/a"));
    let missing = here("missing");
    let cases: [(&[&str], i32, &str); 9] = [
        (&[path], 2, "--to"),
        (&[path, "--to", "pdf=a"], 2, "there is no format pdf"),
        (&[path, "--to", "folded"], 2, "write FORMAT=FILE"),
        (&[path, "--to", &onto_itself], 2, "it is one of the files to read"),
        (&[path, "--to", &folded, "--to", &svg], 2, "two targets have the same file"),
        (&[path, "--to", "folded=-", "--to", "flamegraph=-"], 2, "two targets have the same file"),
        (&[path, "--to", &nowhere], 2, "No such file"),
        (&[path, "--to", "folded=/dev/full"], 2, "can't write /dev/full: No space left"),
        (&[&missing, "--to", "folded=-"], 2, "No such file"),
    ];
    for (args, code, expected) in cases {
        let output = spantap(&[&["export"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(read(path).unwrap(), before);
    let output = spantap(&["export", path, "--to", "folded=-", "--where", "name == \"none\""]);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(1), "spantap: no trace matches, among 7 spans\n")
    );
    // A part of the file is damaged: the rest is exported.
    let damaged = here("damaged");
    write(&damaged, [b"{\"resourceSpans\":[}\n".as_slice(), &before].concat()).unwrap();
    let output = spantap(&["export", &damaged, "--to", "folded=-"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!output.stdout.is_empty() && stderr(&output).contains("damaged"), "{}", stderr(&output));
}

/// What is in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_earlier_output_stays_if_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let (path, out) = (path.to_str().unwrap(), folder.path().join("out"));
    write(&out, "before").unwrap();
    let before = names(folder.path());
    for format in ["clickhouse", "folded", "html", "otlp-json", "parquet", "perfetto"] {
        let to = format!("{format}={}", out.display());
        let missing = folder.path().join("missing");
        let cases: [(&[&str], i32); 3] = [
            (&["export", path, "--to", &to, "--where", "name == \"none\""], 1),
            (&["export", missing.to_str().unwrap(), "--to", &to], 2),
            (&["export", path, "--to", &to, "--to", "flamegraph=/dev/full"], 2),
        ];
        for (args, code) in cases {
            let output = spantap(args);
            assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
            assert_eq!(
                (read_to_string(&out).unwrap().as_str(), names(folder.path())),
                ("before", before.clone())
            );
        }
    }
    // Whoever has it open keeps it, and it keeps its mode; a new one is for its owner.
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut reader = std::fs::File::open(&out).unwrap();
    let new = folder.path().join("new");
    exported(&[
        path,
        "--to",
        &format!("folded={}", out.display()),
        "--to",
        &format!("html={}", new.display()),
    ]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&out), mode(&new)), (0o644, 0o600));
    assert!(read_to_string(&out).unwrap().contains("shop;order"));
    assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "before");
}

/// A pipe that nobody reads holds `export` up.
#[test]
fn a_signal_leaves_no_unfinished_file_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let (out, pipe) = (folder.path().join("out"), folder.path().join("pipe"));
    write(&out, "before").unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let before = names(folder.path());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // A shell without job control starts background processes with SIGINT ignored, and tests inherit that.
        let mut export = Command::new("env");
        export.arg("--default-signal=HUP,INT,TERM").arg(program("spantap")).arg("export").arg(&path);
        for (format, file) in [("folded", &out), ("html", &pipe)] {
            export.args(["--to", &format!("{format}={}", file.display())]);
        }
        let mut export = e2e::Process(export.spawn().unwrap());
        wait_until("there is an unfinished file", || names(folder.path()).len() > before.len());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(export.id() as i32), signal).unwrap();
        let status = export.wait().unwrap();
        assert_eq!(status.signal(), Some(signal as i32), "{status}");
        assert_eq!(
            (names(folder.path()), read_to_string(&out).unwrap().as_str()),
            (before.clone(), "before")
        );
    }
}

/// The kernel does not end the first process of a pid namespace by the default action of a signal, not even by one of its own.
#[test]
fn a_signal_ends_export_as_the_first_process_of_a_container() {
    if !need(&["root", "unshare"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let (out, pipe) = (folder.path().join("out"), folder.path().join("pipe"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let before = names(folder.path());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut container = Command::new("unshare");
        container.args(["--pid", "--fork", "--kill-child", "env", "--default-signal=INT,TERM"]);
        container.arg(program("spantap")).arg("export").arg(&path);
        for (format, file) in [("folded", &out), ("html", &pipe)] {
            container.args(["--to", &format!("{format}={}", file.display())]);
        }
        let mut container = e2e::Process(container.spawn().unwrap());
        let new = folder.path().join("out.1.new");
        wait_until("there is an unfinished file of process 1", || new.exists());
        let children = format!("/proc/{0}/task/{0}/children", container.id());
        let export = read_to_string(children).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(export), signal).unwrap();
        let mut status = None;
        wait_until("it has ended", || {
            status = container.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(128 + signal as i32));
        assert_eq!(names(folder.path()), before);
    }
}

#[test]
fn two_names_of_one_file_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let source = shop(folder.path());
    let before = read(&source).unwrap();
    std::os::unix::fs::symlink(".", folder.path().join("linked")).unwrap();
    let run = |to: &[&str], stdout: Option<&Path>| {
        let mut command = Command::new(program("spantap"));
        command.current_dir(folder.path()).args(["export", "shop.jsonl"]);
        to.iter().for_each(|to| _ = command.args(["--to", to]));
        if let Some(path) = stdout {
            command.stdout(std::fs::File::options().append(true).create(true).open(path).unwrap());
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{to:?}: {output:?}");
        stderr(&output)
    };
    let twice = "two targets have the same file";
    for other in ["a", "./a", "linked/a", "linked/./a"] {
        let said = run(&["folded=a", &format!("html={other}")], None);
        assert!(said.contains(twice), "{other}: {said}");
    }
    let out = folder.path().join("out");
    let said = run(&["folded=-", "html=out"], Some(&out));
    assert!(said.contains(twice), "{said}");
    let said = run(&["otlp-json=-"], Some(&source));
    assert!(said.contains("it is one of the files to read"), "{said}");
    assert_eq!(read(&source).unwrap(), before);
    assert_eq!(names(folder.path()), ["linked", "out", "shop.jsonl"].map(str::to_owned).into());
}

#[test]
fn a_reader_that_has_seen_enough_does_not_disturb_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let spans = (1..3_000).map(|id| made("shop", (id, id, 0), &format!("a name of span {id}"), 0..9));
    let path = file(folder.path(), "many.jsonl", &spans.collect::<Vec<_>>());
    let damaged = [b"{\"resourceSpans\":[}\n".as_slice(), &read(&path).unwrap()].concat();
    write(&path, damaged).unwrap();
    for format in ["folded", "otlp-json"] {
        let to = |format: &str| format!("{format}={}", folder.path().join(format).display());
        let mut child = Command::new(program("spantap"))
            .args(["export", path.to_str().unwrap(), "--to", &format!("{format}=-")])
            .args(["--to", &to("otlp-json"), "--to", &to("html"), "--to", &to("folded")])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains("damaged"), "{}", stderr(&output));
        for (name, lines) in [("otlp-json", 2_999), ("folded", 2_999), ("html", 2)] {
            let written = read_to_string(folder.path().join(name)).unwrap();
            assert!(written.lines().count() >= lines, "{format}, {name}");
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
    }
}

/// The names of slices, and of their tracks from the process on, in the order of their beginnings; and between which slices
/// arrows go.
#[derive(Debug, PartialEq)]
struct Slices {
    slices: Vec<(String, String)>,
    arrows: BTreeSet<(String, String)>,
}

/// Reads the packets of a Perfetto trace, by the numbers of the fields in Perfetto's `protos/perfetto/trace`. Slices must nest
/// and be in order.
fn perfetto(path: &Path) -> Slices {
    let bytes = read(path).unwrap();
    let trace = perfetto::Trace::decode(&*bytes).unwrap();
    let mut tracks = BTreeMap::new();
    let mut open: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut found = Slices { slices: Vec::new(), arrows: BTreeSet::new() };
    let mut ends: BTreeMap<u64, String> = BTreeMap::new();
    let mut last = 0;
    for packet in trace.packet {
        assert_eq!(packet.trusted_packet_sequence_id, Some(1));
        if let Some(track) = packet.track_descriptor {
            let name = match track.process {
                Some(process) => format!("{}[{}]", process.process_name.unwrap(), process.pid.unwrap()),
                None => format!("{}/{}", tracks[&track.parent_uuid.unwrap()], track.name.unwrap()),
            };
            assert_eq!(tracks.insert(track.uuid.unwrap(), name), None);
        }
        let Some(event) = packet.track_event else { continue };
        assert!(packet.timestamp.unwrap() >= last);
        last = packet.timestamp.unwrap();
        let track = event.track_uuid.unwrap();
        let open = open.entry(track).or_default();
        match event.r#type {
            Some(1) => {
                let name = event.name.unwrap();
                for flow in event.flow_ids {
                    if let Some(from) = ends.insert(flow, name.clone()) {
                        assert!(found.arrows.insert((from, name.clone())));
                    }
                }
                open.push(name.clone());
                found.slices.push((tracks[&track].clone(), name));
            }
            Some(2) => assert!(open.pop().is_some()),
            other => panic!("{other:?}"),
        }
    }
    assert!(open.values().all(Vec::is_empty), "{open:?}");
    found
}

/// The messages, written down once more from Perfetto's definitions.
mod perfetto {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Trace {
        #[prost(message, repeated, tag = "1")]
        pub(super) packet: Vec<Packet>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Packet {
        #[prost(uint64, optional, tag = "8")]
        pub(super) timestamp: Option<u64>,
        #[prost(uint32, optional, tag = "10")]
        pub(super) trusted_packet_sequence_id: Option<u32>,
        #[prost(message, optional, tag = "11")]
        pub(super) track_event: Option<Event>,
        #[prost(message, optional, tag = "60")]
        pub(super) track_descriptor: Option<Track>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Event {
        #[prost(int32, optional, tag = "9")]
        pub(super) r#type: Option<i32>,
        #[prost(uint64, optional, tag = "11")]
        pub(super) track_uuid: Option<u64>,
        #[prost(string, optional, tag = "23")]
        pub(super) name: Option<String>,
        #[prost(fixed64, repeated, packed = "false", tag = "47")]
        pub(super) flow_ids: Vec<u64>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Track {
        #[prost(uint64, optional, tag = "1")]
        pub(super) uuid: Option<u64>,
        #[prost(string, optional, tag = "2")]
        pub(super) name: Option<String>,
        #[prost(message, optional, tag = "3")]
        pub(super) process: Option<Process>,
        #[prost(uint64, optional, tag = "5")]
        pub(super) parent_uuid: Option<u64>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Process {
        #[prost(int32, optional, tag = "1")]
        pub(super) pid: Option<i32>,
        #[prost(string, optional, tag = "6")]
        pub(super) process_name: Option<String>,
    }
}

/// A kernel span of thread 7.
fn kernel(
    trace: u64,
    id: u64,
    parent: u64,
    name: &str,
    time: std::ops::Range<u64>,
    attributes: Value,
) -> String {
    let mut attributes = attributes;
    attributes["thread.id"] = 7.into();
    let line = line(&made("shop", (trace, id, parent), name, time).with(attributes));
    line.replace("made.up", "spantap.kernel")
}

#[test]
fn a_perfetto_trace_has_a_track_for_each_thread_and_arrows_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let on = |thread: u64, busy_ms: u64| json!({ "thread.id": thread, "thread.name": format!("worker-{thread}"), "busy_ns": busy_ms * 1_000_000 });
    let spans = [
        made("shop", (1, 1, 0), "order", 0..20).with(on(7, 20)),
        made("shop", (1, 2, 1), "price", 2..8).with(on(7, 6)),
        made("shop", (1, 3, 1), "call", 8..18).with(on(7, 1)),
        made("shop", (1, 4, 1), "other", 8..19).with(on(8, 11)),
        made("bank", (1, 5, 3), "pay", 9..17).with(json!({})),
        // It overlaps with `order`: on another track.
        made("shop", (2, 6, 0), "beside", 10..25).with(on(7, 15)),
        // It follows at the same time.
        made("shop", (3, 7, 0), "next", 20..30).with(on(7, 10)),
    ];
    let text = spans.iter().map(line).collect::<String>()
        + &kernel(1, 8, 3, "sleep", 9..17, json!({}))
        + &kernel(1, 9, 3, "disk wait", 8..18, json!({ "kernel.count": 3 }));
    let path = folder.path().join("threads.jsonl");
    write(&path, text).unwrap();
    let trace = folder.path().join("trace.pftrace");
    exported(&[path.to_str().unwrap(), "--to", &format!("perfetto={}", trace.display())]);
    let found = perfetto(&trace);
    let thread = "shop[4242]/worker-7 7";
    // Perfetto takes processes with one id for one process, so that of the second is made up.
    let bank = "bank[8388609]/unknown thread/async spans";
    let expected = [
        (thread.to_owned(), "order"),
        (thread.to_owned(), "price"),
        (format!("{thread}/async spans"), "call"),
        ("shop[4242]/worker-8 8".to_owned(), "other"),
        (format!("{thread}/kernel"), "sleep"),
        (bank.to_owned(), "pay"),
        (format!("{thread}/async spans"), "beside"),
        (thread.to_owned(), "next"),
    ];
    let sorted = |slices: Vec<(String, String)>| slices.into_iter().collect::<BTreeSet<_>>();
    let expected = expected.map(|(track, name)| (track, name.to_owned()));
    assert_eq!(sorted(found.slices), sorted(expected.into()));
    let arrows = [("order", "other"), ("call", "pay")].map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(found.arrows, arrows.into());
}

#[test]
fn a_perfetto_trace_takes_hostile_names() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.pftrace");
    let path = hostile_file(folder.path());
    exported(&[path.to_str().unwrap(), "--to", &format!("perfetto={}", trace.display())]);
    let found = perfetto(&trace);
    assert_eq!(found.slices.len(), hostile().len());
    assert!(
        found.slices.iter().all(|(track, name)| track.chars().chain(name.chars()).all(is_shown)),
        "{found:?}"
    );
}

/// Writes the report of a file, and returns its path.
fn report(folder: &Path, of: &Path) -> PathBuf {
    let path = folder.join("report.html");
    exported(&[of.to_str().unwrap(), "--to", &format!("html={}", path.display())]);
    path
}

/// The texts of the elements that a selector finds, as they are seen.
fn seen(browser: &mut Browser, selector: &str) -> Vec<String> {
    let texts = browser.value(&format!("[...document.querySelectorAll({selector:?})].map(e => e.innerText)"));
    texts.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Requests that ask for each item one by one. The first one costs most, but is neither the slowest nor has it failed.
#[test]
fn a_finding_in_a_report_opens_its_trace() {
    if !need(CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut spans = Vec::new();
    for trace in 1..=3_u64 {
        let at = trace * 1000;
        let calls = 30 - trace;
        spans.push(made("shop", (trace, 1, 0), "GET /<b>cart", at..at + 40));
        for call in 0..calls {
            let from = at + call + 1;
            let of = made("shop", (trace, call + 2, 1), "load_item", from..from + 1);
            spans.push(of.with(json!({ "item": call, "db.query.text": "SELECT ?" })));
        }
    }
    let path = report(folder.path(), &file(folder.path(), "cart.jsonl", &spans));
    let mut browser = Browser::start(1300, 800);
    browser.open(&path);
    let found = seen(&mut browser, "#findings li");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("N+1 calls shop"), "{found:?}");
    assert!(found[0].contains("GET /<b>cart calls load_item 28 times on average, up to 29"), "{found:?}");
    browser.click("document.querySelector('#findings a')");
    wait_until("the trace is shown", || seen(&mut browser, "#one .row").len() == 30);
    assert_eq!(browser.value("location.hash"), format!("#trace-{:032x}", 1));
    // Back to where the findings are.
    browser.write("1");
    assert_eq!(seen(&mut browser, "#findings li").len(), 1);
    assert!(browser.faults().is_empty(), "{:?}", browser.faults());
}

#[test]
fn a_report_without_findings_has_no_room_for_them() {
    if !need(CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = report(folder.path(), &shop(folder.path()));
    let mut browser = Browser::start(1300, 800);
    browser.open(&path);
    assert_eq!(browser.value("document.querySelector('#findings').getBoundingClientRect().height"), 0);
    assert_eq!(seen(&mut browser, "#names tbody tr").len(), 4);
}

#[test]
fn a_report_is_used_by_keyboard_and_mouse() {
    if !need(CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = report(folder.path(), &shop(folder.path()));
    let mut browser = Browser::start(1300, 800);
    browser.open(&path);
    let facts = seen(&mut browser, ".facts").remove(0);
    assert!(
        facts.starts_with("7 spans · 2 traces · 2 services · 1 trace with errors · 2027-01-15T08:00:00Z"),
        "{facts}"
    );
    // The table: the most total time first.
    let rows = seen(&mut browser, "#names tbody tr");
    let cells = |row: &str| row.split('\t').map(str::trim).map(str::to_owned).collect::<Vec<_>>();
    let order =
        ["shop", "order", "2", "1 (50%)", "10.0 ms", "20.0 ms", "20.0 ms", "20.0 ms", "11.0 ms", "30.0 ms"];
    assert_eq!(cells(&rows[0]), order);
    assert_eq!(rows.len(), 4, "{rows:?}");
    // By self time, smallest first, after two clicks.
    for _ in 0..2 {
        browser.click(
            "[...document.querySelectorAll('th button')].find(e => e.innerText.startsWith('self time'))",
        );
    }
    assert!(seen(&mut browser, "#names tbody tr")[0].contains("4.00 ms"));

    // A search, and from a row to the traces with such a span.
    browser.press("/");
    browser.write("save");
    assert_eq!(seen(&mut browser, "#names tbody tr").len(), 1);
    browser.press("Enter");
    let items = seen(&mut browser, "#items .item");
    assert!(items.len() == 1 && items[0].starts_with("20.0 ms"), "{items:?}");
    // All traces, down to the second, which is opened. The search is over, too.
    browser.press("Escape");
    browser.press("Escape");
    assert_eq!(seen(&mut browser, "#items .item").len(), 2);
    browser.write("j");
    assert!(seen(&mut browser, "#items .here")[0].starts_with("10.0 ms"));
    browser.press("Enter");
    let rows = seen(&mut browser, ".row > .n");
    assert_eq!(rows.iter().map(|row| row.trim()).collect::<Vec<_>>(), ["✗ order shop", "call", "✗ pay bank"]);
    let bars =
        browser.value("[...document.querySelectorAll('.lane > i')].map(e => [e.style.left, e.style.width])");
    assert_eq!(bars, json!([["0%", "100%"], ["10%", "60%"], ["20%", "40%"]]));
    // The fields of its last span; again, and they are gone.
    browser.write("jj");
    browser.press("Enter");
    let fields = seen(&mut browser, ".fields");
    assert!(
        fields.len() == 1 && fields[0].contains("it is broken") && fields[0].contains("process.pid"),
        "{fields:?}"
    );
    browser.press("Enter");
    assert!(seen(&mut browser, ".fields").is_empty());
    // Back, to the other one by mouse.
    browser.press("Escape");
    browser.click("document.querySelector('#items .item')");
    assert_eq!(seen(&mut browser, ".row").len(), 4);
    assert!(browser.value("location.hash").as_str().unwrap().starts_with("#trace-0000"));

    // The graph, and the flame graph, which zooms.
    browser.write("3");
    let svg = "document.querySelector('.graph > div').shadowRoot.querySelector('svg')";
    assert!(browser.value(&format!("{svg}.textContent")).as_str().unwrap().contains("bank"));
    assert!(browser.value(&format!("{svg}.getBoundingClientRect().width")).as_f64().unwrap() > 300.0);
    browser.write("4");
    let boxes = seen(&mut browser, "#stacks div");
    assert_eq!(boxes.iter().filter(|name| *name == "order").count(), 1, "{boxes:?}");
    browser.click("[...document.querySelectorAll('#stacks div')].find(e => e.innerText === 'pay')");
    let width = "[...document.querySelectorAll('#stacks div')].find(e => e.innerText === 'pay').style.width";
    assert_eq!(browser.value(width), "100%");
    browser.press("Escape");
    assert_ne!(browser.value(width), "100%");

    // Light and dark.
    let background = "getComputedStyle(document.body).backgroundColor";
    let before = browser.value(background);
    browser.write("t");
    assert_ne!(browser.value(background), before);
    browser.write("?");
    assert_eq!(browser.value("document.getElementById('help').open"), true);

    assert_eq!(browser.requested(), [format!("file://{}", path.display())]);
    assert!(browser.faults().is_empty(), "{:?}", browser.faults());
    assert!(browser.picture().len() > 10_000);
}

#[test]
fn a_report_searches_values_and_shows_them_exactly() {
    if !need(CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let odd = json!({ "big": 9_007_199_254_740_993_u64, "empty_ns": "", "none_ns": "-", "wait_ns": 1_500_000, "text": "needle" });
    let spans = [made("a", (1, 1, 0), "odd", 0..20).with(odd), made("a", (1, 2, 1), "below", 5..10)];
    let path = report(folder.path(), &file(folder.path(), "odd.jsonl", &spans));
    let mut browser = Browser::start(1300, 800);
    browser.open(&path);
    browser.press("2");
    for (word, found) in [
        ("duration_ns", 0),
        ("missing_parents", 0),
        ("offset", 0),
        ("needle", 1),
        ("empty_ns", 1),
        ("4740993", 1),
    ] {
        browser.press("/");
        browser.write(word);
        assert_eq!(seen(&mut browser, "#items .item").len(), found, "{word}");
        browser.press("Escape");
    }
    browser.press("Enter");
    browser.press("Enter");
    let fields = seen(&mut browser, ".fields dd");
    assert!(fields.contains(&"9007199254740993".to_owned()), "{fields:?}");
    assert!(
        fields.contains(&"1500000 (1.50 ms)".to_owned()) || fields.contains(&"1500000  (1.50 ms)".to_owned()),
        "{fields:?}"
    );
    assert!(fields.contains(&String::new()) && fields.contains(&"-".to_owned()), "{fields:?}");
    // The graph by keyboard.
    browser.press("3");
    let part = "document.querySelector('.graph > div').shadowRoot.querySelector('g[tabindex]')";
    browser.value(&format!("({part}.focus(), 0)"));
    let said = seen(&mut browser, "#part").remove(0);
    assert!(!said.is_empty(), "{said}");
    assert_eq!(browser.value(&format!("{part}.getAttribute('aria-label')")), json!(said));
    // The flame graph by keyboard: the last box is that of the span below.
    browser.press("4");
    let boxes = "[...document.querySelectorAll('#stacks > div')]";
    let below = format!("{boxes}.find(e => e.textContent === 'below')");
    browser.value(&format!("({below}.focus(), 0)"));
    browser.press("Enter");
    assert_eq!(browser.value(&format!("{below}.style.width")), json!("100%"));
    assert_eq!(browser.value("document.activeElement.textContent"), json!("below"));
    browser.press("Escape");
    assert_ne!(browser.value(&format!("{below}.style.width")), json!("100%"));
}

#[test]
fn hostile_text_in_a_report_stays_text() {
    if !need(CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = report(folder.path(), &hostile_file(folder.path()));
    let mut browser = Browser::start(1300, 800);
    browser.open(&path);
    let elements = "document.querySelectorAll('script, img, iframe, object, embed, link, base, form').length";
    assert_eq!(browser.value(elements), 2);
    let mut texts = Vec::new();
    // From a row of the table to its trace, whatever its name.
    for row in 0..hostile().len() {
        browser.press("1");
        browser.click(&format!("document.querySelectorAll('#names tbody tr')[{row}]"));
        assert_eq!(seen(&mut browser, "#items .item").len(), 1, "{row}");
        browser.press("Escape");
        assert_eq!(seen(&mut browser, "#items .item").len(), hostile().len());
    }
    for key in ["1", "2", "Enter", "Enter", "Escape", "4"] {
        browser.press(key);
        texts.push(browser.value("document.body.innerText").as_str().unwrap().to_owned());
        assert_eq!(browser.value(elements), 2);
    }
    assert_ne!(browser.value("document.title"), "owned");
    assert!(texts[0].contains("</script><script>document.title='owned'</script>"), "{}", texts[0]);
    // Characters that hide or turn others are shown.
    assert!(texts[0].contains(r"\u{202e}gnp.exe\u{202c}"), "{}", texts[0]);
    for text in texts {
        assert!(text.chars().all(|c| matches!(c, '\n' | '\t') || is_shown(c)), "{text:?}");
    }
    assert_eq!(browser.requested(), [format!("file://{}", path.display())]);
    assert!(browser.faults().is_empty(), "{:?}", browser.faults());
    // If text became a script after all, the policy would not let it run.
    browser.value(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">'), \
         document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.title=2' }))",
    );
    browser.value("new Promise(done => setTimeout(done, 200))");
    assert!(browser.value("document.title").as_str().unwrap().ends_with("- spantap"));
}

/// Without a browser: what the file says of itself.
#[test]
fn a_report_is_bounded_and_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let mut spans: Vec<Made> =
        (1..=300).map(|trace| made("shop", (trace, 1, 0), "order", 0..10 + trace)).collect();
    // Failed, and shorter than all.
    spans.push(made("shop", (301, 1, 0), "refuse", 0..1).failed());
    // A trace of many spans.
    spans.extend((2..=1_500).map(|id| made("shop", (300, id, 1), "item", 0..5)));
    let path = report(folder.path(), &file(folder.path(), "many.jsonl", &spans));
    let page = read_to_string(path).unwrap();
    let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let length = page[start..].find("</script>").unwrap();
    let data: Value = serde_json::from_str(&page[start..start + length]).unwrap();
    let traces = data["traces"].as_array().unwrap();
    assert_eq!(traces.len(), 101);
    assert_eq!(
        (&traces[0]["duration_ns"], traces[0]["spans"].as_array().unwrap().len()),
        (&310_000_000.into(), 1_000)
    );
    assert_eq!(traces[100]["errors"], 1);
    assert_eq!(data["names"][0]["spans"], 300);
    for text in ["200 of 301 traces are not here", "500 spans are not in their traces"] {
        assert!(page.contains(text), "{text}: {}", &page[..start.min(20_000)]);
    }
    let foreign = page.replace("http://www.w3.org/2000/svg", "");
    for text in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!foreign.contains(text), "{text}");
    }
}

#[test]
fn a_table_is_the_same_in_a_file_and_in_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let here = |name: &str| folder.path().join(name);
    let to = |name: &str| format!("parquet={}", here(name).display());
    let run = |args: &[&str], temporary: &Path| {
        let mut command = Command::new(program("spantap"));
        let output = command.arg("export").arg(&path).args(args).env("TMPDIR", temporary).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    // A file needs no temporary one.
    run(&["--to", &to("one")], &here("none"));
    let piped = run(&["--to", "parquet=-"], folder.path());
    run(&["--to", &to("two"), "--to", &to("three")], folder.path());
    let one = read(here("one")).unwrap();
    assert!(one.starts_with(b"PAR1") && one.ends_with(b"PAR1") && one.len() > 1_000, "{}", one.len());
    assert!(piped == one && read(here("two")).unwrap() == one && read(here("three")).unwrap() == one);
}

#[test]
fn duckdb_reads_the_table_of_spans() {
    if !need(&["python3", "duckdb"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let table = |path: &Path| {
        let table = folder.path().join("spans.parquet");
        exported(&[path.to_str().unwrap(), "--to", &format!("parquet={}", table.display())]);
        table.to_str().unwrap().to_owned()
    };
    let lines = shop(folder.path());
    let text =
        read_to_string(&lines).unwrap() + &kernel(1, 9, 4, "disk wait", 13..15, json!({ "bytes": 4096 }));
    write(&lines, text).unwrap();
    let spans = table(&lines);
    let rows = query(&format!(
        "select name, service, trace_id, span_id, parent_span_id, kind, kernel, start_time::varchar, duration_ns, self_ns, \
         busy_ns, error, status_message, thread_id, thread_name, attributes->'kernel.disk_ns', resource->>'process.pid' \
         from '{spans}' where name in ('save;all', 'disk wait') or trace_id like '%2' and name = 'order' order by name"
    ));
    let types =
        query(&format!("select column_name, column_type, \"null\" from (describe select * from '{spans}')"));
    let text =
        ["trace_id", "span_id", "parent_span_id", "service", "name", "kind", "status_message", "thread_name"];
    for column in &types {
        let name = column[0].as_str().unwrap();
        let expected = match name {
            "kernel" | "error" => "BOOLEAN",
            "start_time" => "TIMESTAMPTZ_NS",
            "duration_ns" | "self_ns" | "busy_ns" | "thread_id" => "BIGINT",
            "attributes" | "resource" => "JSON",
            name if text.contains(&name) => "VARCHAR",
            other => panic!("{other}"),
        };
        assert_eq!(column[1], expected, "{name}");
    }
    assert_eq!(types.len(), 17);
    let trace = format!("{:032x}", 1);
    let expected = json!([
        [
            "disk wait",
            "shop",
            trace,
            "0000000000000009",
            "0000000000000004",
            null,
            true,
            "2027-01-15 08:00:00.013+00",
            2_000_000,
            null,
            null,
            false,
            null,
            7,
            null,
            null,
            "4242"
        ],
        [
            "order",
            "shop",
            format!("{:032x}", 2),
            "0000000000000001",
            null,
            null,
            false,
            "2027-01-15 08:00:00.1+00",
            10_000_000,
            4_000_000,
            null,
            true,
            "it is broken",
            null,
            null,
            null,
            "4242"
        ],
        [
            "save;all",
            "shop",
            trace,
            "0000000000000004",
            "0000000000000001",
            null,
            false,
            "2027-01-15 08:00:00.012+00",
            5_000_000,
            5_000_000,
            null,
            false,
            null,
            null,
            null,
            "2000000",
            "4242"
        ],
    ]);
    assert_eq!(Value::from(rows), expected);
    // The columns of the document, in its order.
    let columns = query(&format!("select column_name from (describe select * from '{spans}')"));
    let document = read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/parquet.md")).unwrap();
    let documented = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(Value::from(columns), documented.map(|name| json!([name])).collect::<Value>());

    // Several groups of rows, and names that are no usual text.
    let many = (1..=120_000).map(|id| made("shop", (1 + id / 100, id, 0), "item", 0..1));
    let spans = table(&file(folder.path(), "many.jsonl", &many.collect::<Vec<_>>()));
    let counted = query(&format!("select count(*), count(distinct span_id) from '{spans}'"));
    assert_eq!(Value::from(counted), json!([[120_000, 120_000]]));
    let groups = query(&format!("select count(distinct row_group_id) from parquet_metadata('{spans}')"));
    assert_eq!(Value::from(groups), json!([[2]]));
    let spans = table(&hostile_file(folder.path()));
    let names: BTreeSet<String> = query(&format!("select name from '{spans}'"))
        .into_iter()
        .map(|row| row[0].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, hostile().into_iter().collect());
}
