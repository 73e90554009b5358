//! spantap as its users run it: `run` and `listen`, their output, signals, metrics and bad input.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use e2e::{
    Build, Fixture, Linkage, MadeUp, Spantap, free_address, get, need, program, send, send_bytes, wait_until,
};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

/// A file for OTLP JSON, and the target to pass with `--to`.
fn to_file() -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let to = format!("jsonl={}", file.path().display());
    (file, to)
}

/// The spans in a file of OTLP JSON, each with its resource's attributes.
fn spans_in(file: &Path) -> Vec<(HashMap<String, Value>, Value)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let span = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        let resource = &line["resourceSpans"][0];
        let attributes = resource["resource"]["attributes"].as_array().unwrap();
        let attributes =
            attributes.iter().map(|a| (a["key"].as_str().unwrap().to_owned(), a["value"].clone()));
        (attributes.collect(), resource["scopeSpans"][0]["spans"][0].clone())
    };
    text.lines().map(span).collect()
}

#[test]
fn run_shows_the_traces_of_a_service_and_ends_with_it() {
    let shop = program("shop");
    let spantap = Spantap::run(&[], &[shop.to_str().unwrap(), "0"]);
    wait_until("the service listens", || spantap.stdout().contains("http://"));
    let stdout = spantap.stdout();
    let address = stdout.trim().rsplit_once("http://").unwrap().1.parse().unwrap();
    assert!(get(address, "/products/3").unwrap().starts_with("HTTP/1.1 200"));
    assert!(get(address, "/products/999999").unwrap().starts_with("HTTP/1.1 404"));
    let shown = |stderr: &str| {
        // The service's own log is on stderr, too.
        let blocks =
            stderr.split("\n\n").map(|block| block.split_once("trace ").map_or("", |(_, trace)| trace));
        let requests = blocks.filter(|trace| trace.contains("GET /products/{id}"));
        requests.map(str::to_owned).collect::<Vec<_>>()
    };
    wait_until("the traces are shown", || shown(&spantap.stderr()).len() == 2);
    let ended = spantap.terminate();

    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("shop: stopped"), "the service was killed instead of stopped: {ended:?}");
    let shown = shown(&ended.stderr);
    for what in ["└ sqlite", "✗ there is no product 999999"] {
        let found = shown.iter().any(|trace| trace.contains("shop[") && trace.contains(what));
        assert!(found, "no {what} in {shown:?}");
    }
    assert!(!ended.stderr.contains('\x1b'), "no terminal, no colours");
    assert!(!ended.stdout.contains("trace"), "stdout is the program's: {}", ended.stdout);
    let stats = ended.stderr.lines().rfind(|line| line.starts_with("spantap: ")).unwrap();
    assert!(stats.ends_with("from 1 sender"), "{stats}");
}

#[test]
fn run_exits_with_the_programs_exit_code() {
    let code = |script: &str| Spantap::run(&[], &["sh", "-c", script]).wait().status.code();
    assert_eq!(code("exit 0"), Some(0));
    assert_eq!(code("exit 7"), Some(7));
    assert_eq!(code("kill -KILL $$"), Some(128 + 9));
    let ended = Spantap::run(&[], &["no-such-program"]).wait();
    assert_eq!(ended.status.code(), Some(127));
    let error = ended.stderr.lines().last().unwrap();
    assert!(error.starts_with("spantap: can't run no-such-program") && error.contains("PATH"), "{error}");
    assert_eq!(Spantap::run(&[], &["/etc/passwd"]).wait().status.code(), Some(126), "not executable");
}

/// A terminal sends a signal to both; a supervisor sends it to spantap only.
#[test]
fn run_forwards_signals_to_the_program() {
    for (signal, number) in
        [(Signal::SIGTERM, 15), (Signal::SIGINT, 2), (Signal::SIGHUP, 1), (Signal::SIGQUIT, 3)]
    {
        let script = format!("trap 'exit {number}' {number}; echo ready; while :; do sleep 0.05; done");
        let spantap = Spantap::run(&[], &["sh", "-c", &script]);
        wait_until("the program is ready", || spantap.stdout().contains("ready"));
        kill(spantap.pid(), signal).unwrap();
        assert_eq!(spantap.wait().status.code(), Some(number), "{signal}");
    }
}

/// When it was started with `nohup`, neither spantap nor the program ends with the terminal.
#[test]
fn run_leaves_ignored_signals_ignored() {
    let spantap = program("spantap");
    let spantap = spantap.display();
    let script = format!("trap '' HUP; exec {spantap} run -- sh -c 'kill -HUP $$; kill -HUP $PPID; exit 5'");
    let status = Command::new("sh").args(["-c", &script]).output().unwrap().status;
    assert_eq!(status.code(), Some(5));
}

/// The user may not want to wait for a backend that never answers.
#[test]
fn a_second_signal_ends_spantap_at_once() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("otlp=http://{}", silent.local_addr().unwrap());
    let spantap = Spantap::listen(&["--to", &to, "--flush-timeout", "10min", "--quiet"]);
    let socket = spantap.socket().to_owned();
    send(&socket, &MadeUp::many(10));
    kill(spantap.pid(), Signal::SIGINT).unwrap();
    wait_until("spantap flushes", || !socket.exists());
    // A signal that comes while the first is being handled counts as the same.
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill(spantap.pid(), Signal::SIGINT).unwrap();
    let ended = spantap.wait();
    assert_eq!(ended.status.code(), Some(128 + 2));
    assert!(ended.stderr.contains("10 dropped; 10 because they were not sent"), "{}", ended.stderr);
}

/// Whatever number of lost spans the sender's report holds.
#[test]
fn reports_the_losses_of_senders() {
    let lost = |spans: &str| {
        format!(
            r#"[{{"traceId":"0af7651916cd43dd8448eb211c80319c","id":"b7ad6b7169203331","timestamp":1767225600000000,
                "name":"tracing_usdt.dropped","tags":{{"tracing_usdt.dropped.queue_full":"{spans}"}}}}]"#
        )
    };
    let stderr_after = |losses: &[&str]| {
        let spantap = Spantap::listen(&[]);
        losses.iter().for_each(|spans| send_bytes(spantap.socket(), lost(spans).as_bytes()));
        let ended = spantap.terminate();
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(ended.stdout, "", "a loss report was shown as a trace");
        ended.stderr
    };
    let stderr = stderr_after(&["3", "1234", "many"]);
    assert!(stderr.contains("1,237 lost by the sender (queue_full)"), "{stderr}");
    let stderr = stderr_after(&[&u64::MAX.to_string(), "2"]);
    assert!(stderr.contains("18,446,744,073,709,551,615 lost by the sender"), "{stderr}");
}

#[test]
fn shows_only_as_many_traces_as_requested() {
    let shown = |args: &[&str]| {
        let spantap = Spantap::listen(args);
        send(spantap.socket(), &MadeUp::many(2000));
        let ended = spantap.terminate();
        (ended.stdout.matches("trace ").count(), ended.stderr)
    };
    // Every trace has an error, and traces with errors have a limit of their own: 3 and 3 a second. On a busy
    // machine the test may take a second or two.
    let (traces, stderr) = shown(&["--max-traces", "3"]);
    assert!((6..=18).contains(&traces), "{stderr}");
    assert!(stderr.contains(&format!("{traces} traces shown, {} not shown", 100 - traces)), "{stderr}");
    // A trace lasts 20 to 30 ms from its first start to its last end.
    assert_eq!(shown(&["--min-duration", "15ms"]).0, 100);
    let (traces, stderr) = shown(&["--min-duration", "1s"]);
    assert_eq!(traces, 0);
    assert!(!stderr.contains("not shown"), "the user asked for it, so it is not reported: {stderr}");
}

#[test]
fn run_removes_its_folder() {
    let ended =
        Spantap::run(&[], &["sh", "-c", "echo $TRACING_USDT_SOCKET; echo $TRACING_USDT_FORMAT"]).wait();
    let (socket, format) = ended.stdout.trim().split_once('\n').unwrap();
    assert_eq!(format, "otlp-protobuf", "it has nanoseconds and attributes with types");
    let folder = Path::new(socket).parent().unwrap();
    assert!(!folder.exists());
    let script = "stat -c %a $(dirname $TRACING_USDT_SOCKET)";
    assert_eq!(Spantap::run(&[], &["sh", "-c", script]).wait().stdout.trim(), "700");
}

#[test]
fn ten_processes_write_to_one_socket() {
    let (file, to) = to_file();
    let spantap = Spantap::listen(&["--to", &to]);
    let path = Build::Release.path(Linkage::Executable, 0);
    let mut sent = HashMap::new();
    std::thread::scope(|scope| {
        let one = |n: usize| {
            let mut command = Command::new(&path);
            command.env("TRACING_USDT_FORMAT", ["zipkin", "otlp-json", "otlp-protobuf"][n % 3]);
            command.env("TRACING_USDT_DELIVERY", if n % 2 == 0 { "inline" } else { "background" });
            let mut fixture = Fixture::spawn(&mut command, Some(spantap.socket()));
            fixture.run("threads 2 100");
            fixture.run("flush");
            let stats = fixture.run("stats");
            let sent: u64 = stats.split(' ').nth(1).unwrap().parse().unwrap();
            let pid = fixture.pid();
            fixture.end();
            (pid, sent)
        };
        let fixtures: Vec<_> = (0..10).map(|n| scope.spawn(move || one(n))).collect();
        sent.extend(fixtures.into_iter().map(|fixture| fixture.join().unwrap()));
    });
    let ended = spantap.terminate();
    assert!(ended.status.success(), "{ended:?}");

    assert_eq!(sent.len(), 10);
    let spans = spans_in(file.path());
    for (pid, sent) in sent {
        let pid_text = pid.to_string();
        let of_process =
            spans.iter().filter(|(resource, _)| resource["process.pid"]["intValue"] == *pid_text);
        assert_eq!((of_process.count() as u64, sent), (sent, 400), "of {pid}");
        let named = format!("fixture, pid {pid}, uid ");
        let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains(&named)).collect();
        let [received, forwarded] = lines[..] else { panic!("{}", ended.stderr) };
        assert!(received.contains("400 spans") && forwarded.ends_with(": 400 forwarded"), "{lines:?}");
    }
    let ids: std::collections::HashSet<&str> =
        spans.iter().map(|(_, span)| span["spanId"].as_str().unwrap()).collect();
    assert_eq!((spans.len(), ids.len()), (4000, 4000));
}

/// Spans sent before the signal are forwarded, shown and counted, and the socket is removed.
#[test]
fn a_signal_flushes_every_sink_first() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let (file, to) = to_file();
        let spantap = Spantap::listen(&["--to", &to]);
        let socket = spantap.socket().to_owned();
        send(&socket, &MadeUp::many(2000));
        kill(spantap.pid(), signal).unwrap();
        wait_until("the socket is gone", || !socket.exists());
        let ended = spantap.wait();
        assert!(ended.status.success(), "{signal}: {ended:?}");
        assert_eq!(spans_in(file.path()).len(), 2000, "{signal}");
        assert!(ended.stderr.contains("2,000 spans in 50 datagrams from 1 sender"), "{}", ended.stderr);
        assert!(ended.stderr.contains("2,000 spans forwarded"), "{}", ended.stderr);
        assert_eq!(ended.stdout.matches("trace ").count(), 100, "all traces are shown");
    }
}

#[test]
fn another_users_spans_are_refused() {
    if !need(&["root", "python3"]) {
        return;
    }
    let spantap = Spantap::listen(&["--mode", "0666", "--allow-uid", "0"]);
    // The other user can reach the socket.
    let folder = spantap.socket().parent().unwrap();
    std::os::unix::fs::chown(folder, Some(65534), None).unwrap();
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
                  [s.sendto(b'[]', sys.argv[1]) for _ in range(3)]";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(spantap.socket()).uid(65534);
    let status = python.status().unwrap();
    assert!(status.success(), "{status}, signal {:?}", status.signal());
    send(spantap.socket(), &MadeUp::many(1));
    let ended = spantap.terminate();
    assert_eq!(
        ended.stderr.matches("refused: ").count(),
        2,
        "the first one, and at the end: {}",
        ended.stderr
    );
    assert!(ended.stderr.contains("uid 65534 may not send (--allow-uid)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("3 datagrams refused: not an allowed user"), "{}", ended.stderr);
    assert!(ended.stderr.contains("1 span in 4 datagrams from 2 senders"), "{}", ended.stderr);
}

/// Each kind of invalid datagram is reported once and counted by its reason. Valid datagrams after it are
/// accepted. Escape sequences in names and values do not reach the terminal.
#[test]
fn invalid_datagrams_do_no_harm() {
    let spantap = Spantap::listen(&["--color", "always"]);
    let evil = "\\u001b]0;owned\\u0007\\u001b[2J\\u009b31m\\u202egnp";
    let named = format!(
        r#"[{{"traceId":"0af7651916cd43dd8448eb211c80319c","id":"b7ad6b7169203331","name":"{evil}","timestamp":1767225600000000,"duration":7,
            "localEndpoint":{{"serviceName":"{evil}"}},"annotations":[{{"timestamp":1767225600000001,"value":"{evil}"}}],
            "tags":{{"{evil}":"{evil}","error":"{evil}"}}}}]"#
    );
    let large = format!(r#"[{{"x":"{}"}}]"#, "x".repeat(190_000));
    let deep = "[".repeat(100_000);
    let odd_id = named.replace("b7ad6b7169203331", evil);
    let invalid: [(&[u8], &str); 9] = [
        (b"", "an empty datagram"),
        (b"\xff\xfe\x1b[2J", "text that is not UTF-8"),
        (b"\x1b[2Jhello", "text that is not JSON"),
        (b"[{\"traceId\":", "JSON or protobuf that ends in the middle"),
        (b"{}", "neither an array of Zipkin spans nor an OTLP request"),
        (b"[{\"traceId\":7}]", "a member that is missing"),
        (large.as_bytes(), "a member that is missing"),
        (deep.as_bytes(), "JSON or protobuf that ends in the middle"),
        (odd_id.as_bytes(), "an id of another length, or not hexadecimal"),
    ];
    for _ in 0..3 {
        for (bytes, _) in invalid {
            send_bytes(spantap.socket(), bytes);
        }
    }
    send_bytes(spantap.socket(), named.as_bytes());
    send(spantap.socket(), &MadeUp::many(20));
    let ended = spantap.terminate();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stdout.contains("span 19") && ended.stdout.contains("\\x1b]0;owned"), "{}", ended.stderr);
    assert!(ended.stderr.contains("21 spans in 29 datagrams"), "{}", ended.stderr);
    for (_, reason) in invalid {
        assert_eq!(
            ended.stderr.matches(reason).count(),
            2,
            "reported once, and at the end: {reason} in {}",
            ended.stderr
        );
    }
    for (number, reason) in
        [(3, "an empty"), (3, "text that is not UTF-8"), (6, "a member"), (6, "JSON or protobuf that ends")]
    {
        assert!(
            ended.stderr.contains(&format!("{number} refused: {reason}")),
            "{reason} in {}",
            ended.stderr
        );
    }
    // All escape sequences are colours, from spantap.
    let all = ended.stdout.clone() + &ended.stderr;
    let mut rest = &*all;
    while let Some((_, after)) = rest.split_once('\x1b') {
        let code = after.strip_prefix('[').and_then(|after| after.split_once('m')).map(|(code, _)| code);
        assert!(
            code.is_some_and(|code| code.bytes().all(|b| b.is_ascii_digit() || b == b';')),
            "{after:.40}"
        );
        rest = after;
    }
    let is_control = |c: char| (c.is_control() && c != '\n' && c != '\x1b') || c == '\u{202e}';
    assert_eq!(all.chars().find(|c| is_control(*c)), None);
}

/// The output for three spans in a terminal of `columns`.
fn in_terminal(columns: u16, environment: &[(&str, &str)]) -> String {
    let (spantap, mut terminal) = Spantap::listen_in_terminal(columns, environment);
    let shown = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&shown);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // A terminal that closes reports an error.
        while let Ok(bytes) = terminal.read(&mut buffer) {
            sink.lock().unwrap().extend_from_slice(&buffer[..bytes]);
        }
    });
    let text = || String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
    send(spantap.socket(), &MadeUp::many(3));
    wait_until("the trace and the status are shown", || {
        text().contains("span 2") && (text().contains("3 spans, ") || !environment.is_empty())
    });
    assert!(spantap.terminate().status.success());
    reader.join().unwrap();
    text()
}

#[test]
fn terminal_output_has_colours_and_a_status_line_and_fits_the_width() {
    let coloured = in_terminal(60, &[]);
    assert!(coloured.contains("\x1b[31m") || coloured.contains("\x1b[1;31m"), "errors are red: {coloured:?}");
    assert!(coloured.contains("\r\x1b[K3 spans, "), "a status line: {coloured:?}");
    let plain = in_terminal(60, &[("NO_COLOR", "1")]);
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let lines: Vec<&str> = plain.split("\r\n").collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 60), "{lines:#?}");
    let trace: Vec<&str> =
        lines.iter().take_while(|line| !line.is_empty()).map(|line| line.trim_end()).collect();
    assert_eq!(trace.join("\n").replace(&std::process::id().to_string(), "PID"), TERMINAL.trim());
}

/// At 60 columns, in plain text.
const TERMINAL: &str = "
trace 0000000000c0ffee0000000000000001  2.02 ms  3 spans
  1 error  made up[PID]
 1.00 µs ━━━━━━━━━━━━       span 0  number=0 text=\"quote\" a…
                            │ ✗ it broke
+1.00 µs            •       │ it happened  code=7
 8.00 µs ━━━━━━━━━━━▸       └ span 1  number=1 text=\"quote\"…
 15.0 µs ━━━━━━━━━━━▸         └ span 2  number=2 text=\"quot…
";

#[test]
fn a_second_spantap_on_the_same_socket_reports_the_first() {
    let spantap = Spantap::listen(&[]);
    let output = Command::new(program("spantap")).arg("listen").arg(spantap.socket()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(&format!("spantap (pid {}) already listens there", spantap.pid())), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    send(spantap.socket(), &MadeUp::many(1));
    assert!(spantap.terminate().stderr.contains("1 span in 1 datagram"));
}

#[test]
fn metrics_agree_with_the_terminals_counts() {
    let (file, to) = to_file();
    let spantap = Spantap::listen(&["--quiet", "--metrics", "127.0.0.1:0", "--to", &to]);
    let address = || -> Option<std::net::SocketAddr> {
        let stderr = spantap.stderr();
        stderr.split_once("metrics are at http://")?.1.split_once("/metrics")?.0.parse().ok()
    };
    wait_until("spantap prints the address", || address().is_some());
    let address = address().unwrap();
    send(spantap.socket(), &MadeUp::many(100));
    send_bytes(spantap.socket(), b"not JSON");
    wait_until("all is forwarded", || {
        let page = get(address, "/metrics").unwrap();
        let mut lines = page.lines();
        lines.any(|line| line.starts_with("spantap_forwarded_spans_total{") && line.ends_with(" 100"))
    });
    assert_eq!(spans_in(file.path()).len(), 100);
    let page = get(address, "/metrics").unwrap();
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let sender = format!("pid=\"{}\",uid=\"{uid}\",gid=\"{gid}\"", std::process::id());
    for line in [
        format!("spantap_received_spans_total{{{sender},service=\"made up\"}} 100"),
        format!("spantap_received_datagrams_total{{{sender},service=\"made up\"}} 4"),
        format!("spantap_malformed_total{{{sender},service=\"made up\"}} 1"),
        format!("spantap_faults_total{{{sender},service=\"made up\",fault=\"not_json\"}} 1"),
    ] {
        assert!(page.contains(&line), "no {line} in {page}");
    }
    let of_sender = |line: &str| line.contains(&format!("{sender},outcome=\"forwarded\"}} 100"));
    assert!(
        page.lines().any(|line| line.starts_with("spantap_sender_spans_total{") && of_sender(line)),
        "{page}"
    );
    for (name, value) in
        [("pushed_spans_total", 100), ("forwarded_spans_total", 100), ("queued_spans", 0), ("target_up", 1)]
    {
        let line = page.lines().find(|line| line.starts_with(&format!("spantap_{name}{{target="))).unwrap();
        assert!(line.ends_with(&format!(" {value}")), "{line}");
    }
    assert!(page.ends_with("# EOF\n"), "{page}");
    let ended = spantap.terminate();
    assert_eq!(ended.stdout, "", "--quiet");
}

/// The name is read from spans that are not decoded (protobuf), and from those that are.
#[test]
fn metrics_count_the_spans_of_each_name() {
    for format in ["zipkin", "otlp-json", "otlp-protobuf"] {
        let (file, to) = to_file();
        let address = free_address();
        let spantap = Spantap::listen(&["--quiet", "--metrics", &address.to_string(), "--to", &to]);
        let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
        command.env("TRACING_USDT_FORMAT", format);
        let mut fixture = Fixture::spawn(&mut command, Some(spantap.socket()));
        fixture.run("threads 2 100");
        fixture.run("flush");
        let sent = fixture.run("stats").split(' ').nth(1).unwrap().to_owned();
        fixture.end();
        let mut page = String::new();
        wait_until("all is forwarded", || {
            page = get(address, "/metrics").unwrap();
            let mut lines = page.lines();
            lines.any(|line| {
                line.starts_with("spantap_forwarded_spans_total{") && line.ends_with(&format!(" {sent}"))
            })
        });
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for (_, span) in spans_in(file.path()) {
            *names.entry(span["name"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        assert!(names.len() > 1, "{names:?}");
        for (name, count) in names {
            let series = format!(
                "spantap_span_duration_seconds_count{{service=\"fixture\",span=\"{name}\"}} {count}\n"
            );
            assert!(page.contains(&series), "{format}: no {series} in {page}");
        }
    }
}

/// The layer connects to the new collector by itself.
#[test]
fn senders_continue_with_the_next_collector() {
    let (file, to) = to_file();
    let spantap = Spantap::listen(&["--to", &to]);
    let path = Build::Release.path(Linkage::Executable, 0);
    let mut command = Command::new(path);
    command.env("TRACING_USDT_DELIVERY", "background");
    let mut fixture = Fixture::spawn(&mut command, Some(spantap.socket()));
    fixture.run("burst 100");
    fixture.run("flush");
    let spantap = Spantap::listen_again(spantap, &["--to", &to]);
    fixture.run("burst 100");
    fixture.run("flush");
    let stats = fixture.run("stats");
    fixture.end();
    let ended = spantap.terminate();
    let [closed, sent, dropped] =
        stats.split(' ').map(|n| n.parse::<usize>().unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("{stats}")
    };
    assert_eq!((closed, sent, dropped), (200, 200, 0));
    // Spans that the first collector had received but not yet written are lost with SIGKILL.
    let arrived = spans_in(file.path()).len();
    assert!((100..=200).contains(&arrived), "{arrived}, {ended:?}");
    assert!(ended.stderr.contains("100 spans in "), "{}", ended.stderr);
}

/// Spans that the layer has queued for its next datagram are lost with an exec.
#[test]
fn a_sender_that_executes_another_program_is_reported() {
    let spantap = Spantap::listen(&[]);
    let mut fixture = Fixture::start(
        &Build::Release.path(Linkage::Executable, 0),
        Linkage::Executable,
        Some(spantap.socket()),
    );
    fixture.run("burst 10");
    wait_until("spans came", || spantap.stdout().contains("trace "));
    let pid = fixture.pid();
    fixture.begin("exec 60");
    let report =
        format!("(pid {pid}, uid 0) has executed sleep: spans that it closed right before may be lost");
    wait_until("the exec is reported", || spantap.stderr().contains(&report));
    drop(fixture);
    assert!(spantap.terminate().status.success());
}
