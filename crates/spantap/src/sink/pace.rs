//! The delays before a request is repeated.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The delays between attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) first: Duration,
    /// Small, so that a backend that works again is noticed soon; an attempt costs it little.
    pub(super) longest: Duration,
}

impl Pace {
    /// The delays for one batch, without end. Each is chosen at random up to twice its base, so that senders that
    /// failed together do not return together.
    pub(super) fn delays(self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_max_delay(self.longest / 2)
            .without_max_times()
            .with_jitter()
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_grow_up_to_the_longest_and_never_end() {
        let pace = Pace { first: SECOND / 2, longest: 5 * SECOND };
        let delays: Vec<Duration> = pace.delays().take(1_000).collect();
        assert_eq!(delays.len(), 1_000);
        assert!(delays[0] >= SECOND / 2 && delays[0] <= SECOND, "{:?}", delays[0]);
        assert!(delays.iter().all(|delay| *delay <= 5 * SECOND));
        assert!(delays[10..].iter().all(|delay| *delay >= 5 * SECOND / 2));
        assert_ne!(delays, pace.delays().take(1_000).collect::<Vec<_>>());
    }
}
