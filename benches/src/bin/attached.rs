//! Work whose cost depends on an attached consumer. It prints the time of each unit:
//!
//! * `spans`: makes spans;
//! * `steps`: enters and exits a span;
//! * `switches`: two threads on one CPU take turns, each in a span;
//! * `packets`: a byte goes through a TCP connection, in a span;
//! * `blocks`: a block goes to the disk, in a span;
//! * `calls`: a cheap system call, in a span.
//!
//! With `--thread-context 1`, its threads publish their context by themselves.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Instant;

use bench::arguments::Arguments;
use bench::spans::{Shape, tracing};
use nix::fcntl::OFlag;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::of_process()?;
    let count: u64 = arguments.number("--count")?.unwrap_or(10_000);
    let threads: u64 = arguments.number("--threads")?.unwrap_or(1);
    let publishes: u8 = arguments.number("--thread-context")?.unwrap_or(0);
    let layer = if publishes == 0 { tracing_usdt::layer() } else { bench::usdt::with_thread_context()? };
    ::tracing::subscriber::set_global_default(registry().with(layer))?;
    let begin = match arguments.first() {
        Some("spans") => spans(threads, count)?,
        Some("steps") => steps(count),
        Some("switches") => switches(count)?,
        Some("packets") => packets(count)?,
        Some("blocks") => blocks(count)?,
        Some("calls") => calls(count),
        other => {
            return Err(format!("spans, steps, switches, packets, blocks or calls, not {other:?}").into());
        }
    };
    let ns = begin.elapsed().as_nanos() as f64;
    bench::print(&json!({ "count": threads * count, "ns": ns / count as f64 }))
}

fn spans(threads: u64, count: u64) -> Result<Instant, Box<dyn Error>> {
    let burst = tracing(Shape { fields: 2, depth: 1, polls: 0 }, false)?;
    burst(100);
    let begin = Instant::now();
    thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(|| burst(count))));
    Ok(begin)
}

fn steps(count: u64) -> Instant {
    let span = ::tracing::info_span!("step");
    span.in_scope(|| ());
    let begin = Instant::now();
    (0..count).for_each(|_| span.in_scope(|| ()));
    begin
}

/// Each round trip is two switches.
fn switches(count: u64) -> Result<Instant, Box<dyn Error>> {
    let mut cpus = CpuSet::new();
    cpus.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let (mut first, mut second) = UnixStream::pair()?;
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let _entered = ::tracing::info_span!("second").entered();
            let mut byte = [0];
            while second.read_exact(&mut byte).and_then(|()| second.write_all(&byte)).is_ok() {}
        });
        let _entered = ::tracing::info_span!("first").entered();
        let mut byte = [0];
        let turns = (0..count / 2).try_for_each(|_| {
            first.write_all(&byte)?;
            first.read_exact(&mut byte)
        });
        // Also after an error, because the other thread would wait for ever.
        turns.and(first.shutdown(Shutdown::Both))
    })?;
    Ok(begin)
}

/// Each byte is written at one end and read at the other.
fn packets(count: u64) -> Result<Instant, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    near.set_nodelay(true)?;
    let (mut far, _) = listener.accept()?;
    let _entered = ::tracing::info_span!("packets").entered();
    let begin = Instant::now();
    for _ in 0..count {
        near.write_all(&[1])?;
        far.read_exact(&mut [0])?;
    }
    Ok(begin)
}

/// Writes past the page cache, into a file in the current folder.
fn blocks(count: u64) -> Result<Instant, Box<dyn Error>> {
    #[repr(align(4096))]
    struct Block([u8; 4096]);
    let block = Block([1; 4096]);
    let path = Path::new("blocks");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(OFlag::O_DIRECT.bits());
    let file = options.open(path)?;
    file.write_all_at(&block.0, 0)?;
    file.sync_all()?;
    let _entered = ::tracing::info_span!("blocks").entered();
    let begin = Instant::now();
    (0..count).try_for_each(|_| file.write_all_at(&block.0, 0))?;
    std::fs::remove_file(path)?;
    Ok(begin)
}

fn calls(count: u64) -> Instant {
    let _entered = ::tracing::info_span!("calls").entered();
    let begin = Instant::now();
    (0..count).for_each(|_| _ = std::os::unix::process::parent_id());
    begin
}
