//! The state of a span, from its creation to its close.
//!
//! An `open` span has an `identity`, a `timing` and a `record` with its `link`s and the `thread` that created
//! it. The `table` holds all open spans, each in a `slot`, and `reuse` keeps the memory of others for later spans. A `closed` span is
//! what an encoder reads. A span that is still open at the end of the program is `unfinished`, and one that has been open
//! for long while the program runs is `long_open`.

mod closed;
mod identity;
mod link;
mod long_open;
mod open;
mod record;
pub(crate) mod reuse;
mod slot;
mod table;
mod thread;
mod timing;
mod unfinished;

pub(crate) use closed::{ClosedSpan, DroppedItems, Event, RecordView};
pub(crate) use identity::{Identity, Origin, Untracked};
pub(crate) use link::Link;
pub(crate) use long_open::LongOpen;
pub(crate) use open::OpenSpan;
pub(crate) use record::Record;
pub(crate) use table::{Found, OpenSpans, OpenSpansView, PlainSpan};
pub(crate) use timing::{Elapsed, Timing};
pub(crate) use unfinished::UnfinishedSpan;
