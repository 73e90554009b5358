//! How large a request a backend takes. Nothing tells but that it refuses one as too large: half of that is tried
//! next. What was learned holds for a while, so that most requests are taken at the first attempt; then it is learned
//! anew, because the backend, or a proxy before it, may have been set up anew, or have been in trouble.

use std::time::{Duration, Instant};

/// In bytes of chunks, which are a little more than those of a request.
#[derive(Debug)]
pub(super) struct Limit {
    most: u64,
    remember: Duration,
    bytes: u64,
    learned: Instant,
}

impl Limit {
    /// `most` until something is learned, which is remembered for so long.
    pub(super) fn new(most: u64, remember: Duration) -> Self {
        Self { most, remember, bytes: most, learned: Instant::now() }
    }

    /// What a request may have now.
    pub(super) fn bytes(&mut self, now: Instant) -> u64 {
        if self.bytes < self.most && now.duration_since(self.learned) >= self.remember {
            (self.bytes, self.learned) = (self.most, now);
        }
        self.bytes
    }

    /// So many bytes were too many.
    pub(super) fn lower(&mut self, refused: u64, now: Instant) {
        (self.bytes, self.learned) = (self.bytes.min(refused / 2).max(1), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_halves_and_is_learned_anew_after_a_while() {
        let minute = Duration::from_secs(60);
        let mut limit = Limit::new(1_000, minute);
        let start = Instant::now();
        assert_eq!(limit.bytes(start), 1_000);
        limit.lower(900, start);
        assert_eq!(limit.bytes(start), 450);
        limit.lower(450, start);
        assert_eq!(limit.bytes(start + minute / 2), 225);
        // Something larger does not raise it.
        limit.lower(800, start);
        assert_eq!(limit.bytes(start + minute / 2), 225);
        assert_eq!([1, 2].map(|minutes| limit.bytes(start + minutes * minute)), [1_000, 1_000]);
        limit.lower(1, start);
        assert_eq!(limit.bytes(start), 1);
    }
}
