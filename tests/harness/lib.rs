//! What the end-to-end tests share: the traced program in all its builds, and its consumers.
//!
//! `build` compiles the fixture, `fixture` runs it, `bpftrace`, `collector`, `spantap` and, behind that,
//! `rotel` look at it; `net` speaks to them on loopback, and `need` skips what this machine can't do, for everybody to see.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

mod backend;
mod bpftrace;
mod build;
mod cgroup;
mod collector;
mod fixture;
mod need;
mod net;
mod process;
mod rotel;
mod spans;
mod spantap;

pub use backend::ZipkinBackend;
pub use bpftrace::{Bpftrace, NEEDS as BPFTRACE};
pub use build::{Build, Linkage};
pub use cgroup::Cgroup;
pub use collector::{Collector, Span, text};
pub use fixture::Fixture;
pub use need::need;
pub use net::{Headers, free_address, get, receive_posts};
pub use process::Process;
pub use rotel::Rotel;
pub use spans::{MadeUp, send, send_bytes, wait_for_all};
pub use spantap::{EBPF, Ended, Killed, Spantap, program, take_untold};

use std::time::{Duration, Instant};

/// Long enough that only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
