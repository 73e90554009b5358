//! Runs bursts of spans on one or more threads, and measures their cost for these threads.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::allocations;
use crate::far_end::FarEnd;

/// The output of a run of `span`.
#[derive(Serialize)]
pub(crate) struct Measured {
    /// Wall time of a thread for each span that it made, in the median part of the run; the mean of all threads.
    ns_per_span: f64,
    /// Time of the whole run for each span, including the waits for the far end.
    elapsed_ns_per_span: f64,
    /// All spans that were made, including the warm-up.
    spans: u64,
    /// The spans that arrived at the far end, if it counts them.
    arrived: Option<u64>,
    /// Allocations of one thread that makes spans, if they are counted.
    allocations_per_span: Option<f64>,
}

/// Other programs take a core away for a few milliseconds. This spoils some parts of a run, but not the median
/// part.
const PARTS: u64 = 20;

/// Makes `spans` spans in all, after a warm-up.
pub(crate) fn measure(
    burst: &(dyn Fn(u64) + Sync),
    far_end: &dyn FarEnd,
    threads: u64,
    spans: u64,
    warm_up: u64,
) -> Measured {
    let each = (spans / threads).max(1);
    let part = (each / PARTS).max(1).next_multiple_of(10); // whole nests: the deepest have ten spans
    let at_once = far_end.burst().map_or(part, |burst| burst / threads);
    let barrier = Barrier::new(threads as usize);
    let ready = AtomicU64::new(0);

    let work = |leads: bool| {
        let (barrier, ready) = (&barrier, &ready);
        let mut worker = Worker { burst, far_end, barrier, ready, threads, at_once, leads, starts: 0 };
        let warm_up = worker.run((warm_up / threads).max(1)).spans();
        let begin = Instant::now();
        let bursts = worker.run(each);
        worker.settle();
        Share { warm_up, bursts, elapsed: begin.elapsed() }
    };
    let shares: Vec<Share> = match threads {
        1 => vec![work(true)], // on the main thread, which is callgrind's thread 1
        _ => thread::scope(|scope| {
            let work = &work;
            let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread == 0))).collect();
            running.into_iter().map(|thread| thread.join().expect("no thread of ours panics")).collect()
        }),
    };
    let mean = |of: fn(&Share) -> f64| shares.iter().map(of).sum::<f64>() / shares.len() as f64;
    Measured {
        ns_per_span: mean(|share| share.bursts.median_ns()),
        elapsed_ns_per_span: mean(|share| share.elapsed.as_nanos() as f64 / share.bursts.spans() as f64),
        spans: shares.iter().map(|share| share.warm_up + share.bursts.spans()).sum(),
        arrived: far_end.arrived(),
        allocations_per_span: shares[0].bursts.allocations_per_span(),
    }
}

/// The results of a thread.
struct Share {
    /// Spans made in the warm-up.
    warm_up: u64,
    bursts: Bursts,
    elapsed: Duration,
}

/// Timed bursts of `at_once` spans each.
struct Bursts {
    at_once: u64,
    times: Vec<Duration>,
    /// Allocations in all bursts, if they are counted.
    allocations: Option<u64>,
}

impl Bursts {
    fn spans(&self) -> u64 {
        self.at_once * self.times.len() as u64
    }

    fn median_ns(&self) -> f64 {
        let bursts = self.times.len().div_ceil(PARTS as usize).max(1);
        let ns = |part: &[Duration]| {
            part.iter().sum::<Duration>().as_nanos() as f64 / (part.len() as u64 * self.at_once) as f64
        };
        let mut parts: Vec<f64> = self.times.chunks(bursts).map(ns).collect();
        parts.sort_by(f64::total_cmp);
        parts.get(parts.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn allocations_per_span(&self) -> Option<f64> {
        Some(self.allocations? as f64 / self.spans() as f64)
    }
}

struct Worker<'a> {
    burst: &'a (dyn Fn(u64) + Sync),
    far_end: &'a dyn FarEnd,
    barrier: &'a Barrier,
    ready: &'a AtomicU64,
    threads: u64,
    at_once: u64,
    /// Whether this thread waits for the far end, for all threads.
    leads: bool,
    starts: u64,
}

impl Worker<'_> {
    fn run(&mut self, spans: u64) -> Bursts {
        let mut bursts = Bursts { at_once: self.at_once, times: Vec::new(), allocations: Some(0) };
        while bursts.spans() < spans {
            self.settle();
            self.start_together();
            let (begin, before) = (Instant::now(), allocations::of_this_thread());
            timed_burst(self.burst, self.at_once);
            bursts.times.push(begin.elapsed());
            let new = allocations::of_this_thread().zip(before).map(|(after, before)| after - before);
            bursts.allocations = bursts.allocations.zip(new).map(|(sum, new)| sum + new);
        }
        bursts
    }

    fn settle(&self) {
        self.barrier.wait();
        if self.leads {
            self.far_end.settle();
        }
        self.barrier.wait();
    }

    /// Spins, because a barrier releases its threads some 50 us apart, which is as long as a burst.
    fn start_together(&mut self) {
        self.starts += 1;
        self.ready.fetch_add(1, Ordering::AcqRel);
        while self.ready.load(Ordering::Acquire) < self.starts * self.threads {
            spin_loop();
        }
    }
}

/// callgrind collects only inside this function, by its name.
#[inline(never)]
fn timed_burst(burst: &(dyn Fn(u64) + Sync), spans: u64) {
    burst(spans);
}
