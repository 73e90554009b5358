//! What `finish` leaves behind, and what the next start finds.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::http_backend::{HttpBackend, Reply};
use super::*;

fn spool(folder: &tempfile::TempDir) -> Option<SpoolSettings> {
    Some(SpoolSettings { dir: folder.path().join("spool"), max_bytes: SPOOL_BYTES })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_in_memory_at_the_end_are_counted_as_dropped() {
    let socket = DeafSocket::bind();
    let fixture = Fixture::to(format!("otlp=http://127.0.0.1:{}", socket.port()));
    fixture.sinks.push(&chunk(0..10));
    wait_until("it was tried", || fixture.stats().retries > 0).await;
    fixture.sinks.push(&chunk(10..30));
    fixture.sinks.finish(Duration::from_millis(50)).await;
    let stats = fixture.stats();
    assert_eq!((stats.dropped.shutdown, stats.queued, stats.forwarded), (30, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_in_the_spool_at_the_end_are_sent_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let socket = DeafSocket::bind();
    let target = format!("otlp=http://127.0.0.1:{}", socket.port());
    let fixture = Fixture::open(std::slice::from_ref(&target), &[], spool(&folder));
    fixture.sinks.push(&chunk(0..10));
    wait_until("it was tried", || fixture.stats().retries > 0).await;
    fixture.sinks.push(&chunk(10..30));
    fixture.sinks.finish(Duration::from_millis(50)).await;
    let lines: Vec<String> = fixture.notices.try_iter().collect();
    assert_eq!((fixture.stats().queued, fixture.stats().dropped.total()), (30, 0));
    let last = lines.last().unwrap();
    assert!(last.starts_with("30 spans wait in ") && last.ends_with(" for the next start"), "{lines:?}");
    drop(fixture);

    let backend = HttpBackend::on(socket.listen(), [Reply::status(503)]);
    let fixture = Fixture::open(std::slice::from_ref(&target), &[], spool(&folder));
    fixture.sinks.push(&chunk(30..40));
    fixture.finish().await;
    assert_eq!(backend.accepted(), (0..40).collect::<Vec<_>>());
    let stats = fixture.stats();
    assert_eq!((stats.recovered, stats.pushed, stats.forwarded), (30, 10, 40));
    // Nothing is left of the delivered spans.
    let target: Target = target.parse().unwrap();
    let left = std::fs::read_dir(spool(&folder).unwrap().dir.join(target.folder())).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_str().unwrap().ends_with(".segment")), "{left:?}");
}

const SPOOL_OF_THE_KILLED: &str = "SPANTAP_TEST_SPOOL_OF_THE_KILLED";

/// The program that the test below kills. It prints each number after pushing it.
#[tokio::test]
#[ignore = "run by a_killed_program_loses_nothing_that_was_pushed"]
async fn pushes_until_it_is_killed() {
    let dir = std::env::var(SPOOL_OF_THE_KILLED).unwrap().into();
    let spool = Some(SpoolSettings { dir, max_bytes: SPOOL_BYTES });
    let fixture = Fixture::open(&["otlp=http://127.0.0.1:1".into()], &[], spool);
    for number in 0..u64::MAX {
        fixture.sinks.push(&chunk(number..number + 1));
        writeln!(std::io::stdout(), "pushed {number}").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_program_loses_nothing_that_was_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let settings = spool(&folder).unwrap();
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sink::tests::ending::pushes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(SPOOL_OF_THE_KILLED, &settings.dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let pushed = |line: std::io::Result<String>| line.unwrap().strip_prefix("pushed ")?.parse::<u64>().ok();
    let mut last = lines.by_ref().find_map(|line| pushed(line).filter(|number| *number >= 1_000)).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    last = lines.filter_map(pushed).last().unwrap_or(last);

    let file = folder.path().join("spans.jsonl");
    // Moves the spool to another sink, so that it can be read.
    let target: Target = "otlp=http://127.0.0.1:1".parse().unwrap();
    let other: Target = format!("jsonl={}", file.display()).parse().unwrap();
    std::fs::rename(settings.dir.join(target.folder()), settings.dir.join(other.folder())).unwrap();
    let fixture = Fixture::open(&[other.to_string()], &[], Some(settings));
    fixture.finish().await;
    let text = std::fs::read_to_string(file).unwrap();
    let name = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let sent: Vec<u64> = text.lines().map(name).collect();
    assert_eq!(sent, (0..sent.len() as u64).collect::<Vec<_>>());
    // One more may have been pushed and not printed.
    assert!(sent.len() as u64 > last, "{} of {last}", sent.len());
    assert_eq!(fixture.stats().recovered, sent.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_spool_of_another_target_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(&["otlp=http://127.0.0.1:1".into()], &[], spool(&folder));
    fixture.sinks.push(&chunk(0..7));
    fixture.sinks.finish(Duration::ZERO).await;
    drop(fixture);
    let file = folder.path().join("spans.jsonl");
    let fixture = Fixture::open(&[format!("jsonl={}", file.display())], &[], spool(&folder));
    let lines = fixture.finish().await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("7 spans of an earlier start wait in "), "{lines:?}");
    assert!(lines[0].contains("--to otlp=http://127.0.0.1:1/v1/traces"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_can_not_use_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let target = "otlp=http://127.0.0.1:1".to_owned();
    let first = Fixture::open(std::slice::from_ref(&target), &[], spool(&folder));
    let settings =
        Settings { targets: vec![target.parse().unwrap()], spool: spool(&folder), ..Settings::default() };
    let open = || Sinks::open(&settings, &|_| None, &Notices::new().0);
    let error = format!("{:#}", open().err().unwrap());
    let pid = std::process::id();
    assert!(error.contains(&format!("in use by another spantap (pid {pid})")), "{error}");
    assert!(error.contains("choose another --spool"), "{error}");
    first.sinks.finish(Duration::ZERO).await;
    drop(first);
    assert!(open().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_can_not_be_given_twice() {
    let targets = vec!["otlp=http://h:1".parse().unwrap(), "otlp=http://h:1/v1/traces".parse().unwrap()];
    let settings = Settings { targets, ..Settings::default() };
    let error = Sinks::open(&settings, &|_| None, &Notices::new().0).err().unwrap().to_string();
    assert_eq!(error, "--to otlp=http://h:1/v1/traces is given twice: leave one out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_that_no_sink_uses_are_not_checked() {
    let folder = tempfile::tempdir().unwrap();
    let open = |target: &str| {
        let targets = vec![target.parse().unwrap()];
        let lookup = |name: &str| (name == "OTEL_EXPORTER_OTLP_TIMEOUT").then(|| "soon".to_owned());
        Sinks::open(&Settings { targets, ..Settings::default() }, &lookup, &Notices::new().0).map(drop)
    };
    let file = format!("jsonl={}", folder.path().join("spans.jsonl").display());
    assert!(open(&file).is_ok() && open("zipkin=http://127.0.0.1:1").is_ok());
    let error = open("otlp=http://127.0.0.1:1").unwrap_err().to_string();
    assert!(error.starts_with("OTEL_EXPORTER_OTLP_TIMEOUT=soon: "), "{error}");
}
