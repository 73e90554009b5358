//! The stats of each sender.

use std::collections::BTreeMap;

use crate::decode::Fault;

/// The most reasons for losses that are kept for a sender, which may invent any.
pub(super) const MAX_REASONS: usize = 32;

/// The stats of one sender.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct FromSender {
    /// The latest service name; empty if there was none. An address may have many.
    pub service: String,
    /// Datagrams, including those with faults.
    pub datagrams: u64,
    /// OTLP requests that were decoded, including those with faults.
    pub requests: u64,
    /// The bytes of the datagrams and the requests.
    pub bytes: u64,
    /// Accepted spans.
    pub spans: u64,
    /// Datagrams refused because the user may not send.
    pub refused: u64,
    /// How often each [`Fault`] was found, in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Spans that the sender reported as lost, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Spans that were sent and never arrived: see [`Senders`](crate::process::Senders).
    pub missing: u64,
    /// Spans that were sent before the first one that arrived.
    pub sent_before: u64,
    /// The number of the sender's last datagram among those of all senders.
    pub(super) last: u64,
}

impl FromSender {
    /// Spans that were refused for a fault, and datagrams that could not be read at all.
    pub fn malformed(&self) -> u64 {
        let faults = Fault::ALL.iter().zip(self.faults);
        faults.filter(|(fault, _)| fault.refuses()).map(|(_, count)| count).sum()
    }

    /// Spans that the sender reported as lost.
    pub fn lost_by_sender(&self) -> u64 {
        // The sender may report any number.
        self.lost.values().fold(0, |sum, spans| sum.saturating_add(*spans))
    }

    /// Whether anything was refused, missing or lost. Not a sum: the sender may report any number as lost.
    pub fn is_in_trouble(&self) -> bool {
        self.malformed() > 0 || self.refused > 0 || self.missing > 0 || self.lost_by_sender() > 0
    }

    /// Whether anything arrived from the sender.
    pub(crate) fn has_sent(&self) -> bool {
        self.datagrams > 0 || self.requests > 0 || self.spans > 0
    }

    /// Adds the stats of another sender.
    pub fn add(&mut self, other: &Self) {
        self.datagrams += other.datagrams;
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.spans += other.spans;
        self.refused += other.refused;
        // The sender determines these numbers, too.
        self.missing = self.missing.saturating_add(other.missing);
        self.sent_before = self.sent_before.saturating_add(other.sent_before);
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
        for (reason, spans) in &other.lost {
            self.lose(reason, *spans);
        }
    }

    pub(super) fn lose(&mut self, reason: &str, spans: u64) {
        let many = self.lost.len() >= MAX_REASONS && !self.lost.contains_key(reason);
        let lost = self.lost.entry(if many { "other".to_owned() } else { reason.to_owned() }).or_default();
        *lost = lost.saturating_add(spans);
    }
}
