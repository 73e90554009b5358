//! OTLP requests from the network, and how they are answered.

use std::net::IpAddr;

use crate::decode::{Decoded, Encoding};

/// An OTLP request to decode, uncompressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// Its content.
    pub(crate) bytes: &'a [u8],
    /// How it is encoded.
    pub(crate) encoding: Encoding,
    /// Where it came from.
    pub(crate) from: IpAddr,
}

/// What became of the spans of a request that could be read.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Taken {
    /// How many spans were refused. A part of the request that could not be read at all counts as one.
    pub(crate) rejected: u64,
    /// Why; empty if none were.
    pub(crate) why: String,
}

impl Taken {
    pub(super) fn of(decoded: &Decoded) -> Self {
        let mut taken = Self::default();
        for (found, count) in decoded.faults.iter().filter(|(found, _)| found.fault.refuses()) {
            taken.rejected += count;
            if !taken.why.is_empty() {
                taken.why += "; ";
            }
            taken.why += &format!("{count} refused: {}: {}", found.fault, found.detail);
        }
        taken
    }
}
