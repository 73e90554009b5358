//! What is compared with what.

use crate::query::Query;
use crate::search::Files;

/// Where the two sides are.
#[derive(Clone, Copy, Debug)]
pub enum Sides<'a> {
    /// In files of their own.
    Files {
        /// The first side.
        before: &'a Files,
        /// The second side.
        after: &'a Files,
    },
    /// In the same files: traces that ended before a time, and those that began at it or later. Others are left out.
    Split {
        /// The files.
        files: &'a Files,
        /// The time, in nanoseconds since 1970.
        at_ns: u64,
    },
}

/// Which spans are compared.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Only spans that this query chooses. What they call counts whatever it is.
    pub query: Option<Query>,
    /// Only traces with a span that did not end before the first of these times, and started by the second, in nanoseconds since
    /// 1970.
    pub times_ns: (u64, u64),
}

impl Default for Choice {
    fn default() -> Self {
        Self { query: None, times_ns: (0, u64::MAX) }
    }
}
