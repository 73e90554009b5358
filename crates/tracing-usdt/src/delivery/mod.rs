//! Delivery: takes closed spans, sends them to the socket and the probe `batch_emit`, and counts what became of them.
//!
//! An `exporter` is one of two deliveries to the socket. `inline` sends each span before its close returns. `background`
//! encodes the span with `ring_codec` and writes it to a `ring`; the sender thread, which `wake` wakes, reads
//! the rings and sends many spans in one datagram. `batches` is background delivery to the consumers of the probe, with rings
//! and a thread of its own.
//!
//! All deliveries send through an `outlet`, which also reports losses in the stream. `way` is the socket or the probe.
//! `socket` connects and
//! reconnects (`socket_none` replaces it on platforms without Unix sockets), `stats` counts, `reported` holds
//! the losses that the receiver already knows, and `waiting` queues the threads that wait for room. `long_open` reports the
//! spans that have been open for long. `in_use`
//! lists the deliveries that are in use: when the program ends, `at_exit` sends what is still queued and the
//! spans that are `unfinished`; when it calls `exec`, `at_exec` waits for the sender thread.

mod at_exec;
mod at_exit;
mod background;
mod batches;
mod exporter;
mod in_use;
mod inline;
mod long_open;
mod outlet;
mod reported;
mod ring;
mod ring_codec;
#[cfg_attr(not(unix), path = "socket_none.rs")]
mod socket;
mod stats;
mod unfinished;
mod waiting;
mod wake;
mod way;

pub(crate) use batches::Batches;
pub use exporter::Delivery;
pub(crate) use exporter::Exporter;
pub use stats::{Dropped, Stats};

#[cfg(test)]
use crate::span::ClosedSpan;

/// Calls `read` with the span that was written to a ring and read back.
#[cfg(test)]
pub(crate) fn through_a_ring<T>(span: &ClosedSpan<'_>, read: impl FnOnce(&ClosedSpan<'_>) -> T) -> T {
    let (ring, waker) = (ring::Ring::<{ 1 << 15 }>::new(), wake::SenderWaker::new());
    ring.write(&ring_codec::SpanRecord::new(span), ring::Offer::First, &waker)
        .expect("an empty ring has room");
    let (reading, mut record) = (ring.try_read().expect("no other reader"), Vec::new());
    let end = reading.copy(reading.start(), &mut record);
    assert_eq!(end, reading.end());
    assert_eq!(record, ring_codec::SpanRecord::new(span).to_bytes());
    ring_codec::read(&record, read).expect("what was written")
}
