//! `spantap graph`: who calls whom, as a table, as JSON and as pictures.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs::{read, write};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::{Build, Fixture, Following, Linkage, Spantap, Terminal, need, program, wait_until};
use roxmltree::{Document, ParsingOptions};
use serde_json::{Value, json};

/// Runs `spantap graph` with these arguments.
fn graph(args: &[&str]) -> Output {
    Command::new(program("spantap")).arg("graph").args(args).env("COLUMNS", "100").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What `spantap graph` prints with these arguments, which have to succeed.
fn shown(args: &[&str]) -> String {
    let output = graph(args);
    assert!(output.status.success(), "{output:?}");
    stdout(&output)
}

/// A span in OTLP as JSON, in a line of its own.
fn span(service: &str, name: &str, id: u64, parent: u64, ms: u64, more: Value) -> String {
    let mut span = json!({
        "traceId": format!("{:032x}", 7),
        "spanId": format!("{id:016x}"),
        "name": name,
        "startTimeUnixNano": "1800000000000000000",
        "endTimeUnixNano": (1_800_000_000_000_000_000 + ms * 1_000_000).to_string(),
    });
    if parent > 0 {
        span["parentSpanId"] = format!("{parent:016x}").into();
    }
    span.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let service = json!({ "key": "service.name", "value": { "stringValue": service } });
    let spans = json!([{ "resource": { "attributes": [service] }, "scopeSpans": [{ "spans": [span] }] }]);
    json!({ "resourceSpans": spans }).to_string() + "\n"
}

fn failed() -> Value {
    json!({ "kind": 2, "status": { "code": 2 } })
}

/// Two requests: to shop, which asks stock, and to shop, which asks bank. stock asks shop back. Children come first.
fn shop(folder: &Path) -> PathBuf {
    let lines = [
        span("stock", "reserve", 3, 2, 4, json!({ "kind": 2 })),
        span("shop", "price", 5, 3, 1, json!({ "kind": 2 })),
        span("shop", "call", 2, 1, 5, json!({ "kind": 3 })),
        span("shop", "order", 1, 0, 10, json!({ "kind": 2 })),
        span("bank", "pay", 13, 12, 100, failed()),
        span("bank", "pay", 14, 12, 300, json!({ "kind": 2 })),
        span("shop", "call", 12, 11, 410, json!({ "kind": 3 })),
        span("shop", "order", 11, 0, 420, json!({})),
        // Their parents are elsewhere.
        span("bank", "audit", 21, 99, 50, json!({ "kind": 5 })),
        span("bank", "sql", 22, 98, 2, json!({ "kind": 1 })),
    ];
    let path = folder.join("shop.jsonl");
    write(&path, lines.concat()).unwrap();
    path
}

/// strace holds the write up, and ends when that is over.
#[test]
fn a_signal_leaves_no_unfinished_picture_behind() {
    if !need(&["strace"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
    };
    let before = names();
    let mut held = Command::new("strace");
    held.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=write:delay_enter=5s:when=1"]);
    // A shell without job control starts background processes with SIGINT ignored, and tests inherit that.
    held.args(["env", "--default-signal=INT"]).arg(program("spantap")).args(["graph", "--svg"]);
    let mut held =
        e2e::Process(held.arg(&path).arg("--output").arg(folder.path().join("out")).spawn().unwrap());
    wait_until("there is an unfinished file", || names() != before);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", held.id())).unwrap();
    let graph = nix::unistd::Pid::from_raw(children.trim().parse().unwrap());
    nix::sys::signal::kill(graph, nix::sys::signal::Signal::SIGINT).unwrap();
    let mut status = None;
    wait_until("it has ended", || {
        status = held.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().signal(), Some(nix::libc::SIGINT), "{status:?}");
    assert_eq!(names(), before);
}

#[test]
fn a_table_has_who_calls_whom() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let output = graph(&[path.to_str().unwrap()]);
    let expected = "\
from       to     calls   errors      avg      p95
(outside)  shop       2        0   215 ms   420 ms
shop       bank       2  1 (50%)   200 ms   300 ms
(unknown)  bank       1        0  50.0 ms  50.0 ms
shop       stock      1        0  4.00 ms  4.00 ms
stock      shop       1        0  1.00 ms  1.00 ms
";
    assert_eq!(stdout(&output), expected);
    assert_eq!(
        stderr(&output),
        "spantap: 1 span not counted: the parent is in none of the files, or too far away in them\n"
    );
    assert!(output.status.success());

    let expected = "\
from            to              calls   errors      avg      p95
(outside)       shop: order         2        0   215 ms   420 ms
shop: order     shop: call          2        0   208 ms   410 ms
shop: call      bank: pay           2  1 (50%)   200 ms   300 ms
(unknown)       bank: audit         1        0  50.0 ms  50.0 ms
shop: call      stock: reserve      1        0  4.00 ms  4.00 ms
stock: reserve  shop: price         1        0  1.00 ms  1.00 ms
";
    assert_eq!(shown(&[path.to_str().unwrap(), "--by", "span"]), expected);

    let red = shown(&[path.to_str().unwrap(), "--color", "always"]);
    let coloured: Vec<&str> = red.lines().filter(|line| line.starts_with("\x1b[31m")).collect();
    assert!(matches!(&coloured[..], [line] if line.contains("bank")), "{red:?}");
}

#[test]
fn json_has_what_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let args = [path.to_str().unwrap(), "--by", "span", "--json", "--limit", "2"];
    let found: Value = serde_json::from_str(&shown(&args)).unwrap();
    let expected = json!({
        "version": 1,
        "by": "span",
        "nodes": [
            { "node": "outside", "service": null, "name": null },
            { "node": "span", "service": "shop", "name": "order" },
            { "node": "span", "service": "shop", "name": "call" },
        ],
        "edges": [
            { "from": 0, "to": 1, "calls": 2, "errors": 0, "total_ns": 430_000_000, "average_ns": 215_000_000,
              "p95_ns": 420_000_000 },
            { "from": 1, "to": 2, "calls": 2, "errors": 0, "total_ns": 415_000_000, "average_ns": 207_500_000,
              "p95_ns": 410_000_000 },
        ],
        "spans": 10,
        "within_services": 0,
        "missing_parents": 1,
        "repeated_spans": 0,
        "left_out_edges": 4,
        "left_out_calls": 5,
    });
    assert_eq!(found, expected);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let fields = [keys(&found), keys(&found["nodes"][0]), keys(&found["edges"][0])];
    let document = e2e::Document::json();
    let rows = ["## The graph", "## A node", "## An edge"].map(|heading| document.table(heading));
    let documented = rows.map(|rows| {
        rows.iter().flat_map(|row| e2e::quoted(&row[0]).map(str::to_owned).collect::<Vec<_>>()).collect()
    });
    assert_eq!(fields, documented);
}

#[test]
fn the_user_chooses_calls_and_the_exit_code_tells_whether_there_are_any() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let path = path.to_str().unwrap();
    let rows = |args: &[&str]| {
        let text = shown(&[&[path], args].concat());
        let rows = text.lines().skip(1).map(|line| {
            let words: Vec<&str> = line.split_whitespace().take(3).collect();
            words.join(" ")
        });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(rows(&["--where", "error"]), ["shop bank 1"]);
    // The caller need not match.
    assert_eq!(rows(&["--where", "service == 'stock'"]), ["shop stock 1"]);
    assert_eq!(rows(&["--where", "duration > 200ms"]), ["(outside) shop 1", "shop bank 1"]);
    assert_eq!(rows(&["--limit", "1"]), ["(outside) shop 2"]);
    // A file that is given twice counts once.
    assert_eq!(rows(&[path]), rows(&[]));

    let missing = folder.path().join("missing");
    let cases: [(&[&str], i32, &str); 5] = [
        (&[path, "--limit", "1"], 0, "spantap: left out 4 edges with 5 calls; --limit 0 shows all\n"),
        (&[path, path], 0, "spantap: 10 spans not counted again: the files have them more than once\n"),
        (&[path, "--where", "duration > 1min"], 1, "spantap: no call was found, in 10 spans\n"),
        (&[missing.to_str().unwrap()], 2, "spantap: can't read "),
        (&[path, "--dot", "--svg"], 2, "cannot be used with"),
    ];
    for (args, code, expected) in cases {
        let output = graph(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_caller_and_its_callee_may_be_in_different_files() {
    let folder = tempfile::tempdir().unwrap();
    let [callers, called] = ["callers.jsonl", "called.jsonl"].map(|name| folder.path().join(name));
    write(&callers, span("shop", "order", 1, 0, 5, json!({}))).unwrap();
    write(&called, span("bank", "pay", 2, 1, 3, json!({}))).unwrap();
    let [callers, called] = [&callers, &called].map(|path| path.to_str().unwrap());
    for files in [[callers, called], [called, callers]] {
        let table = shown(&files);
        assert!(table.contains("shop       bank"), "{table}");
    }
}

#[test]
fn mermaid_is_a_flowchart() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let expected = "\
flowchart LR
  n0([\"(outside)\"])
  n1[\"shop\"]
  n2[\"bank\"]
  n0 -->|\"2 calls<br/>avg 215 ms, p95 420 ms\"| n1
  n1 -->|\"2 calls, 1 error (50%)<br/>avg 200 ms, p95 300 ms\"| n2
  linkStyle 0 stroke:#6b7a8c,stroke-width:5.0px
  linkStyle 1 stroke:#c23b00,stroke-width:5.0px
";
    assert_eq!(shown(&[path.to_str().unwrap(), "--mermaid", "--limit", "2"]), expected);
}

/// The texts of all elements with this name.
fn texts(svg: &str, element: &str) -> Vec<String> {
    // Graphviz begins with a document type.
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(svg, options).unwrap();
    let elements = document.descendants().filter(|node| node.tag_name().name() == element);
    elements.map(|node| node.text().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_picture_has_all_nodes_and_figures() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    for by in ["service", "span"] {
        let svg = shown(&[path.to_str().unwrap(), "--by", by, "--svg"]);
        let texts = texts(&svg, "text");
        let found: Value =
            serde_json::from_str(&shown(&[path.to_str().unwrap(), "--by", by, "--json"])).unwrap();
        let is_there = |text: &str| texts.iter().any(|one| one == text);
        for node in found["nodes"].as_array().unwrap() {
            for key in ["service", "name"] {
                assert!(node[key].as_str().is_none_or(is_there), "{node}: {texts:?}");
            }
        }
        for edge in found["edges"].as_array().unwrap() {
            let calls = match (edge["calls"].as_u64().unwrap(), edge["errors"].as_u64().unwrap()) {
                (1, 0) => "1 call",
                (2, 0) => "2 calls",
                (2, 1) => "2 calls, 1 error (50%)",
                other => panic!("{other:?}"),
            };
            assert!(is_there(calls), "{edge}: {texts:?}");
            let duration = |key: &str| spantap::text::readable(edge[key].as_u64().unwrap());
            let durations = format!("avg {}, p95 {}", duration("average_ns"), duration("p95_ns"));
            assert!(is_there(&durations), "{edge}: {texts:?}");
        }
        assert!(is_there("(outside)") && is_there("10 spans read"), "{texts:?}");
        // Nothing comes from elsewhere.
        let without_names = svg.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http", "url(", "<script", "@import", "@font-face", "href"] {
            assert!(!without_names.contains(outside), "{outside}");
        }
    }
}

/// Names that mean something in one of the formats, or in a terminal.
fn hostile() -> Vec<String> {
    let names = [
        "\"",
        "\\",
        "\\\"",
        "a\"];b[\"",
        "<b>&amp;</b>",
        "]]>",
        "<!--",
        "&lt;",
        "\\N \\G \\l",
        "`x`",
        "1. x",
        "- x",
        "#35;",
        "end",
        "a|b",
        "{}",
        "${x}",
        "%%",
        "line\nbreak\r\ttab",
        "\u{1b}[31mred",
        "\0nul",
        "user\u{202e}txt.exe",
        "\u{ffff}\u{fffe}",
        "größer 注文",
        "</text><script>alert(1)</script>",
        "'",
        "]]",
        "\\",
    ];
    names.iter().map(|name| (*name).to_owned()).chain([format!("long {}", "x<\"&".repeat(2_500))]).collect()
}

fn hostile_file(folder: &Path) -> PathBuf {
    let path = folder.join("hostile.jsonl");
    let spans = hostile().into_iter().zip(1..);
    write(&path, spans.map(|(name, id)| span(&name, &name, id, id - 1, 1, json!({}))).collect::<String>())
        .unwrap();
    path
}

/// What is shown of the names in tooltips, which cut only names of more than 1,000 bytes.
fn expected_labels() -> BTreeSet<String> {
    let label = |name: String| {
        let mut name = name;
        name.truncate(1000);
        let words = name.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let shown = spantap::text::safe(&words).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
        format!("{shown}: {shown}")
    };
    hostile().into_iter().map(label).collect()
}

#[test]
fn hostile_names_are_only_text_in_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = hostile_file(folder.path());
    let svg = shown(&[path.to_str().unwrap(), "--by", "span", "--svg"]);
    let titles: BTreeSet<String> = texts(&svg, "title").into_iter().collect();
    let missing: Vec<_> = expected_labels().into_iter().filter(|label| !titles.contains(label)).collect();
    assert!(missing.is_empty(), "{missing:?} of {titles:?}");
    assert!(texts(&svg, "script").is_empty());
}

#[test]
fn hostile_names_are_only_text_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = hostile_file(folder.path());
    let json = shown(&[path.to_str().unwrap(), "--by", "span", "--json"]);
    let (line, rest) = json.split_once('\n').unwrap();
    assert!(
        rest.is_empty() && !line.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)),
        "{line:?}"
    );
    let graph: Value = serde_json::from_str(line).unwrap();
    let names: BTreeSet<&str> =
        graph["nodes"].as_array().unwrap().iter().filter_map(|node| node["name"].as_str()).collect();
    let distinct: BTreeSet<String> = hostile().into_iter().collect();
    assert_eq!(names.len(), distinct.len(), "{names:?}");
}

#[test]
fn graphviz_reads_hostile_names_as_text() {
    if !need(&["dot"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = hostile_file(folder.path());
    let dot = shown(&[path.to_str().unwrap(), "--by", "span", "--dot"]);
    let mut graphviz = Command::new("dot")
        .arg("-Tsvg")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    graphviz.stdin.take().unwrap().write_all(dot.as_bytes()).unwrap();
    let output = graphviz.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let svg = stdout(&output);
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&svg, options).unwrap();
    let tooltip = |node: roxmltree::Node<'_, '_>| {
        node.attribute(("http://www.w3.org/1999/xlink", "title")).map(str::to_owned)
    };
    let tooltips: BTreeSet<String> = document.descendants().filter_map(tooltip).collect();
    let is_missing = |label: &String| !tooltips.contains(&label.replace('\\', "\u{29f5}"));
    let missing: Vec<_> = expected_labels().into_iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    // A label has the name in a line of its own. Graphviz writes no-break spaces for blanks.
    let lines: BTreeSet<String> =
        texts(&svg, "text").into_iter().map(|line| line.replace('\u{a0}', " ")).collect();
    let names = expected_labels().into_iter().filter_map(|label| Some(label.split_once(": ")?.0.to_owned()));
    let missing: Vec<_> = names.filter(|name| name.len() < 50 && !lines.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:#?} of {lines:#?}");
    let class =
        |class: &str| document.descendants().filter(|node| node.attribute("class") == Some(class)).count();
    // "\\" is there twice.
    assert_eq!((class("node"), class("edge")), (hostile().len(), hostile().len()));
}

/// Real spans: as many calls as spans in the capture.
#[test]
fn every_span_of_a_capture_is_on_an_edge() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let spantap = Spantap::record(&capture, &[]);
    let fixture = Build::Release.path(Linkage::Executable, 0);
    let mut fixture = Fixture::start(&fixture, Linkage::Executable, Some(spantap.socket()));
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
    let path = capture.to_str().unwrap();
    let found: Value =
        serde_json::from_str(&shown(&[path, "--by", "span", "--json", "--limit", "0"])).unwrap();
    let calls: u64 =
        found["edges"].as_array().unwrap().iter().map(|edge| edge["calls"].as_u64().unwrap()).sum();
    let spans = found["spans"].as_u64().unwrap();
    assert!(spans > 1_000, "{found}");
    assert_eq!(calls + found["missing_parents"].as_u64().unwrap(), spans, "{found}");

    // A flipped bit in the first frame: the others are counted, and the damage is reported.
    let mut bytes = read(&capture).unwrap();
    bytes[500] ^= 1;
    let damaged = folder.path().join("damaged.spans");
    write(&damaged, &bytes).unwrap();
    let output = graph(&[damaged.to_str().unwrap(), "--by", "span"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("damaged and left out"), "{}", stderr(&output));
    assert!(!output.stdout.is_empty());
}

/// As spans are added, the graph is that of the whole file so far.
#[test]
fn the_graph_of_a_file_that_grows_is_shown_anew() {
    let folder = tempfile::tempdir().unwrap();
    let whole = read(shop(folder.path())).unwrap();
    let path = folder.path().join("grows.jsonl");
    let file = path.to_str().unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    write(&path, lines[..4].concat()).unwrap();
    let at_once = || serde_json::from_str::<Value>(&shown(&[file, "--json"])).unwrap();

    let following = Following::start("graph", &["--json", file]);
    let first = at_once();
    assert_eq!(following.next(), first);
    let mut grows = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    // A line that is not whole yet is neither damage nor a span. It looks for more five times a second.
    let (half, rest) = lines[4].split_at(100);
    grows.write_all(half).unwrap();
    assert!(following.is_silent_for(Duration::from_millis(1500)));
    grows.write_all(&[rest, &lines[5..].concat()].concat()).unwrap();
    let then = following.next();
    assert_eq!(then, at_once());
    assert_ne!(then, first);
    let (code, said) = following.interrupt();
    // Nothing else: no damage, and no second object at the end.
    let missing =
        "spantap: 1 span not counted: the parent is in none of the files, or too far away in them\n";
    assert_eq!((code, &*said), (Some(0), missing));
}

/// Whoever looks at the picture has all of it, and a link to it stays one.
#[test]
fn the_picture_of_a_file_that_grows_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let whole = read(shop(folder.path())).unwrap();
    let (path, picture) = (folder.path().join("grows.jsonl"), folder.path().join("calls.svg"));
    let real = folder.path().join("real.svg");
    write(&real, "").unwrap();
    symlink(&real, &picture).unwrap();
    let [file, output] = [&path, &picture].map(|path| path.to_str().unwrap());
    write(&path, "").unwrap();
    let following = Following::start("graph", &["--svg", "--output", output, file]);
    write(&path, whole).unwrap();
    wait_until("the picture is there", || std::fs::read_to_string(&real).unwrap() == shown(&[file, "--svg"]));
    assert!(picture.is_symlink());
    assert_eq!(following.interrupt().0, Some(0));
    let names: BTreeSet<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|of| of.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}");

    let output = graph(&[file, "--follow", "--svg"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--output"), "{output:?}");
    // What is no file is written to, and the source is not overwritten.
    assert_eq!(shown(&[file, "--dot", "-o", "/dev/stdout"]), shown(&[file, "--dot"]));
    assert!(std::fs::metadata("/dev/stdout").is_ok());
    let output = graph(&[file, "--json", "-o", file]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // If nothing can be read, the picture of before stays.
    let before = std::fs::read_to_string(&real).unwrap();
    let output = graph(&["no-such-file", "--svg", "-o", picture.to_str().unwrap()]);
    assert_eq!((output.status.code(), std::fs::read_to_string(&real).unwrap()), (Some(2), before));
}

/// A recorder begins a new file when one is full. The graph goes on with that.
#[test]
fn a_graph_goes_on_in_the_next_file_of_a_recorder() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let spantap = Spantap::record(&capture, &["--max-size", "1KiB", "--keep-files", "9"]);
    wait_until("the capture is there", || capture.exists());
    let following = Following::start("graph", &["--json", "--by", "span", capture.to_str().unwrap()]);
    let executable = Build::Release.path(Linkage::Executable, 0);
    let mut fixture = Fixture::start(&executable, Linkage::Executable, Some(spantap.socket()));
    let mut spans = 0;
    for times in 1..=3 {
        fixture.run("tree");
        // Each time the same number of spans.
        let now = loop {
            let now = following.next()["spans"].as_u64().unwrap();
            if spans == 0 && following.is_silent_for(Duration::from_secs(2)) || now == spans * times {
                break now;
            }
        };
        spans = now / times;
    }
    assert!(folder.path().join("capture.spans.1").exists(), "a new file was begun");
    fixture.end();
    assert!(spantap.terminate().status.success());
    assert_eq!(following.interrupt(), (Some(0), String::new()));
}

/// On a terminal, each table takes the place of the one before, and the last one is whole.
#[test]
fn a_table_is_drawn_over_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let whole = read(shop(folder.path())).unwrap();
    let path = folder.path().join("grows.jsonl");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    write(&path, lines[..4].concat()).unwrap();
    let mut command = Command::new(program("spantap"));
    command.args(["graph", "--follow", "--by", "span"]).arg(&path);
    let mut terminal = Terminal::start(command, 80, 6);
    let first = terminal.wait_for("price");
    assert!(first.starts_with("from ") && !first.contains("bank"), "{first}");
    let mut grows = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    grows.write_all(&lines[4..].concat()).unwrap();
    let screen = terminal.wait_for("bank");
    let screen: Vec<&str> = screen.lines().collect();
    assert!(screen[0].starts_with("from ") && screen[4] == "… 3 more edges", "{screen:#?}");
    terminal.press("\x03");
    terminal.wait_for("not counted");
    let all = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    let all = all.rsplit("\x1b[H").next().unwrap();
    assert!(terminal.wait().0.success(), "{all}");
    for name in ["(outside)", "stock: reserve", "shop: price", "bank: audit", "not counted"] {
        assert!(all.contains(name), "no {name} in {all}");
    }
}

/// At the end of a replay, the graph is that of the whole file.
#[test]
fn a_graph_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let file = path.to_str().unwrap();
    let begin = Instant::now();
    let replayed = shown(&[file, "--json", "--speed", "0.1", "--where", "duration < 350ms"]);
    let last = replayed.lines().last().unwrap();
    assert_eq!(last, shown(&[file, "--json", "--where", "duration < 350ms"]).trim_end());
    // From the first end to the last are 0.42 s, so that it takes 4 s.
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
    let spans = replayed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["spans"].clone());
    let spans: Vec<u64> = spans.map(|spans| spans.as_u64().unwrap()).collect();
    assert!(spans.len() >= 3 && spans.is_sorted() && spans[0] < 10, "{spans:?}");
}
