//! The input of the decoder.

use crate::process::Sender;

/// A datagram to decode.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its content.
    pub bytes: &'a [u8],
    /// The sender, as the kernel reports it.
    pub sender: Sender,
    /// Whether it was cut off at 256 KiB.
    pub cut: bool,
}
