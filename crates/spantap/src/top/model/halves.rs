//! What happened lately: between half a window and a whole one, in memory that does not grow with what happens.

/// Half a window, in nanoseconds.
const HALF_NS: u64 = 30_000_000_000;

/// The current half of the window, and the one before. Time may only go forward: an earlier time counts as now.
#[derive(Debug)]
pub(super) struct Halves<T> {
    number: u64,
    current: T,
    before: Option<T>,
}

impl<T: Default> Halves<T> {
    pub(super) fn new(now_ns: u64) -> Self {
        Self { number: now_ns / HALF_NS, current: T::default(), before: None }
    }

    /// The half that this time is in.
    pub(super) fn at(&mut self, now_ns: u64) -> &mut T {
        let number = now_ns / HALF_NS;
        if number > self.number {
            let ended = std::mem::take(&mut self.current);
            self.before = (number == self.number + 1).then_some(ended);
            self.number = number;
        }
        &mut self.current
    }

    /// What is not too old at this time: the earlier half first.
    pub(super) fn recent(&self, now_ns: u64) -> impl Iterator<Item = &T> {
        let older = (now_ns / HALF_NS).saturating_sub(self.number);
        let before = self.before.as_ref().filter(|_| older == 0);
        before.into_iter().chain((older <= 1).then_some(&self.current))
    }

    /// All that is kept, however old.
    pub(super) fn kept(&self) -> impl Iterator<Item = &T> {
        self.before.iter().chain(std::iter::once(&self.current))
    }

    /// The same, to change it.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.before.iter_mut().chain(std::iter::once(&mut self.current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_window_is_gone() {
        let mut halves = Halves::<Vec<u64>>::new(0);
        let recent = |halves: &Halves<Vec<u64>>, half: u64| -> Vec<u64> {
            halves.recent(half * HALF_NS).flatten().copied().collect()
        };
        for half in [3, 4, 4, 3, 5, 9] {
            halves.at(half * HALF_NS).push(half);
        }
        assert_eq!(recent(&halves, 9), [9], "there was nothing in the half before");
        halves.at(10 * HALF_NS).push(10);
        assert_eq!(recent(&halves, 10), [9, 10]);
        assert_eq!(recent(&halves, 11), [10]);
        assert!(recent(&halves, 12).is_empty());
    }

    #[test]
    fn an_earlier_time_counts_as_now() {
        let mut halves = Halves::<Vec<u64>>::new(5 * HALF_NS);
        halves.at(2 * HALF_NS).push(2);
        assert_eq!(halves.recent(5 * HALF_NS).flatten().count(), 1);
    }
}
