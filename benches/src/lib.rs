//! Programs for `cargo xtask bench`: the cost of a span with tracing-usdt, with other layers, and the machine's
//! own cost of the operations.
//!
//! `tracing` caches each callsite's interest for the whole process, so each measurement is a process of its
//! own: `span <variant> --threads 1 --fields 2 --depth 1 --spans 100000` prints one line of JSON. `variants`
//! lists and installs the variants, `spans` makes the spans, and `timing` runs and times them. `span_counted`
//! is the same program with an allocator that counts.

pub mod allocations;
pub mod arguments;
mod far_end;
mod floors;
mod peers;
pub mod spans;
mod timing;
pub mod usdt;
mod variants;

use std::error::Error;
use std::io::{Write, stdout};

use serde_json::json;

use arguments::Arguments;
use spans::Shape;
use variants::Variant;

/// The main function of `span` and `span_counted`.
pub fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::of_process()?;
    let name = arguments.first().ok_or("which variant? the source of xtask's bench/rows.rs lists them")?;
    let variant = Variant::named(name)?;
    if let Some(open) = arguments.number("--open")? {
        let bytes = variant.bytes_of_open(open)?;
        return print(&json!({ "bytes_per_open_span": bytes }));
    }
    let shape = Shape {
        fields: arguments.number("--fields")?.unwrap_or(2),
        depth: arguments.number("--depth")?.unwrap_or(1),
        polls: arguments.number("--async-polls")?.unwrap_or(0),
    };
    let threads = arguments.number("--threads")?.unwrap_or(1);
    let spans = arguments.number("--spans")?.unwrap_or(100_000);
    // The warm-up fills each queue once, so that all of its memory has been touched.
    let warm_up = arguments.number("--warm-up")?.unwrap_or(10_000);
    let (far_end, burst) = variant.install(shape)?;
    print(&timing::measure(&*burst, &*far_end, threads, spans, warm_up))
}

/// Prints `value` as one line of JSON.
pub fn print(value: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    Ok(writeln!(stdout(), "{}", serde_json::to_string(value)?)?)
}
