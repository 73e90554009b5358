//! Reads and writes numbers and texts in a span's record: the binary form that fields, events and links keep
//! until the encoder reads them.

/// Takes the next `N` bytes from `rest`. Returns zeros if `rest` is shorter, which happens only in a damaged
/// buffer.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk() {
        Some((taken, after)) => {
            *rest = after;
            *taken
        }
        None => {
            *rest = &[];
            [0; N]
        }
    }
}

/// Takes the bytes after a `u16` length from `rest`.
pub(crate) fn take_sized<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::from(u16::from_le_bytes(take(rest)));
    let (taken, after) = rest.split_at(length.min(rest.len()));
    *rest = after;
    taken
}

/// Takes a text that [`push_text`] wrote from `rest`.
pub(crate) fn take_text<'a>(rest: &mut &'a [u8]) -> &'a str {
    std::str::from_utf8(take_sized(rest)).unwrap_or_default()
}

/// Appends `text` after its length as a `u16`. The text must be shorter than 64 KiB.
pub(crate) fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}
