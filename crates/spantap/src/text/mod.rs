//! Text for the user.
//!
//! `duration` formats durations, `number` counts, and `timestamp` points in time. `safe` makes untrusted text safe for a terminal,
//! and `json` writes it for scripts. `notices` takes
//! lines for the user from any part.

pub(crate) mod duration;
mod json;
mod notices;
mod number;
mod safe;
mod timestamp;

pub use duration::readable;
pub(crate) use json::{write_json, write_json_for_browser, write_json_with};
pub use notices::Notices;
pub use number::{bytes, counted, grouped};
pub use safe::{cut, safe};
pub(crate) use safe::{on_one_line, width, wrap};
pub use timestamp::timestamp;
pub(crate) use timestamp::{local_time, parse_time, time_ago};
