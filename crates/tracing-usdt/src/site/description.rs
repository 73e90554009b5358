//! What `spantap probes` shows of a callsite and the probe's note does not have: a note of our own with the names of the
//! fields, the target and the place in the source.

use super::Site;

/// A note in the section `.note.tracing_usdt`, of type 1 and with `N` bytes of text: the name of the span or event, its
/// target, the file, and the names of the fields, each with a NUL behind it.
#[derive(Debug)]
#[repr(C, align(4))]
pub struct Description<const N: usize> {
    owner_size: u32,
    size: u32,
    kind: u32,
    owner: [u8; 16],
    place: [u8; 8],
    line: u32,
    level: u8,
    is_span: bool,
    text: [u8; N],
}

/// What the macro makes.
#[allow(clippy::upper_case_acronyms)] // the names that `tracing` has for them
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A span.
    SPAN,
    /// An event.
    EVENT,
}

/// The bytes of a description before its text, without the note's header and its owner.
const HEAD: u32 = 14;

impl<const N: usize> Description<N> {
    /// The description of a callsite. `texts` are `N` bytes long with their NULs, see [`text_len`].
    pub const fn new<S: Site>(kind: Kind, texts: &[&str]) -> Self {
        Self {
            owner_size: 13,
            size: HEAD + N as u32,
            kind: 1,
            owner: *b"tracing-usdt\0\0\0\0",
            place: S::PLACE.to_le_bytes(),
            line: S::LINE,
            level: match S::LEVEL {
                tracing_core::Level::ERROR => 1,
                tracing_core::Level::WARN => 2,
                tracing_core::Level::INFO => 3,
                tracing_core::Level::DEBUG => 4,
                tracing_core::Level::TRACE => 5,
            },
            is_span: matches!(kind, Kind::SPAN),
            text: join(texts),
        }
    }
}

/// The texts with a NUL behind each.
const fn join<const N: usize>(texts: &[&str]) -> [u8; N] {
    let (mut all, mut end, mut index) = ([0; N], 0, 0);
    while index < texts.len() {
        let mut at = 0;
        while at < texts[index].len() {
            all[end] = texts[index].as_bytes()[at];
            end += 1;
            at += 1;
        }
        end += 1;
        index += 1;
    }
    all
}

/// A number that stands for a callsite (FNV-1a): several may have the same name, and even the same line.
pub const fn place(texts: &[&str], line: u32, column: u32) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ ((line as u64) << 32 | column as u64);
    let mut index = 0;
    while index < texts.len() {
        let text = texts[index].as_bytes();
        let mut at = 0;
        while at < text.len() {
            hash = (hash ^ text[at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        hash = (hash ^ 0xff).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
}

/// How many bytes texts take with a NUL behind each.
pub const fn text_len(texts: &[&str]) -> usize {
    let (mut len, mut index) = (0, 0);
    while index < texts.len() {
        len += texts[index].len() + 1;
        index += 1;
    }
    len
}

/// Length of the name of a field, without the `r#` of raw identifiers.
pub const fn field_name_len(source: &str) -> usize {
    let (mut len, mut at) = (source.len(), 0);
    while at < source.len() {
        if source.as_bytes()[at] == b'#' {
            len -= 2;
        }
        at += 1;
    }
    len
}

/// The name of a field as it is written in the source, without the `r#` of raw identifiers.
pub const fn field_name<const N: usize>(source: &str) -> [u8; N] {
    let source = source.as_bytes();
    let (mut name, mut from, mut to) = ([0; N], 0, 0);
    while from < source.len() {
        if source[from] == b'r' && from + 1 < source.len() && source[from + 1] == b'#' {
            from += 2;
        } else {
            name[to] = source[from];
            from += 1;
            to += 1;
        }
    }
    name
}

/// The name of a field as a text.
pub const fn as_text(name: &[u8]) -> &str {
    match std::str::from_utf8(name) {
        Ok(name) => name,
        Err(_) => "?", // never: a name in the source is UTF-8
    }
}
