//! `spantap attach`: what the kernel did inside of spans, held against what the program itself measured.
//!
//! `worker` is that program, `found` what spantap told of it; each of the others holds a part of it against the other.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod attach;
mod block;
mod current;
mod exec;
mod found;
mod process;
mod syscall;
mod tcp;
mod time;
mod whole;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

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
            Err(_) => eprintln!("The kernel did not tell all that it did: once more."),
        }
    }
    test();
}
