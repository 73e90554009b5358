//! Options for drawing a trace.

/// Options for drawing a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// The width of the terminal. Below 40 columns, lines are drawn for 40 and wrap.
    pub columns: usize,
    /// Whether to use colours, which are escape sequences.
    pub colour: bool,
    /// The most lines for the spans of one trace, below its head. The first span is always drawn.
    pub lines: usize,
    /// Whether the head says when the trace began.
    pub begin: bool,
    /// Whether the bars show the critical path instead of the busy share. [`path_legend`](super::path_legend) explains it.
    pub critical_path: bool,
}

impl Look {
    /// Options with up to 200 lines per trace.
    pub fn new(columns: usize, colour: bool) -> Self {
        Self { columns, colour, lines: 200, begin: false, critical_path: false }
    }

    pub(super) fn width(&self) -> usize {
        self.columns.max(40)
    }
}
