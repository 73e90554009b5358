//! How many spans of whom a datagram holds, without making spans of it.
//!
//! It knows how senders usually write and gives up on all else: a fault, an oddity, an escape in a text that
//! it must read. Then the datagram is decoded, which can say what there is to say. It may take nothing that
//! decoding refuses, but inside of members that it passes over.
//!
//! Measured on datagrams of the layer's, ns a span: 240 of Zipkin and 300 of OTLP, with 424 and 809 bytes. A reader
//! with jiter that passed over the same members took 560 and 910; decoding takes some 1,200.

mod otlp;
mod zipkin;

use super::scan::Scan;
use super::value::LONG;
use super::{LOSSES, is_odd_time};

/// Who says of itself what it is.
#[derive(Debug, PartialEq)]
pub(super) enum Said<'a> {
    Service(&'a [u8]),
    /// A resource as it stands.
    Resource(&'a [u8]),
}

/// In a row from the same process.
pub(super) struct Row<'a> {
    pub(super) said: Said<'a>,
    pub(super) spans: u64,
}

/// The spans of a datagram. Nothing if there is more to say of it.
pub(super) fn rows(bytes: &[u8], now_ns: u64) -> Option<Vec<Row<'_>>> {
    // Most are ASCII, which is known sooner: 25 ns for a span of OTLP.
    if !bytes.is_ascii() {
        std::str::from_utf8(bytes).ok()?;
    }
    let mut scan = Scan::new(bytes);
    let rows = match scan.peek()? {
        b'[' => zipkin::rows(&mut scan, now_ns),
        b'{' => otlp::rows(&mut scan, now_ns),
        _ => None,
    }?;
    scan.end()?;
    Some(rows)
}

/// Passes over a member of a span.
fn pass_over(scan: &mut Scan<'_>) -> Option<()> {
    is_short(scan.value()?)
}

fn is_short(value: &[u8]) -> Option<()> {
    (value.len() <= LONG).then_some(())
}

/// Reads the name of a span that tells of no losses.
fn usual_name(scan: &mut Scan<'_>) -> Option<()> {
    (scan.text()? != LOSSES.as_bytes()).then_some(())
}

/// Reads the id of a parent, which may also be empty or zero.
fn usual_parent(scan: &mut Scan<'_>) -> Option<()> {
    scan.attempt(Scan::id::<16>).or_else(|| matches!(scan.text()?, b"" | b"0000000000000000").then_some(()))
}

fn is_usual_time(start_ns: u64, end_ns: u64, now_ns: u64) -> bool {
    start_ns <= end_ns && !is_odd_time(start_ns, end_ns, now_ns)
}
