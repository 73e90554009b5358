//! How many spans there were at which time, in memory that does not grow with the time.

const BINS: usize = 64;

/// The width of a bin at first, in nanoseconds.
const FIRST_WIDTH_NS: u64 = 1_000_000;

/// Counts over time, in bins of one width. When a time does not fit, the bins get twice as wide.
#[derive(Clone, Debug)]
pub(super) struct OverTime {
    start_ns: u64,
    width_ns: u64,
    bins: [u64; BINS],
}

impl OverTime {
    /// Nothing was counted. No time will be earlier than this one, or counts as if it were this one.
    pub(super) fn new(start_ns: u64) -> Self {
        Self { start_ns, width_ns: FIRST_WIDTH_NS, bins: [0; BINS] }
    }

    pub(super) fn add(&mut self, time_ns: u64) {
        let since_ns = time_ns.saturating_sub(self.start_ns);
        while since_ns / self.width_ns >= BINS as u64 {
            for bin in 0..BINS {
                let merged = |of: usize| self.bins.get(of).copied().unwrap_or(0);
                self.bins[bin] = merged(2 * bin) + merged(2 * bin + 1);
            }
            self.width_ns = self.width_ns.saturating_mul(2);
        }
        self.bins[(since_ns / self.width_ns) as usize] += 1;
    }

    /// How many there were in the bins before that of this time. So it may be less than there were, but not more.
    pub(super) fn before(&self, time_ns: u64) -> u64 {
        let bin = time_ns.saturating_sub(self.start_ns) / self.width_ns;
        self.bins.iter().take(usize::try_from(bin).unwrap_or(BINS)).sum()
    }

    pub(super) fn all(&self) -> u64 {
        self.bins.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stay_when_the_bins_get_wider() {
        let mut over_time = OverTime::new(1_000);
        for ms in 0..10_000 {
            over_time.add(1_000 + ms * 1_000_000);
        }
        assert_eq!(over_time.all(), 10_000);
        assert_eq!(over_time.before(0), 0);
        assert_eq!(over_time.before(u64::MAX), 10_000);
        // A bin has 256 ms by then.
        assert_eq!(over_time.before(1_000 + 5_000 * 1_000_000), 19 * 256);
    }

    #[test]
    fn any_time_has_a_bin() {
        let mut over_time = OverTime::new(5);
        [0, 5, u64::MAX, u64::MAX / 2].into_iter().for_each(|ns| over_time.add(ns));
        assert_eq!(over_time.all(), 4);
    }
}
