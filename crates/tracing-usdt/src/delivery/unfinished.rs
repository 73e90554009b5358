//! Sends the spans that are open when the program ends, with their duration so far and an attribute that
//! marks them.
//!
//! They do not go through a ring: another thread may hold a ring's lock and never release it.

use std::time::Duration;

use super::outlet::{DATAGRAM_BYTES, Outlet};
use super::reported::ReportedLosses;
use super::stats::{Counters, Outcome};
use crate::span::UnfinishedSpan;

/// Sends the spans, as many in a datagram as fit, and counts them. While the receiver's queue is full,
/// `patience` returns how long to wait before the next attempt; `None` gives up.
pub(super) fn send(
    spans: &[UnfinishedSpan],
    outlet: &Outlet,
    counters: &Counters,
    reported: &ReportedLosses,
    patience: &dyn Fn() -> Option<Duration>,
) {
    let (mut rest, mut limit, mut datagram) = (spans, DATAGRAM_BYTES, Vec::new());
    while !rest.is_empty() {
        let spans = fill(&mut datagram, rest, outlet, counters, reported, limit);
        let outcome = outlet.send_patiently(&datagram, spans as u64, patience);
        if outcome == Outcome::TooLarge && spans > 1 {
            limit = datagram.len() / 2;
            continue;
        }
        counters.close(outcome, spans as u64);
        rest = &rest[spans..];
    }
}

/// Fills a datagram with the first of `spans`, up to `limit` bytes but one span at least, and returns how
/// many it holds.
fn fill(
    datagram: &mut Vec<u8>,
    spans: &[UnfinishedSpan],
    outlet: &Outlet,
    counters: &Counters,
    reported: &ReportedLosses,
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
    outlet.encoder.close(datagram, Some(&counters.sequence(filled as u64, reported.total())));
    filled
}
