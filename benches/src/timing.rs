//! Runs bursts of spans on one or more threads, and times what they cost the threads that make them.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::allocations;
use crate::far_end::FarEnd;

/// What a run of `span` prints.
#[derive(Serialize)]
pub(crate) struct Measured {
    /// Wall time of a thread by the spans it made, the mean of the threads.
    ns_per_span: f64,
    /// The same with the waits for the far end: how long a run of so many spans takes.
    elapsed_ns_per_span: f64,
    /// All spans made, the warm-up's as well.
    spans: u64,
    /// Those of them that got to the far end, where it can be asked.
    arrived: Option<u64>,
    /// Where they are counted, those of the threads that make the spans.
    allocations_per_span: Option<f64>,
}

/// Makes `spans` spans in all, after a warm-up.
pub(crate) fn measure(
    burst: &(dyn Fn(u64) + Sync),
    far_end: &dyn FarEnd,
    threads: u64,
    spans: u64,
) -> Measured {
    let each = (spans / threads).max(1);
    let warm_up = (each / 5).max(1000);
    let at_once = far_end.burst().map_or(u64::MAX, |burst| burst / threads);
    let barrier = Barrier::new(threads as usize);
    let ready = AtomicU64::new(0);

    let work = |leads: bool| {
        let mut worker =
            Worker { burst, far_end, barrier: &barrier, ready: &ready, threads, leads, starts: 0 };
        let before = worker.run(warm_up, at_once).spans;
        let begin = Instant::now();
        let share = worker.run(each, at_once);
        worker.settle();
        Share { elapsed: begin.elapsed(), spans_before: before, ..share }
    };
    let shares: Vec<Share> = match threads {
        1 => vec![work(true)], // on the main thread, which is the one that callgrind calls 1
        _ => thread::scope(|scope| {
            let work = &work;
            let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread == 0))).collect();
            running.into_iter().filter_map(|thread| thread.join().ok()).collect()
        }),
    };
    let sum = |of: fn(&Share) -> u64| shares.iter().map(of).sum::<u64>();
    let timed = sum(|share| share.spans) as f64;
    let allocations: Option<u64> = shares.iter().map(|share| share.allocations).sum();
    Measured {
        ns_per_span: sum(|share| share.timed.as_nanos() as u64) as f64 / timed,
        elapsed_ns_per_span: sum(|share| share.elapsed.as_nanos() as u64) as f64 / timed,
        spans: sum(|share| share.spans + share.spans_before),
        arrived: far_end.arrived(),
        allocations_per_span: allocations.map(|allocations| allocations as f64 / timed),
    }
}

/// What a thread has to say.
struct Share {
    spans: u64,
    timed: Duration,
    allocations: Option<u64>,
    elapsed: Duration,
    spans_before: u64,
}

struct Worker<'a> {
    burst: &'a (dyn Fn(u64) + Sync),
    far_end: &'a dyn FarEnd,
    barrier: &'a Barrier,
    ready: &'a AtomicU64,
    threads: u64,
    /// Waits for the far end, on behalf of all.
    leads: bool,
    starts: u64,
}

impl Worker<'_> {
    fn run(&mut self, spans: u64, at_once: u64) -> Share {
        let at_once = at_once.min(spans);
        let (mut made, mut timed, mut allocations) = (0, Duration::ZERO, Some(0));
        while made < spans {
            self.settle();
            self.start_together();
            let (begin, before) = (Instant::now(), allocations::of_this_thread());
            timed_burst(self.burst, at_once);
            timed += begin.elapsed();
            let after = allocations::of_this_thread();
            allocations =
                before.zip(after).zip(allocations).map(|((before, after), sum)| sum + after - before);
            made += at_once;
        }
        Share { spans: made, timed, allocations, elapsed: timed, spans_before: 0 }
    }

    fn settle(&self) {
        self.barrier.wait();
        if self.leads {
            self.far_end.settle();
        }
        self.barrier.wait();
    }

    /// A barrier lets its threads go some 50 us apart, which is as long as a whole burst.
    fn start_together(&mut self) {
        self.starts += 1;
        self.ready.fetch_add(1, Ordering::AcqRel);
        while self.ready.load(Ordering::Acquire) < self.starts * self.threads {
            spin_loop();
        }
    }
}

/// callgrind collects inside of this function alone, so it knows its name.
#[inline(never)]
fn timed_burst(burst: &(dyn Fn(u64) + Sync), spans: u64) {
    burst(spans);
}
