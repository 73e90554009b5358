//! TCP connections.

use std::process::Command;

use e2e::Ended;

use crate::found::{assert_lasted, assert_no_misses, assert_no_misses_of_spantap, number};
use crate::worker::{Attached, Worker};
use crate::{repeat_if_unreported, with_kernel};

#[test]
fn a_connection_is_reported_at_both_ends() {
    with_kernel(&[], || {
        let ([talked, refused], spans, _) =
            Attached::start(&["--min", "0us"]).run_all(["talk 100000", "refused"]);
        let port = number(&talked, "port");

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
        let [connect] = spans.below(spans.one("refused"), "tcp connect")[..] else {
            panic!("{:#?}", spans.0)
        };
        assert_eq!(connect.text("error.type"), "ECONNREFUSED");
        assert_eq!(connect.number("network.peer.port"), number(&refused, "port"));
    });
}

/// Whichever end closes first, and at whatever time.
#[test]
fn all_bytes_of_a_connection_are_counted() {
    with_kernel(&[], || {
        let ([_, queued], spans, ended) =
            Attached::start(&["--min", "0us"]).run_all(["half 100000", "queued 300000"]);
        assert_no_misses_of_spantap(&ended.stderr);
        let bytes = |name: &str| {
            let [close] = spans.below(spans.one(name), "tcp close")[..] else {
                panic!("{name}: {:#?}", spans.0)
            };
            (close.number("kernel.tcp.sent_bytes"), close.number("kernel.tcp.received_bytes"))
        };
        assert_eq!(bytes("half"), (7, 100_000), "bytes received after it had shut down its own side");
        assert_eq!(bytes("late"), (100_000, 7));
        assert_eq!((number(&queued, "received"), bytes("writer")), (300_000, (300_000, 0)));
        let (_, shut, _) = Attached::start(&["--min", "0us"]).run_all(["shut 300000"]);
        let [close] = shut.below(shut.one("writer"), "tcp close")[..] else { panic!("{:#?}", shut.0) };
        assert_eq!(close.number("kernel.tcp.sent_bytes"), 300_000, "one side was shut down before the close");

        // The connection waited before the span began, and that time is not in the span.
        let late = spans.one("late");
        let [accept] = spans.below(late, "tcp accept")[..] else { panic!("{:#?}", spans.0) };
        assert!(
            accept.start_ns + 1000 >= late.start_ns && accept.end_ns <= late.end_ns,
            "{accept:#?} {late:#?}"
        );
        assert!(accept.number("kernel.tcp.lifetime_ns") >= 100_000_000, "{accept:#?}");
    });
}

/// The span is entered and exited several times until the first bytes arrive.
#[test]
fn a_span_that_is_polled_accepts_from_its_first_poll_on() {
    with_kernel(&[], || {
        let ([measured], spans, _) = Attached::start(&["--min", "0us"]).run_all(["polls"]);
        let polled = spans.one("polled");
        let [accept] = spans.below(polled, "tcp accept")[..] else { panic!("{:#?}", spans.0) };
        assert_lasted("until there was something to read", accept.duration_ns(), &measured);
        assert!(accept.start_ns + 1000 >= polled.start_ns && accept.end_ns <= polled.end_ns, "{accept:#?}");
    });
}

/// Repeated if the kernel did not report everything, because there is only one connect.
#[test]
fn a_connect_takes_as_long_as_the_program_measured() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let ([measured], spans, ended) = Attached::start(&["--min", "0us"]).run_all(["crowded"]);
            assert_no_misses(&ended.stderr);
            let patient = spans.one("patient");
            let [connect] = spans.below(patient, "tcp connect")[..] else { panic!("{:#?}", spans.0) };
            assert!(number(&measured, "wall_ns") > 500_000_000, "{measured}");
            assert_lasted("the connect", connect.duration_ns(), &measured);
            let retransmits = spans.below(patient, "tcp retransmit");
            assert_eq!(retransmits.len() as u64, connect.number("kernel.tcp.retransmits"), "{:#?}", spans.0);
            assert!(!retransmits.is_empty(), "{:#?}", spans.0);
        })
    });
}

#[test]
#[ignore = "deep: rare: a virtual machine that hides retransmits"]
fn retransmits_that_are_not_reported_are_counted() {
    with_kernel(&["unshare"], || {
        let (_, spans, Ended { stderr, .. }) =
            Attached::lacking("tcp_retransmit_skb", Worker::start()).run_all(["crowded"]);
        let [connect] = spans.below(spans.one("patient"), "tcp connect")[..] else {
            panic!("{:#?}", spans.0)
        };
        assert!(connect.number("kernel.tcp.retransmits") > 0, "{connect:#?}");
        let line = "1 missed connections: the kernel did not report all of their retransmits";
        assert!(stderr.contains(line), "{stderr}");
    });
}

/// In a network namespace, where one address never answers.
/// Repeated if the kernel did not report a retransmit.
#[test]
fn retransmits_outside_the_thread_belong_to_the_span() {
    with_kernel(&["ip", "unshare"], || {
        repeat_if_unreported(|| {
            let network = "ip link add near type veth peer name far && ip link set near up && ip link set far up && \
                       ip addr add 10.9.9.1/24 dev near && \
                       ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:02 dev near nud permanent && exec \"$0\"";
            let mut command = Command::new("unshare");
            command.args(["--net", "sh", "-c", network, env!("CARGO_BIN_EXE_kernel_work")]);
            let mut attached = Attached::to(Worker::spawn(&mut command), &[]);
            let measured = attached.run("lost 10.9.9.2:80");
            assert_eq!(measured["failed"], true);
            let (spans, ended) = attached.end();
            assert_no_misses(&ended.stderr);
            let [connect] = spans.below(spans.one("lost"), "tcp connect")[..] else {
                panic!("{:#?}", spans.0)
            };
            assert_lasted("until it was given up", connect.duration_ns(), &measured);
            assert_eq!(connect.text("error.type"), "ECANCELED", "the connect was given up");
            let retransmits = spans.below(spans.one("lost"), "tcp retransmit");
            assert!(!retransmits.is_empty(), "{:#?}", spans.0);
            assert_eq!(retransmits[0].text("network.peer.address"), "10.9.9.2");
        })
    });
}
