//! Every span is forwarded or counted.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use e2e::{Ended, Process, Spantap, free_address, get, program, wait_until};
use nix::sys::signal::{Signal, kill};

use crate::found::{Found, Spans, assert_add_up, assert_no_misses_of_spantap, number};
use crate::with_kernel;
use crate::worker::{Attached, Output};

#[test]
fn long_spans_are_forwarded_complete() {
    with_kernel(&[], || {
        let mut attached = Attached::start(&["--kernel", "none"]);
        // Longer than the layer's own spans, from a probe of the worker.
        let sizes = [100, 600, 900, 1_400, 2_000, 3_000, 7_000, 15_000, 30_000, 65_536, 120_000, 250_000];
        for size in sizes {
            attached.run(&format!("emit {size}"));
        }
        attached.run("emit 300000");
        attached.run("sleep 1 1");
        let (spans, ended) = attached.end();
        let mut found: Vec<usize> = spans.own("emitted").map(|span| span.text("text").len()).collect();
        // The values of two are so long that spantap reports them, and passes these spans on separately.
        found.sort_unstable();
        assert_eq!(found, sizes);
        assert!(ended.stderr.contains("1 missed spans: longer than 256 KiB"), "{}", ended.stderr);
        assert_eq!(spans.own("sleeper").count(), 1);
    });
}

/// Two threads make spans as fast as they can. Each is forwarded or counted.
#[test]
#[ignore = "deep: makes spans as fast as it can"]
fn no_span_is_lost_without_being_counted() {
    with_kernel(&[], || {
        let (_, spans, ended) =
            Attached::start(&["--quiet", "--flush-timeout", "60s"]).run_all(["many 2 250000"]);
        assert_each_counted_once(&spans, &ended, 500_000);
    });
}

/// A report for which the kernel has no room is counted by spantap's programs there, although the layer's later numbers
/// include it.
#[test]
fn a_lost_report_of_losses_is_counted_once() {
    with_kernel(&[], || {
        let mut attached = Attached::start(&["--quiet", "--flush-timeout", "60s"]);
        // With its first batch, spantap knows the layer's numbers.
        attached.run("sleep 1 30");
        wait_until("a span is forwarded", || attached.output.spans().own("sleeper").count() == 1);
        kill(attached.spantap.pid(), Signal::SIGSTOP).unwrap();
        // Fills the buffer between the kernel and spantap, which is not read, to the last KiB.
        let fill = [(140, 250_000), (10, 30_000), (40, 800)];
        for (times, bytes) in fill {
            (0..times).for_each(|_| _ = attached.run(&format!("emit {bytes}")));
        }
        // The layer has as much memory as the machine has cores, so it may take some time until it loses spans.
        let (mut made, mut lost) = (0, 0);
        while lost == 0 {
            attached.run("many 2 60000");
            made += 120_000;
            lost = number(&attached.run("lost_batches"), "spans") as usize;
        }
        // It reports losses every 50 ms.
        sleep(Duration::from_millis(100));
        kill(attached.spantap.pid(), Signal::SIGCONT).unwrap();
        // Its batch has the numbers that include the lost reports.
        attached.run("sleep 1 30");
        let (spans, ended) = attached.end();
        let filling: usize = fill.iter().map(|(times, _)| times).sum();
        let emitted = spans.own("emitted").count();
        assert!(emitted < filling, "there was room for all: {}", ended.stderr);
        assert_each_counted_once(&spans, &ended, made + filling - emitted);
        assert!(lost > count_before(&ended, BY_LAYER), "no report was lost, of {lost}: {}", ended.stderr);
    });
}

const BY_LAYER: &str = " lost by the sender";
const BY_KERNEL: &str = " missed spans:";

/// The sum of the numbers before these words.
fn count_before(ended: &Ended, words: &str) -> usize {
    let before: Vec<&str> = ended.stderr.split(words).collect();
    let numbers = before[..before.len() - 1].iter().map(|text| text.rsplit([' ', '\n']).next().unwrap());
    numbers.map(|number| number.replace(',', "").parse::<usize>().unwrap()).sum()
}

/// Of `made` spans, each was forwarded, or counted by the kernel's side or by the layer's.
#[track_caller]
fn assert_each_counted_once(spans: &Spans, ended: &Ended, made: usize) {
    let counted = count_before(ended, BY_KERNEL) + count_before(ended, BY_LAYER);
    assert_eq!(spans.own("one of many").count() + counted, made, "{}", ended.stderr);
}

/// The demo's service is busy on all of its threads. Every request is forwarded, and the kernel's work in it
/// has the right parent.
#[test]
fn every_request_of_a_service_under_load_is_forwarded() {
    with_kernel(&[], || {
        let address = free_address();
        let mut shop = Command::new(program("shop"));
        shop.arg(address.port().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shop = Process(shop.spawn().unwrap());
        wait_until("the shop answers", || std::net::TcpStream::connect(address).is_ok());
        let output = Output::new();
        let args = ["--pid", &shop.id().to_string(), "--to", &output.to(), "--flush-timeout", "60s"];
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
        wait_until("all requests are forwarded", || served(&output.spans()) == clients * requests);
        let ended = spantap.terminate();
        assert_no_misses_of_spantap(&ended.stderr);
        shop.kill().unwrap();

        let spans = output.spans();
        assert_eq!(served(&spans), clients * requests);
        // Also with more runnable threads than processors.
        assert_add_up(&spans);
        let ids: BTreeMap<&str, &Found> =
            spans.0.iter().filter(|span| !span.is_kernels).map(|span| (&*span.id, span)).collect();
        let kernels: Vec<&Found> = spans.0.iter().filter(|span| span.is_kernels).collect();
        assert!(kernels.len() > clients * requests, "{}", kernels.len());
        let mut strays = 0;
        for kernel in &kernels {
            match ids.get(&*kernel.parent) {
                Some(parent) => assert_eq!(kernel.trace, parent.trace, "{kernel:#?} {parent:#?}"),
                // Its parent was open at the end.
                None => strays += 1,
            }
        }
        assert!(strays <= 8, "{strays} of {} have no parent", kernels.len());
        // The threads preempt each other.
        let waits = kernels.iter().filter(|kernel| ["preempted", "run queue"].contains(&&*kernel.name));
        assert!(waits.count() > 0, "{} of other kinds", kernels.len());
    });
}
