//! The size of request that a backend accepts. It is only known from a refusal of a request as too large: then half
//! of that size is tried. The limit is kept for a while, so that most requests are accepted at the first attempt.
//! Then it is reset, because the backend, or a proxy in front of it, may have been reconfigured, or have had
//! only a temporary problem.

use std::time::{Duration, Instant};

/// In bytes of chunks, which are slightly more than the bytes of the request.
#[derive(Debug)]
pub(super) struct Limit {
    most: u64,
    remember: Duration,
    bytes: u64,
    learned: Instant,
}

impl Limit {
    /// Starts at `most`. A lower limit is kept for `remember`.
    pub(super) fn new(most: u64, remember: Duration) -> Self {
        Self { most, remember, bytes: most, learned: Instant::now() }
    }

    /// The most bytes of a request now.
    pub(super) fn bytes(&mut self, now: Instant) -> u64 {
        if self.bytes < self.most && now.duration_since(self.learned) >= self.remember {
            (self.bytes, self.learned) = (self.most, now);
        }
        self.bytes
    }

    /// Lowers the limit after a request of `refused` bytes was too large.
    pub(super) fn lower(&mut self, refused: u64, now: Instant) {
        (self.bytes, self.learned) = (self.bytes.min(refused / 2).max(1), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_is_reset_after_a_while() {
        let minute = Duration::from_secs(60);
        let mut limit = Limit::new(1_000, minute);
        let start = Instant::now();
        assert_eq!(limit.bytes(start), 1_000);
        limit.lower(900, start);
        assert_eq!(limit.bytes(start), 450);
        limit.lower(450, start);
        assert_eq!(limit.bytes(start + minute / 2), 225);
        // A larger refusal does not raise the limit.
        limit.lower(800, start);
        assert_eq!(limit.bytes(start + minute / 2), 225);
        assert_eq!([1, 2].map(|minutes| limit.bytes(start + minutes * minute)), [1_000, 1_000]);
        limit.lower(1, start);
        assert_eq!(limit.bytes(start), 1);
    }
}
