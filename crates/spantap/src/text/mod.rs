//! Text for the user.
//!
//! `duration` formats durations, and `number` counts. `safe` makes untrusted text safe for a terminal. `notices` takes
//! lines for the user from any part.

pub(crate) mod duration;
mod notices;
mod number;
mod safe;

pub use duration::readable;
pub use notices::Notices;
pub use number::{bytes, counted, grouped};
pub use safe::{cut, safe};
pub(crate) use safe::{on_one_line, width, wrap};
