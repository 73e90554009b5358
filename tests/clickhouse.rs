//! `spantap export --to clickhouse`, and the statements of `docs/backends.md`, in ClickHouse itself: as chDB, a Python package.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{metadata, read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Build, ClickHouse, Fixture, Linkage, Spantap, need, program, wait_until};
use serde_json::{Map, Value, json};

const NEEDS: [&str; 2] = ["python3", "chdb"];

/// What spantap prints with these arguments, which have to succeed.
fn spantap(args: &[&str]) -> String {
    let output = Command::new(program("spantap")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The statement of `docs/backends.md` that begins with this comment.
fn documented(comment: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/backends.md");
    let document = read_to_string(path).unwrap();
    let start = format!("```sql\n-- {comment}\n");
    let (_, rest) = document.split_once(&start).unwrap_or_else(|| panic!("no statement {comment:?}"));
    rest.split_once("```").unwrap().0.to_owned()
}

/// A table with the spans of a file, made and filled as the document says.
fn filled(folder: &Path, path: &Path) -> ClickHouse {
    let rows = folder.join("rows.jsonl");
    spantap(&["export", path.to_str().unwrap(), "--to", &format!("clickhouse={}", rows.display())]);
    let insert = documented("Fill the table").replace("spans.jsonl", rows.to_str().unwrap());
    let database = ClickHouse::empty();
    database.run(&[&documented("Create the table"), &insert]);
    database
}

/// The spans of a file, as `spantap view --json` has them, each with its trace and its process.
fn viewed(path: &Path) -> Vec<(Value, Value, Value)> {
    let printed = spantap(&["view", path.to_str().unwrap(), "--json", "--limit", "0"]);
    let traces = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of = |trace: Value| {
        let spans = trace["spans"].as_array().unwrap().clone();
        spans.into_iter().map(move |span| {
            let process = trace["processes"][span["process"].as_u64().unwrap() as usize].clone();
            (trace.clone(), process, span)
        })
    };
    traces.flat_map(of).collect()
}

/// Whether it is kernel activity, which the queries about the program leave out.
fn is_kernel(span: &Value) -> bool {
    !span["attributes"]["kernel.waker.span"].is_null()
}

/// Attributes as a `Map(String, String)` has them.
fn texts(attributes: &Value) -> Value {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let texts = attributes.as_object().unwrap().iter().map(|(key, value)| (key.clone(), text(value).into()));
    Value::Object(texts.collect::<Map<_, _>>())
}

const START_NS: u64 = 1_800_000_000_000_000_000;

/// A span in OTLP as JSON, in a line of its own; `extra` are further members of it. Times are in milliseconds.
fn line(service: &str, ids: (u64, u64, u64), name: &str, time: std::ops::Range<u64>, extra: Value) -> String {
    let attribute = |(key, value): (&String, &Value)| match value {
        Value::String(text) => json!({ "key": key, "value": { "stringValue": text } }),
        other => json!({ "key": key, "value": { "intValue": other.to_string() } }),
    };
    let mut span = json!({
        "traceId": format!("{:032x}", ids.0), "spanId": format!("{:016x}", ids.1), "name": name,
        "startTimeUnixNano": (START_NS + time.start * 1_000_000).to_string(),
        "endTimeUnixNano": (START_NS + time.end * 1_000_000).to_string(),
    });
    if ids.2 > 0 {
        span["parentSpanId"] = format!("{:016x}", ids.2).into();
    }
    let mut scope = "made.up";
    for (key, value) in extra.as_object().unwrap() {
        match &**key {
            "attributes" => span[key] = value.as_object().unwrap().iter().map(attribute).collect(),
            "scope" => scope = value.as_str().unwrap(),
            _ => span[key] = value.clone(),
        }
    }
    let service = json!([{ "key": "service.name", "value": { "stringValue": service } }]);
    let scopes = json!([{ "scope": { "name": scope, "version": "1.2" }, "spans": [span] }]);
    json!({ "resourceSpans": [{ "resource": { "attributes": service }, "scopeSpans": scopes }] }).to_string()
        + "\n"
}

/// Two services with what `spantap attach` adds: times of the kernel, and a wait that a span of another trace ended.
fn shop(folder: &Path) -> PathBuf {
    let kernel =
        |disk: u64| json!({ "attributes": { "kernel.disk_ns": disk, "kernel.on_cpu_ns": 1_000_000 } });
    let failed = json!({ "kind": 2, "status": { "code": 2, "message": "it is broken" } });
    let wait = json!({
        "scope": "spantap.kernel", "kind": 1,
        "attributes": { "kernel.waker": "worker (7)", "kernel.waker.span": "order" },
        "links": [{ "traceId": format!("{:032x}", 2), "spanId": format!("{:016x}", 21), "traceState": "a=b", "attributes": [] }],
    });
    let event = json!({
        "kind": 3, "traceState": "vendor=x",
        "events": [{
            "timeUnixNano": (START_NS + 3_000_001).to_string(), "name": "retry",
            "attributes": [{ "key": "attempt", "value": { "intValue": "2" } }],
        }],
    });
    let lines = [
        line("bank", (1, 13, 12), "pay", 3..9, kernel(2_000_000)),
        line("shop", (1, 12, 11), "call", 2..10, event),
        line("shop", (1, 14, 11), "save", 12..17, kernel(4_000_000)),
        line("shop", (1, 15, 14), "lock wait", 13..15, wait),
        line("shop", (1, 11, 0), "order", 0..20, json!({ "kind": 2, "status": { "code": 1 } })),
        line("bank", (2, 23, 22), "pay", 102..106, failed.clone()),
        line("shop", (2, 22, 21), "call", 101..107, json!({})),
        line("shop", (2, 21, 0), "order", 100..110, failed),
    ];
    let path = folder.join("shop.jsonl");
    write(&path, lines.concat()).unwrap();
    path
}

/// Each column of each span, with real spans from the frames of a capture.
#[test]
fn the_table_has_what_view_says_of_each_span() {
    if !need(&NEEDS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.spans");
    let recorder = Spantap::record(&capture, &[]);
    let mut commands = Command::new(Build::Release.path(Linkage::Executable, 0));
    // Zipkin has neither links nor types.
    commands.env("TRACING_USDT_FORMAT", "otlp-protobuf");
    let mut fixture = Fixture::spawn(&mut commands, Some(recorder.socket()));
    fixture.run("tree");
    fixture.run("threads 2 100");
    fixture.run("flush");
    wait_until("a frame is written", || metadata(&capture).is_ok_and(|file| file.len() > 1_000));
    fixture.end();
    assert!(recorder.terminate().status.success());

    for path in [capture, shop(folder.path())] {
        let database = filled(folder.path(), &path);
        let select = "SELECT *, toUnixTimestamp64Nano(Timestamp) AS ns, \
                      arrayMap(time -> toUnixTimestamp64Nano(time), Events.Timestamp) AS event_ns \
                      FROM otel_traces SETTINGS output_format_json_quote_64bit_integers = 0";
        let rows = database.run(&[select]);
        let by_id: BTreeMap<_, _> = rows
            .iter()
            .map(|row| ((row["TraceId"].clone().to_string(), row["SpanId"].to_string()), row))
            .collect();
        let spans = viewed(&path);
        assert_eq!((rows.len(), by_id.len()), (spans.len(), spans.len()));
        for (trace, process, span) in &spans {
            let row = by_id[&(trace["trace_id"].to_string(), span["span_id"].to_string())];
            let start: u64 = trace["start_unix_nano"].as_str().unwrap().parse().unwrap();
            let at = |of: &Value| Value::from(start.wrapping_add_signed(of["offset_ns"].as_i64().unwrap()));
            let all = |key: &str, of: &dyn Fn(&Value) -> Value| -> Value {
                span[key].as_array().unwrap().iter().map(of).collect()
            };
            let kind = span["kind"].as_str().unwrap_or("unspecified");
            let expected = [
                ("ns", at(span)),
                ("ParentSpanId", span["parent_span_id"].as_str().unwrap_or_default().into()),
                ("SpanName", span["name"].clone()),
                ("SpanKind", (kind[..1].to_uppercase() + &kind[1..]).into()),
                ("ServiceName", process["service"].clone()),
                ("ResourceAttributes", texts(&process["resource"])),
                ("SpanAttributes", texts(&span["attributes"])),
                ("Duration", span["duration_ns"].clone()),
                ("StatusMessage", span["status_message"].as_str().unwrap_or_default().into()),
                ("event_ns", all("events", &at)),
                ("Events.Name", all("events", &|event| event["name"].clone())),
                ("Events.Attributes", all("events", &|event| texts(&event["attributes"]))),
                ("Links.TraceId", all("links", &|link| link["trace_id"].clone())),
                ("Links.SpanId", all("links", &|link| link["span_id"].clone())),
                ("Links.Attributes", all("links", &|link| texts(&link["attributes"]))),
            ];
            for (column, expected) in expected {
                assert_eq!(row[column], expected, "{column}: {row}");
            }
            assert_eq!(row["StatusCode"] == "Error", span["error"] == true, "{row}");
        }
    }
}

/// As the exporter's own table has them.
#[test]
fn a_table_with_computed_columns_takes_the_rows() {
    if !need(&NEEDS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    let path = shop(folder.path());
    spantap(&["export", path.to_str().unwrap(), "--to", &format!("clickhouse={}", rows.display())]);
    let items = "ResourceAttributeItems Array(String) ALIAS arrayMap(pair -> concat(pair.1, '=', pair.2), \
                 CAST(ResourceAttributes, 'Array(Tuple(String, String))')), ";
    let table =
        documented("Create the table").replace("INDEX idx_trace_id", &format!("{items}INDEX idx_trace_id"));
    let insert = documented("Fill the table").replace("spans.jsonl", rows.to_str().unwrap());
    let select =
        "SELECT DISTINCT ResourceAttributeItems AS items FROM otel_traces WHERE ServiceName = 'bank'";
    let found = ClickHouse::empty().run(&[&table, &insert, select]);
    assert_eq!(Value::from(found), json!([{ "items": ["service.name=bank"] }]));
}

/// What `view --json` does not have.
#[test]
fn states_versions_and_statuses_are_in_their_columns() {
    if !need(&NEEDS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let database = filled(folder.path(), &shop(folder.path()));
    let rows = database.run(&[
        "SELECT SpanName, TraceState, ScopeName, ScopeVersion, StatusCode, Links.TraceState FROM otel_traces \
         WHERE TraceId LIKE '%1' ORDER BY SpanId",
    ]);
    let expected = json!([
        { "SpanName": "order", "TraceState": "", "ScopeName": "made.up", "ScopeVersion": "1.2", "StatusCode": "Ok", "Links.TraceState": [] },
        { "SpanName": "call", "TraceState": "vendor=x", "ScopeName": "made.up", "ScopeVersion": "1.2", "StatusCode": "Unset", "Links.TraceState": [] },
        { "SpanName": "pay", "TraceState": "", "ScopeName": "made.up", "ScopeVersion": "1.2", "StatusCode": "Unset", "Links.TraceState": [] },
        { "SpanName": "save", "TraceState": "", "ScopeName": "made.up", "ScopeVersion": "1.2", "StatusCode": "Unset", "Links.TraceState": [] },
        { "SpanName": "lock wait", "TraceState": "", "ScopeName": "spantap.kernel", "ScopeVersion": "1.2", "StatusCode": "Unset", "Links.TraceState": ["a=b"] },
    ]);
    assert_eq!(Value::from(rows), expected);
}

#[test]
fn documented_queries_find_what_view_and_graph_say() {
    if !need(&NEEDS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = shop(folder.path());
    let database = filled(folder.path(), &path);
    let spans = viewed(&path);
    let run = |comment: &str| Value::from(database.run(&[&documented(comment)]));
    let ms = |ns: &Value| ns.as_f64().unwrap() / 1e6;

    let mut disk: Vec<_> =
        spans.iter().filter(|(_, _, span)| !span["attributes"]["kernel.disk_ns"].is_null()).collect();
    disk.sort_by_key(|(_, _, span)| std::cmp::Reverse(span["attributes"]["kernel.disk_ns"].as_u64()));
    let expected: Value = disk
        .iter()
        .map(|(trace, process, span)| {
            json!({
                "disk_ms": ms(&span["attributes"]["kernel.disk_ns"]), "ms": ms(&span["duration_ns"]),
                "ServiceName": process["service"], "SpanName": span["name"], "TraceId": trace["trace_id"],
            })
        })
        .collect();
    let first = json!({ "disk_ms": 4.0, "ms": 5.0, "ServiceName": "shop", "SpanName": "save", "TraceId": format!("{:032x}", 1) });
    assert_eq!(expected[0], first);
    assert_eq!(numbers(run("The spans that waited longest for disks")), numbers(expected));

    let mut services: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (_, process, span) in spans.iter().filter(|(_, _, span)| !is_kernel(span)) {
        let (all, errors) = services.entry(process["service"].as_str().unwrap().to_owned()).or_default();
        *all += 1;
        *errors += u64::from(span["error"] == true);
    }
    let expected: Value = services
        .iter()
        .map(|(service, (spans, errors))| json!({ "ServiceName": service, "spans": spans, "errors": errors }))
        .collect();
    assert_eq!(
        (&expected[0]["errors"], &expected[1]["errors"], services.len()),
        (&json!(1), &json!(1), 2),
        "{expected}"
    );
    assert_eq!(numbers(run("Errors by service")), numbers(expected));

    let mut names: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    for (_, process, span) in spans.iter().filter(|(_, _, span)| !is_kernel(span)) {
        let key = [&process["service"], &span["name"]].map(|text| text.as_str().unwrap().to_owned());
        names.entry(key.into()).or_default().push(span["duration_ns"].as_u64().unwrap());
    }
    let expected: BTreeSet<String> = names
        .into_iter()
        .map(|((service, name), mut durations)| {
            durations.sort_unstable();
            let p95 = durations[durations.len() * 95 / 100] as f64 / 1e6;
            let row =
                json!({ "ServiceName": service, "SpanName": name, "spans": durations.len(), "p95_ms": p95 });
            numbers(row).to_string()
        })
        .collect();
    let found = numbers(run("The 95th percentile by name"));
    assert_eq!(found[0]["SpanName"], "order", "{found}");
    assert_eq!(found.as_array().unwrap().iter().map(Value::to_string).collect::<BTreeSet<_>>(), expected);

    let id = format!("{:032x}", 1);
    let query = documented("A trace, each span with the name of its parent");
    let found = database.run(&[&format!("SET param_trace = '{id}'"), &query]);
    let of_trace: Vec<_> = spans.iter().filter(|(trace, ..)| trace["trace_id"] == *id).collect();
    let name = |id: &Value| {
        of_trace.iter().find(|(_, _, span)| span["span_id"] == *id).map(|(_, _, span)| &span["name"])
    };
    let expected: BTreeSet<String> = of_trace
        .iter()
        .map(|(_, process, span)| {
            let parent = name(&span["parent_span_id"]).cloned().unwrap_or_else(|| "".into());
            let row = json!({
                "offset_ms": ms(&span["offset_ns"]), "ms": ms(&span["duration_ns"]), "ServiceName": process["service"],
                "SpanName": span["name"], "parent": parent,
            });
            numbers(row).to_string()
        })
        .collect();
    assert_eq!(
        found.iter().map(|row| row["SpanName"].as_str().unwrap()).collect::<Vec<_>>(),
        ["order", "call", "pay", "save", "lock wait"]
    );
    assert_eq!(found.into_iter().map(|row| numbers(row).to_string()).collect::<BTreeSet<_>>(), expected);

    let waits = spans.iter().filter(|(_, _, span)| !span["attributes"]["kernel.waker.span"].is_null());
    let expected: Value = waits
        .map(|(trace, _, wait)| {
            let span = |trace_id: &Value, id: &Value| {
                let found = spans.iter().find(|(of, _, span)| of["trace_id"] == *trace_id && span["span_id"] == *id);
                found.map(|(_, _, span)| span["name"].clone()).unwrap()
            };
            let link = &wait["links"][0];
            json!({
                "waited": span(&trace["trace_id"], &wait["parent_span_id"]), "wait": wait["name"],
                "ended_by": span(&link["trace_id"], &link["span_id"]), "times": 1, "ms": ms(&wait["duration_ns"]),
            })
        })
        .collect();
    assert_eq!(
        expected,
        json!([{ "waited": "save", "wait": "lock wait", "ended_by": "order", "times": 1, "ms": 2.0 }])
    );
    let query = "Which spans waited for which";
    assert_eq!(numbers(run(query)), numbers(expected.clone()));
    // Also if the span of the thread that ended the wait is in another file.
    let lines = read_to_string(&path).unwrap();
    let part: Vec<&str> =
        lines.split_inclusive('\n').filter(|line| line.contains("wait") || line.contains("save")).collect();
    let other = folder.path().join("part.jsonl");
    write(&other, part.concat()).unwrap();
    let found = filled(folder.path(), &other).run(&[&documented(query)]);
    assert_eq!((part.len(), numbers(found.into())), (2, numbers(expected)));

    let graph: Value = serde_json::from_str(&spantap(&["graph", path.to_str().unwrap(), "--json"])).unwrap();
    let node = |at: &Value| &graph["nodes"][at.as_u64().unwrap() as usize];
    let edges =
        graph["edges"].as_array().unwrap().iter().filter(|edge| node(&edge["from"])["node"] == "service");
    let expected: Value = edges
        .map(|edge| {
            json!({
                "caller": node(&edge["from"])["service"], "called": node(&edge["to"])["service"], "calls": edge["calls"],
                "errors": edge["errors"], "average_ms": ms(&edge["average_ns"]),
            })
        })
        .collect();
    assert_eq!(expected.as_array().unwrap().len(), 1);
    assert_eq!(numbers(run("Who calls whom")), numbers(expected));
}

/// The same with all numbers as `f64`: ClickHouse writes whole ones without a point.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().unwrap().into(),
        Value::Array(list) => list.into_iter().map(numbers).collect(),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, numbers(value))).collect())
        }
        other => other,
    }
}

/// Text that could be taken for something else, and times at both ends.
#[test]
fn hostile_text_and_odd_times_arrive_as_they_are() {
    if !need(&NEEDS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "'; DROP TABLE otel_traces; --",
        "a\"b\\c\n\t\u{0}\u{1b}[31m\u{7f}\u{9b}",
        "\u{202e}gnp.exe\u{2028}\u{fffe}😀e\u{301}",
        "{\"a\":[1]}",
        "",
    ];
    let attributes = |name: &str| json!({ "attributes": { "of": name, format!("key {name}"): "x" } });
    let mut lines: Vec<String> =
        (1..).zip(names).map(|(id, name)| line("shop", (id, id, 0), name, 0..1, attributes(name))).collect();
    let times = [
        ("1970", "1", "2"),
        ("2001", "999999999999999999", "1000000000000000001"),
        ("late", "9223372036854775807", "18446744073709551615"),
    ];
    for (id, (name, start, end)) in (100..).zip(times) {
        let extra = json!({ "startTimeUnixNano": start, "endTimeUnixNano": end });
        lines.push(line("shop", (id, id, 0), name, 0..1, extra));
    }
    let path = folder.path().join("hostile.jsonl");
    write(&path, lines.concat()).unwrap();
    let database = filled(folder.path(), &path);
    let rows = database.run(&[
        "SELECT SpanName, SpanAttributes, toUnixTimestamp64Nano(Timestamp) AS ns, Duration FROM otel_traces \
                               ORDER BY TraceId SETTINGS output_format_json_quote_64bit_integers = 0",
    ]);
    assert_eq!(rows.len(), names.len() + times.len());
    for (row, name) in rows.iter().zip(names) {
        let expected = json!({ "of": name, format!("key {name}"): "x" });
        assert_eq!((&row["SpanName"], &row["SpanAttributes"]), (&name.into(), &expected));
    }
    let found = rows[names.len()..]
        .iter()
        .map(|row| (row["ns"].as_u64().unwrap(), row["Duration"].as_u64().unwrap()));
    let end = i64::MAX as u64;
    assert_eq!(found.collect::<Vec<_>>(), [(1, 1), (999_999_999_999_999_999, 2), (end, u64::MAX - end)]);
}
