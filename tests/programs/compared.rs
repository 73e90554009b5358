//! `compared REQUESTS SEED [FAULT]`: a shop under load by four threads, for comparisons of recordings.
//!
//! A request `GET /orders` checks the stock, queries the database three times and renders. The times are drawn from the seed: two runs
//! with other seeds are two runs of the same build. A fault changes one thing:
//!
//! * `slow-query`: queries take 4 ms longer.
//! * `many-queries`: a request queries nine times.
//! * `failures`: one of eight stock checks fails.
//! * `spin`: to render takes 1.5 ms more of a CPU.
//! * `lock`: to render takes a lock, which the four threads share.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{Span, field, info_span};
use tracing_subscriber::prelude::*;

const THREADS: u64 = 4;

static SHARED: Mutex<()> = Mutex::new(());

/// Draws times. (Marsaglia's xorshift.)
struct Times(u64);

impl Times {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About this long, and seldom much longer.
    fn near(&mut self, us: f64) -> Duration {
        Duration::from_nanos((1e3 * us * (0.8 - 0.2 * (1.0 - self.share()).ln())) as u64)
    }
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn order(fault: &str, times: &mut Times) {
    let _order = info_span!("GET /orders").entered();
    {
        let check = info_span!("check stock", error = field::Empty).entered();
        thread::sleep(times.near(400.0));
        if fault == "failures" && times.share() < 0.125 {
            Span::current().record("error", true);
        }
        drop(check);
    }
    for _ in 0..if fault == "many-queries" { 9 } else { 3 } {
        let _query = info_span!("query").entered();
        thread::sleep(times.near(if fault == "slow-query" { 4500.0 } else { 500.0 }));
    }
    let _render = info_span!("render").entered();
    let _taken = (fault == "lock").then(|| SHARED.lock());
    if fault == "lock" {
        thread::sleep(times.near(1000.0));
    }
    spin(times.near(if fault == "spin" { 1600.0 } else { 100.0 }));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = |n| std::env::args().nth(n).unwrap_or_default();
    let (requests, seed): (u64, u64) = (argument(1).parse()?, argument(2).parse()?);
    let fault = argument(3);
    tracing_subscriber::registry().with(tracing_usdt::layer()).init();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let fault = fault.as_str();
            scope.spawn(move || {
                let mut times = Times((seed * THREADS + thread + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                // The first numbers of neighbouring seeds resemble each other.
                (0..20).for_each(|_| _ = times.share());
                for _ in 0..requests / THREADS {
                    order(fault, &mut times);
                    thread::sleep(times.near(200.0));
                }
            });
        }
    });
    Ok(())
}
