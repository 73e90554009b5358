//! A datagram's place among all that its sender sends, by which a receiver notices missing spans.

use crate::json;
use crate::protobuf::{Message, integer, text};

/// A datagram's place in the sequence of all that one layer sends in one process.
///
/// Spans that the socket took but no receiver read show as a gap before the next datagram. They are lost when
/// a receiver is killed while datagrams wait in its queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sequence {
    /// The sender's id in hex, which each layer in each process draws at random.
    pub(crate) sender: [u8; 16],
    /// How many spans the socket had taken when this datagram was made.
    pub(crate) sent_before: u64,
    /// How many spans this datagram holds, without the one that reports losses.
    pub(crate) spans: u64,
    /// How many spans earlier reports count as lost. A report can be lost too, in the queue of a receiver
    /// that is killed.
    pub(crate) lost_before: u64,
}

impl Sequence {
    /// Writes the member `tracingUsdt`. Neither format defines a member of this name, and readers of both
    /// ignore members that they don't know.
    pub(super) fn write_member(&self, out: &mut Vec<u8>) {
        // Written by hand, because inline delivery writes it for each span.
        out.reserve(128);
        out.extend_from_slice(b",\"tracingUsdt\":{\"sender\":\"");
        out.extend_from_slice(&self.sender);
        out.extend_from_slice(b"\",\"sentBefore\":");
        json::number(out, self.sent_before);
        out.extend_from_slice(b",\"spans\":");
        json::number(out, self.spans);
        if self.lost_before > 0 {
            out.extend_from_slice(b",\"lostBefore\":");
            json::number(out, self.lost_before);
        }
        out.push(b'}');
    }

    /// Writes the same as a field of the protobuf request. OpenTelemetry defines no field of this number, and
    /// readers ignore fields that they don't know.
    pub(super) fn write_field(&self, out: &mut Vec<u8>) {
        const NUMBER: u32 = 1017;
        let message = Message::open(out, NUMBER);
        text(out, 1, std::str::from_utf8(&self.sender).unwrap_or_default());
        integer(out, 2, self.sent_before);
        integer(out, 3, self.spans);
        if self.lost_before > 0 {
            integer(out, 4, self.lost_before);
        }
        message.close(out);
    }
}
