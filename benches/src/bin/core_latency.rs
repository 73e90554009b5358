//! The time in which a write of one core becomes visible on another. Two threads on two cores pass a number
//! back and forth. Communication between cores costs multiples of this time, and on a virtual machine it may
//! change from day to day.

use std::error::Error;
use std::hint::spin_loop;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;

const ROUND_TRIPS: u64 = 1000;
const SAMPLES: u64 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
    let (Some(here), Some(there)) = (cores.next(), cores.next()) else {
        writeln!(io::stderr(), "there is only one core")?;
        return bench::print(&json!({ "one_way_ns": null }));
    };
    static TURN: AtomicU64 = AtomicU64::new(0);
    let wait_for = |turn| {
        while TURN.load(Ordering::Acquire) != turn {
            spin_loop();
        }
    };
    let total = SAMPLES * ROUND_TRIPS;
    let other = thread::spawn(move || {
        let pinned = pin_to(there);
        for n in 0..total {
            wait_for(2 * n + 1);
            TURN.store(2 * n + 2, Ordering::Release);
        }
        pinned
    });
    pin_to(here)?;
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|sample| {
            let begin = Instant::now();
            for n in sample * ROUND_TRIPS..(sample + 1) * ROUND_TRIPS {
                TURN.store(2 * n + 1, Ordering::Release);
                wait_for(2 * n + 2);
            }
            begin.elapsed().as_nanos() as f64 / (2 * ROUND_TRIPS) as f64
        })
        .collect();
    other.join().map_err(|_| "the other thread panicked")??;
    samples.sort_by(f64::total_cmp);
    bench::print(&json!({ "cores": [here, there], "one_way_ns": samples[samples.len() / 2] }))
}

fn pin_to(core: usize) -> nix::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores)
}
