//! How traces look in the terminal.
//!
//! [`tree()`] draws one: a head, and a line for each span. What comes from senders reaches the
//! terminal through `line` only, which makes it safe and keeps to the width.

mod account;
mod bar;
mod duration;
mod excerpt;
mod fields;
mod guide;
mod head;
mod line;
mod location;
mod number;
mod service;
mod text;
mod tree;

pub use duration::readable;
pub use number::{counted, grouped};
pub use text::{cut, safe};
pub use tree::{is_error, tree};

/// What the terminal can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Its width. Less than 40 counts as 40: lines then wrap.
    pub columns: usize,
    /// Whether there may be colours, which are escape sequences.
    pub colour: bool,
    /// The most lines for the spans of one trace, below its head. The first span is always there.
    pub lines: usize,
}

impl Look {
    /// With up to 200 lines a trace.
    pub fn new(columns: usize, colour: bool) -> Self {
        Self { columns, colour, lines: 200 }
    }

    fn width(&self) -> usize {
        self.columns.max(40)
    }
}
