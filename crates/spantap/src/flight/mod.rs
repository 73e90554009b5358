//! The flight recorder: keeps the latest spans in memory, and writes them to a file when something happens.
//!
//! ```text
//! frames ─ keep ─> Window ──────────────┐
//!                                       ├─ write ─> CAPTURE, CAPTURE-TIME
//! spans ─ look ─┐                       │
//! a signal ─────┼─> trigger ─> Schedule ┘
//! a death ──────┘
//! ```
//!
//! `window` holds the frames of a capture, within a time and a number of bytes. `trigger` is what may happen, and `schedule`
//! says when to write after it. `write` makes a file, all or nothing, and removes old ones. `describe` says what was written,
//! and `recorder` connects them.

mod describe;
mod recorder;
mod schedule;
mod trigger;
mod window;
mod write;

pub use recorder::{FlightRecorder, Settings};
pub use trigger::Trigger;
