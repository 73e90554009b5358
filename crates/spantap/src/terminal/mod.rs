//! What the user sees while spantap runs: `feed` brings the spans, `live` decides which traces are shown,
//! `screen` writes, `summary` says the figures in words.

mod feed;
mod live;
mod screen;
mod summary;

pub use feed::{Feed, Feeder, feed};
pub use live::{Live, Shows};
pub use screen::{Screen, Stream};
pub use summary::{final_figures, minute_line, status_line};
