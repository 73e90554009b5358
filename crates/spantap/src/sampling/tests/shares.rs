//! Ratios and rates over many traces.

use super::*;

/// Ids as random as a generator makes them: the steps of SplitMix64.
fn random_ids(seed: u64) -> impl Iterator<Item = u128> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    std::iter::repeat_with(move || u128::from(next()) << 64 | u128::from(next()))
}

#[test]
fn a_ratio_of_100000_traces_is_within_its_bounds_and_the_same_everywhere() {
    let kept = |rules: &[&str], by_pairs: bool| -> Vec<u128> {
        let mut bench = Bench::new(rules);
        for id in random_ids(7).take(100_000) {
            bench.send(Sent::of(id, 2, 1));
            if by_pairs {
                bench.wait(Duration::from_millis(1));
                bench.send(Sent { process: 1, ..Sent::of(id, 1, 0) });
            }
        }
        bench.finish();
        let mut ids: Vec<u128> = bench
            .got
            .iter()
            .map(|got| u128::from_be_bytes(got.span.trace_id.clone().try_into().unwrap()))
            .collect();
        ids.dedup();
        ids
    };
    let (one, other) = (kept(&["ratio(1%)"], false), kept(&["name == \"none\"", "ratio(1%)"], true));
    let sorted = |ids: &[u128]| ids.iter().copied().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(sorted(&one), sorted(&other));
    // The mean is 1,000 and the standard deviation 31.5; five of them are one chance in two million.
    assert!((843..=1_157).contains(&one.len()), "{}", one.len());
    let tenth = sorted(&kept(&["ratio(10%)"], false));
    assert!(one.iter().all(|id| tenth.contains(id)));
}

/// The sum of the weights estimates all traces, also with rules that overlap.
#[test]
fn weights_add_up_to_all_traces() {
    for (rules, tolerance) in [
        (&["error", "ratio(10%)"][..], 0.05),
        (&["error and ratio(50%)", "ratio(10%)"], 0.05),
        (&["error", "rate(20/s)"], 0.001),
        (&["ratio(5%)", "rate(20/s)"], 0.001),
        (&["error and rate(5/s)", "rate(20/s)"], 0.001),
    ] {
        let mut bench = Bench::new(rules);
        let traces = 50_000;
        for (number, id) in random_ids(11).take(traces).enumerate() {
            let sent = Sent::of(id, 1, 0);
            bench.send(if number % 17 == 0 { sent.failed() } else { sent });
            bench.wait(Duration::from_millis(1));
        }
        bench.finish();
        let mut sum: f64 = bench.got.iter().map(|got| got.weight).sum();
        if let [.., last] = rules
            && last.starts_with("rate")
        {
            // Exactly all, with those that were refused last.
            sum += bench.counts().unrepresented_traces as f64;
            assert_eq!(sum as usize, traces, "{rules:?}");
        }
        let off = (sum / traces as f64 - 1.0).abs();
        assert!(off < tolerance, "{rules:?}: {sum} of {traces}");
        assert!(bench.got.len() < traces / 2, "{rules:?}: {}", bench.got.len());
        let errors = |got: &&Got| got.span.status.as_ref().is_some_and(|status| status.code == 2);
        let sum: f64 = bench.got.iter().filter(errors).map(|got| got.weight).sum();
        if !rules.iter().any(|rule| rule.contains("rate")) {
            let off = (sum / (traces as f64 / 17.0) - 1.0).abs();
            assert!(off < 0.15, "{rules:?}: {sum} errors");
        }
    }
}

#[test]
fn a_rate_keeps_no_more_than_its_number_of_traces() {
    let mut bench = Bench::new(&["rate(100/s)"]);
    for id in random_ids(3).take(10_000) {
        bench.send(Sent::of(id, 2, 1));
        bench.send(Sent::of(id, 1, 0));
        bench.wait(Duration::from_millis(1));
    }
    bench.finish();
    // Ten seconds, and the second for which the bucket is full at the start.
    let kept = bench.counts().kept_traces();
    assert!((1_000..=1_101).contains(&kept), "{kept}");
    assert_eq!(bench.got.len() as u64, 2 * kept);
}

/// A program that ends before the first of its traces is due.
#[test]
fn at_the_end_a_rate_keeps_as_many_traces_as_if_time_had_gone_on() {
    let mut bench = Bench::new(&["error", "rate(10/s)"]);
    for trace in 1..=4_000 {
        // Each lacks a parent, so it waits.
        bench.send(Sent::of(trace, 2, 1));
        bench.now += SECOND / 200;
    }
    bench.finish();
    // 200 in 20 seconds, and those of the first second at once.
    assert!((200..=211).contains(&bench.got.len()), "{}", bench.got.len());
    let sum: f64 = bench.got.iter().map(|got| got.weight).sum();
    assert!((3_900.0..=4_000.0).contains(&sum), "{sum}");
    assert_eq!(sum as u64 + bench.counts().unrepresented_traces, 4_000);
}
