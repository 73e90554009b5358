//! Why OTLP requests were refused before they were decoded.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why an OTLP request, or a connection, was refused as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Without the token, or with another one.
    Unauthorized,
    /// For another path or service, or with another method.
    NotTraces,
    /// Of another content type or compression.
    MediaType,
    /// Larger than the limit, as sent or uncompressed.
    TooLarge,
    /// Not sent within the time for it, or not to its end.
    TooSlow,
    /// Not a whole message of gzip or gRPC. What the decoder refuses is counted as a fault.
    Malformed,
    /// More requests than there is room for. The client sends them again.
    Busy,
    /// spantap was ending. The client sends them again.
    Ending,
    /// A connection beyond the limit.
    Connections,
    /// A connection whose TLS handshake failed.
    Handshake,
}

impl Refusal {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Unauthorized,
        Self::NotTraces,
        Self::MediaType,
        Self::TooLarge,
        Self::TooSlow,
        Self::Malformed,
        Self::Busy,
        Self::Ending,
        Self::Connections,
        Self::Handshake,
    ];

    /// The label in Prometheus.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::NotTraces => "not_traces",
            Self::MediaType => "media_type",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
            Self::Ending => "ending",
            Self::Connections => "connections",
            Self::Handshake => "handshake",
        }
    }

    /// The text that follows the count of requests.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unauthorized => "without the right token",
            Self::NotTraces => "for something other than traces",
            Self::MediaType => "for their content type or compression",
            Self::TooLarge => "for more than 16 MiB",
            Self::TooSlow => "because they did not arrive within 10 s, or not to the end",
            Self::Malformed => "as no whole message of gzip or gRPC",
            Self::Busy => "for now because too many waited",
            Self::Ending => "because spantap was ending",
            Self::Connections => "because there were too many connections",
            Self::Handshake => "because the TLS handshake failed",
        }
    }
}

/// How many requests were refused, by reason.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Refusals {
    /// Counts one. Returns whether it is the first for this reason.
    pub(super) fn add(&self, refusal: Refusal) -> bool {
        self.0[refusal as usize].fetch_add(1, Ordering::Relaxed) == 0
    }

    /// The reasons that occurred, with their counts.
    pub(super) fn counts(&self) -> Vec<(Refusal, u64)> {
        let counts = Refusal::ALL.into_iter().zip(&self.0);
        let counts = counts.map(|(refusal, count)| (refusal, count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_order_of_their_numbers() {
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place, "{refusal:?}");
        }
    }
}
