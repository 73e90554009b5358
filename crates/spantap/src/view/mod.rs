//! Draws traces for the terminal.
//!
//! [`tree()`] draws a trace: a `head`, and a line for each span. `look` has the options for it. If there is no room for
//! all spans, `excerpt` chooses those that are drawn. `guide` draws the lines from a span to its children, and `bar`
//! the span's time within its parent's, of which `path` finds the part on the critical path. `service` is the label of a process, `fields` chooses and formats attributes,
//! and `location` shortens source locations. Below a span, `account` draws how its threads spent their time, `notes`
//! says what is odd about the span, and `event` is the text of an event.
//!
//! [`json()`] is the trace for scripts, and `details` has all that is known of one span. [`open_span`] is a line about a span that
//! is open for long.
//!
//! All text from senders that is drawn passes through `line`, which escapes it and keeps to the width.

mod account;
mod bar;
mod details;
mod event;
mod excerpt;
mod fields;
pub(crate) mod guide;
mod head;
mod json;
mod line;
mod location;
mod look;
mod notes;
mod open;
mod path;
mod service;
mod tree;

pub(crate) use details::{About, Detail, details};
pub use json::json;
pub(crate) use json::{attributes, json_of_rows, json_value, kind_name};
pub use look::Look;
pub(crate) use open::fields_of;
pub use open::open_span;
pub use path::path_legend;
pub use tree::tree;
