//! How much of a span is kept, as far as its user may say.

use crate::fields::{MAX_VALUE_BYTES, Owner};
use crate::vocabulary::Vocabulary;

/// OpenTelemetry's limits, on top of those that keep a span within a datagram.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Limits {
    /// How many fields a span or an event has.
    pub(crate) attributes: u32,
    /// How long a text is.
    pub(crate) characters: usize,
    /// What is said of it.
    pub(crate) vocabulary: Vocabulary,
}

impl Default for Limits {
    fn default() -> Self {
        Self { attributes: 128, characters: usize::MAX, vocabulary: Vocabulary::ALL }
    }
}

impl Limits {
    /// How long a text may be to be kept at all, in bytes.
    pub(crate) fn text_bytes(&self, owner: Owner) -> usize {
        match owner {
            Owner::Span => MAX_VALUE_BYTES,
            Owner::Event => MAX_VALUE_BYTES / 2,
        }
    }
}
