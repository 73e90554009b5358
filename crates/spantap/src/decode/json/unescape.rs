//! Strings with escapes, in which half of a surrogate pair may occur alone.

use serde::de::{Deserialize, Deserializer, Visitor};

/// The bytes of a string without its escapes. It may contain encoded halves of surrogate pairs.
pub(super) struct Unescaped(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Unescaped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Unescaped;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Unescaped, E> {
                Ok(Unescaped(bytes.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Replaces each half of a surrogate pair by U+FFFD, which has the same length. Returns whether there was one.
pub(super) fn replace_halves(bytes: &mut [u8]) -> bool {
    let mut found = false;
    for at in 0..bytes.len().saturating_sub(2) {
        // The encoding of a surrogate, which is not valid in UTF-8.
        if let [0xed, 0xa0..=0xbf, _] = bytes[at..at + 3] {
            bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
            found = true;
        }
    }
    found
}
