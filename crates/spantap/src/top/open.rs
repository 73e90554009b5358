//! A span that is open for long, as it is shown.

/// A span that has not ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Open {
    pub(super) service: String,
    pub(super) name: String,
    /// Its fields, on one line.
    pub(super) fields: String,
    /// When it began, in nanoseconds since 1970.
    pub(super) began_ns: u64,
}
