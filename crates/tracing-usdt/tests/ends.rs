//! The end of a program: open spans are sent, and undelivered spans are reported.
//!
//! Each test runs one of the programs below (tests that are `#[ignore]`d) as a process of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod collector;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use collector::{Collector, Span, TIMEOUT, tag, text};
use serde_json::{Value, json};
use tracing::{Span as OpenSpan, info, info_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_usdt::UsdtLayer;

const DELIVERIES: [&str; 2] = ["background", "inline"];

/// Runs the program `program`, which sends to `collector`.
fn run(program: &str, collector: &Collector, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", program, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("TRACING_USDT_SOCKET", collector.path()).envs(variables.iter().copied());
    command.output().unwrap()
}

/// Runs the program while a thread receives its spans. The program must print nothing on stderr and exit with 7.
fn spans_of(program: &str, variables: &[(&str, &str)]) -> Vec<Span> {
    let collector = &Collector::bind();
    std::thread::scope(|scope| {
        let (ended, end) = mpsc::channel::<()>();
        let reader = scope.spawn(move || {
            let mut spans = Vec::new();
            let mut is_over = false;
            while !is_over {
                is_over = end.recv_timeout(Duration::from_millis(1)) != Err(mpsc::RecvTimeoutError::Timeout);
                spans.extend(collector.drain());
            }
            spans
        });
        let output = run(program, collector, variables);
        drop(ended);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*errors), (Some(7), ""), "{program}");
        reader.join().unwrap()
    })
}

fn by_name(spans: Vec<Span>) -> BTreeMap<String, Span> {
    let count = spans.len();
    let by_name: BTreeMap<_, _> =
        spans.into_iter().map(|span| (text(&span, "name").to_owned(), span)).collect();
    assert_eq!(by_name.len(), count, "a span was sent twice");
    by_name
}

fn is_unfinished(span: &Span) -> bool {
    tag(span, "tracing_usdt.unfinished") == Some("true")
}

fn duration_us(span: &Span) -> u64 {
    span["duration"].as_u64().unwrap()
}

fn install() {
    tracing_subscriber::registry().with(tracing_usdt::layer()).init();
}

fn ends() -> ! {
    std::process::exit(7)
}

static LEAKED: OnceLock<OpenSpan> = OnceLock::new();

#[test]
#[ignore = "a program"]
fn exits_with_open_spans() {
    install();
    let root = info_span!("root", args = 3);
    let _inside = root.clone().entered();
    info_span!("closed").in_scope(|| std::thread::sleep(Duration::from_millis(20)));
    info!("what happened in it");
    LEAKED.get_or_init(|| info_span!("leaked"));
    // Like a waiting task: entered before, but not now.
    let waits = info_span!("waits");
    waits.in_scope(|| ());
    let _unsampled = info_span!(parent: None, "unsampled", sampling.priority = 0).entered();
    let (begun, begins) = mpsc::channel();
    std::thread::spawn(move || {
        let _elsewhere = info_span!(parent: &root, "elsewhere").entered();
        begun.send(()).unwrap();
        std::thread::sleep(TIMEOUT);
        drop(root);
    });
    begins.recv().unwrap();
    std::thread::sleep(Duration::from_millis(30));
    ends()
}

#[test]
fn spans_open_at_exit_are_sent_unfinished_with_their_duration_so_far() {
    for way in DELIVERIES {
        let spans = by_name(spans_of("exits_with_open_spans", &[("TRACING_USDT_DELIVERY", way)]));
        let names: Vec<&str> = spans.keys().map(|name| &**name).collect();
        assert_eq!(names, ["closed", "elsewhere", "leaked", "root", "waits"], "{way}");
        for (name, span) in &spans {
            assert_eq!(is_unfinished(span), name != "closed", "{way}: {name}");
            let parent = span.get("parentId").and_then(|id| id.as_str());
            assert_eq!(parent, (name != "root").then(|| text(&spans["root"], "id")), "{way}: {name}");
            assert!((20_000..60_000_000).contains(&duration_us(span)), "{way}: {span:?}");
        }
        let root = &spans["root"];
        assert_eq!(tag(root, "args"), Some("3"), "{way}");
        assert_eq!(root["annotations"].as_array().unwrap().len(), 1, "{way}");
        assert!(duration_us(root) >= 50_000, "{way}: up to the exit");
        let busy_ns = |name: &str| tag(&spans[name], "busy_ns").unwrap().parse::<u64>().unwrap();
        assert!(busy_ns("root") >= 50_000_000 && busy_ns("waits") < busy_ns("elsewhere"), "{way}: {spans:?}");
        assert_eq!(busy_ns("leaked"), 0, "{way}: the span was never entered");
    }
}

#[test]
fn otlp_marks_unfinished_spans_with_a_boolean() {
    let collector = Collector::bind();
    run("returns_from_main_with_a_leaked_guard", &collector, &[("TRACING_USDT_FORMAT", "otlp")]);
    let request: Value = serde_json::from_str(&collector.drain_text()[0]).unwrap();
    let span = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    let attributes = span["attributes"].as_array().unwrap();
    let mark = attributes.iter().find(|attribute| attribute["key"] == "tracing_usdt.unfinished").unwrap();
    assert_eq!(mark["value"], json!({"boolValue": true}));
    assert!(span.get("status").is_none(), "an unfinished span is not an error");
}

#[test]
#[ignore = "a program"]
fn exits_with_open_spans_below_a_remote_parent() {
    install();
    let _root = info_span!("root").entered();
    info_span!("child").in_scope(|| ends());
}

#[test]
fn open_spans_have_the_trace_state_of_a_remote_parent() {
    let collector = Collector::bind();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let variables = [("TRACING_USDT_FORMAT", "otlp"), ("TRACEPARENT", parent), ("TRACESTATE", "a=1,b=2")];
    run("exits_with_open_spans_below_a_remote_parent", &collector, &variables);
    let request: Value = serde_json::from_str(&collector.drain_text()[0]).unwrap();
    let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let states: Vec<_> = spans.iter().map(|span| (&span["traceState"], &span["traceId"])).collect();
    assert_eq!(states, [(&json!("a=1,b=2"), &json!("4bf92f3577b34da6a3ce929d0e0e4736")); 2]);
}

#[test]
#[ignore = "a program"]
fn exits_with_open_spans_with_baggage() {
    install();
    let _root = info_span!("root").entered();
    info_span!("child", tier = "ours").in_scope(|| ends());
}

#[test]
fn open_spans_have_the_attributes_of_their_baggage() {
    let chosen = ("TRACING_USDT_BAGGAGE_ATTRIBUTES", "user.id,tier");
    let spans =
        spans_of("exits_with_open_spans_with_baggage", &[("BAGGAGE", "user.id=7,tier=theirs"), chosen]);
    let spans = by_name(spans);
    let of = |name: &str| ["user.id", "tier"].map(|key| tag(&spans[name], key));
    assert_eq!([of("root"), of("child")], [[Some("7"), Some("theirs")], [Some("7"), Some("ours")]]);
}

#[test]
#[ignore = "a program"]
fn returns_from_main_with_a_leaked_guard() {
    // The test harness' main exits with 0.
    install();
    std::mem::forget(info_span!("leaked").entered());
}

#[test]
fn a_span_with_a_leaked_guard_is_sent_when_main_returns() {
    let collector = Collector::bind();
    assert!(run("returns_from_main_with_a_leaked_guard", &collector, &[]).status.success());
    let spans = collector.drain();
    assert!(spans.len() == 1 && is_unfinished(&spans[0]), "{spans:?}");
}

#[test]
#[ignore = "a program"]
fn exits_with_spans_from_before_the_layer() {
    let (layer, reload) = tracing_subscriber::reload::Layer::new(None::<UsdtLayer>);
    // A layer that is `None` turns all levels off, unless another one asks for them.
    tracing_subscriber::registry().with(layer).with(LevelFilter::TRACE).init();
    let _before = info_span!("before").entered();
    reload.reload(Some(tracing_usdt::layer())).unwrap();
    let _after = info_span!("after").entered();
    ends()
}

#[test]
fn spans_created_before_the_layer_are_not_sent_at_exit() {
    let spans = by_name(spans_of("exits_with_spans_from_before_the_layer", &[]));
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["after"]);
}

#[test]
#[ignore = "a program"]
fn exits_after_the_layer_was_taken_out() {
    let (layer, reload) = tracing_subscriber::reload::Layer::new(Some(tracing_usdt::layer()));
    tracing_subscriber::registry().with(layer).init();
    let _open = info_span!("abandoned").entered();
    reload.reload(None).unwrap();
    ends()
}

#[test]
fn spans_counted_as_abandoned_are_not_sent_at_exit() {
    let spans = by_name(spans_of("exits_after_the_layer_was_taken_out", &[]));
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["tracing_usdt.dropped"]);
    assert_eq!(tag(&spans["tracing_usdt.dropped"], "tracing_usdt.dropped.abandoned"), Some("1"));
}

const MANY: usize = 5000;

#[test]
#[ignore = "a program"]
fn exits_with_thousands_of_open_spans() {
    install();
    let _all: Vec<_> = (0..MANY).map(|n| info_span!("one of many", n)).collect();
    ends()
}

#[test]
fn thousands_of_open_spans_are_each_sent_once() {
    let spans = spans_of("exits_with_thousands_of_open_spans", &[]);
    let numbers: std::collections::BTreeSet<_> = spans.iter().map(|span| tag(span, "n").unwrap()).collect();
    assert_eq!((spans.len(), numbers.len()), (MANY, MANY));
    assert!(spans.iter().all(is_unfinished));
}

#[test]
#[ignore = "a program"]
fn exits_in_a_forked_child() {
    install();
    let _parents = info_span!("the parent's").entered();
    // SAFETY: the child goes on with this thread alone, and takes no lock that another one may have held.
    #[allow(unsafe_code)]
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child if std::env::var_os("CHILD_MAKES_SPANS").is_some() => {
            info_span!("the child's").in_scope(|| ends())
        }
        nix::unistd::ForkResult::Child => ends(),
        nix::unistd::ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).unwrap();
            ends()
        }
    }
}

#[test]
fn a_forked_child_sends_its_own_open_spans_and_not_its_parents() {
    for way in DELIVERIES {
        let spans = by_name(spans_of("exits_in_a_forked_child", &[("TRACING_USDT_DELIVERY", way)]));
        assert_eq!(spans.keys().collect::<Vec<_>>(), ["the parent's"], "{way}");
        let makes = [("TRACING_USDT_DELIVERY", way), ("CHILD_MAKES_SPANS", "1")];
        let spans = by_name(spans_of("exits_in_a_forked_child", &makes));
        assert_eq!(spans.keys().collect::<Vec<_>>(), ["the child's", "the parent's"], "{way}");
        assert!(spans.values().all(is_unfinished), "{way}");
        assert_eq!(text(&spans["the child's"], "parentId"), text(&spans["the parent's"], "id"), "{way}");
    }
}

/// Closes more spans than any socket's queue holds, and exits with one open.
#[test]
#[ignore = "a program"]
fn sends_to_a_receiver_that_does_not_read() {
    let mut builder = tracing_usdt::builder();
    if std::env::var_os("WITH_CALLBACK").is_some() {
        builder = builder.on_error(|_| ());
    }
    tracing_subscriber::registry().with(builder.build()).init();
    let _open = info_span!("open").entered();
    for n in 0..100_000 {
        info_span!("closed", n, text = "so that a datagram holds few of them, and a queue of ten not many");
    }
    if std::env::var_os("FORKS").is_some() {
        // SAFETY: the child goes on with this thread alone, and takes no lock that another one may have held.
        #[allow(unsafe_code)]
        if let nix::unistd::ForkResult::Parent { child } = unsafe { nix::unistd::fork() }.unwrap() {
            nix::sys::wait::waitpid(child, None).unwrap();
        }
    }
    ends()
}

#[test]
fn undelivered_spans_are_reported_in_one_line_at_the_end() {
    for way in DELIVERIES {
        for forks in [false, true] {
            let collector = Collector::bind();
            let mut variables = vec![("TRACING_USDT_DELIVERY", way)];
            variables.extend(forks.then_some(("FORKS", "1")));
            let output = run("sends_to_a_receiver_that_does_not_read", &collector, &variables);
            let errors = String::from_utf8(output.stderr).unwrap();
            let received =
                collector.drain().into_iter().filter(|span| text(span, "name") != "tracing_usdt.dropped");
            let undelivered = 100_001 - received.count();
            let path = collector.path().display();
            let expected = format!(
                "tracing-usdt: {undelivered} spans were not delivered: the receiver at {path} was away, or did not keep up\n"
            );
            assert_eq!((output.status.code(), errors), (Some(7), expected), "{way}, with a fork: {forks}");
        }
    }
}

#[test]
fn with_a_callback_undelivered_spans_are_not_reported_on_stderr() {
    let collector = Collector::bind();
    let output = run("sends_to_a_receiver_that_does_not_read", &collector, &[("WITH_CALLBACK", "1")]);
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(7), String::new()));
}

#[test]
#[ignore = "a program"]
fn becomes_another_program() {
    let layer = tracing_usdt::layer();
    let handle = layer.handle();
    tracing_subscriber::registry().with(layer).init();
    for n in 0..500 {
        info_span!("prepare", n);
    }
    let sh = c"/bin/sh";
    let arguments = [sh, c"-c", c"exit 7"];
    let error = match &*std::env::var("BY").unwrap() {
        "flush" => {
            handle.flush(TIMEOUT).unwrap();
            format!(
                "{:?}",
                nix::unistd::fexecve(std::fs::File::open("/bin/sh").unwrap(), &arguments, &[c"A=1"])
            )
        }
        "execv" => format!("{:?}", nix::unistd::execv(sh, &arguments)),
        "execve" => format!("{:?}", nix::unistd::execve(sh, &arguments, &[c"A=1"])),
        _ => Command::new("sh").args(["-c", "exit 7"]).stdin(Stdio::null()).exec().to_string(),
    };
    panic!("exec: {error}");
}

/// std calls `execvp`. The layer wraps the functions of glibc only.
#[test]
#[cfg(target_env = "gnu")]
fn queued_spans_are_sent_before_an_exec() {
    for by in ["execvp", "execv", "execve"] {
        let spans =
            spans_of("becomes_another_program", &[("TRACING_USDT_DELIVERY", "background"), ("BY", by)]);
        assert_eq!(spans.len(), 500, "{by}");
    }
}

/// Starts children while spans are queued for a receiver that does not read. An `exec` of this process would
/// wait for them.
#[test]
#[ignore = "a program"]
fn starts_other_programs() {
    use std::os::unix::process::CommandExt;
    let layer = tracing_usdt::layer();
    let handle = layer.handle();
    tracing_subscriber::registry().with(layer).init();
    for n in 0..20_000 {
        info_span!("queued", n);
    }
    assert!(handle.stats().queued > 0);
    let started = |start: &dyn Fn()| {
        (0..5).for_each(|_| start());
        let begin = std::time::Instant::now();
        (0..5).for_each(|_| start());
        begin.elapsed()
    };
    // With a `pre_exec`, std uses fork and exec.
    let by_fork = started(&|| {
        let mut command = Command::new("true");
        // SAFETY: it does nothing.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| Ok(()));
        }
        assert!(command.status().unwrap().success());
    });
    let by_vfork = started(&|| {
        let arguments = [c"true".as_ptr(), std::ptr::null()];
        // SAFETY: the child does nothing but execute another program, or end.
        #[allow(unsafe_code, deprecated)]
        let child = unsafe {
            let child = nix::libc::vfork();
            if child == 0 {
                nix::libc::execve(c"/bin/true".as_ptr(), arguments.as_ptr(), arguments[1..].as_ptr().cast());
                nix::libc::_exit(9);
            }
            child
        };
        let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).unwrap();
        assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(nix::unistd::Pid::from_raw(child), 0));
    });
    println!("waited {} {}", by_fork.as_millis(), by_vfork.as_millis());
    // Ends without sending the queued spans.
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// A child that executes another program does not send its parent's spans, and does not wait for them.
#[test]
fn child_programs_do_not_wait_for_their_parents_spans() {
    let collector = Collector::bind();
    let output = run("starts_other_programs", &collector, &[("TRACING_USDT_DELIVERY", "background")]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let waited =
        stdout.lines().find_map(|line| line.split_once("waited ")).unwrap_or_else(|| panic!("{stdout}")).1;
    let waited: Vec<u32> = waited.split(' ').map(|number| number.trim().parse().unwrap()).collect();
    // Five children of each kind. If they waited, each would wait for 100 ms.
    assert!(waited.len() == 2 && waited.iter().all(|ms| *ms < 500), "{waited:?} ms");
}

#[test]
fn spans_flushed_or_sent_inline_survive_an_exec() {
    for way in DELIVERIES {
        let wait = ("TRACING_USDT_MAX_WAIT_MS", "10000");
        let spans =
            spans_of("becomes_another_program", &[("TRACING_USDT_DELIVERY", way), ("BY", "flush"), wait]);
        assert_eq!(spans.len(), 500, "{way}");
    }
}

#[test]
#[ignore = "a program"]
fn continues_after_its_receiver_is_gone() {
    let layer = tracing_usdt::layer();
    let handle = layer.handle();
    tracing_subscriber::registry().with(layer).init();
    info_span!("sent");
    handle.flush(TIMEOUT).unwrap();
    std::fs::remove_file(std::env::var_os("TRACING_USDT_SOCKET").unwrap()).unwrap();
    // The test now closes the receiver's socket.
    println!("removed");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    for _ in 0..10 {
        info_span!("lost");
    }
    ends()
}

#[test]
fn spans_lost_with_a_receiver_that_went_away_are_reported() {
    let collector = Collector::bind();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "continues_after_its_receiver_is_gone",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env("TRACING_USDT_SOCKET", collector.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = command.spawn().unwrap();
    let mut lines = std::io::BufReader::new(program.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("removed")));
    drop(collector);
    program.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = program.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let last = errors.lines().last().unwrap_or_default();
    assert!(last.starts_with("tracing-usdt: 10 spans were not delivered: the receiver at /"), "{errors}");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_receiver_that_never_existed_is_reported_once() {
    let collector = Collector::bind();
    std::fs::remove_file(collector.path()).unwrap();
    let output = run("returns_from_main_with_a_leaked_guard", &collector, &[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.lines().count() == 1 && errors.contains("start a collector"), "{errors}");
}
