//! Counts of spans by sender.

use std::collections::BTreeMap;

use crate::encode::Chunk;
use crate::process::{MAX_SENDERS, Sender};

/// Stands for all senders beyond the limit. No user has this uid.
pub const OTHERS: Sender = Sender { pid: 0, uid: u32::MAX, gid: u32::MAX };

/// The number of spans of each sender.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Tally(BTreeMap<Sender, u64>);

impl Tally {
    pub(super) fn of(sender: Sender, spans: u64) -> Self {
        let mut tally = Self::default();
        tally.add(sender, spans);
        tally
    }

    /// Counts the spans of all `chunks`.
    pub(super) fn of_all(chunks: &[Chunk]) -> Self {
        let mut tally = Self::default();
        chunks.iter().for_each(|chunk| tally.add(chunk.sender, chunk.spans.into()));
        tally
    }

    pub(super) fn add(&mut self, sender: Sender, spans: u64) {
        if spans > 0 {
            let known = self.0.len() < MAX_SENDERS || self.0.contains_key(&sender);
            *self.0.entry(if known { sender } else { OTHERS }).or_default() += spans;
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        other.iter().for_each(|(sender, spans)| self.add(sender, spans));
    }

    /// Subtracts counts that were added before.
    pub(super) fn take_away(&mut self, other: &Self) {
        for (sender, spans) in other.iter() {
            let under = if self.0.contains_key(&sender) { sender } else { OTHERS };
            if let Some(known) = self.0.get_mut(&under) {
                *known = known.saturating_sub(spans);
                if *known == 0 {
                    self.0.remove(&under);
                }
            }
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Sender, u64)> {
        self.0.iter().map(|(sender, spans)| (*sender, *spans))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(pid: u32) -> Sender {
        Sender { pid, uid: 0, gid: 0 }
    }

    #[test]
    fn added_counts_can_be_subtracted_for_any_number_of_senders() {
        let mut tally = Tally::default();
        let many = MAX_SENDERS as u32 + 100;
        (1..=many).for_each(|pid| tally.add(sender(pid), 2));
        assert_eq!((tally.0.len(), tally.0[&OTHERS]), (MAX_SENDERS + 1, 200));
        (1..=many).for_each(|pid| tally.take_away(&Tally::of(sender(pid), 2)));
        assert_eq!(tally, Tally::default());
    }
}
