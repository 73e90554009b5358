//! Shared by the end-to-end tests: the traced program in all its builds, and its consumers and receivers.
//!
//! `build` compiles the fixture, and `fixture` runs it. `bpftrace` attaches to it; `collector` and `spantap`
//! receive its spans, and `rotel` receives them from spantap. `terminal` has programs with a screen, `browser` shows a page, and `duckdb`
//! and `chdb` read tables. `kubernetes` checks files for it. `net` has requests on loopback, `otlp` has clients for OTLP, and `need` skips
//! a test that this machine can't run, and reports that.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

mod backend;
mod bpftrace;
mod browser;
mod build;
mod cgroup;
mod chdb;
mod collector;
mod document;
mod duckdb;
mod fixture;
mod following;
mod kubernetes;
mod need;
mod net;
mod otlp;
mod process;
mod rotel;
mod spans;
mod spantap;
mod swap;
mod terminal;

pub use backend::ZipkinBackend;
pub use bpftrace::{Bpftrace, NEEDS as BPFTRACE};
pub use browser::{Browser, CHROMIUM};
pub use build::{Build, Linkage, cargo};
pub use cgroup::Cgroup;
pub use chdb::ClickHouse;
pub use collector::{Collector, Span, text};
pub use document::{Document, quoted};
pub use duckdb::query;
pub use fixture::Fixture;
pub use following::Following;
pub use kubernetes::objects;
pub use need::{need, note, skip};
pub use net::{Headers, free_address, get, receive_posts};
pub use otlp::{Answer, idle_connections, otlp_request, post, post_spans, python_sdk, read_answer};
pub use process::Process;
pub use rotel::Rotel;
pub use spans::{MadeUp, send, send_bytes, wait_for_all};
pub use spantap::{EBPF, Ended, Killed, Spantap, program, take_unreported};
pub use swap::{Pages, Swap};
pub use terminal::Terminal;

use std::time::{Duration, Instant};

/// Long enough that only a hang reaches it.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "waited {TIMEOUT:?} without success until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
