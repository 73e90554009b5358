//! `spantap diff`: what has changed between two recordings, and why.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs::{read, write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{EBPF, Spantap, need, program};
use serde_json::{Value, json};

/// Runs `spantap diff` with these arguments.
fn diff(args: &[&str]) -> Output {
    let mut command = Command::new(program("spantap"));
    command.arg("diff").args(args).env("COLUMNS", "100").env("TZ", "UTC").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What `--json` prints, and the exit code.
fn found(args: &[&str]) -> (Value, i32) {
    let output = diff(&[args, &["--json"]].concat());
    let found = serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (found, output.status.code().unwrap())
}

/// The findings as `name: measures; of their reason`, in their order.
fn outline(found: &Value) -> Vec<String> {
    let finding = |of: &Value| {
        let text = |of: &Value| of.as_str().unwrap().to_owned();
        let measures = of["changes"].as_array().unwrap().iter().map(|change| text(&change["measure"]));
        let calls =
            of["calls"].as_array().unwrap().iter().map(|call| format!("calls {}", text(&call["name"])));
        let all = measures.filter(|measure| measure != "self").chain(calls).collect::<Vec<_>>().join(" ");
        let reason = of["because_of"]["name"].as_str().map(|name| format!("; {name}"));
        format!("{}: {all}{}", text(&of["name"]), reason.unwrap_or_default())
    };
    found["findings"].as_array().unwrap().iter().map(finding).collect()
}

/// Draws numbers from 0 to 1. (Marsaglia's xorshift.)
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About this long: at least 80 % of it, and seldom much longer.
    fn near(&mut self, us: f64) -> u64 {
        (1e3 * us * (0.8 - 0.2 * (1.0 - self.share()).ln())) as u64
    }
}

const START_NS: u64 = 1_800_000_000_000_000_000;
/// From one trace to the next.
const STEP_NS: u64 = 100_000_000;

/// A run of the shop, without a fault by default. The fields of a trace change with its number, so two runs with other seeds are two runs
/// of the same build.
#[derive(Clone)]
struct Run {
    seed: u64,
    traces: u64,
    start_ns: u64,
    /// More time in which a query waits for a lock, in microseconds.
    lock_us: f64,
    queries: u64,
    /// One of so many payments fails.
    fails: u64,
    /// A name that only some runs have.
    extra: Option<&'static str>,
    accounts: bool,
    service: &'static str,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            seed: 1,
            traces: 1000,
            start_ns: START_NS,
            lock_us: 0.0,
            queries: 1,
            fails: u64::MAX,
            extra: None,
            accounts: true,
            service: "shop",
        }
    }
}

impl Run {
    /// Writes the run: traces of `GET /orders`, which calls `sqlite` and `pay`, and an `extra`.
    fn write(&self, path: &Path) -> PathBuf {
        let mut random = Random(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..20).for_each(|_| _ = random.share());
        let mut lines = String::new();
        for trace in 0..self.traces {
            let start = self.start_ns + trace * STEP_NS;
            let mut spans = Vec::new();
            let mut at = start + random.near(100.0);
            let mut child = |name: &str, ns: u64, lock_ns: u64, is_error: bool| {
                let mut span = span(trace + self.seed * 1_000_000, spans.len() as u64 + 2, 1, name, at, ns);
                if is_error {
                    span["status"] = json!({ "code": 2 });
                }
                if self.accounts {
                    span["attributes"] = account(ns - lock_ns, lock_ns);
                }
                at += ns;
                spans.push(span);
            };
            for _ in 0..self.queries {
                let lock_ns = if self.lock_us > 0.0 { random.near(self.lock_us) } else { 0 };
                child("sqlite", random.near(5_000.0) + lock_ns, lock_ns, false);
            }
            let fails = self.fails < u64::MAX && random.share() * (self.fails as f64) < 1.0;
            child("pay", random.near(2_000.0), 0, fails);
            if let Some(extra) = self.extra {
                child(extra, random.near(1_000.0), 0, false);
            }
            let end = at + random.near(300.0);
            let mut root = span(trace + self.seed * 1_000_000, 1, 0, "GET /orders", start, end - start);
            if self.accounts {
                root["attributes"] = account(end - start, 0);
            }
            spans.push(root);
            let service = json!({ "key": "service.name", "value": { "stringValue": self.service } });
            let resource = json!({ "attributes": [service] });
            let spans = json!([{ "resource": resource, "scopeSpans": [{ "spans": spans }] }]);
            lines += &(json!({ "resourceSpans": spans }).to_string() + "\n");
        }
        write(path, lines).unwrap();
        path.to_owned()
    }
}

fn span(trace: u64, id: u64, parent: u64, name: &str, start: u64, ns: u64) -> Value {
    let mut span = json!({
        "traceId": format!("{:032x}", u128::from(trace) + 1),
        "spanId": format!("{id:016x}"),
        "name": name,
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": (start + ns).to_string(),
    });
    if parent > 0 {
        span["parentSpanId"] = format!("{parent:016x}").into();
    }
    span
}

/// The attributes of a thread that was on a CPU for most of the time.
fn account(ns: u64, lock_ns: u64) -> Value {
    let state = |key: &str, ns: u64| json!({ "key": key, "value": { "intValue": ns.to_string() } });
    json!([state("kernel.on_cpu_ns", ns), state("kernel.lock_ns", lock_ns)])
}

/// Writes two runs, and returns their paths as texts.
fn two(folder: &Path, before: &Run, after: &Run) -> [String; 2] {
    [("before", before), ("after", after)].map(|(name, run)| {
        let path = run.write(&folder.join(name).with_extension("jsonl"));
        path.to_str().unwrap().to_owned()
    })
}

/// The same build, with other seeds.
fn same() -> [Run; 2] {
    [Run::default(), Run { seed: 2, ..Run::default() }]
}

#[test]
fn two_runs_of_the_same_build_and_a_file_with_itself_have_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = same();
    let [before, after] = two(folder.path(), &before, &after);
    for (one, other) in [(&before, &after), (&before, &before)] {
        let output = diff(&[one, other]);
        assert_eq!((output.status.code(), stdout(&output)), (Some(0), String::new()));
        assert_eq!(
            stderr(&output),
            "spantap: no change in 3 names, among 3,000 spans before and 3,000 spans after\n"
        );
    }
}

#[test]
fn a_lock_is_the_reason_and_its_callers_only_follow() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = same();
    let after = Run { lock_us: 2_000.0, ..after };
    let [before, after] = two(folder.path(), &before, &after);
    let output = diff(&[&before, &after]);
    println!("{}", stdout(&output));
    assert_eq!(output.status.code(), Some(1));
    let (found, _) = found(&[&before, &after]);
    assert_eq!(outline(&found), ["sqlite: p50 p95 mean", "GET /orders: p50 p95 mean; sqlite"]);
    println!("{found:#}");
}
