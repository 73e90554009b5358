//! The spans that are open when the program ends: they are sent with their duration so far, and marked.
//!
//! They go by no ring, whose locks another thread may hold for good at this point.

use std::time::Duration;

use super::DATAGRAM_BYTES;
use super::outlet::{Outlet, Told};
use super::stats::{Counters, Outcome};
use crate::span::UnfinishedSpan;

/// Sends them, as many to a datagram as fit, and counts them. Where the receiver's queue is full, `patience` says how
/// long to wait, again and again until it says `None`.
pub(super) fn send(
    spans: &[UnfinishedSpan],
    outlet: &Outlet,
    counters: &Counters,
    told: &Told,
    patience: &dyn Fn() -> Option<Duration>,
) {
    let (mut rest, mut limit, mut datagram) = (spans, DATAGRAM_BYTES, Vec::new());
    while !rest.is_empty() {
        let spans = fill(&mut datagram, rest, outlet, counters, told, limit);
        let outcome = outlet.send_patiently(&datagram, patience);
        if outcome == Outcome::TooLarge && spans > 1 {
            limit = datagram.len() / 2;
            continue;
        }
        counters.close(outcome, spans as u64);
        rest = &rest[spans..];
    }
}

/// Makes a datagram of the first of `spans`, up to `limit` bytes, and says of how many: one at least.
fn fill(
    datagram: &mut Vec<u8>,
    spans: &[UnfinishedSpan],
    outlet: &Outlet,
    counters: &Counters,
    told: &Told,
    limit: usize,
) -> usize {
    datagram.clear();
    outlet.encoder.open(datagram);
    let mut filled = 0;
    for span in spans {
        let before = datagram.len();
        span.with_closed(|span| outlet.encoder.span(datagram, span));
        if filled > 0 && datagram.len() > limit {
            datagram.truncate(before);
            break;
        }
        filled += 1;
    }
    outlet.encoder.close(datagram, Some(&counters.sequence(filled as u64, told)));
    filled
}
