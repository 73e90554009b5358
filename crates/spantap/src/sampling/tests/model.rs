//! Random traces in random orders: the sampler against an oracle that knows all spans beforehand.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A trace to make: its spans, each with a process, what the rules ask for, and after which pause it is sent.
type Planned = Vec<(usize, Asked, u16)>;

/// Whether a span has failed, its milliseconds, those for which it waited for the disk, and whether it is of the tenant acme.
type Asked = (bool, u32, u32, bool);

/// Rules, and what the oracle says of them: whether a trace with these random bits and these spans must be kept.
type Case = (&'static [&'static str], fn(u64, &[Sent]) -> bool);

const CASES: [Case; 10] = [
    (&["error"], |_, spans| has_error(spans)),
    (&["ratio(30%)"], |random, _| is_in(random, 0.3)),
    (&["error", "ratio(30%)"], |random, spans| has_error(spans) || is_in(random, 0.3)),
    (&["error and ratio(50%)", "ratio(10%)"], |random, spans| {
        is_in(random, if has_error(spans) { 0.5 } else { 0.1 })
    }),
    (&["name == \"of 2\"", "error and ratio(50%)"], |random, spans| {
        spans.iter().any(|span| span.process == 2) || (has_error(spans) && is_in(random, 0.5))
    }),
    (&["not error"], |_, spans| spans.iter().any(|span| !span.is_error)),
    (&["duration > 100ms"], |_, spans| spans.iter().any(|span| span.ms > 100)),
    (&["tenant == \"acme\"", "ratio(10%)"], |random, spans| {
        spans.iter().any(|span| span.is_of_acme) || is_in(random, 0.1)
    }),
    (&["kernel.disk > 10ms"], |_, spans| spans.iter().any(|span| span.disk_ms > 10)),
    // One span must be all of it.
    (&["duration > 100ms and kernel.disk > 10ms and tenant == \"acme\" and not error"], |_, spans| {
        spans.iter().any(|span| span.ms > 100 && span.disk_ms > 10 && span.is_of_acme && !span.is_error)
    }),
];

fn has_error(spans: &[Sent]) -> bool {
    spans.iter().any(|span| span.is_error)
}

/// The id of a trace, with other random bits for each.
fn id(number: u128) -> u128 {
    (number + 1) * 0x9e37_79b9_7f4a_7c15
}

fn is_in(random: u64, share: f64) -> bool {
    random as f64 >= (1.0 - share) * 2_f64.powi(56)
}

fn planned() -> impl Strategy<Value = Vec<(u64, Planned)>> {
    // Around the limits of the rules, and seldom beyond them.
    let ms = || prop_oneof![8 => 1..=100_u32, 1 => 101..103_u32];
    let disk_ms = || prop_oneof![8 => 0..=10_u32, 1 => 11..13_u32];
    // Of few, a single span has all.
    let asked = (prop::bool::weighted(0.1), ms(), disk_ms(), prop::bool::weighted(0.1));
    let all = (Just(false), Just(101), Just(11), Just(true));
    let span = (0..3_usize, prop_oneof![20 => asked.boxed(), 1 => all.boxed()], 0..30_u16);
    prop::collection::vec((any::<u64>(), prop::collection::vec(span, 1..8)), 1..40)
}

proptest! {
    /// All spans come within the ten seconds that a complete trace waits, so none is decided before its end.
    #[test]
    fn every_chosen_trace_is_kept_whole_and_no_other(
        traces in planned(),
        case in 0..CASES.len(),
        order in any::<u64>(),
    ) {
        let (rules, must_keep) = CASES[case];
        let mut bench = Bench::new(rules);
        // Each trace's spans in an order of their own, between those of the others.
        let mut all = Vec::new();
        let mut expected = BTreeMap::new();
        for (number, (random, spans)) in traces.iter().enumerate() {
            let trace = u128::from(number as u64 + 1) << 64 | u128::from(*random);
            // In any order: the root may come first, such as that of a process that is not the last to send.
            let turn = |place: usize| (place as u64 ^ order) % 8;
            let mut of_trace = Vec::new();
            for (place, (process, (is_error, ms, disk_ms, is_of_acme), pause)) in spans.iter().copied().enumerate() {
                let (span, parent) = (place as u64 + 1, place.div_ceil(2) as u64);
                let sent = Sent { process, trace, span, parent, is_error, ms, disk_ms, is_of_acme };
                of_trace.push(sent);
                all.push((turn(place), pause, sent));
            }
            let is_chosen = must_keep(random & ((1 << 56) - 1), &of_trace);
            let ids = if is_chosen { (1..=spans.len() as u64).collect() } else { BTreeSet::new() };
            expected.insert(trace, ids);
        }
        all.sort_by_key(|(turn, pause, _)| (*turn, *pause));
        for (_, pause, sent) in &all {
            bench.wait(Duration::from_millis((*pause).into()));
            bench.send(*sent);
        }
        bench.finish();
        let mut kept: BTreeMap<u128, BTreeSet<u64>> = expected.keys().map(|trace| (*trace, BTreeSet::new())).collect();
        for got in &bench.got {
            let trace = u128::from_be_bytes(got.span.trace_id.clone().try_into().unwrap());
            let span = u64::from_be_bytes(got.span.span_id.clone().try_into().unwrap());
            prop_assert!(kept.get_mut(&trace).unwrap().insert(span), "twice: {:?}", got);
            // Unchanged, and of the process that sent it.
            let (.., sent) = all.iter().find(|(.., sent)| sent.trace == trace && sent.span == span).unwrap();
            prop_assert_eq!(&got.span, &sent.proto());
            prop_assert_eq!(got.pid, sent.process as u32 + 1);
            prop_assert!(!got.is_incomplete);
        }
        prop_assert_eq!(kept, expected);
        let counts = bench.counts();
        prop_assert_eq!(counts.kept_spans() + counts.dropped_spans, all.len() as u64);
        prop_assert_eq!(counts.kept_traces() + counts.dropped_traces, traces.len() as u64);
        prop_assert_eq!((counts.late_kept, counts.late_dropped, counts.incomplete_traces), (0, 0, 0));
    }

    /// Whatever the order, the pauses and the limits: every span is kept, dropped or waiting, once; what the queries choose is
    /// kept at least from the chosen span on; and whatever is kept of a trace is not followed by anything dropped.
    #[test]
    fn no_span_is_lost_and_nothing_is_dropped_after_a_kept_span(
        sent in prop::collection::vec((0..30_u128, any::<bool>(), prop::bool::weighted(0.1), 0..20_000_u64, 0..3_usize), 1..300),
        bytes in 1_000..40_000_usize,
        decisions in 30..100_usize,
    ) {
        let limits = Limits { bytes, bytes_of_a_trace: bytes / 2, decisions };
        let mut bench = Bench::with(&["error", "ratio(20%)"], limits);
        for (place, (trace, is_root, is_error, pause, process)) in sent.iter().enumerate() {
            let trace = id(*trace);
            let span = place as u64 + 1;
            let parent = u64::from(!is_root) * 77_777;
            bench.send(Sent { process: *process, is_error: *is_error, ..Sent::of(trace, span, parent) });
            bench.collect();
            prop_assert!(bench.sampler.waiting_bytes() <= bytes);
            let counts = bench.counts();
            let known = counts.kept_spans() + counts.dropped_spans + counts.waiting_spans;
            prop_assert_eq!(known, span);
            prop_assert_eq!(counts.kept_spans(), bench.got.len() as u64);
            if pause % 3 == 0 {
                bench.wait(Duration::from_millis(*pause));
            }
        }
        bench.finish();
        for (place, (trace, _, is_error, ..)) in sent.iter().enumerate() {
            let kept = bench.kept(id(*trace));
            let own = |place: &usize| sent[*place].0 == *trace;
            if *is_error {
                // All of the trace from here on.
                for later in (place..sent.len()).filter(own) {
                    prop_assert!(kept.contains(&(later as u64 + 1)), "{kept:?} {place} {later}");
                }
            }
            let first = (0..sent.len()).filter(own).find(|place| kept.contains(&(*place as u64 + 1)));
            for later in (first.unwrap_or(sent.len())..sent.len()).filter(own) {
                prop_assert!(kept.contains(&(later as u64 + 1)), "a gap: {kept:?} {later}");
            }
        }
    }
}
