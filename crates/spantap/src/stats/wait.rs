//! Which spans waited for which.

use std::sync::Arc;

/// Waits that ended because a thread in another span woke the one that waited. Spans are summed up by name.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The innermost span that waited.
    pub span: Arc<str>,
    /// The innermost span of the thread that ended the wait.
    pub waker: Arc<str>,
    /// The number of waits.
    pub count: u64,
    /// Their time, in nanoseconds.
    pub time_ns: u64,
}
