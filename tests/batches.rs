//! The probe `batch_emit`: what a batch holds, and what becomes of spans when the consumer goes, or the program ends, forks
//! or executes another.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use e2e::{Bpftrace, Build, Fixture, Linkage, need, wait_until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

fn fixture() -> PathBuf {
    Build::Release.path(Linkage::Executable, 0)
}

/// Adds up how many spans the batches have.
fn counting(path: &Path) -> Bpftrace {
    Bpftrace::attach(&Bpftrace::probe(path, "batch_emit", "@spans = sum(arg2);"), None)
}

/// Detaches, and returns the sum.
fn counted(bpftrace: Bpftrace) -> u64 {
    let lines = bpftrace.end();
    let sum = lines.iter().find_map(|line| line.strip_prefix("@spans: "));
    sum.map_or(0, |sum| sum.parse().unwrap())
}

/// The layer's counts of what became of the spans in batches.
fn batch_stats(fixture: &mut Fixture) -> BTreeMap<String, u64> {
    let line = fixture.run("batch_stats");
    let pairs = line.split(' ').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
}

/// The batches that gdb reads in the memory of a program that runs `commands`, and the datagrams that it sends.
fn run(commands: &str, variables: &[(&str, &str)]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let [script, input, socket] = ["script", "input", "socket"].map(|name| folder.path().join(name));
    let receiver = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let batch = folder.path().join("batch.");
    std::fs::write(
        &script,
        format!(
            "set breakpoint pending on\nset print thread-events off\nset $batch = 0\n\
             break -probe-stap tracing:batch_emit\ncommands\nsilent\n\
             eval \"dump binary memory {}%d %lu %lu\", $batch, $_probe_arg0, $_probe_arg0 + $_probe_arg1\n\
             set $batch = $batch + 1\ncontinue\nend\nrun < /dev/stdin\n",
            batch.display()
        ),
    )
    .unwrap();
    std::fs::write(&input, commands).unwrap();
    let mut gdb = Command::new("gdb");
    gdb.args(["--batch", "--nx", "-x"])
        .arg(&script)
        .arg(fixture())
        .stdin(std::fs::File::open(input).unwrap());
    gdb.env("TRACING_USDT_SOCKET", &socket).env("TRACING_USDT_FORMAT", "otlp-protobuf");
    let output = gdb.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let read = |number: usize| std::fs::read(folder.path().join(format!("batch.{number}"))).ok();
    let batches = (0..).map_while(read).collect();
    receiver.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 18];
    let receive = || receiver.recv(&mut buffer).ok().map(|bytes| buffer[..bytes].to_vec());
    (batches, std::iter::from_fn(receive).collect())
}

/// The spans of all requests, and the services that they name.
fn spans(requests: &[Vec<u8>]) -> (Vec<Span>, BTreeSet<String>) {
    let (mut spans, mut services) = (Vec::new(), BTreeSet::new());
    for request in requests {
        let request = ExportTraceServiceRequest::decode(&request[..]).unwrap();
        for resource in request.resource_spans {
            services.insert(format!("{:?}", resource.resource));
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans.sort_by(|a, b| a.span_id.cmp(&b.span_id));
    (spans, services)
}

#[test]
fn batches_and_datagrams_have_the_same_spans() {
    if need(&["gdb"]) {
        let (batches, datagrams) = run("tree\noutlive\n", &[]);
        let of_batches = spans(&batches);
        assert_eq!(of_batches, spans(&datagrams));
        assert_eq!(of_batches.0.len(), 5, "{of_batches:?}");
    }
}

#[test]
fn batches_have_the_spans_of_traces_that_are_not_sampled() {
    if need(&["gdb"]) {
        let (batches, datagrams) = run("tree\n", &[("OTEL_TRACES_SAMPLER", "always_off")]);
        assert_eq!(datagrams, [[0; 0]; 0]);
        let (spans, _) = spans(&batches);
        assert_eq!(spans.len(), 3, "{spans:?}");
        assert!(spans.iter().all(|span| span.flags & 1 == 0), "{spans:?}");
    }
}

#[test]
fn without_a_consumer_nothing_is_counted_and_no_thread_runs() {
    let mut fixture = Fixture::start(&fixture(), Linkage::Executable, None);
    fixture.run("burst 1000");
    assert!(batch_stats(&mut fixture).values().all(|count| *count == 0));
    let threads = std::fs::read_dir(format!("/proc/{}/task", fixture.pid())).unwrap().count();
    assert_eq!(threads, 1);
    fixture.end();
}

/// Waits until nothing is queued, and returns the counts.
fn settled(fixture: &mut Fixture) -> BTreeMap<String, u64> {
    wait_until("nothing is queued", || batch_stats(fixture)["queued"] == 0);
    batch_stats(fixture)
}

#[test]
fn every_span_is_in_a_batch_while_a_consumer_is_attached() {
    if !need(&["bpftrace", "root"]) {
        return;
    }
    let path = fixture();
    let mut fixture = Fixture::start(&path, Linkage::Executable, None);
    let mut received = 0;
    for _ in 0..2 {
        let bpftrace = counting(&path);
        fixture.run("pace 20 300 10");
        fixture.run("threads 4 500");
        settled(&mut fixture);
        received += counted(bpftrace);
        fixture.run("pace 20 100 10");
    }
    let stats = settled(&mut fixture);
    assert_eq!(received, 2 * (20 * 300 + 4 * 500 * 2));
    assert_eq!((stats["closed"], stats["sent"], stats["dropped"]), (received, received, 0), "{stats:?}");
    fixture.end();
}

/// The last batches may not reach the consumer: the kernel takes its program away before it resets the semaphore.
#[test]
fn spans_that_are_queued_when_the_consumer_detaches_are_counted() {
    if !need(&["bpftrace", "root"]) {
        return;
    }
    let path = fixture();
    let mut fixture = Fixture::start(&path, Linkage::Executable, None);
    for _ in 0..3 {
        let bpftrace = counting(&path);
        fixture.begin("pace 20 1500 10");
        // The consumer detaches while spans come.
        thread::sleep(Duration::from_millis(300));
        assert!(counted(bpftrace) > 2000);
        fixture.finish();
    }
    let stats = settled(&mut fixture);
    assert!(stats["no_receiver"] > 0, "{stats:?}");
    assert_eq!(stats["closed"], stats["sent"] + stats["no_receiver"], "{stats:?}");
    fixture.end();
}

#[test]
fn what_has_gathered_is_sent_at_exit_before_an_exec_and_by_each_fork() {
    if !need(&["bpftrace", "root"]) {
        return;
    }
    let path = fixture();
    // The child of the fork has the span from before, too.
    for (command, spans) in [("exit", 100), ("exec 0", 100), ("fork", 2 * 11)] {
        let bpftrace = counting(&path);
        let mut fixture = Fixture::start(&path, Linkage::Executable, None);
        if command == "fork" {
            fixture.run(command);
            fixture.end();
        } else {
            fixture.run_last(command);
        }
        assert_eq!(counted(bpftrace), spans, "{command}");
    }
}
