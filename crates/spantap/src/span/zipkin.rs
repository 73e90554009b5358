//! Shared spans of Zipkin: the client and the server each send one half, with the same id. The decoder gives each half
//! an id of its own. These attributes keep the ids as they were sent, for the tree and for Zipkin backends.

/// The attributes with the ids that a span and its parent were sent with, in hex. Only spantap sets them: it renames a
/// sender's attribute that has one of these keys.
pub(crate) const ZIPKIN_ID: &str = "zipkin.id";
pub(crate) const ZIPKIN_PARENT_ID: &str = "zipkin.parent_id";

/// The most halves with the same id that are told apart. A sender may send any number of them.
pub(crate) const MAX_HALVES: usize = 8;
