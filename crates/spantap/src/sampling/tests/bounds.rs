//! The memory is bounded, whatever comes, and nothing is lost without being counted.

use super::*;

#[test]
fn traces_that_never_end_are_decided_early_and_counted() {
    let limits = Limits { bytes: 4 << 20, ..Limits::default() };
    let mut bench = Bench::with(&["error", "ratio(1%)"], limits);
    let traces = 200_000;
    for trace in 1..=traces {
        bench.send(Sent::of(trace << 40, 2, 1));
        assert!(bench.sampler.waiting_bytes() <= limits.bytes);
    }
    bench.collect();
    let counts = bench.counts();
    let decided = counts.kept_traces() + counts.dropped_traces;
    assert_eq!((decided, decided + counts.waiting_traces), (counts.no_room, traces as u64));
    assert!(counts.waiting_traces > 1_000, "{counts:?}");
    assert!(bench.sampler.checks() < 10_000 + 4 * counts.waiting_traces as usize);
}

/// One trace waits, so the decided ones behind it are not at the front of any queue.
#[test]
fn checks_of_traces_that_are_decided_take_bounded_memory() {
    let mut bench = Bench::new(&["error"]);
    bench.send(Sent::of(LAST, 2, 1));
    for trace in 1..=50_000 {
        bench.send(Sent::of(trace, 2, 1));
        bench.send(Sent::of(trace, 1, 0).failed());
        assert!(bench.sampler.checks() < 5_000);
    }
    bench.finish();
    assert_eq!((bench.got.len(), bench.counts().dropped_spans), (100_000, 1));
}

#[test]
fn a_trace_with_very_many_spans_is_decided_early_and_starves_no_other() {
    let limits = Limits { bytes: 8 << 20, bytes_of_a_trace: 1 << 20, ..Limits::default() };
    let mut bench = Bench::with(&["error"], limits);
    let spans = 200_000;
    for span in 2..=spans {
        bench.send(Sent::of(FIRST, span, 1));
        if span % 1_000 == 0 {
            bench.send(Sent::of(u128::from(span), 2, 1));
        }
    }
    for span in (1_000..=spans).step_by(1_000) {
        bench.send(Sent::of(u128::from(span), 1, 0).failed());
    }
    bench.send(Sent::of(FIRST, 1, 0).failed());
    bench.finish();
    for span in (1_000..=spans).step_by(1_000) {
        assert_eq!(bench.kept(span.into()), [1, 2]);
    }
    let counts = bench.counts();
    assert_eq!((counts.too_large, counts.no_room, counts.incomplete_traces), (1, 0, 1));
    // Only what came after the error is kept of the large one, and the rest is counted.
    assert_eq!((bench.kept(FIRST).len(), counts.dropped_spans), (1, spans - 1));
}

#[test]
fn a_trace_that_never_ends_is_decided_by_time_and_remembered_while_it_gets_spans() {
    let limits = Limits { decisions: 10, ..Limits::default() };
    let mut bench = Bench::with(&["error", "ratio(50%)"], limits);
    for minute in 0..600_u64 {
        bench.send(Sent::of(LAST, 2 + minute, 1));
        bench.send(Sent::of(FIRST + u128::from(minute), 1, 0));
        bench.wait(60 * SECOND);
    }
    bench.send(Sent::of(LAST, 1, 0));
    bench.finish();
    assert_eq!(bench.kept(LAST).len(), 601);
    let counts = bench.counts();
    assert_eq!((counts.waited, counts.late_kept), (1, 600));
}

/// A process's resource is often larger than its spans, and its spans come one by one.
#[test]
fn what_a_process_is_counts_once_however_its_spans_come() {
    let mut bench = Bench::new(&["error"]);
    let attribute = |number: usize| KeyValue {
        key: format!("k8s.attribute.{number}"),
        value: Some(AnyValue { value: Some(Value::StringValue("x".repeat(80))) }),
        ..KeyValue::default()
    };
    let resource = Resource { attributes: (0..20).map(attribute).collect(), ..Resource::default() };
    let process = |pid| {
        let sender = Sender { pid, uid: 0, gid: 0 };
        Arc::new(Process { sender, service: String::new(), resource: resource.clone() })
    };
    bench.processes = (1..=2).map(process).collect();
    assert!(bench.processes[0].resource_bytes() > 2_000);
    // One large trace across both, and many small ones.
    for number in 2..20_000_u64 {
        let process = number as usize % 2;
        bench.send(Sent { process, ..Sent::of(LAST, number, 1) });
        bench.send(Sent { process, ..Sent::of(number.into(), 2, 1) });
    }
    bench.collect();
    let counts = bench.counts();
    assert_eq!((counts.too_large, counts.no_room, counts.waiting_spans), (0, 0, 39_996));
    assert!(bench.sampler.waiting_bytes() < 20 << 20, "{}", bench.sampler.waiting_bytes());
    bench.finish();
    assert_eq!(bench.sampler.waiting_bytes(), 0);
}
