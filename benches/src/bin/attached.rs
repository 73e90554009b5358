//! What somebody who is attached looks at: `spans` are made, a span is entered again and again (`steps`), or two
//! threads on one CPU take turns, each in a span (`switches`). Says how long one took.

use std::error::Error;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use bench::arguments::Arguments;
use bench::spans::{Shape, tracing};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::of_process()?;
    let count: u64 = arguments.number("--count")?.unwrap_or(10_000);
    let threads: u64 = arguments.number("--threads")?.unwrap_or(1);
    ::tracing::subscriber::set_global_default(registry().with(tracing_usdt::layer()))?;
    let begin = match arguments.first() {
        Some("spans") => spans(threads, count)?,
        Some("steps") => steps(count),
        Some("switches") => switches(count)?,
        other => return Err(format!("spans, steps or switches, not {other:?}").into()),
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

/// Half of them forth, and half of them back.
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
        // Also if that failed, or the other would wait for ever.
        turns.and(first.shutdown(Shutdown::Both))
    })?;
    Ok(begin)
}
