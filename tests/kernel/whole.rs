//! Everything is there, or counted.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use e2e::{Process, Spantap, free_address, get, program, wait_until};

use crate::found::{Found, Spans, assert_add_up, assert_none_missed};
use crate::with_kernel;
use crate::worker::{Attached, Output};

#[test]
fn long_descriptions_come_whole() {
    with_kernel(&[], || {
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
    });
}

/// Of as many spans as fast as two threads can make them, every one is seen or counted.
#[test]
fn no_span_is_lost_without_being_counted() {
    with_kernel(&[], || {
        let (_, spans, ended) =
            Attached::start(&["--quiet", "--flush-timeout", "60s"]).run_all(["many 2 250000"]);
        let missed: usize = ended
            .stderr
            .lines()
            .filter_map(|line| line.trim().split_once(" missed spans"))
            .map(|(number, _)| number.replace(',', "").parse::<usize>().unwrap())
            .sum();
        assert_eq!(spans.own("one of many").count() + missed, 500_000, "{}", ended.stderr);
    });
}

/// The demo's service, busy on all of its threads: every request is seen, and what the kernel did in it has its
/// place.
#[test]
fn a_service_under_load_is_seen_whole() {
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
        wait_until("all is forwarded", || served(&output.spans()) == clients * requests);
        let ended = spantap.terminate();
        assert_none_missed(&ended.stderr);
        shop.kill().unwrap();

        let spans = output.spans();
        assert_eq!(served(&spans), clients * requests);
        // More threads than processors want one at any time.
        assert_add_up(&spans, 10);
        let ids: BTreeMap<&str, &Found> =
            spans.0.iter().filter(|span| !span.is_kernels).map(|span| (&*span.id, span)).collect();
        let kernels: Vec<&Found> = spans.0.iter().filter(|span| span.is_kernels).collect();
        assert!(kernels.len() > clients * requests, "{}", kernels.len());
        let mut strays = 0;
        for kernel in &kernels {
            match ids.get(&*kernel.parent) {
                Some(parent) => assert_eq!(kernel.trace, parent.trace, "{kernel:#?} {parent:#?}"),
                // Of one that was open at the end.
                None => strays += 1,
            }
        }
        assert!(strays <= 8, "{strays} of {} have no parent", kernels.len());
        // Its threads take the processors from each other, if these are few.
        let waits = kernels.iter().filter(|kernel| ["preempted", "run queue"].contains(&&*kernel.name));
        assert!(waits.count() > 0, "{} of other kinds", kernels.len());
    });
}
