//! `spantap attach`: what the kernel did inside of spans, held against what the program itself measured.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use e2e::{Cgroup, EBPF, Spantap, free_address, get, need, program, wait_until};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Whether this machine can do what a test needs. One test runs at a time: they measure, and on two processors
/// they would measure each other.
fn ready(needs: &[&str]) -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    (need(&EBPF) && need(needs)).then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A program that does what it is told. It ends with the value.
struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    fn start() -> Self {
        Self::spawn(&mut Command::new(env!("CARGO_BIN_EXE_kernel_work")))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut worker = Self { child, stdin, stdout };
        assert_eq!(worker.line(), "ready");
        worker
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Has it done, and returns what it measured.
    fn run(&mut self, command: &str) -> Value {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: {line:?}: {error}"))
    }

    fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A span as spantap forwarded it.
#[derive(Clone, Debug)]
struct Found {
    name: String,
    id: String,
    parent: String,
    trace: String,
    start_ns: u64,
    end_ns: u64,
    attributes: BTreeMap<String, Value>,
    /// Attributes that it has no more.
    left_out: u64,
    is_kernels: bool,
    service: String,
}

impl Found {
    fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }

    fn number(&self, key: &str) -> u64 {
        match self.attributes.get(key) {
            Some(Value::String(text)) => text.parse().unwrap(),
            Some(value) => value.as_u64().unwrap_or_else(|| panic!("{key} is {value}")),
            None => 0,
        }
    }

    fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// What one kernel span or several together took.
    fn total_ns(&self) -> u64 {
        if self.attributes.contains_key("kernel.count") {
            self.number("kernel.total_ns")
        } else {
            self.duration_ns()
        }
    }

    fn count(&self) -> u64 {
        self.number("kernel.count").max(1)
    }

    fn account(&self) -> BTreeMap<&'static str, u64> {
        PARTS.into_iter().map(|part| (part, self.number(&format!("kernel.{part}_ns")))).collect()
    }
}

const PARTS: [&str; 9] =
    ["on_cpu", "run_queue", "preempted", "throttled", "sleep", "disk", "blocked", "stopped", "unseen"];

/// All spans in the file.
struct Spans(Vec<Found>);

impl Spans {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last line may be written just now.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Self(lines.flat_map(spans_of).collect())
    }

    /// The only one of the program's that is called so.
    #[track_caller]
    fn one(&self, name: &str) -> &Found {
        let found: Vec<&Found> = self.own(name).collect();
        assert_eq!(found.len(), 1, "of {name}: {found:#?}");
        found[0]
    }

    fn own(&self, name: &str) -> impl Iterator<Item = &Found> {
        self.0.iter().filter(move |span| span.name == name && !span.is_kernels)
    }

    /// The kernel's spans below it.
    fn below<'a>(&'a self, parent: &Found, name: &'a str) -> Vec<&'a Found> {
        let (id, trace) = (parent.id.clone(), parent.trace.clone());
        let is_below = move |span: &&Found| span.parent == id && span.trace == trace && span.is_kernels;
        self.0.iter().filter(is_below).filter(|span| span.name == name).collect()
    }
}

fn spans_of(line: &str) -> Vec<Found> {
    let data: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes = |value: &Value| -> BTreeMap<String, Value> {
        let all = value.as_array().into_iter().flatten();
        let value =
            |attribute: &Value| attribute["value"].as_object().unwrap().values().next().unwrap().clone();
        all.map(|attribute| (text(&attribute["key"]), value(attribute))).collect()
    };
    let mut found = Vec::new();
    for resource in data["resourceSpans"].as_array().unwrap() {
        let service = attributes(&resource["resource"]["attributes"]).get("service.name").map(text);
        for scope in resource["scopeSpans"].as_array().unwrap() {
            for span in scope["spans"].as_array().unwrap() {
                found.push(Found {
                    name: text(&span["name"]),
                    id: text(&span["spanId"]),
                    parent: text(&span["parentSpanId"]),
                    trace: text(&span["traceId"]),
                    start_ns: text(&span["startTimeUnixNano"]).parse().unwrap(),
                    end_ns: text(&span["endTimeUnixNano"]).parse().unwrap(),
                    attributes: attributes(&span["attributes"]),
                    left_out: span["droppedAttributesCount"].as_u64().unwrap_or(0),
                    is_kernels: scope["scope"]["name"] == "spantap.kernel",
                    service: service.clone().unwrap_or_default(),
                });
            }
        }
    }
    found
}

fn number(measured: &Value, key: &str) -> u64 {
    measured[key].as_u64().unwrap_or_else(|| panic!("{key} of {measured}"))
}

fn total_ns(spans: &[&Found]) -> u64 {
    spans.iter().map(|span| span.total_ns()).sum()
}

fn count(spans: &[&Found]) -> u64 {
    spans.iter().map(|span| span.count()).sum()
}

#[track_caller]
fn assert_near(what: &str, found_ns: u64, measured_ns: u64) {
    assert_near_of(what, found_ns, measured_ns, measured_ns);
}

/// Within five percent of `whole_ns`, and what a machine that others use takes to get from one clock to the
/// other.
#[track_caller]
fn assert_near_of(what: &str, found_ns: u64, measured_ns: u64, whole_ns: u64) {
    let margin = whole_ns / 20 + 300_000;
    assert!(
        found_ns.abs_diff(measured_ns) <= margin,
        "{what}: found {found_ns} ns, and the program measured {measured_ns} ns"
    );
}

/// A worker with spantap attached to it.
struct Attached {
    worker: Worker,
    spantap: Spantap,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Attached {
    fn start(args: &[&str]) -> Self {
        Self::to(Worker::start(), args)
    }

    fn to(worker: Worker, args: &[&str]) -> Self {
        Self::with(worker, args, &[])
    }

    fn with(worker: Worker, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("spans.jsonl");
        let to = format!("jsonl={}", file.display());
        let pid = worker.pid();
        let args = [&["--pid", &*pid, "--to", &to], args].concat();
        let spantap = Spantap::attach_with(&args, environment);
        Self { worker, spantap, file, _folder: folder }
    }

    fn run(&mut self, command: &str) -> Value {
        self.worker.run(command)
    }

    /// Has all of it done, and ends.
    fn run_all<const N: usize>(mut self, commands: [&str; N]) -> ([Value; N], Spans, e2e::Ended) {
        let measured = commands.map(|command| self.run(command));
        let (spans, ended) = self.end();
        (measured, spans, ended)
    }

    /// The worker ends, and with it spantap.
    fn end(self) -> (Spans, e2e::Ended) {
        self.worker.end();
        let ended = self.spantap.wait();
        assert!(ended.status.success(), "{ended:?}");
        (Spans::read(&self.file), ended)
    }
}

/// The parts of a span's time in the kernel are all of the time in which it was entered, by the program's own
/// clock: to a hundredth, and the time between that clock and the probes of each enter. Now and then a thread loses the CPU
/// just there: of so many spans, one may. (Or the kernel tells nothing of it.)
#[track_caller]
fn assert_add_up(spans: &Spans, one_of: usize) {
    let own: Vec<&Found> = spans.0.iter().filter(|span| !span.is_kernels).collect();
    let is_off = |span: &&&Found| {
        let (sum, busy) = (span.account().values().sum::<u64>(), span.number("busy_ns"));
        // For each of its polls, and once more to be dropped.
        let enters = if span.name == "hopper" { 5 } else { 1 };
        sum.abs_diff(busy) > busy / 100 + 15_000 * enters || span.account()["unseen"] > 0
    };
    let off: Vec<_> = own.iter().filter(is_off).collect();
    assert!(off.len() <= own.len() / one_of, "{} of {}: {:#?}", off.len(), own.len(), off[0]);
}

/// Of what a kernel does, not all is told on some virtual machines; that is said, and then it is done again.
#[track_caller]
fn told<T>(mut run: impl FnMut() -> (T, Spans, e2e::Ended)) -> (T, Spans) {
    let told = (0..5).find_map(|_| {
        let (measured, spans, ended) = run();
        (!ended.stderr.contains("the kernel did not tell")).then_some((measured, spans))
    });
    told.expect("once in five times all is told")
}

/// But for what the kernel of a virtual machine may never have told.
#[track_caller]
fn assert_none_missed(stderr: &str) {
    let missed: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("missed") && !line.contains("the kernel did not tell"))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

const BEGAN_BEFORE: &str = "it began before spantap attached";

#[test]
fn time_asleep_and_on_the_cpu_is_what_the_program_measured() {
    let Some(_alone) = ready(&[]) else { return };
    assert_sleeps_and_spins(|| Attached::start(&["--min", "0us"]));
}

/// It sleeps, and then spins.
#[track_caller]
fn assert_sleeps_and_spins(start: impl Fn() -> Attached) {
    let ([slept, spun], spans) = told(|| start().run_all(["sleep 3 30", "spin 100"]));

    let sleeper = spans.one("sleeper");
    let (sleeps, waits) = (spans.below(sleeper, "sleep"), spans.below(sleeper, "run queue"));
    assert!(sleeps.len() >= 3, "{sleeps:#?}");
    let long = sleeps.iter().filter(|sleep| sleep.duration_ns() >= 29_000_000).count();
    assert_eq!(long, 3, "{sleeps:#?}");
    let wall = number(&slept, "wall_ns");
    let account = sleeper.account();
    assert_near(
        "sleep and what came after",
        total_ns(&sleeps) + total_ns(&waits),
        wall - account["on_cpu"] - account["preempted"],
    );
    assert_near("sleep", account["sleep"], total_ns(&sleeps));
    assert!(
        sleeps.iter().any(|sleep| sleep.text("kernel.waker") == "an interrupt"),
        "of the timer: {sleeps:#?}"
    );
    for sleep in &sleeps {
        assert!(sleep.start_ns + 1000 >= sleeper.start_ns && sleep.end_ns <= sleeper.end_ns + 1000);
        assert_eq!((sleep.text("thread.name"), &*sleep.service), ("kernel_work", "kernel_work"));
    }

    let spinner = spans.one("spinner");
    let (account, wall, waited) = (spinner.account(), number(&spun, "wall_ns"), number(&spun, "waited_ns"));
    assert_near_of("on CPU", account["on_cpu"], wall - waited, wall);
    assert_near_of("waiting for it", account["run_queue"] + account["preempted"], waited, wall);
    assert_near("in all", account.values().sum(), wall);
    assert_eq!(account["sleep"], 0);
}

#[test]
fn the_parts_add_up_to_the_time_in_which_a_span_was_entered() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "1s"]);
    let file = tempfile::NamedTempFile::new_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    for _ in 0..10 {
        attached.run("sleep 3 2");
        attached.run("spin 5");
        attached.run("contend 10");
        attached.run(&format!("write {} 8", file.path().display()));
        attached.run("hop 4 4");
    }
    let (spans, _) = attached.end();
    assert_eq!(spans.0.iter().filter(|span| !span.is_kernels).count(), 10 * 8);
    assert_add_up(&spans, 20);
}

#[test]
fn two_threads_on_one_cpu_preempt_each_other() {
    let Some(_alone) = ready(&[]) else { return };
    assert_preempted(|| Attached::start(&["--min", "0us"]));
}

/// Its threads preempt each other.
#[track_caller]
fn assert_preempted(start: impl Fn() -> Attached) {
    let ([measured], spans) = told(|| start().run_all(["contend 200"]));
    let contender = spans.one("contender");
    let account = contender.account();
    let (wall, waited) = (number(&measured, "wall_ns"), number(&measured, "waited_ns"));
    assert!(waited > wall / 4, "{measured}");
    assert_near_of("on CPU", account["on_cpu"], wall - waited, wall);
    assert_near_of("not on CPU", account["preempted"] + account["run_queue"], waited, wall);
    let preempted = spans.below(contender, "preempted");
    assert!(preempted.len() >= 3, "{preempted:#?}");
    assert_near("preempted", total_ns(&preempted), account["preempted"]);
}

/// Virtual machines were seen to whose kernel tells nothing of a change from certain threads to others. How long one
/// of these has waited, it counts all the same.
#[test]
fn threads_that_get_the_cpu_untold_have_their_time_by_the_kernels_count() {
    let Some(_alone) = ready(&[]) else { return };
    let untold = || {
        let environment = [("SPANTAP_MISSES_RETURNS", "1")];
        let attached = Attached::with(Worker::start(), &["--min", "0us"], &environment);
        let told = || attached.spantap.stderr().contains("it misses changes of threads");
        wait_until("spantap says that it misses some", told);
        attached
    };
    assert_sleeps_and_spins(untold);
    assert_preempted(untold);
}

/// The same of what it does not tell of wake-ups: by whom is not known then, but when.
#[test]
fn threads_that_are_woken_untold_have_slept_until_then() {
    let Some(_alone) = ready(&["unshare", "taskset"]) else { return };
    // Three want one processor.
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpu = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap()).unwrap().to_string();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &cpu, env!("CARGO_BIN_EXE_kernel_work")]);
    let mut start = || Worker::spawn(&mut command);
    let (mut lacking, mut others) = (Lacking::attach(start(), "sched_waking"), [start(), start()]);
    for other in &mut others {
        writeln!(other.stdin.as_mut().unwrap(), "spin 60000").unwrap();
    }
    let (times, each) = (50, 3_000_000);
    let dozed = lacking.worker.run(&format!("doze {times} 3"));
    drop(others);
    let (spans, _) = lacking.end();
    let dozer = spans.one("dozer");
    let (account, wall, waited) = (dozer.account(), number(&dozed, "wall_ns"), number(&dozed, "waited_ns"));
    assert!(waited > wall / 10, "{dozed}");
    assert_near_of("waiting", account["run_queue"] + account["preempted"], waited, wall);
    // What a timer is late for is sleep, too.
    assert!(account["sleep"] >= times * each, "{dozer:#?}");
    assert_near_of("asleep", account["sleep"], times * each, wall);
    let sleeps = spans.below(dozer, "sleep");
    assert_near_of("asleep", total_ns(&sleeps), account["sleep"], wall);
    assert!(sleeps.iter().all(|sleep| sleep.text("kernel.waker").is_empty()), "{sleeps:#?}");
}

/// Not even that it leaves the CPU is told.
#[test]
fn time_of_which_the_kernel_tells_nothing_is_not_taken_for_time_on_the_cpu() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    let mut lacking = Lacking::attach(Worker::start(), "sched_switch");
    let slept = lacking.worker.run("sleep 1 30");
    let spins = 20;
    for _ in 0..spins {
        lacking.worker.run("spin 0");
    }
    let (spans, lines) = lacking.end();
    assert!(lines.contains("stretches of time: the kernel did not tell where the thread was"), "{lines}");
    let sleeper = spans.one("sleeper");
    let account = sleeper.account();
    assert_near("not seen", account["unseen"], number(&slept, "wall_ns"));
    assert_eq!(sleeper.text("kernel.partial"), "the kernel did not tell of all changes of its thread");
    // They are so short that few lose the CPU.
    let has_all = |span: &&Found| span.account()["on_cpu"] > 0 && span.text("kernel.partial").is_empty();
    assert!(spans.own("spinner").filter(has_all).count() > spins / 2, "{:#?}", spans.0);
}

/// Held against the kernel's own count for the control group, in which there is but one thread that runs.
#[test]
fn time_that_a_quota_takes_is_known() {
    // Before, a thread doesn't know that it is throttled.
    let Some(_alone) = ready(&["linux:6.18", "cgroup"]) else { return };
    let cgroup = Cgroup::with_quota(20);
    let mut attached = Attached::start(&["--min", "5ms"]);
    cgroup.take(&attached.worker.pid());
    let waited = number(&attached.run("spin 600"), "waited_ns");
    let throttled = cgroup.throttled_ns();
    let (spans, _) = attached.end();
    let spinner = spans.one("spinner");
    assert!(throttled > 200_000_000, "{throttled}");
    // With it is the wait for a CPU after it, which on a busy machine is long.
    let found = spinner.account()["throttled"];
    let margin = throttled / 20;
    assert!(
        found + margin >= throttled && found <= throttled + waited + margin,
        "found {found} ns, by the group's count {throttled} ns, and {waited} ns of waiting"
    );
    assert!(spans.below(spinner, "throttled").len() >= 3, "{:#?}", spans.0);
}

#[test]
fn writes_to_the_disk_are_children_with_device_and_bytes() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "0us"]);
    // A folder on a disk, which /tmp need not be.
    let file = tempfile::NamedTempFile::new_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let measured = attached.run(&format!("write {} 16", file.path().display()));
    let (spans, _) = attached.end();
    let writer = spans.one("writer");
    let writes = spans.below(writer, "block write");
    assert!(writes.len() >= 16, "a sync for each of 16 pieces: {writes:#?}");
    let bytes: u64 = writes.iter().map(|write| write.number("kernel.block.bytes")).sum();
    assert!(bytes >= 16 << 16, "{bytes} of {}: {writes:#?}", 16 << 16);
    assert!(writes.iter().all(|write| !write.text("system.device").is_empty()), "{writes:#?}");
    // What the thread waited for is the disk.
    let account = writer.account();
    let off_cpu = number(&measured, "wall_ns") - account["on_cpu"] - account["preempted"];
    let waited = account["disk"] + account["sleep"] + account["blocked"] + account["run_queue"];
    assert_near("waiting", waited, off_cpu);
    assert!(account["disk"] > 0, "{account:?}");
    let waits = spans.below(writer, "disk wait");
    assert_near("disk", total_ns(&waits), account["disk"]);
}

/// Of a device that has all of it at once, the time from the first submission to the last completion is the call's.
#[test]
fn a_request_to_the_disk_takes_as_long_as_the_program_measured() {
    let Some(_alone) = ready(&[]) else { return };
    let ([measured], spans) = told(|| {
        let attached = Attached::start(&["--min", "0us"]);
        let file = tempfile::NamedTempFile::new_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        attached.run_all([&*format!("direct {} 64", file.path().display())])
    });
    let writes = spans.below(spans.one("direct"), "block write");
    let bytes: u64 = writes.iter().map(|write| write.number("kernel.block.bytes")).sum();
    assert_eq!(bytes, number(&measured, "bytes"), "{writes:#?}");
    let first = writes.iter().map(|write| write.start_ns).min().unwrap();
    let last = writes.iter().map(|write| write.end_ns).max().unwrap();
    // Behind the last it had to get a CPU.
    let took = number(&measured, "wall_ns") - number(&measured, "waited_ns");
    assert_near("from the first to the last", last - first, took);
}

#[test]
fn a_connection_is_seen_from_both_ends() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "0us"]);
    let talked = attached.run("talk 100000");
    let refused = attached.run("refused");
    let (spans, _) = attached.end();
    let port = talked["port"].as_u64().unwrap();

    let client = spans.one("client");
    let [connect] = spans.below(client, "tcp connect")[..] else { panic!("{:#?}", spans.0) };
    assert_eq!(
        (connect.text("network.peer.address"), connect.number("network.peer.port")),
        ("127.0.0.1", port)
    );
    assert!(connect.duration_ns() > 0 && connect.end_ns <= client.end_ns + 1000);
    let [close] = spans.below(client, "tcp close")[..] else { panic!("{:#?}", spans.0) };
    assert_eq!(
        (close.number("kernel.tcp.sent_bytes"), close.number("kernel.tcp.received_bytes")),
        (100_000, 6)
    );
    assert!(close.number("kernel.tcp.round_trip_us") > 0, "{close:#?}");

    let server = spans.one("server");
    let [accept] = spans.below(server, "tcp accept")[..] else { panic!("{:#?}", spans.0) };
    assert_eq!(accept.number("network.local.port"), port);
    assert_eq!(accept.number("network.peer.port"), connect.number("network.local.port"));
    let [close] = spans.below(server, "tcp close")[..] else { panic!("{:#?}", spans.0) };
    assert_eq!(
        (close.number("kernel.tcp.sent_bytes"), close.number("kernel.tcp.received_bytes")),
        (6, 100_000)
    );

    assert_eq!(refused["refused"], true);
    let [connect] = spans.below(spans.one("refused"), "tcp connect")[..] else { panic!("{:#?}", spans.0) };
    assert_eq!(connect.text("error.type"), "ECONNREFUSED");
    assert_eq!(connect.number("network.peer.port"), refused["port"].as_u64().unwrap());
}

/// Whatever is closed first, and whenever.
#[test]
fn all_bytes_of_a_connection_are_counted() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "0us"]);
    attached.run("half 100000");
    let queued = attached.run("queued 300000");
    let (spans, ended) = attached.end();
    assert_none_missed(&ended.stderr);
    let bytes = |name: &str| {
        let [close] = spans.below(spans.one(name), "tcp close")[..] else { panic!("{name}: {:#?}", spans.0) };
        (close.number("kernel.tcp.sent_bytes"), close.number("kernel.tcp.received_bytes"))
    };
    assert_eq!(bytes("half"), (7, 100_000), "what came after it had closed its own side");
    assert_eq!(bytes("late"), (100_000, 7));
    assert_eq!((number(&queued, "received"), bytes("writer")), (300_000, (300_000, 0)));
    let mut attached = Attached::start(&["--min", "0us"]);
    attached.run("shut 300000");
    let shut = attached.end();
    let [close] = shut.0.below(shut.0.one("writer"), "tcp close")[..] else { panic!("{:#?}", shut.0.0) };
    assert_eq!(close.number("kernel.tcp.sent_bytes"), 300_000, "one side was closed before the other");

    // What waited for the span did not do so in it.
    let late = spans.one("late");
    let [accept] = spans.below(late, "tcp accept")[..] else { panic!("{:#?}", spans.0) };
    assert!(accept.start_ns + 1000 >= late.start_ns && accept.end_ns <= late.end_ns, "{accept:#?} {late:#?}");
    assert!(accept.number("kernel.tcp.lifetime_ns") >= 100_000_000, "{accept:#?}");
}

/// Of which the thread is in and out while it waits for the first bytes.
#[test]
fn a_span_that_is_polled_accepts_from_its_first_poll_on() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "0us"]);
    attached.run("polls");
    let (spans, _) = attached.end();
    let polled = spans.one("polled");
    let [accept] = spans.below(polled, "tcp accept")[..] else { panic!("{:#?}", spans.0) };
    assert!((30_000_000..200_000_000).contains(&accept.duration_ns()), "{accept:#?}");
    assert!(accept.start_ns + 1000 >= polled.start_ns && accept.end_ns <= polled.end_ns, "{accept:#?}");
}

#[test]
fn a_connect_takes_as_long_as_the_program_measured() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "0us"]);
    let wall = number(&attached.run("crowded"), "wall_ns");
    let (spans, _) = attached.end();
    let patient = spans.one("patient");
    let [connect] = spans.below(patient, "tcp connect")[..] else { panic!("{:#?}", spans.0) };
    assert!(wall > 500_000_000, "{wall}");
    assert_near("the connect", connect.duration_ns(), wall);
    let retransmits = spans.below(patient, "tcp retransmit");
    assert_eq!(retransmits.len() as u64, connect.number("kernel.tcp.retransmits"), "{:#?}", spans.0);
    assert!(!retransmits.is_empty(), "{:#?}", spans.0);
}

/// In a network of its own, in which what is sent to one address is answered by nobody.
#[test]
fn retransmits_outside_of_the_thread_are_the_spans() {
    let Some(_alone) = ready(&["ip", "unshare"]) else { return };
    let network = "ip link add near type veth peer name far && ip link set near up && ip link set far up && \
                   ip addr add 10.9.9.1/24 dev near && \
                   ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:02 dev near nud permanent && exec \"$0\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", network, env!("CARGO_BIN_EXE_kernel_work")]);
    let mut attached = Attached::to(Worker::spawn(&mut command), &[]);
    let measured = attached.run("lost 10.9.9.2:80");
    assert_eq!(measured["failed"], true);
    let (spans, _) = attached.end();
    let [connect] = spans.below(spans.one("lost"), "tcp connect")[..] else { panic!("{:#?}", spans.0) };
    assert_near("until it was given up", connect.duration_ns(), number(&measured, "wall_ns"));
    assert_eq!(connect.text("error.type"), "ECANCELED", "it was given up");
    let retransmits = spans.below(spans.one("lost"), "tcp retransmit");
    assert!(!retransmits.is_empty(), "{:#?}", spans.0);
    assert_eq!(retransmits[0].text("network.peer.address"), "10.9.9.2");
}

#[test]
fn children_that_are_started_are_seen_with_their_end() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&[]);
    let slept = attached.run("exec sleep 0.2");
    let (spans, _) = attached.end();
    let parent = spans.one("parent");
    let [exec] = spans.below(parent, "exec")[..] else { panic!("{:#?}", spans.0) };
    assert!(exec.text("kernel.exec.path").ends_with("/sleep"), "{exec:#?}");
    assert_eq!(exec.number("kernel.exec.exit_code"), 0);
    // From the fork to the exit; before and after it the parent makes pipes and reads them.
    let wall = slept["measured"]["wall_ns"].as_u64().unwrap();
    assert!(exec.duration_ns() <= wall, "{} of {wall}", exec.duration_ns());
    assert_near("the child", exec.duration_ns(), wall);

    let mut attached = Attached::start(&[]);
    for (program, code) in [("true", 0), ("false", 1)] {
        assert_eq!(attached.run(&format!("exec {program}"))["code"], code);
    }
    let (spans, _) = attached.end();
    let codes: Vec<u64> = spans
        .own("parent")
        .flat_map(|parent| spans.below(parent, "exec"))
        .map(|exec| exec.number("kernel.exec.exit_code"))
        .collect();
    assert_eq!(codes, [0, 1]);

    // Once, and when the last of its threads ends.
    let mut attached = Attached::start(&[]);
    let ended = attached.run(&format!("exec {} threads", env!("CARGO_BIN_EXE_kernel_work")));
    let (spans, _) = attached.end();
    let [exec] = spans.below(spans.one("parent"), "exec")[..] else { panic!("{:#?}", spans.0) };
    assert_eq!((exec.number("kernel.exec.exit_code"), ended["code"].as_u64()), (3, Some(3)));
    assert_near("its threads", exec.duration_ns(), ended["measured"]["wall_ns"].as_u64().unwrap());

    // Another of its threads runs another program.
    let mut attached = Attached::start(&[]);
    let ended = attached.run(&format!("exec {} become", env!("CARGO_BIN_EXE_kernel_work")));
    let (spans, _) = attached.end();
    let [exec] = spans.below(spans.one("parent"), "exec")[..] else { panic!("{:#?}", spans.0) };
    assert_eq!((exec.number("kernel.exec.exit_code"), ended["code"].as_u64()), (0, Some(0)));
    assert_near("what it became", exec.duration_ns(), ended["measured"]["wall_ns"].as_u64().unwrap());
}

/// Attached to it alone, spantap sees it to the end of its last thread.
#[test]
fn a_process_is_there_until_its_last_thread_ends() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&[]);
    attached.run("outlive 1000");
    // Which is when its output ends.
    let begin = std::time::Instant::now();
    let ended = attached.spantap.wait();
    assert!(ended.status.success() && begin.elapsed().as_millis() >= 700, "{ended:?} {:?}", begin.elapsed());
    assert_eq!(Spans::read(&attached.file).own("last words").count(), 1);
}

#[test]
fn system_calls_are_named_and_counted() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--kernel", "sched,syscall", "--min", "1ms"]);
    let measured = attached.run("calls 1000");
    let (spans, _) = attached.end();
    let caller = spans.one("caller");
    let small = spans.below(caller, "syscall getppid");
    assert_eq!(count(&small), 1000, "{small:#?}");
    let [sleep] = spans.below(caller, "syscall clock_nanosleep")[..] else { panic!("{:#?}", spans.0) };
    assert!(sleep.duration_ns() >= 10_000_000 && sleep.duration_ns() < number(&measured, "wall_ns"));
    assert_eq!(sleep.attributes["kernel.syscall.result"], "0");

    let mut attached = Attached::start(&["--kernel", "syscall", "--min", "0us"]);
    attached.run("calls 1");
    let (spans, _) = attached.end();
    let opens = spans.below(spans.one("caller"), "syscall openat");
    let open = opens.iter().find(|open| open.text("kernel.syscall.path") == "/nowhere/to/be/found").unwrap();
    assert_eq!(open.text("kernel.syscall.error"), "ENOENT");
    // Without the scheduler's part nothing is known of the time.
    assert_eq!(spans.one("caller").account().values().sum::<u64>(), 0);
}

#[test]
fn system_calls_say_what_they_are_about() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--kernel", "syscall", "--min", "0us"]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display();
    attached.run(&format!("name {folder}"));
    let (spans, _) = attached.end();
    let namer = spans.one("namer");
    let about = |call: &str, key: &str| -> Vec<String> {
        let calls = spans.below(namer, call);
        calls.iter().map(|call| call.text(key).to_owned()).collect()
    };
    let socket = format!("{folder}/socket");
    assert_eq!(about("syscall bind", "network.local.address"), [&*socket, "127.0.0.1"]);
    assert_eq!(about("syscall connect", "network.peer.address"), [&format!("{socket}.other"), "127.0.0.1"]);
    assert_eq!(about("syscall connect", "kernel.syscall.error"), ["ENOENT", ""]);
    assert_eq!(about("syscall sendto", "network.peer.address"), ["127.0.0.1", ""], "the second is a send()");
    assert_eq!(about("syscall sendto", "network.peer.port"), ["9", ""]);
    let renamed =
        [about("syscall rename", "kernel.syscall.path"), about("syscall renameat2", "kernel.syscall.path")];
    assert_eq!(renamed.concat(), [format!("{folder}/one")]);
}

#[test]
fn what_happens_is_the_innermost_spans_and_its_time_also_that_of_those_around() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "5ms"]);
    attached.run("nest");
    let (spans, _) = attached.end();
    let millis = |name: &str| -> Vec<u64> {
        let found = spans.below(spans.one(name), "sleep");
        let mut millis: Vec<u64> = found
            .iter()
            .filter(|sleep| sleep.count() == 1 && sleep.duration_ns() > 4_000_000)
            .map(|sleep| sleep.duration_ns() / 10_000_000 * 10)
            .collect();
        millis.sort_unstable();
        millis
    };
    assert_eq!(
        ["outer", "middle", "inner", "first", "second"].map(millis),
        [vec![10], vec![20], vec![40], vec![], vec![30]]
    );
    let slept = |name: &str| spans.one(name).account()["sleep"] / 1_000_000;
    assert!((100..130).contains(&slept("outer")), "{}", slept("outer"));
    assert!((60..80).contains(&slept("middle")), "entered twice, and counted once: {}", slept("middle"));
    assert!((40..55).contains(&slept("inner")) && (30..45).contains(&slept("second")));
    assert_eq!(slept("first"), 0);
}

#[test]
fn spans_that_hop_between_threads_take_their_account_along() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "1ms"]);
    attached.run("hop 20 15");
    let (spans, _) = attached.end();
    let hoppers: Vec<&Found> = spans.own("hopper").collect();
    assert_eq!(hoppers.len(), 20);
    let (mut threads, mut slept) = (0, 0);
    for hopper in hoppers {
        let sleeps = spans.below(hopper, "sleep");
        let long: Vec<_> = sleeps.iter().filter(|sleep| sleep.duration_ns() >= 1_900_000).collect();
        slept += long.len();
        assert!(long.len() <= 15, "{sleeps:#?}");
        // Each of its sleeps was on some thread.
        let off_cpu: u64 = hopper.account().values().sum::<u64>() - hopper.account()["on_cpu"];
        assert!(off_cpu >= 15 * 2_000_000, "{:?}", hopper.account());
        let on: std::collections::BTreeSet<u64> =
            long.iter().map(|sleep| sleep.number("thread.id")).collect();
        threads = threads.max(on.len());
    }
    // On a busy machine a thread may lose the CPU just before it sleeps, and find the time gone by.
    assert!(slept >= 20 * 15 - 6, "{slept} of {} sleeps", 20 * 15);
    assert!(threads > 1, "none was polled by a second thread");
}

#[test]
fn a_span_that_was_entered_before_shows_from_then_on() {
    let Some(_alone) = ready(&[]) else { return };
    let mut worker = Worker::start();
    worker.run("enter");
    let mut attached = Attached::to(worker, &[]);
    attached.run("sleep 1 10");
    attached.run("leave");
    attached.run("sleep 1 10");
    let (spans, _) = attached.end();
    let early = spans.one("early");
    assert_eq!(early.text("kernel.partial"), BEGAN_BEFORE, "{early:#?}");
    assert_eq!(spans.own("sleeper").count(), 2);
    assert!(spans.own("sleeper").all(|sleeper| !sleeper.attributes.contains_key("kernel.partial")));
    let inside = spans.own("sleeper").find(|sleeper| sleeper.parent == early.id).unwrap();
    assert_eq!(inside.trace, early.trace);
}

/// Somebody looks at when spans are entered, and at nothing else, when it begins: so nobody wants its text.
#[test]
fn a_span_that_began_for_another_consumer_is_told() {
    let Some(_alone) = ready(&e2e::BPFTRACE) else { return };
    let mut worker = Worker::start();
    let path = PathBuf::from(env!("CARGO_BIN_EXE_kernel_work"));
    // Whoever looks at `new_span` has its fields recorded, and they are told, too.
    for (probe, field, left_out) in [("enter", 0, 1), ("new_span", 7, 0)] {
        let script = e2e::Bpftrace::probe(&path, probe, r#"printf("%s\n", probe);"#);
        let bpftrace = e2e::Bpftrace::attach(&script, Some(worker.child.id()));
        worker.run("enter");
        let mut attached = Attached::to(worker, &[]);
        attached.run("leave");
        bpftrace.end();
        let (spans, _) = attached.end();
        let early = spans.one("early");
        assert!(early.duration_ns() >= 20_000_000, "{early:#?}");
        assert_eq!(early.text("kernel.partial"), BEGAN_BEFORE, "{early:#?}");
        assert_eq!((early.number("field"), early.left_out), (field, left_out), "{probe}: {early:#?}");
        worker = Worker::start();
    }
}

/// What they were in ends with them.
#[test]
fn threads_that_die_inside_of_a_span_leave_nothing_to_others() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "1ms"]);
    attached.run("abandon");
    attached.run("hop 8 5");
    attached.run("sleep 2 10");
    let (spans, ended) = attached.end();
    assert_none_missed(&ended.stderr);
    assert_eq!(spans.own("abandoned").count(), 0, "they never ended");
    let (sleeper, hoppers): (_, Vec<_>) = (spans.one("sleeper"), spans.own("hopper").collect());
    assert_eq!((spans.below(sleeper, "sleep").len(), hoppers.len()), (2, 8));
    assert!(hoppers.iter().chain([&sleeper]).all(|span| span.parent.is_empty()), "{:#?}", spans.0);
    assert_add_up(&spans, 20);
}

/// A process with the pid of one that died inside of a span.
#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let Some(_alone) = ready(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spans.jsonl");
    let exe = folder.path().join("kernel_work");
    std::fs::copy(env!("CARGO_BIN_EXE_kernel_work"), &exe).unwrap();
    let start = |service: &str| Worker::spawn(Command::new(&exe).env("OTEL_SERVICE_NAME", service));
    let to = format!("jsonl={}", file.display());
    let spantap = Spantap::attach(&["--exe", &exe.to_string_lossy(), "--to", &to, "--min", "1ms"]);
    let mut first = start("first");
    first.run("sleep 1 10");
    first.run("enter");
    let pid = first.child.id();
    wait_until("the first is seen", || Spans::read(&file).own("sleeper").count() == 1);
    drop(first);
    let mut second = None;
    wait_until("another process gets the pid", || {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let worker = start("second");
        let is_it = worker.child.id() == pid;
        second = Some(worker).filter(|_| is_it);
        is_it
    });
    let mut second = second.unwrap();
    second.run("sleep 3 10");
    second.end();
    let ended = spantap.terminate();
    assert!(ended.status.success(), "{ended:?}");
    let spans = Spans::read(&file);
    let sleepers: Vec<&Found> = spans.own("sleeper").collect();
    let [first, second] = sleepers[..] else { panic!("{sleepers:#?}") };
    assert_eq!((&*first.service, &*second.service), ("first", "second"));
    let sleeps = spans.below(second, "sleep");
    assert!(sleeps.len() == 3 && sleeps.iter().all(|sleep| sleep.service == "second"), "{sleeps:#?}");
}

#[test]
fn long_descriptions_come_whole() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--kernel", "none"]);
    // Beyond what the layer makes of a span, by a probe of the worker's own.
    let sizes = [100, 600, 900, 1_400, 2_000, 3_000, 7_000, 15_000, 30_000, 65_536, 120_000, 250_000];
    for size in sizes {
        attached.run(&format!("emit {size}"));
    }
    attached.run("emit 300000");
    attached.run("sleep 1 1");
    let (spans, ended) = attached.end();
    let found: Vec<usize> = spans.own("emitted").map(|span| span.text("text").len()).collect();
    assert_eq!(found, sizes);
    assert!(ended.stderr.contains("1 missed spans: longer than 256 KiB"), "{}", ended.stderr);
    assert_eq!(spans.own("sleeper").count(), 1);
}

/// Of as many spans as fast as two threads can make them, every one is seen or counted.
#[test]
fn no_span_is_lost_without_being_counted() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--quiet", "--flush-timeout", "60s"]);
    attached.run("many 2 250000");
    let (spans, ended) = attached.end();
    let missed: usize = ended
        .stderr
        .lines()
        .filter_map(|line| line.trim().split_once(" missed spans"))
        .map(|(number, _)| number.replace(',', "").parse::<usize>().unwrap())
        .sum();
    assert_eq!(spans.own("one of many").count() + missed, 500_000, "{}", ended.stderr);
}

#[test]
fn more_spans_than_the_stack_holds_are_counted_and_left_again() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&[]);
    attached.run("deep 100");
    attached.run("sleep 1 10");
    let (spans, ended) = attached.end();
    assert_eq!(spans.own("deep").count(), 100);
    assert!(ended.stderr.contains("36 missed enters deeper than 64 spans"), "{}", ended.stderr);
    assert_eq!(spans.below(spans.one("sleeper"), "sleep").len(), 1);
}

/// Whether the program's probes are attached to, by its own semaphores: its stack is one that asks them.
fn is_attached(fixture: &mut e2e::Fixture) -> bool {
    fixture.run("enabled") == "true"
}

fn gated() -> (PathBuf, e2e::Fixture) {
    let path = e2e::Build::Release.path(e2e::Linkage::Executable, 0);
    let mut command = Command::new(&path);
    let fixture = e2e::Fixture::spawn(command.env("FIXTURE_STACK", "gate"), None);
    (path, fixture)
}

#[test]
fn it_detaches_also_when_it_is_killed() {
    let Some(_alone) = ready(&[]) else { return };
    let (_path, mut fixture) = gated();
    let pid = fixture.pid().to_string();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        assert!(!is_attached(&mut fixture));
        let spantap = Spantap::attach(&["--pid", &pid]);
        wait_until("the program notices", || is_attached(&mut fixture));
        kill(spantap.pid(), signal).unwrap();
        spantap.wait();
        wait_until("the program is as before", || !is_attached(&mut fixture));
    }
    fixture.end();
}

#[test]
fn processes_of_an_executable_are_seen_whenever_they_start() {
    let Some(_alone) = ready(&[]) else { return };
    let ((), spans) = told(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("spans.jsonl");
        let to = format!("jsonl={}", file.display());
        // Of its own, so that no other test's are seen.
        let exe = folder.path().join("kernel_work");
        std::fs::copy(env!("CARGO_BIN_EXE_kernel_work"), &exe).unwrap();
        let start = || Worker::spawn(&mut Command::new(&exe));
        let mut before = start();
        let spantap = Spantap::attach(&["--exe", &exe.to_string_lossy(), "--to", &to]);
        before.run("sleep 1 10");
        let mut after = start();
        after.run("sleep 1 10");
        // Killed inside of a span; and another that gets no more than its time.
        writeln!(after.stdin.as_mut().unwrap(), "sleep 1 100000").unwrap();
        wait_until("both are seen", || Spans::read(&file).own("sleeper").count() == 2);
        drop(after);
        let mut third = start();
        third.run("sleep 1 10");
        third.end();
        before.end();
        let ended = spantap.terminate();
        assert!(ended.status.success(), "{ended:?}");
        ((), Spans::read(&file), ended)
    });
    assert_eq!(spans.own("sleeper").count(), 3);
    for sleeper in spans.own("sleeper") {
        assert_eq!(spans.below(sleeper, "sleep").len(), 1, "{:#?}", spans.0);
    }
}

/// In a container, the path of its executable leads elsewhere from here.
#[test]
fn a_process_with_another_root_is_reached_through_proc() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    let mount = "mount -t tmpfs tmpfs /mnt && cp \"$0\" /mnt/hidden && exec /mnt/hidden";
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        mount,
        env!("CARGO_BIN_EXE_kernel_work"),
    ]);
    let worker = Worker::spawn(&mut command);
    // unshare's only child.
    let children = format!("/proc/{0}/task/{0}/children", worker.pid());
    let pid = std::fs::read_to_string(children).unwrap().trim().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spans.jsonl");
    let to = format!("jsonl={}", file.display());
    let spantap = Spantap::attach(&["--pid", &pid, "--to", &to]);
    let mut worker = worker;
    worker.run("sleep 1 10");
    drop(worker.stdin.take());
    let ended = spantap.wait();
    assert!(ended.status.success(), "{ended:?}");
    let spans = Spans::read(&file);
    assert_eq!(spans.below(spans.one("sleeper"), "sleep").len(), 1);
}

/// A host that is no Rust program, with the layer in a library that it has loaded.
#[test]
fn probes_in_a_library_of_the_process_are_found() {
    let Some(_alone) = ready(&["python3"]) else { return };
    let path = e2e::Build::Release.path(e2e::Linkage::Cdylib, 0);
    let mut fixture = e2e::Fixture::start(&path, e2e::Linkage::Cdylib, None);
    let spantap = Spantap::attach(&["--pid", &fixture.pid().to_string(), "--min", "1ms"]);
    fixture.run("wait");
    fixture.end();
    let ended = spantap.wait();
    assert!(ended.status.success() && ended.stdout.contains("sleeper"), "{ended:?}");
    assert!(
        ended.stdout.contains("├ sleep  waker=") || ended.stdout.contains("└ sleep  waker="),
        "{ended:?}"
    );
}

/// Killed, or another program from one moment to the next.
#[test]
fn a_process_that_is_gone_ends_it_and_leaves_what_was_seen() {
    let Some(_alone) = ready(&[]) else { return };
    for (last, kernel) in [("sleep 1 100000", "sched,exec"), ("become sleep 0.1", "sched")] {
        let mut attached = Attached::start(&["--kernel", kernel]);
        attached.run("sleep 1 10");
        writeln!(attached.worker.stdin.as_mut().unwrap(), "{last}").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        if last.starts_with("sleep") {
            attached.worker.child.kill().unwrap();
        }
        attached.worker.child.wait().unwrap();
        let ended = attached.spantap.wait();
        assert!(ended.status.success(), "{ended:?}");
        let spans = Spans::read(&attached.file);
        assert_eq!(spans.below(spans.one("sleeper"), "sleep").len(), 1);
        assert_eq!(spans.0.iter().filter(|span| !span.is_kernels).count(), 1, "{:#?}", spans.0);
        // What another program did is no span's of the one before.
        let sleeper = spans.one("sleeper");
        let mut strays = spans.0.iter().filter(|span| span.is_kernels && span.parent != sleeper.id);
        let is_short = strays.all(|stray| stray.duration_ns() < 50_000_000);
        assert!(is_short || last.starts_with("sleep"), "{:#?}", spans.0);
    }
}

/// What was added up for a span that a killed process had open: its parent has reaped it before we look.
#[test]
fn short_things_of_a_process_that_is_gone_are_told() {
    let Some(_alone) = ready(&[]) else { return };
    let mut attached = Attached::start(&["--min", "1000s"]);
    attached.run("sleep 1 10");
    writeln!(attached.worker.stdin.as_mut().unwrap(), "sleep 1 100000").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    attached.worker.child.kill().unwrap();
    attached.worker.child.wait().unwrap();
    let ended = attached.spantap.wait();
    assert!(ended.status.success(), "{ended:?}");
    assert_none_missed(&ended.stderr);
    let spans = Spans::read(&attached.file);
    let sleeper = spans.one("sleeper");
    let open = spans.0.iter().find(|span| span.name == "sleep" && span.parent != sleeper.id);
    assert!(open.is_some_and(|sleep| sleep.total_ns() > 20_000_000), "{:#?}", spans.0);
}

/// The demo's service, busy on all of its threads: every request is seen, and what the kernel did in it has its
/// place.
#[test]
fn a_service_under_load_is_seen_whole() {
    let Some(_alone) = ready(&[]) else { return };
    let address = free_address();
    let mut shop = Command::new(program("shop"));
    shop.arg(address.port().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut shop = Ended(shop.spawn().unwrap());
    wait_until("the shop answers", || std::net::TcpStream::connect(address).is_ok());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spans.jsonl");
    let to = format!("jsonl={}", file.display());
    let args = ["--pid", &shop.0.id().to_string(), "--to", &to, "--flush-timeout", "60s"];
    let spantap = Spantap::attach(&args);
    let clients = 4;
    let requests = 50;
    std::thread::scope(|scope| {
        for client in 0..clients {
            scope.spawn(move || {
                for n in 0..requests {
                    get(address, &format!("/products/{}", 1 + (client * requests + n) % 50));
                }
            });
        }
    });
    let served = |spans: &Spans| spans.own("GET /products/{id}").count();
    wait_until("all is forwarded", || served(&Spans::read(&file)) == clients * requests);
    let ended = spantap.terminate();
    assert_none_missed(&ended.stderr);
    shop.0.kill().unwrap();

    let spans = Spans::read(&file);
    assert_eq!(served(&spans), clients * requests);
    // More threads than processors want one at any time.
    assert_add_up(&spans, 10);
    let ids: BTreeMap<&str, &Found> =
        spans.0.iter().filter(|span| !span.is_kernels).map(|span| (&*span.id, span)).collect();
    let kernels: Vec<&Found> = spans.0.iter().filter(|span| span.is_kernels).collect();
    assert!(kernels.len() > requests, "{}", kernels.len());
    let mut strays = 0;
    for kernel in &kernels {
        match ids.get(&*kernel.parent) {
            Some(parent) => assert_eq!(kernel.trace, parent.trace, "{kernel:#?} {parent:#?}"),
            // Of one that was open at the end.
            None => strays += 1,
        }
    }
    assert!(strays <= 8, "{strays} of {} have no parent", kernels.len());
    // Its threads take the two processors from each other.
    assert!(kernels.iter().any(|kernel| kernel.name == "preempted"), "{} of other kinds", kernels.len());
}

/// A process that ends with the value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What it says where it can't attach.
fn refusal(args: &[&str]) -> String {
    let output = Command::new(program("spantap")).arg("attach").args(args).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_is_missing_is_said_in_a_line() {
    let Some(_alone) = ready(&[]) else { return };
    let gone = {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id().to_string()
    };
    let own = std::process::id().to_string();
    for (args, expected) in [
        (["--pid", &*gone], "there is no process"),
        (["--pid", "2"], "is a thread of the kernel"),
        (["--pid", &*own], "have probes of tracing-usdt"),
        (["--exe", "/bin/true"], "has no probes of tracing-usdt"),
        (["--exe", "/nowhere/app"], "there is no /nowhere/app"),
        (["--exe", "app"], "has to be named whole"),
    ] {
        let said = refusal(&args);
        assert!(said.contains(expected) && said.lines().count() == 1, "{args:?}: {said}");
    }
    let worker = Worker::start();
    // What the kernel doesn't have is hidden from it.
    let hide = "mount -t tmpfs tmpfs /sys/kernel/btf && exec \"$@\"";
    let mut without = Command::new("unshare");
    without.args(["--mount", "sh", "-c", hide, "sh"]).arg(program("spantap"));
    let output = without.args(["attach", "--pid", &worker.pid()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("CONFIG_DEBUG_INFO_BTF") && said.lines().count() == 1, "{said}");
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["--pid", "--fork", "--mount-proc"]).arg(program("spantap"));
    let output = elsewhere.args(["attach", "--pid", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("pid namespace of its own") && said.lines().count() == 1, "{said}");
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--clear-groups"]).arg(program("spantap"));
    // By its path, which anybody may read.
    let output = nobody.args(["attach", "--pid", &worker.pid()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("sudo spantap attach") && said.lines().count() == 1, "{said}");
    worker.end();
}

/// Attached where the kernel has no such tracepoint, by its types: these are given another name.
struct Lacking {
    worker: Worker,
    spantap: Ended,
    said: BufReader<ChildStderr>,
    lines: String,
    folder: tempfile::TempDir,
}

impl Lacking {
    fn attach(worker: Worker, tracepoint: &str) -> Self {
        let name = format!("\0btf_trace_{tracepoint}\0").into_bytes();
        let mut types = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let at = types.windows(name.len()).position(|bytes| bytes == name).expect("this kernel has it");
        types[at + name.len() - 2] = b'_';
        let folder = tempfile::tempdir().unwrap();
        let btf = folder.path().join("btf");
        std::fs::write(&btf, types).unwrap();

        let hide = "mount --bind \"$0\" /sys/kernel/btf/vmlinux && exec \"$@\"";
        let to = format!("jsonl={}", folder.path().join("spans.jsonl").display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", hide]).arg(&btf).arg(program("spantap"));
        command.args(["attach", "--pid", &worker.pid(), "--to", &to]);
        let mut spantap = Ended(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let mut said = BufReader::new(spantap.0.stderr.take().unwrap());
        let mut lines = String::new();
        while !lines.contains("attached to") && said.read_line(&mut lines).unwrap() > 0 {}
        Self { worker, spantap, said, lines, folder }
    }

    /// With all that spantap said.
    fn end(mut self) -> (Spans, String) {
        self.worker.end();
        std::io::Read::read_to_string(&mut self.said, &mut self.lines).unwrap();
        assert!(self.spantap.0.wait().unwrap().success(), "{}", self.lines);
        (Spans::read(&self.folder.path().join("spans.jsonl")), self.lines)
    }
}

#[test]
fn a_kernel_that_lacks_a_tracepoint_is_looked_at_for_the_rest() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    let mut lacking = Lacking::attach(Worker::start(), "block_io_start");
    lacking.worker.run("sleep 1 10");
    let on_disk = tempfile::NamedTempFile::new_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    lacking.worker.run(&format!("write {} 1", on_disk.path().display()));
    let (spans, lines) = lacking.end();
    assert!(
        lines.contains("lacks the tracepoint block_io_start: without it, less is seen of block"),
        "{lines}"
    );
    assert_eq!(spans.below(spans.one("sleeper"), "sleep").len(), 1, "{:#?}", spans.0);
    assert!(spans.below(spans.one("writer"), "block write").is_empty(), "{:#?}", spans.0);
}

#[test]
fn requests_whose_end_is_not_told_are_counted() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    let mut lacking = Lacking::attach(Worker::start(), "block_rq_complete");
    let on_disk = tempfile::NamedTempFile::new_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    lacking.worker.run(&format!("write {} 16", on_disk.path().display()));
    let (spans, lines) = lacking.end();
    let line =
        lines.lines().find(|line| line.ends_with("block requests: the kernel did not tell of their end"));
    let count = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count >= 16), "a sync for each of 16 pieces: {lines}");
    assert!(spans.below(spans.one("writer"), "block write").is_empty(), "{:#?}", spans.0);
}
