//! Draws a screen: `frame` has a head, the page, and the keys at the bottom.
//!
//! `spans`, `traces`, `open`, `services`, `losses` and `findings` are the pages; `trace` and `help` are shown above them. `context` is what all are drawn with. `bar` draws bars, `table`
//! has what the tables share, and `text` text of a fixed width.

mod bar;
mod context;
mod findings;
mod frame;
mod help;
mod losses;
mod open;
mod services;
mod spans;
mod table;
mod text;
mod trace;
mod traces;

pub(super) use context::Context;
pub(super) use frame::draw;
