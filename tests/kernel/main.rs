//! `spantap attach`: what the kernel did inside of spans, held against what the program itself measured.
//!
//! `worker` is that program, `found` what spantap told of it; each of the others holds a part of it against the other.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod attach;
mod began;
mod block;
mod current;
mod exec;
mod found;
mod names;
mod process;
mod reach;
mod replaced;
mod syscall;
mod tcp;
mod time;
mod whole;
mod worker;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::current;

use e2e::{EBPF, need, take_untold};

/// Does a test on a machine that can do what it needs. One runs at a time: they measure, and on two processors they
/// would measure each other.
///
/// The kernels of some virtual machines do not tell all that they do. If spantap said so of what it saw, a test that
/// failed is done again. What it did not say excuses nothing.
fn with_kernel(needs: &[&str], test: impl Fn()) {
    static ALONE: Mutex<()> = Mutex::new(());
    if !(need(&EBPF) && need(needs)) {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..4 {
        take_untold();
        match catch_unwind(AssertUnwindSafe(&test)) {
            Ok(()) => return,
            Err(failure) if !take_untold() => resume_unwind(failure),
            // Past the capture of the test runner: of a test that passes then it shows nothing.
            Err(_) => {
                _ = writeln!(std::io::stderr(), "\n{}: {ONCE_MORE}", current().name().unwrap_or("a test"))
            }
        }
    }
    test();
}

const ONCE_MORE: &str =
    "it failed, and spantap said that the kernel did not tell it all; it is done once more";
