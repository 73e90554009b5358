//! Draws a screen: a head, the page, and the keys at the bottom.
//!
//! `spans`, `traces`, `open`, `services` and `losses` are the pages; `trace` and `help` are shown above them. `bar` draws bars, `table`
//! has what the tables share, and `text` text of a fixed width.

mod bar;
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

pub(super) use frame::{Context, draw};
