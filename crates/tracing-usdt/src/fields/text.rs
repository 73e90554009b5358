//! Writes texts of bounded length, such as the output of an application's `Debug` or `Display`.

use std::fmt::{self, Write};

use crate::bounds::floor_char_boundary;

/// Appends the text that `write` writes, after its `u16` length. Returns whether the text was shortened to
/// the limits.
pub(super) fn text_into(
    bytes: &mut Vec<u8>,
    max_bytes: usize,
    max_characters: usize,
    write: impl FnOnce(&mut Bounded<'_>) -> fmt::Result,
) -> bool {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 2]);
    let mut bounded = Bounded { bytes, left: max_bytes, characters_left: max_characters, shortened: false };
    // A `Debug` that fails may have written part of its text, which is kept.
    let _ = write(&mut bounded);
    let shortened = bounded.shortened;
    let length = (bytes.len() - start - 2) as u16;
    bytes[start..start + 2].copy_from_slice(&length.to_le_bytes());
    shortened
}

/// Writer of a text of bounded length. It discards what exceeds the limits without an error: an error would
/// reach the application's code, and some code unwraps it.
pub(super) struct Bounded<'a> {
    bytes: &'a mut Vec<u8>,
    pub(super) left: usize,
    /// `usize::MAX`: no limit. Then characters are not counted.
    characters_left: usize,
    shortened: bool,
}

impl Write for Bounded<'_> {
    #[inline]
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.shortened {
            return Ok(());
        }
        let mut fits = floor_char_boundary(part, self.left);
        if self.characters_left != usize::MAX {
            if let Some((end, _)) = part[..fits].char_indices().nth(self.characters_left) {
                fits = end;
            }
            self.characters_left -= part[..fits].chars().count();
        }
        self.shortened = fits < part.len();
        self.left -= fits;
        self.bytes.extend_from_slice(&part.as_bytes()[..fits]);
        Ok(())
    }
}
