//! What the programs in the kernel may lose, and its names.

use crate::stats::Missed;

const fn missed(label: &'static str, words: &'static str) -> Missed {
    Missed { label, words }
}

/// In the order of `enum loss`.
pub(super) const LOSSES: [Missed; 16] = [
    missed("spans_ring_full", "spans: the ring buffer was full"),
    missed("kernel_ring_full", "kernel events: the ring buffer was full"),
    missed("spans_too_long", "spans: longer than 256 KiB"),
    missed("spans_unreadable", "spans: their memory could not be read"),
    missed("threads_no_memory", "entries into spans: the kernel had no memory for the thread"),
    missed("stacks_too_deep", "spans that a thread was in: below the outermost 64"),
    missed("stacks_unreadable", "reads of the spans that a thread is in: its memory could not be read"),
    missed("times_ring_full", "times off the CPU: the ring buffer was full"),
    missed("short_full", "short kernel events: too many to aggregate"),
    missed("requests_full", "block requests: too many at once"),
    missed("connections_no_memory", "connections: no memory to store which span uses them"),
    missed("programs_full", "started programs: too many at once"),
    missed("stretches_untold", "stretches of time: the kernel did not report what the thread did"),
    missed("retransmits_untold", "connections: the kernel did not report all of their retransmits"),
    REQUEST_ENDS,
    missed("other_layout", "entries into spans: the program has the layer of another version than spantap's"),
];

pub(super) const REQUEST_ENDS: Missed =
    missed("request_ends", "block requests: the kernel did not report their end");

pub(super) const FORGOTTEN: Missed =
    missed("accounts_without_span", "accounts of spans: too many open spans, or spans that were missed");

pub(super) const RECURSION: Missed =
    missed("recursion", "kernel events of any program: two of one kind at once on a CPU");
