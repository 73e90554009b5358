//! Files of spans. Writes captures, and reads captures and what an OpenTelemetry collector's file exporter writes.
//!
//! ```text
//! Chunks ─ encode ─> frames ─ CaptureFile: rotate, append ─> CAPTURE ─ Capture: read ─> Spans of a Process
//! ```
//!
//! `frame` is the format: layout, invariants, versions and damage. `index` is what a header says about the spans, `filter`
//! which of them are wanted, `damage` what could not be read, and `compress` the compression. `encode` makes frames.
//! `append` appends to any file all or nothing; `file` does so with a capture, `rotate` begins a new one in time, and `owner`
//! is who it belongs to. `read` reads files of all formats, and `scan` finds frames behind damage. `follow` reads a file that
//! is still written, and `pace` says when recorded spans are due in a replay.

mod append;
mod compress;
mod damage;
mod encode;
mod file;
mod filter;
mod follow;
mod frame;
mod index;
mod owner;
mod pace;
mod read;
mod rotate;
mod scan;

pub(crate) use append::Appender;
pub use damage::Damage;
pub use encode::encode;
pub(crate) use encode::spans_of;
pub use file::CaptureFile;
pub use filter::{Filter, TraceIds};
pub use follow::Follow;
pub(crate) use owner::give_to_user;
pub use pace::Pace;
pub use read::{Capture, InParallel, Spans, open};
pub(crate) use rotate::is_capture;
pub use rotate::{KEEP, MAX_BYTES, Rotation};

#[cfg(test)]
mod tests;
