//! Size limits of texts, and how a text is shortened to them.
//!
//! A datagram stays below 64 KiB. The *cost* of a value is an upper bound on the bytes that the value takes
//! in a datagram; the limits bound the sum of the costs.

/// Maximum length of a text value in bytes. A longer text is shortened at a character boundary and counted.
pub(crate) const MAX_VALUE_BYTES: usize = 10 * 1024;

/// Maximum length in bytes of a name, and of each source in an error's chain.
pub(crate) const MAX_NAME_BYTES: usize = 512;

/// Maximum size in bytes of the resource attributes in each datagram, after escaping.
pub(crate) const MAX_RESOURCE_BYTES: usize = 4 * 1024;

/// The last character boundary of `text` at or before byte `max`.
#[inline]
pub(crate) fn floor_char_boundary(text: &str, max: usize) -> usize {
    if max >= text.len() {
        return text.len();
    }
    (0..=max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Upper bound on the bytes that `text` takes in a datagram, with its quotes and separators.
///
/// Zipkin carries the fields of an event as JSON inside a JSON string. There, a control character takes seven
/// bytes.
pub(crate) fn text_cost(text: impl AsRef<[u8]>) -> usize {
    20 + text.as_ref().iter().map(|&byte| if may_be_escaped(byte) { 7 } else { 1 }).sum::<usize>()
}

fn may_be_escaped(byte: u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\' | 0x7f)
}

/// Length in bytes of the longest prefix of the UTF-8 `text` that costs at most `cost` and ends at a
/// character boundary.
pub(crate) fn prefix_of_cost(text: &[u8], cost: usize) -> usize {
    let mut left = cost.saturating_sub(20);
    let fits = text.iter().position(|&byte| {
        let bytes = if may_be_escaped(byte) { 7 } else { 1 };
        let over = bytes > left;
        left = left.saturating_sub(bytes);
        over
    });
    // In UTF-8, a byte of the form 10xxxxxx continues a character.
    fits.map_or(text.len(), |fits| (0..=fits).rev().find(|&at| text[at] & 0xc0 != 0x80).unwrap_or(0))
}

/// The longest prefix of `text` that costs at most `cost`.
pub(crate) fn shorten_to_cost(text: &str, cost: usize) -> &str {
    &text[..prefix_of_cost(text.as_bytes(), cost)]
}
