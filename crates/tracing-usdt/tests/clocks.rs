//! The wall clock is stepped while spans are open, as by a suspend, by a late NTP, or by hand.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use collector::{Collector, Span, text};
use tracing::{info, info_span, subscriber::with_default};
use tracing_subscriber::prelude::*;

/// How many nanoseconds this process's wall clock is ahead of the machine's.
static AHEAD_NS: AtomicI64 = AtomicI64::new(0);

/// Held by each test, because there is one clock for all of them.
static CLOCK: Mutex<()> = Mutex::new(());

/// Replaces libc's function in this process.
// SAFETY: no other symbol of this name is in the executable, and it does what libc's does.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: nix::libc::clockid_t,
    time: *mut nix::libc::timespec,
) -> nix::libc::c_int {
    // SAFETY: the arguments are the caller's.
    let result =
        unsafe { nix::libc::syscall(nix::libc::SYS_clock_gettime, nix::libc::c_long::from(clock), time) };
    if result == 0 && clock == nix::libc::CLOCK_REALTIME {
        // SAFETY: the kernel has just written to it.
        let time = unsafe { &mut *time };
        let ns = time.tv_nsec + AHEAD_NS.load(Ordering::Relaxed);
        time.tv_sec += ns.div_euclid(1_000_000_000);
        time.tv_nsec = ns.rem_euclid(1_000_000_000);
    }
    result as nix::libc::c_int
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

fn start_us(span: &Span) -> u64 {
    span["timestamp"].as_u64().unwrap()
}

/// Waits until the layer reads the wall clock again.
fn wait_for_the_next_reading() {
    std::thread::sleep(Duration::from_millis(150));
}

/// Steps the clock by `seconds` between spans, and returns the spans by name.
fn around_a_step(seconds: i64) -> BTreeMap<String, Span> {
    let collector = Collector::bind();
    let spans = collector.spans_of(|| {
        let daemon = info_span!("daemon").entered();
        info_span!("before").in_scope(|| ());
        let across = info_span!("across").entered();
        AHEAD_NS.fetch_add(seconds * 1_000_000_000, Ordering::Relaxed);
        wait_for_the_next_reading();
        info!("stepped");
        info_span!("inner").in_scope(|| ());
        drop(across);
        info_span!("after").in_scope(|| info_span!("below").in_scope(|| ()));
        info_span!(parent: None, "another trace").in_scope(|| ());
        drop(daemon);
    });
    AHEAD_NS.store(0, Ordering::Relaxed);
    wait_for_the_next_reading();
    spans
}

/// On a busy machine, much time may pass between the readings of the test and of the layer.
const CLOSE_US: u64 = 5_000_000;

#[test]
fn spans_and_events_after_a_step_have_the_new_time_in_every_trace() {
    let _clock = CLOCK.lock().unwrap();
    // An hour of suspend; NTP corrects a clock that was a day ahead; a clock that began in 1970.
    for step_s in [3600, -86_400, 1_000_000_000] {
        let begin_us = now_us();
        let spans = around_a_step(step_s);
        let stepped_us = begin_us.checked_add_signed(step_s * 1_000_000).unwrap();
        for (name, time_us) in [
            ("daemon", begin_us),
            ("before", begin_us),
            ("across", begin_us),
            ("inner", stepped_us),
            ("after", stepped_us),
            ("below", stepped_us),
            ("another trace", stepped_us),
        ] {
            let off_us = start_us(&spans[name]).abs_diff(time_us);
            assert!(off_us < CLOSE_US, "{name} is {off_us} us off, with a step of {step_s} s");
            assert!(
                spans[name]["duration"].as_u64().unwrap() < CLOSE_US,
                "{name}: the step counted as duration"
            );
        }
        let event_us = spans["across"]["annotations"][0]["timestamp"].as_u64().unwrap();
        assert!(event_us.abs_diff(stepped_us) < CLOSE_US, "an event has the time when it happened");
        // Parents and trace ids are not affected.
        let parent = |name: &str| text(&spans[name], "parentId").to_owned();
        for (name, above) in
            [("before", "daemon"), ("across", "daemon"), ("after", "daemon"), ("below", "after")]
        {
            assert_eq!(parent(name), text(&spans[above], "id"), "{name}");
            assert_eq!(text(&spans[name], "traceId"), text(&spans["daemon"], "traceId"), "{name}");
        }
        // Spans on the same side of the step are in order.
        for (name, above) in [("before", "daemon"), ("across", "daemon"), ("below", "after")] {
            assert!(start_us(&spans[name]) >= start_us(&spans[above]), "{name} begins before {above}");
        }
    }
}

#[test]
fn no_child_begins_before_its_parent_without_a_step() {
    let _clock = CLOCK.lock().unwrap();
    let collector = Collector::bind();
    let layer = collector.builder().with_format(tracing_usdt::Format::OtlpJson).build();
    let mut pairs = Vec::new();
    with_default(tracing_subscriber::registry().with(layer), || {
        // Long enough for the layer to read the wall clock several times.
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_millis(1000) {
            let outer = info_span!("outer").entered();
            let inner = info_span!("inner").entered();
            info!("happened");
            drop((inner, outer));
            for text in collector.drain_text() {
                let mut request: serde_json::Value = serde_json::from_str(&text).unwrap();
                pairs.push(request["resourceSpans"][0]["scopeSpans"][0]["spans"][0].take());
            }
        }
    });
    let nanos = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
    for pair in pairs.chunks_exact(2) {
        let [inner, outer] = pair else { panic!("pairs") };
        let (child, parent) = (nanos(&inner["startTimeUnixNano"]), nanos(&outer["startTimeUnixNano"]));
        assert!(child >= parent, "{child} before {parent}");
        assert!(nanos(&inner["events"][0]["timeUnixNano"]) >= child);
        assert!(nanos(&inner["endTimeUnixNano"]) <= nanos(&outer["endTimeUnixNano"]));
    }
    assert!(pairs.len() > 1000, "{}", pairs.len());
}

/// Over weeks, a small drift adds up.
#[test]
fn a_clock_that_drifts_is_followed() {
    let _clock = CLOCK.lock().unwrap();
    let collector = Collector::bind();
    let layer = collector.builder().build();
    let mut off_us = Vec::new();
    with_default(tracing_subscriber::registry().with(layer), || {
        let daemon = info_span!("daemon").entered();
        for _ in 0..20 {
            // Each change is too small to count as a step.
            AHEAD_NS.fetch_add(500_000, Ordering::Relaxed);
            wait_for_the_next_reading();
            let before_us = now_us();
            info_span!("span").in_scope(|| ());
            let start_us = start_us(&collector.drain()[0]);
            off_us.push(before_us.saturating_sub(start_us).max(start_us.saturating_sub(now_us())));
        }
        drop(daemon);
    });
    AHEAD_NS.store(0, Ordering::Relaxed);
    wait_for_the_next_reading();
    assert!(off_us.iter().all(|off_us| *off_us <= 1_500), "{off_us:?}");
}
