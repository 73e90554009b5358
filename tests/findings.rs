//! `spantap view --findings`: what it finds in recordings of a program with a planted fault, and in those of one without.
//! `kernel/findings.rs` has the faults whose cause only the kernel knows.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs::write;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use e2e::{Spantap, program};
use serde_json::{Value, json};

fn view(args: &[&str]) -> Output {
    Command::new(program("spantap"))
        .arg("view")
        .args(args)
        .env("COLUMNS", "80")
        .env("TZ", "UTC")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The findings that `--json` prints.
fn findings(path: &Path) -> Vec<Value> {
    let output = view(&[path.to_str().unwrap(), "--findings", "--json"]);
    assert!(output.status.success(), "{output:?}");
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Records the program with a fault, and checks that exactly this was found.
fn planted(mode: &str, requests: u32, expected: &[(&str, &str)]) -> Vec<Value> {
    // On two processors, they would disturb each other.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("planted.spans");
    let place = format!("PLANTED_FOLDER={}", env!("CARGO_TARGET_TMPDIR"));
    let requests = requests.to_string();
    let run = ["env", &place, env!("CARGO_BIN_EXE_planted"), mode, &requests];
    let ended = Spantap::record_program(&capture, &run).wait();
    assert!(ended.status.success(), "{ended:?}");
    let found = findings(&capture);
    let names: Vec<(&str, &str)> =
        found.iter().map(|of| (of["kind"].as_str().unwrap(), of["name"].as_str().unwrap())).collect();
    assert_eq!(names, expected, "{mode}: {found:#?}");
    found
}

const REQUEST: &str = "GET /orders/{id}";

#[test]
fn nothing_is_found_in_a_healthy_program() {
    planted("healthy", 200, &[]);
}

/// Slow, but by itself nothing says that it should be faster.
#[test]
fn a_slow_query_is_no_finding() {
    planted("slow-query", 100, &[]);
}

#[test]
fn a_query_for_each_item_is_found() {
    let found = planted("n-plus-one", 60, &[("repeated_calls", REQUEST)]);
    assert_eq!(found[0]["details"]["call"], "load_item");
    assert_eq!((&found[0]["details"]["calls"], &found[0]["traces"]), (&json!(60 * 20), &json!(60)));
    assert_eq!(found[0]["details"]["differ_in"], json!(["item"]));
}

#[test]
fn two_services_that_are_asked_one_after_the_other_are_found() {
    let found = planted("serial-calls", 100, &[("serial_calls", REQUEST)]);
    assert_eq!(found[0]["details"]["first"], "fetch_prices");
    assert_eq!(found[0]["details"]["second"], "fetch_stock");
    // Each time, the shorter of the two: 5 ms at least.
    assert!(found[0]["cost_ns"].as_u64().unwrap() >= 100 * 5_000_000, "{found:#?}");
}

#[test]
fn a_wait_without_a_span_is_found() {
    let found = planted("gap", 100, &[("gap", REQUEST)]);
    assert_eq!(found[0]["details"]["after"], "load_order");
    assert_eq!(found[0]["details"]["before"], "load_items");
    assert!(found[0]["cost_ns"].as_u64().unwrap() >= 100 * 20_000_000, "{found:#?}");
}

#[test]
fn an_error_that_begins_in_the_middle_is_found() {
    let found = planted("new-error", 200, &[("new_error", "fetch_prices")]);
    assert_eq!(found[0]["details"]["message"], "no price for basket #");
    assert_eq!(found[0]["times"], 33);
}

#[test]
fn a_span_that_computes_on_a_worker_is_found() {
    let found = planted("held-worker", 60, &[("held_thread", "render")]);
    assert_eq!(found[0]["details"]["cause"], json!(null), "a socket does not tell");
}

#[test]
fn a_span_that_waits_for_the_disk_on_a_worker_is_found() {
    planted("disk-stall", 60, &[("held_thread", "write_audit")]);
}

/// A file of OTLP in JSON with a request that asks ten times for an item.
fn made(folder: &Path, name: &str) -> String {
    let span = |id: u64, parent: u64, name: &str, from: u64, to: u64, item: u64| {
        let mut span = json!({
            "traceId": format!("{:032x}", 7), "spanId": format!("{id:016x}"), "name": name, "kind": 3,
            "startTimeUnixNano": (1_800_000_000_000_000_000 + from * 1_000_000).to_string(),
            "endTimeUnixNano": (1_800_000_000_000_000_000 + to * 1_000_000).to_string(),
            "attributes": [{ "key": "item", "value": { "intValue": item.to_string() } }],
        });
        if parent > 0 {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        span
    };
    let mut spans = vec![span(1, 0, name, 0, 12, 0)];
    spans.extend((0..10).map(|item| span(item + 2, 1, "load_item", item + 1, item + 2, item)));
    let service = json!([{ "key": "service.name", "value": { "stringValue": "shop" } }]);
    let resource = json!({ "attributes": service });
    let request = json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": spans }] }] });
    let path = folder.join("it's made.jsonl");
    write(&path, request.to_string() + "\n").unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_finding_has_its_evidence_and_a_command_that_shows_its_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "GET \u{1b}[2J/cart");
    let output = view(&[&path, "--findings"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let command = format!("spantap view '{}' --trace {:032x}", path.replace('\'', "'\\''"), 7);
    let expected = format!(
        "\
1 finding in 1 trace, 12.0 ms together

1. N+1 calls: shop
    GET \\x1b[2J/cart calls load_item 10 times one after the other, 1.00 ms each.
    The calls differ only in item, so that one call for all may do.
    It costs 10.0 ms in 1 of 1 trace, 83% of the time of all.
    {command}
"
    );
    assert_eq!(stdout(&output), expected);
    // A shell runs it as it is.
    let run = command.replacen("spantap", program("spantap").to_str().unwrap(), 1);
    let shown = Command::new("sh").args(["-c", &run]).output().unwrap();
    assert!(stdout(&shown).contains("trace 00000000000000000000000000000007"), "{shown:?}");
}

#[test]
fn findings_in_json_are_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "GET /cart");
    let found = findings(Path::new(&path));
    let expected = json!({
        "version": 1,
        "kind": "repeated_calls",
        "service": "shop",
        "name": "GET /cart",
        "what": "GET /cart calls load_item 10 times one after the other, 1.00 ms each",
        "why": "the calls differ only in item, so that one call for all may do",
        "cost_ns": 10_000_000,
        "times": 1,
        "traces": 1,
        "all_traces": 1,
        "all_ns": 12_000_000,
        "trace_ids": [format!("{:032x}", 7)],
        "details": { "call": "load_item", "calls": 10, "most_calls": 10, "differ_in": ["item"], "statement": null },
    });
    assert_eq!((found.len(), &found[0]), (1, &expected));
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md")).unwrap();
    for field in expected.as_object().unwrap().keys() {
        assert!(page.contains(&format!("| `{field}` |")), "docs/json.md does not have {field}");
    }
}

#[test]
fn only_the_traces_that_are_wanted_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "GET /cart");
    let output = view(&[&path, "--findings", "--where", "name == \"other\""]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("no trace matches, among 11 spans"),
        "{output:?}"
    );
    let output = view(&[&path, "--findings", "--where", "duration > 11ms"]);
    assert!(stdout(&output).starts_with("1 finding in 1 trace"), "{output:?}");
    let output = view(&[&path, "--findings", "--follow"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be used with"), "{output:?}");
}
