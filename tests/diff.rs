//! `spantap diff`: what has changed between two recordings, and why.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs::{copy, read, write};
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
    /// Whether a request fails if the payment fails.
    passes_errors_on: bool,
    /// Whether one of eight requests fails, and its payment does not.
    fails_itself: bool,
    /// A name that only some runs have.
    extra: Option<&'static str>,
    /// How long each of 100 spans takes that all come in the first trace, in microseconds.
    startup_us: f64,
    /// How many spans there are at the end whose names nothing else has.
    names: u64,
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
            passes_errors_on: false,
            fails_itself: false,
            extra: None,
            startup_us: 0.0,
            names: 0,
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
                span["attributes"] = account(ns - lock_ns, lock_ns);
                at += ns;
                spans.push(span);
            };
            for _ in 0..self.queries {
                let lock_ns = if self.lock_us > 0.0 { random.near(self.lock_us) } else { 0 };
                child("sqlite", random.near(5_000.0) + lock_ns, lock_ns, false);
            }
            let fails_itself = self.fails_itself && trace % 8 == 0;
            let fails = self.fails < u64::MAX && random.share() * (self.fails as f64) < 1.0 && !fails_itself;
            child("pay", random.near(2_000.0), 0, fails);
            if let Some(extra) = self.extra {
                child(extra, random.near(1_000.0), 0, false);
            }
            let end = at + random.near(300.0);
            let mut root = span(trace + self.seed * 1_000_000, 1, 0, "GET /orders", start, end - start);
            root["attributes"] = account(end - start, 0);
            if fails && self.passes_errors_on || fails_itself {
                root["status"] = json!({ "code": 2 });
            }
            spans.push(root);
            let first = 0..if trace == 0 && self.startup_us > 0.0 { 100 } else { 0 };
            spans.extend(first.map(|n| {
                let (id, start) = (trace + self.seed * 1_000_000, start + n * 100_000);
                span(id, 100 + n, 0, "load", start, random.near(self.startup_us))
            }));
            let last = 0..if trace + 1 == self.traces { self.names } else { 0 };
            spans.extend(last.map(|n| {
                span(trace + self.seed * 1_000_000, 1_000 + n, 0, &format!("GET /user/{n}"), start, 1_000_000)
            }));
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
            "spantap: no change found in 3 names, among 3,000 spans before and 3,000 spans after\n"
        );
    }
}

/// A shop whose queries wait for a lock for 2 ms.
fn locked() -> Run {
    Run { seed: 2, lock_us: 2_000.0, ..Run::default() }
}

#[test]
fn a_lock_is_the_reason_and_its_callers_only_follow() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = two(folder.path(), &Run::default(), &locked());
    let output = diff(&[&before, &after]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "
                                before    after   change
shop: sqlite              p50  4.64 ms  6.79 ms     +46%
                          p95  7.06 ms  9.16 ms     +30%
                          p99  8.46 ms  11.2 ms     +32%
                      average  4.99 ms  7.02 ms     +41%
  average +2.03 ms: lock +1.99 ms
  because of it: shop: GET /orders p95 +25%
  before: spantap view BEFORE --trace 000000000000000000000000000f42e0
  after:  spantap view AFTER --trace 000000000000000000000000001e8705
";
    let shown = stdout(&output).replace(&before, "BEFORE").replace(&after, "AFTER");
    assert_eq!(shown, expected.trim_start_matches('\n'));
    assert_eq!(stderr(&output), "");
    let (found, _) = found(&[&before, &after]);
    assert_eq!(outline(&found), ["sqlite: p50 p95 p99 mean", "GET /orders: p50 p95 p99 mean; sqlite"]);

    let coloured = stdout(&diff(&[&before, &after, "--color", "always"]));
    assert!(coloured.contains("\x1b[31m   +46%\x1b[0m"), "{coloured:?}");
    // The other way round, it is an improvement.
    let coloured = stdout(&diff(&[&after, &before, "--color", "always"]));
    assert!(coloured.contains("\x1b[32m   -32%\x1b[0m"), "{coloured:?}");
}

/// The command that is printed shows a trace with a span of about that duration.
#[test]
fn the_traces_have_spans_near_the_percentile_that_changed() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = two(folder.path(), &Run::default(), &locked());
    let (found, _) = found(&[&before, &after]);
    let finding = &found["findings"][0];
    for (file, side) in [(&before, "before"), (&after, "after")] {
        let id = finding[side]["trace_id"].as_str().unwrap();
        let output =
            Command::new(program("spantap")).args(["view", file, "--trace", id, "--json"]).output().unwrap();
        let trace: Value = serde_json::from_slice(&output.stdout).unwrap();
        let spans = trace["spans"].as_array().unwrap();
        let query = spans.iter().find(|span| span["name"] == "sqlite").unwrap();
        let (ns, p95) = (query["duration_ns"].as_f64().unwrap(), finding[side]["p95_ns"].as_f64().unwrap());
        assert!((ns / p95 - 1.0).abs() < 0.02, "{side}: {ns} is not near {p95}");
    }
}

#[test]
fn json_has_what_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let after = Run { extra: Some("audit"), ..locked() };
    let [before, after] = two(folder.path(), &Run::default(), &after);
    let (mut found, code) = found(&[&before, &after]);
    assert_eq!(code, 1);
    let object = found.as_object_mut().unwrap();
    let findings = object.remove("findings").unwrap();
    let new = object.remove("new").unwrap();
    let expected = json!({
        "version": 1,
        "before": { "spans": 3000, "traces": 1000, "lost_spans": 0 },
        "after": { "spans": 4000, "traces": 1000, "lost_spans": 0 },
        "failed": [],
        "unknown": [],
        "is_damaged": false,
        "compared_names": 3,
        "vanished": [],
        "too_few": [],
        "not_judged": [],
        "uneven": [],
        "crossing_traces": 0,
        "left_out_spans": 0,
        "left_out_calls": 0,
        "unread_traces": 0,
        "lost_spans": 0,
    });
    assert_eq!(found, expected);

    let [sqlite, order] = ["sqlite", "GET /orders"]
        .map(|name| findings.as_array().unwrap().iter().find(|of| of["name"] == name).unwrap());
    let keys = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(sqlite), "after because_of before calls causes changes name service");
    let figures = "average_ns errors p50_ns p95_ns p99_ns self_ns spans trace_id";
    assert_eq!([keys(&sqlite["before"]), keys(&new[0]["figures"])], [figures, figures]);
    assert_eq!(keys(&new[0]), "figures name service");
    let lock = &sqlite["causes"][0];
    assert_eq!((&lock["cause"], &lock["called"]), (&json!("lock"), &Value::Null));
    assert!((1_900_000..2_100_000).contains(&lock["change_ns"].as_i64().unwrap()), "{lock}");
    let p95 = &sqlite["changes"][1];
    assert_eq!(keys(p95), "after before chance measure");
    assert_eq!(p95["after"].as_f64(), sqlite["after"]["p95_ns"].as_f64());
    assert!(p95["chance"].as_f64().unwrap() < 1e-4, "{p95}");

    // It calls more, which is a reason by itself.
    assert_eq!(order["because_of"], Value::Null);
    let calls = json!([{ "service": "shop", "name": "audit", "before": 0.0, "after": 1.0, "chance": 0.0 }]);
    assert_eq!(order["calls"], calls);
    assert_eq!(order["causes"][0]["called"], json!({ "service": "shop", "name": "sqlite" }));
    assert_eq!((&new[0]["name"], &new[0]["figures"]["spans"]), (&json!("audit"), &json!(1000)));
}

#[test]
fn more_calls_are_a_reason_of_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = same();
    let [before, after] = two(folder.path(), &before, &Run { queries: 4, ..after });
    let (found, code) = found(&[&before, &after]);
    assert_eq!((outline(&found), code), (vec!["GET /orders: p50 p95 mean calls sqlite".to_owned()], 1));
    let shown = stdout(&diff(&[&before, &after]));
    assert!(shown.contains("\n  calls shop: sqlite 1.0 -> 4.0 times\n"), "{shown}");
    assert!(shown.contains(": in shop: sqlite +15."), "{shown}");
}

#[test]
fn a_caller_that_also_calls_more_is_a_reason_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = two(folder.path(), &Run::default(), &Run { queries: 2, ..locked() });
    let (found, _) = found(&[&before, &after]);
    assert_eq!(BTreeSet::from_iter(reasons(&found)), BTreeSet::from(["GET /orders", "sqlite"]), "{found:#}");
}

#[test]
fn errors_that_are_passed_on_have_one_reason() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = same();
    let after = Run { fails: 8, passes_errors_on: true, ..after };
    let [before, after] = two(folder.path(), &before, &after);
    let (found, _) = found(&[&before, &after]);
    assert_eq!(outline(&found), ["pay: errors", "GET /orders: errors; pay"], "{found:#}");
    let shown = stdout(&diff(&[&before, &after]));
    assert!(shown.contains("\n  because of it: shop: GET /orders errors from 0\n"), "{shown}");
}

#[test]
fn more_errors_are_found_and_some_are_chance() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = same();
    let run = |fails| Run { fails, ..after.clone() };
    let [few, many] = two(folder.path(), &Run { fails: 50, ..before }, &run(8));
    let (found_many, code) = found(&[&few, &many]);
    assert_eq!((outline(&found_many), code), (vec!["pay: errors".to_owned()], 1));
    let change = &found_many["findings"][0]["changes"][0];
    assert!((0.01..0.03).contains(&change["before"].as_f64().unwrap()), "{change}");
    assert!((0.10..0.15).contains(&change["after"].as_f64().unwrap()), "{change}");
    let more = run(35).write(&folder.path().join("more.jsonl"));
    let (found_more, code) = found(&[&few, more.to_str().unwrap()]);
    assert_eq!((outline(&found_more), code), (vec![], 0));
}

/// Payments fail as well, but not those of the orders that do.
#[test]
fn errors_of_other_requests_are_not_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] =
        two(folder.path(), &Run::default(), &Run { seed: 2, fails: 8, fails_itself: true, ..Run::default() });
    let (found, _) = found(&[&before, &after]);
    assert_eq!(BTreeSet::from_iter(reasons(&found)), BTreeSet::from(["GET /orders", "pay"]), "{found:#}");
}

/// After half of the recording, every payment fails: the other half is as before.
#[test]
fn errors_that_begin_during_a_recording_are_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let half = |run: Run| Run { traces: 500, ..run };
    let [before, after] = two(folder.path(), &Run::default(), &half(Run { seed: 2, ..Run::default() }));
    let later = Run { seed: 3, start_ns: START_NS + 500 * STEP_NS, fails: 1, ..Run::default() };
    let later = half(later).write(&folder.path().join("later.jsonl"));
    let both = [before.as_str(), &after, "--after", later.to_str().unwrap()];
    let output = diff(&[&both[..], &["--fail-on", "errors > +1pp"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let expected = "spantap: failed: shop: pay errors 0% -> 50.0% (from 0)\n\
                    spantap: changed in a part of the time only, or unevenly: shop: pay errors 0% -> 50.0% (from 0)\n";
    assert!(stderr(&output).starts_with(expected), "{output:?}");
    let (found, code) = found(&both);
    let uneven = &found["uneven"][0];
    assert_eq!((code, &uneven["name"], &uneven["change"]["measure"]), (1, &json!("pay"), &json!("errors")));
}

#[test]
fn new_and_vanished_names_are_listed_apart() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = same();
    let extra = |name| Some(name);
    let [before, after] = two(
        folder.path(),
        &Run { extra: extra("audit v1"), ..before },
        &Run { extra: extra("audit v2"), ..after },
    );
    let output = diff(&[&before, &after]);
    assert_eq!(output.status.code(), Some(1));
    let shown = stdout(&output);
    assert!(shown.contains("\nnew, only after:\n  shop: audit v2  1,000 spans, average 1."), "{shown}");
    assert!(shown.contains("\nvanished, only before:\n  shop: audit v1  1,000 spans, average "), "{shown}");
    // A new name is no change of a measure. It has a condition of its own.
    assert_eq!(diff(&[&before, &after, "--fail-on", "p50 > +0%"]).status.code(), Some(0));
    for (condition, message) in
        [("new", "shop: audit v2 is new"), ("vanished", "shop: audit v1 has vanished")]
    {
        let output = diff(&[&before, &after, "--fail-on", condition]);
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(1), format!("spantap: failed: {message}\n"))
        );
    }
}

#[test]
fn too_few_spans_are_no_guess() {
    let folder = tempfile::tempdir().unwrap();
    let few = |seed, lock_us| Run { seed, lock_us, traces: 19, ..Run::default() };
    let [before, after] = two(folder.path(), &few(1, 0.0), &few(2, 50_000.0));
    let output = diff(&[&before, &after]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()));
    let expected = "spantap: nothing to compare: no name has 20 spans on each side, spread over time, among 57 spans before \
                    and 57 spans after\n";
    assert_eq!(stderr(&output), expected);
    let (found, _) = found(&[&before, &after]);
    let of_first = json!({ "service": "shop", "name": "GET /orders", "spans_before": 19, "spans_after": 19 });
    assert_eq!(found["too_few"][0], of_first);
    assert_eq!(found["too_few"].as_array().unwrap().len(), 3);

    // With a few more, what is ten times as long is found.
    let some = |seed, lock_us| Run { traces: 30, ..few(seed, lock_us) };
    let [before, after] = two(folder.path(), &some(1, 0.0), &some(2, 50_000.0));
    assert_eq!(diff(&[&before, &after]).status.code(), Some(1));
}

/// A gate that passes without having looked is worse than none.
#[test]
fn a_condition_that_could_not_be_judged_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let few = |run: Run| Run { traces: 199, ..run };
    let [before, after] = two(folder.path(), &few(Run::default()), &few(locked()));
    let output = diff(&[&before, &after, "--fail-on", "p95 > +10%"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let expected = "spantap: p95 was judged in no name, so whether a condition of p95 is met is not known\n\
                    spantap: not judged, because there is too little to say: p95 in 3 names, p99 in 3 names; --json lists them\n";
    assert_eq!(stderr(&output), expected);
    assert_eq!(diff(&[&before, &after, "--fail-on", "mean > +10%"]).status.code(), Some(1));
    assert_eq!(diff(&[&before, &after, "--fail-on", "calls > +1"]).status.code(), Some(0));
    let conditions = ["--fail-on", "p95 > +10%", "--fail-on", "mean > +30%"];
    let (found, _) = found(&[&[before.as_str(), &after][..], &conditions].concat());
    assert_eq!(found["unknown"], json!(["p95"]));
    let failed = found["failed"][0].as_str().unwrap();
    assert!(failed.starts_with("shop: sqlite average "), "{failed}");
    let of_first = json!({ "service": "shop", "name": "GET /orders", "measures": ["p95", "p99"] });
    assert_eq!((found["not_judged"].as_array().unwrap().len(), &found["not_judged"][0]), (3, &of_first));
}

/// Such as that of a service that crashed at its start.
#[test]
fn too_few_spans_of_a_name_can_be_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let bulk = |name: &str, seed| {
        let run = Run { seed, service: "bulk", ..Run::default() };
        run.write(&folder.path().join(name)).to_str().unwrap().to_owned()
    };
    let (bulk_before, bulk_after) = (bulk("bulk1.jsonl", 3), bulk("bulk2.jsonl", 4));
    let [before, after] = two(folder.path(), &Run::default(), &Run { seed: 2, traces: 19, ..Run::default() });
    let more = ["--before", bulk_before.as_str(), "--after", &bulk_after];
    let output = diff(&[&[before.as_str(), &after, "--fail-on", "too-few"][..], &more].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let expected =
        "spantap: failed: shop: GET /orders has 1,000 spans before and 19 spans after, too few to compare\n";
    assert!(stderr(&output).starts_with(expected), "{output:?}");
}

/// Whatever disturbed them may have disturbed them all.
#[test]
fn spans_that_all_came_at_once_are_no_sample() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = same();
    let run = |run: &Run, startup_us| Run { startup_us, ..run.clone() };
    let [once, twice] = two(folder.path(), &run(&before, 1_000.0), &run(&after, 3_000.0));
    let of_load = |before: u64, after: u64| json!([{ "service": "shop", "name": "load", "spans_before": before, "spans_after": after }]);
    let (found_both, code) = found(&[&once, &twice]);
    assert_eq!((code, &found_both["too_few"]), (0, &of_load(100, 100)), "{found_both:#}");
    // They are not new, either.
    let without = before.write(&folder.path().join("without.jsonl"));
    let (found_after, code) = found(&[without.to_str().unwrap(), &twice]);
    assert_eq!((code, &found_after["too_few"]), (0, &of_load(0, 100)), "{found_after:#}");
}

/// A phase of a recording is long enough, however many spans come in the others.
#[test]
fn a_name_that_is_a_small_part_of_a_recording_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let short = |run: Run| Run { traces: 200, ..run };
    let [before, after] = two(folder.path(), &short(Run::default()), &short(locked()));
    let later = START_NS + 1000 * STEP_NS;
    let bulk = |name: &str, seed| {
        let run = Run { seed, service: "bulk", traces: 4_000, start_ns: later, ..Run::default() };
        run.write(&folder.path().join(name)).to_str().unwrap().to_owned()
    };
    let (bulk_before, bulk_after) = (bulk("bulk1.jsonl", 3), bulk("bulk2.jsonl", 4));
    let (found, _) = found(&[&before, &after, "--before", &bulk_before, "--after", &bulk_after]);
    assert_eq!((&found["compared_names"], reasons(&found)), (&json!(6), vec!["sqlite"]), "{found:#}");
}

#[test]
fn spans_of_too_many_names_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = two(folder.path(), &Run::default(), &Run { names: 6_000, ..locked() });
    let output = diff(&[&before, &after]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "spantap: 4,997 names not compared: too few spans, or not spread over time; --json lists them\n\
                    spantap: 1,003 spans left out: too many names, or too large a trace; --where chooses some of them\n";
    assert_eq!(stderr(&output), expected);
    assert_eq!(reasons(&found(&[&before, &after]).0), ["sqlite"]);

    // Those that a query chooses are compared, also if they come last.
    let later = Run { service: "later", start_ns: START_NS + 1000 * STEP_NS, ..locked() };
    let [before, after] = [
        ("later1.jsonl", Run { seed: 5, lock_us: 0.0, ..later.clone() }),
        ("later2.jsonl", Run { seed: 6, ..later }),
    ]
    .map(|(name, run)| [after.clone(), run.write(&folder.path().join(name)).to_str().unwrap().to_owned()]);
    let where_ = ["--where", "service == \"later\""];
    let files = ["--before", &before[0], "--before", &before[1], "--after", &after[0], "--after", &after[1]];
    let (chosen, _) = found(&[&files[..], &where_].concat());
    assert_eq!((reasons(&chosen), &chosen["left_out_spans"]), (vec!["sqlite"], &json!(0)));
}

#[test]
fn the_exit_code_is_that_of_the_conditions() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = two(folder.path(), &Run::default(), &locked());
    let code = |conditions: &[&str]| {
        let fail_on = conditions.iter().flat_map(|condition| ["--fail-on", condition]);
        let output = diff(&fail_on.chain([before.as_str(), after.as_str()]).collect::<Vec<_>>());
        (output.status.code().unwrap(), stderr(&output))
    };
    let failed = "spantap: failed: shop: sqlite p95 7.06 ms -> 9.16 ms (+30%)\n".to_owned();
    assert_eq!(code(&["p95 > +25%"]), (1, failed.clone()));
    assert_eq!(code(&["p95 > +40%"]), (0, String::new()));
    assert_eq!(code(&["p95 > +40%", "p95 > +2ms", "errors > +1pp"]).0, 1);
    assert_eq!(code(&["p95 < -10%"]), (0, String::new()));
    assert_eq!(code(&["errors > +0%"]), (0, String::new()));
    // A change that is too small to be shown is one if a condition asks for it.
    let [one, other] = two(
        folder.path(),
        &Run { traces: 4_000, ..Run::default() },
        &Run { lock_us: 150.0, traces: 4_000, ..locked() },
    );
    let output = diff(&[&one, &other, "--fail-on", "mean > +2%"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()), "{output:?}");
    assert!(stderr(&output).contains("failed: shop: sqlite average "), "{output:?}");
    assert_eq!(diff(&[&one, &other]).status.code(), Some(0));
    let (code, message) = code(&["p95 > 10%"]);
    assert_eq!(code, 2);
    assert!(
        message.contains(
            "column 7: expected `+`, because a change is compared, found `10`\n\np95 > 10%\n      ^^"
        ),
        "{message}"
    );
}

#[test]
fn one_file_is_divided_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let at_ns = START_NS + 1000 * STEP_NS;
    let [before, after] = two(folder.path(), &Run::default(), &Run { start_ns: at_ns, ..locked() });
    // A trace that is open at that time belongs to none of the sides.
    let crossing = span(7_777_777, 1, 0, "GET /orders", at_ns - 1_000, 1_000_000_000);
    let crossing =
        json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [crossing] }] }] }).to_string() + "\n";
    let both = folder.path().join("both.jsonl");
    write(&both, [read(&after).unwrap(), crossing.into_bytes(), read(&before).unwrap()].concat()).unwrap();
    // 100 s after 2027-01-15 08:00.
    let output = diff(&[both.to_str().unwrap(), "--at", "2027-01-15T08:01:40Z"]);
    assert_eq!(output.status.code(), Some(1));
    let of_two = diff(&[&before, &after]);
    let name = |text: String, file: &str| text.replace(file, "FILE");
    let both = name(stdout(&output), both.to_str().unwrap());
    assert_eq!(both, name(name(stdout(&of_two), &before), &after));
    assert_eq!(stderr(&output), "spantap: 1 trace left out: open at the time of --at\n");

    let output = diff(&[&before, "--at", "2027-01-15T09:00:00Z"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = diff(&[&before]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("give two files"), "{output:?}");
}

/// Such as a loop with a root span that lives all day.
#[test]
fn spans_of_a_long_trace_outside_the_time_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = same();
    let paths = two(folder.path(), &before, &after);
    for (path, trace) in paths.iter().zip([1, 2]) {
        // Both begin within the time, and the one after goes on.
        let ticks = |from: u64, ns: u64| {
            (0..200).map(move |n| {
                span(trace, n + from, 0, "tick", START_NS + (n + from) * STEP_NS, ns + n * 1_000)
            })
        };
        let spans: Vec<Value> = ticks(1, 1_000_000).chain(ticks(2_000, 1_000_000 * trace * 10)).collect();
        let line = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] }).to_string() + "\n";
        write(path, [read(path).unwrap(), line.into_bytes()].concat()).unwrap();
    }
    let within = ["--until", "2027-01-15T08:01:40Z"];
    let (found, code) = found(&[&[paths[0].as_str(), &paths[1]][..], &within].concat());
    assert_eq!((outline(&found), code, &found["before"]["spans"]), (vec![], 0, &json!(3_200)), "{found:#}");
}

#[test]
fn a_side_may_have_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = two(folder.path(), &Run::default(), &locked());
    let later = START_NS + 5000 * STEP_NS;
    let other = |name: &str, run: Run| {
        let run = Run { start_ns: later, seed: run.seed + 2, ..run };
        run.write(&folder.path().join(name)).to_str().unwrap().to_owned()
    };
    let (more_before, more_after) = (other("before2.jsonl", Run::default()), other("after2.jsonl", locked()));
    let (all, code) = found(&[&before, &after, "--before", &more_before, "--after", &more_after]);
    assert_eq!((&all["before"]["spans"], &all["after"]["spans"], code), (&json!(6000), &json!(6000), 1));
    let named =
        found(&["--before", &before, "--before", &more_before, "--after", &after, "--after", &more_after]);
    assert_eq!((all, code), named);
}

#[test]
fn a_query_chooses_what_is_compared_and_not_what_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = two(folder.path(), &Run::default(), &locked());
    let (of_root, code) = found(&[&before, &after, "--where", "name == \"GET /orders\""]);
    assert_eq!((outline(&of_root), code), (vec!["GET /orders: p50 p95 p99 mean".to_owned()], 1));
    let cause = &of_root["findings"][0]["causes"][0];
    assert_eq!((&cause["cause"], &cause["called"]["name"]), (&json!("called"), &json!("sqlite")));
    assert_eq!(found(&[&before, &after, "--where", "name == \"pay\""]).1, 0);
}

#[test]
fn a_capture_and_a_collectors_file_of_the_same_run_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("before.spans");
    let recorder = Spantap::record_program(&capture, &[env!("CARGO_BIN_EXE_compared"), "400", "1"]);
    assert!(recorder.wait().status.success());
    let exported = folder.path().join("before.jsonl");
    let to = format!("otlp-json={}", exported.display());
    let status =
        Command::new(program("spantap")).arg("export").arg(&capture).args(["--to", &to]).status().unwrap();
    assert!(status.success());
    let (found, code) = found(&[capture.to_str().unwrap(), exported.to_str().unwrap()]);
    assert_eq!((outline(&found), code, &found["compared_names"]), (vec![], 0, &json!(4)));
    assert_eq!(found["before"], found["after"]);
}

#[test]
fn damage_and_empty_files_are_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = same();
    let [before, after] = two(folder.path(), &before, &after);
    let damaged = folder.path().join("damaged.jsonl");
    let mut bytes = read(&after).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 200].fill(b'x');
    write(&damaged, bytes).unwrap();
    let output = diff(&[&before, damaged.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(&format!("spantap: after: {}: ", damaged.display())), "{output:?}");

    let empty = folder.path().join("empty.jsonl");
    write(&empty, "").unwrap();
    for (one, other) in [(before.as_str(), empty.to_str().unwrap()), (&before, "/no/such/file")] {
        let output = diff(&[one, other]);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()), "{output:?}");
    }
}

#[test]
fn names_are_escaped_and_lines_fit() {
    let folder = tempfile::tempdir().unwrap();
    let service =
        "a\x1b[2J\u{202e}b which has a very long name that fits on no line of any terminal whatsoever";
    let [before, after] =
        two(folder.path(), &Run { service, ..Run::default() }, &Run { service, ..locked() });
    for columns in ["80", "100", "200"] {
        let mut command = Command::new(program("spantap"));
        let output = command.args(["diff", &before, &after]).env("COLUMNS", columns).output().unwrap();
        let shown = stdout(&output);
        assert!(!shown.replace('\n', "").chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown}");
        assert!(shown.contains(r"a\x1b[2J\u{202e}b"), "{shown}");
        let lines = shown.lines().filter(|line| !line.contains("spantap view"));
        let widest = lines.map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns.parse().unwrap(), "{widest}: {shown}");
    }
}

/// Records two runs of a program at the same time, so that a busy machine is no difference: one without a fault, and one with this.
fn record(folder: &Path, fault: &str) -> [String; 2] {
    let recorders = [("before", "1", ""), ("after", "2", fault)].map(|(name, seed, fault)| {
        let capture = folder.join(name).with_extension("spans");
        let run = [env!("CARGO_BIN_EXE_compared"), "1600", seed, fault];
        let spantap = Spantap::record_program(&capture, &run);
        (capture, spantap)
    });
    recorders.map(|(capture, spantap)| {
        let ended = spantap.wait();
        assert!(ended.status.success(), "{ended:?}");
        capture.to_str().unwrap().to_owned()
    })
}

/// What is found between a run and one with a fault.
fn planted(fault: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = record(folder.path(), fault);
    let (found, code) = found(&[&before, &after]);
    assert_eq!(code, i32::from(!fault.is_empty()), "{found:#}");
    found
}

/// The names of the reasons.
fn reasons(found: &Value) -> Vec<&str> {
    let findings = found["findings"].as_array().unwrap().iter();
    findings.filter(|of| of["because_of"].is_null()).map(|of| of["name"].as_str().unwrap()).collect()
}

#[test]
fn two_recordings_of_a_real_program_have_no_change() {
    assert_eq!(planted("")["compared_names"], 4);
}

#[test]
fn a_slow_child_of_a_real_program_is_the_only_reason() {
    let found = planted("slow-query");
    assert_eq!(reasons(&found), ["query"], "{found:#}");
    assert_eq!(found["findings"][1]["because_of"]["name"], "query", "{found:#}");
}

#[test]
fn more_calls_in_a_real_program_are_the_only_reason() {
    let found = planted("many-queries");
    assert_eq!(reasons(&found), ["GET /orders"], "{found:#}");
    let calls = &found["findings"][0]["calls"][0];
    assert_eq!(
        (&calls["name"], &calls["before"], &calls["after"]),
        (&json!("query"), &json!(3.0), &json!(9.0))
    );
}

#[test]
fn errors_of_a_real_program_are_the_only_reason() {
    let found = planted("failures");
    assert_eq!(outline(&found), ["check stock: errors"], "{found:#}");
}

#[test]
fn computation_in_a_real_program_is_the_only_reason() {
    assert_eq!(reasons(&planted("spin")), ["render"]);
}

/// With the kernel's account, the cause of a reason is known.
#[test]
fn the_kernel_says_what_a_real_program_waits_for() {
    if !need(&EBPF) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A copy, because other tests run the program at the same time.
    let executable = &folder.path().join("compared");
    copy(env!("CARGO_BIN_EXE_compared"), executable).unwrap();
    let [before, after] = [("before", "1", ""), ("after", "2", "lock")].map(|(name, seed, fault)| {
        let capture = folder.path().join(name).with_extension("spans");
        let mut command = Command::new(program("spantap"));
        command.arg("record").arg(&capture).arg("--exe").arg(executable);
        let recorder = Spantap::attach_by(&mut command);
        assert!(Command::new(executable).args(["1600", seed, fault]).status().unwrap().success());
        let ended = recorder.terminate();
        assert!(ended.status.success(), "{ended:?}");
        capture.to_str().unwrap().to_owned()
    });
    let (found, _) = found(&[&before, &after]);
    let render = found["findings"].as_array().unwrap().iter().find(|of| of["name"] == "render");
    let causes = render.unwrap_or_else(|| panic!("{found:#}"))["causes"].as_array().unwrap();
    // On a busy machine, threads wait for a CPU as well, also in spans without a fault.
    let is_busy = |cause: &Value| cause["cause"] == "run queue";
    let findings = found["findings"].as_array().unwrap().iter();
    let reasons = findings.filter(|of| of["because_of"].is_null() && !is_busy(&of["causes"][0]));
    let reasons: Vec<&str> = reasons.map(|of| of["name"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["render"], "{found:#}");
    // While one thread sleeps with the lock, others wait for it.
    let waits = causes.iter().filter(|cause| !is_busy(cause)).map(|cause| cause["cause"].as_str().unwrap());
    let first: BTreeSet<&str> = waits.take(2).collect();
    assert_eq!(first, BTreeSet::from(["lock", "sleep"]), "{found:#}");
    let lock = causes.iter().find(|cause| cause["cause"] == "lock").unwrap_or_else(|| panic!("{found:#}"));
    assert!(lock["change_ns"].as_i64().unwrap() > 300_000, "{found:#}");
}

#[test]
#[ignore = "deep: writes and reads a million spans"]
fn a_million_spans_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let run = |seed, lock_us| Run { seed, lock_us, traces: 170_000, ..Run::default() };
    let [before, after] = two(folder.path(), &run(1, 0.0), &run(2, 1_000.0));
    let (found, code) = found(&[&before, &after]);
    assert_eq!((outline(&found)[0].as_str(), code), ("sqlite: p50 p95 p99 mean", 1));
    assert_eq!(found["before"], json!({ "spans": 510_000, "traces": 170_000, "lost_spans": 0 }));
}
