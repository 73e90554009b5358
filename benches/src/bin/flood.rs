//! Closes spans as fast as it can, on `--threads` threads for `--milliseconds`. Prints how many, and the
//! layer's stats.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use bench::arguments::Arguments;
use bench::spans::{Shape, tracing};
use bench::usdt;
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

/// The number of spans between two checks of the clock.
const BURST: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::of_process()?;
    let threads: u64 = arguments.number("--threads")?.unwrap_or(1);
    let time = Duration::from_millis(arguments.number("--milliseconds")?.unwrap_or(1500));
    let layer = tracing_usdt::layer();
    let handle = layer.handle();
    ::tracing::subscriber::set_global_default(registry().with(layer))?;
    let burst = tracing(Shape { fields: 2, depth: 1, polls: 0 }, false)?;

    let begin = Instant::now();
    let flood = || {
        let mut closed = 0;
        while begin.elapsed() < time {
            burst(BURST);
            closed += BURST;
        }
        closed
    };
    let closed: u64 = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(flood)).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).sum()
    });
    let closing = begin.elapsed();
    usdt::settle(&handle);
    let delivered = begin.elapsed();
    let stats = handle.stats();
    bench::print(&json!({
        "closed": closed,
        "closing_s": closing.as_secs_f64(),
        "delivered_s": delivered.as_secs_f64(),
        "stats": {
            "closed": stats.closed,
            "sent": stats.sent,
            "queued": stats.queued,
            "dropped": stats.dropped.total(),
        },
    }))
}
