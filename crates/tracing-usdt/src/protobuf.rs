//! Writes protobuf's wire format, directly into the output buffer.
//!
//! Only what OTLP needs. Numbers of fields are constants, so that the compiler reduces a field's key to a constant.
//! See <https://protobuf.dev/programming-guides/encoding/>.

/// How the value of a field is encoded.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

#[inline(always)]
fn key(out: &mut Vec<u8>, number: u32, wire: Wire) {
    varint(out, u64::from(number << 3 | wire as u32));
}

#[inline]
fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The length of `number` as a varint.
#[inline]
pub(crate) fn varint_len(number: u64) -> usize {
    (70 - (number | 1).leading_zeros() as usize) / 7
}

/// The length of a field whose number is below 16, and whose content has `bytes` bytes.
#[inline]
pub(crate) fn field_len(bytes: usize) -> usize {
    1 + varint_len(bytes as u64) + bytes
}

/// Writes an integer or an enum.
#[inline(always)]
pub(crate) fn integer(out: &mut Vec<u8>, number: u32, value: u64) {
    key(out, number, Wire::Varint);
    varint(out, value);
}

#[inline(always)]
pub(crate) fn fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    key(out, number, Wire::Fixed64);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline(always)]
pub(crate) fn fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    key(out, number, Wire::Fixed32);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline(always)]
pub(crate) fn text(out: &mut Vec<u8>, number: u32, text: &str) {
    bytes(out, number, text.as_bytes());
}

#[inline(always)]
pub(crate) fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    message(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Begins a message that has `length` bytes. The caller writes them.
#[inline(always)]
pub(crate) fn message(out: &mut Vec<u8>, number: u32, length: usize) {
    key(out, number, Wire::Bytes);
    varint(out, length as u64);
}

/// A message whose length is written at its end.
///
/// The length takes [`LENGTH`](Self::LENGTH) bytes, also where fewer would do: a varint may end with bytes that add
/// nothing to it.
#[derive(Clone, Copy)]
pub(crate) struct Message {
    /// Where its content begins.
    start: usize,
}

impl Message {
    /// Enough for 2 MiB. A datagram has 32 KiB of spans and one more span, of at most 64 KiB.
    const LENGTH: usize = 3;

    #[inline]
    pub(crate) fn open(out: &mut Vec<u8>, number: u32) -> Self {
        key(out, number, Wire::Bytes);
        out.extend_from_slice(&[0; Self::LENGTH]);
        Self { start: out.len() }
    }

    /// The message whose content begins at `start`.
    pub(crate) const fn at(start: usize) -> Self {
        Self { start }
    }

    pub(crate) const fn start(self) -> usize {
        self.start
    }

    #[inline]
    pub(crate) fn close(self, out: &mut [u8]) {
        let length = out.len() - self.start;
        debug_assert!(length < 1 << (7 * Self::LENGTH), "{length}");
        if let Some(place) = out.get_mut(self.start - Self::LENGTH..self.start) {
            place.copy_from_slice(&[
                length as u8 | 0x80,
                (length >> 7) as u8 | 0x80,
                (length >> 14) as u8 & 0x7f,
            ]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_varints_are_those_that_are_written() {
        let around = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for number in around.chain([0, u64::MAX]) {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(out.len(), varint_len(number), "{number}");
        }
    }
}
