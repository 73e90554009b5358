//! Numbers for the tests of the statistic, the same in each run.

/// Draws numbers from 0 to 1. (Marsaglia's xorshift.)
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
