//! The output of a running spantap: `feed` brings the spans, `live` decides which traces are shown, `screen` writes to
//! the terminal, and `summary` formats the counters.

mod feed;
mod live;
mod sampling;
mod screen;
mod summary;

pub use feed::{Feed, Feeder, feed};
pub use live::{Live, LiveOptions};
pub use screen::{Screen, Stream};
pub(crate) use summary::{ended_lines, trouble};
pub use summary::{final_stats, minute_line, status_line};
