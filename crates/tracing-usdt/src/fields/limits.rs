//! Limits of fields that the application can set.

use super::vocabulary::Vocabulary;

/// The owner of fields. Spans and events have different limits.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Owner {
    Span,
    Event,
}

/// OpenTelemetry's limits. They apply in addition to those that keep a span within a datagram.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Limits {
    /// Maximum number of fields of a span or an event.
    pub(crate) attributes: u32,
    /// Maximum length of a text in characters.
    pub(crate) characters: usize,
    /// Which attributes the layer adds, and which special fields it interprets.
    pub(crate) vocabulary: Vocabulary,
}

impl Default for Limits {
    fn default() -> Self {
        Self { attributes: 128, characters: usize::MAX, vocabulary: Vocabulary::ALL }
    }
}
