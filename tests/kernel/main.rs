//! `spantap attach`: compares what spantap reports of the kernel's work in spans with what the program itself
//! measured.
//!
//! `worker` runs the program, and `found` reads spantap's spans. Each of the other modules compares a part of
//! them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod attach;
mod began;
mod block;
mod callsite;
mod current;
mod exec;
mod findings;
mod foreign;
mod found;
mod keep;
mod names;
mod open;
mod process;
mod reach;
mod replaced;
mod swapped;
mod syscall;
mod tcp;
mod time;
mod waker;
mod whole;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::current;

use e2e::{EBPF, need, note, take_unreported};

/// Runs a test on a machine that has what it needs. One test runs at a time: they measure, and on two
/// processors they would disturb each other.
fn with_kernel(needs: &[&str], test: impl FnOnce()) {
    static ALONE: Mutex<()> = Mutex::new(());
    if need(&EBPF) && need(needs) {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        test();
    }
}

/// Repeats a failed test, at most twice, if spantap has written that the kernel did not report everything. The
/// kernels of some virtual machines leave out a context switch or a write now and then. Each test that uses
/// this says which of them it needs. A miss that spantap did not write excuses nothing.
fn repeat_if_unreported(test: impl Fn()) {
    for _ in 0..2 {
        take_unreported();
        match catch_unwind(AssertUnwindSafe(&test)) {
            Ok(()) => return,
            Err(failure) if !take_unreported() => resume_unwind(failure),
            Err(_) => {
                let name = current().name().unwrap_or("a test").to_owned();
                note(&format!("REPEATED {name}: the kernel did not report everything"));
            }
        }
    }
    test();
}
