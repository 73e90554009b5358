//! The ELF note that tells bpftrace, perf and gdb of a probe, written while the program is compiled.
//!
//! A note has three texts: the provider, the name, and the places of the arguments. The assembler takes numbers only,
//! so the text is passed as words of eight bytes. That also takes every name: one with quotes or braces could not stand
//! in the assembler's source.

use std::marker::PhantomData;

use tracing_core::Level;

use super::Site;
use super::argument::{Arguments, MAX_ARGUMENTS, size, words};
use super::step::Step;

/// Longest provider. A longer one is cut.
const MAX_PROVIDER: usize = 96;

/// Longest name, without what follows `__`.
const MAX_NAME: usize = 80;

/// Length of the longest note in words of eight bytes: of both names, and of ten arguments with up to eleven characters and
/// a space each.
pub(super) const WORDS: usize = 40;

/// Text that is put together while the program is compiled.
///
/// It is kept as the words that the assembler takes: the compiler runs all this once for each callsite, so each step less
/// is time that users don't wait.
#[derive(Clone, Copy)]
pub(super) struct Text {
    words: [u64; WORDS],
    len: usize,
}

impl Text {
    const fn push(&mut self, byte: u8) {
        self.words[self.len / 8] |= (byte as u64) << (self.len % 8 * 8);
        self.len += 1;
    }

    const fn text(&mut self, text: &str) {
        let text = text.as_bytes();
        let mut at = 0;
        while at < text.len() {
            self.push(text[at]);
            at += 1;
        }
    }

    const fn number(&mut self, number: usize) {
        if number >= 10 {
            self.number(number / 10);
        }
        self.push(b'0' + (number % 10) as u8);
    }

    /// At most `max` bytes of `text`, with `_` for each character that the name of a probe can't have.
    const fn name(&mut self, text: &str, max: usize) {
        let text = text.as_bytes();
        let mut at = 0;
        while at < text.len() && at < max {
            let byte = text[at];
            // The bytes of a character after its first one are left out.
            if byte.is_ascii_alphanumeric() {
                self.push(byte);
            } else if byte & 0xc0 != 0x80 {
                self.push(b'_');
            }
            at += 1;
        }
    }

    /// A hash of the text (FNV-1a, by words): a name for it that is a number.
    const fn hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325;
        let mut at = 0;
        while at * 8 < self.len {
            hash = (hash ^ self.words[at]).wrapping_mul(0x0100_0000_01b3);
            hash ^= hash >> 32;
            at += 1;
        }
        hash
    }
}

/// The provider and the name of the probes of a callsite.
pub(super) struct Names<S>(PhantomData<S>);

impl<S: Site> Names<S> {
    /// With a NUL behind the provider.
    const TEXT: Text = {
        let mut text = Text { words: [0; WORDS], len: 0 };
        text.name(S::MODULE, MAX_PROVIDER);
        text.push(0);
        match S::NAME {
            Some(name) if !name.is_empty() => {
                text.name(name, MAX_NAME);
                text.text(S::SUFFIX);
            }
            _ => {
                text.text(level_name(S::LEVEL));
                text.push(b'_');
                text.number(S::LINE as usize);
            }
        }
        text
    };

    /// A number that stands for both. Callsites of one name share it, and so they share a semaphore.
    pub(super) const HASH: u64 = Self::TEXT.hash();
}

const fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The note of a probe at callsite `S`, with arguments `A`.
pub(super) struct Note<S, P, A>(PhantomData<(S, P, A)>);

impl<S: Site, P: Step, A: Arguments> Note<S, P, A> {
    const TEXT: Text = {
        let mut text = Names::<S>::TEXT;
        text.text(P::SUFFIX);
        text.push(0);
        // The span's id, and then the fields as far as there is room.
        argument(&mut text, 8, 0);
        let (mut used, mut field) = (1, 0);
        while field < A::KINDS.len() && used + words(A::KINDS.get(field)) <= MAX_ARGUMENTS {
            let kind = A::KINDS.get(field);
            text.push(b' ');
            argument(&mut text, size(kind), used);
            if words(kind) == 2 {
                text.push(b' ');
                argument(&mut text, 8, used + 1);
            }
            used += words(kind);
            field += 1;
        }
        text.push(0);
        text
    };

    /// The texts, eight bytes to a word.
    pub(super) const TEXT_WORDS: [u64; WORDS] = Self::TEXT.words;

    /// Length of the texts in bytes, with their NULs.
    pub(super) const LEN: usize = Self::TEXT.len;

    /// How many words the text fills.
    pub(super) const FULL_WORDS: usize = Self::LEN.div_ceil(4) / 2;

    /// Whether half a word is left: a note ends at a multiple of four bytes.
    pub(super) const HALF: usize = Self::LEN.div_ceil(4) % 2;

    /// The half word.
    pub(super) const LAST: u64 = Self::TEXT.words[Self::FULL_WORDS] & 0xffff_ffff;

    /// The kinds of the fields, eight to a word, for the probe's second note.
    pub(super) const KIND_WORDS: [u64; 2] = [A::KINDS.word(0), A::KINDS.word(8)];
}

/// The place of the argument with this index: all are in memory, side by side, and one register has the address.
const fn argument(text: &mut Text, size: i8, index: usize) {
    if size < 0 {
        text.push(b'-');
    }
    text.push(b'0' + size.unsigned_abs());
    text.text(if cfg!(target_arch = "aarch64") { "@[x0, " } else { "@" });
    text.number(index * 8);
    text.text(if cfg!(target_arch = "x86_64") {
        "(%rax)"
    } else if cfg!(target_arch = "aarch64") {
        "]"
    } else {
        "(a0)"
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{And, Entry, Exit, NoArguments};

    struct Order;
    impl Site for Order {
        const MODULE: &'static str = "shop::routes";
        const NAME: Option<&'static str> = Some("GET /orders/{id} \u{e4}\"");
        const LEVEL: Level = Level::INFO;
        const LINE: u32 = 41;
        const PLACE: u64 = 0;
    }

    struct Unnamed;
    impl Site for Unnamed {
        const MODULE: &'static str = "shop";
        const NAME: Option<&'static str> = None;
        const LEVEL: Level = Level::DEBUG;
        const LINE: u32 = 1203;
        const PLACE: u64 = 0;
    }

    struct Long;
    impl Site for Long {
        const MODULE: &'static str = concat!(
            "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm",
            "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"
        );
        const NAME: Option<&'static str> = Some(concat!(
            "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
            "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
        ));
        const LEVEL: Level = Level::INFO;
        const LINE: u32 = 1;
        const PLACE: u64 = 0;
    }

    fn texts<S: Site, P: Step, A: Arguments>() -> Vec<String> {
        let words = Note::<S, P, A>::TEXT_WORDS;
        let bytes: Vec<u8> =
            words.iter().flat_map(|word| word.to_le_bytes()).take(Note::<S, P, A>::LEN).collect();
        let text = String::from_utf8(bytes).expect("ASCII");
        text.strip_suffix('\0').expect("a NUL at the end").split('\0').map(str::to_owned).collect()
    }

    #[test]
    fn names_have_only_characters_that_probes_can_have() {
        assert_eq!(
            texts::<Order, Exit, NoArguments>()[..2],
            ["shop__routes", "GET__orders__id____"].map(str::to_owned).map(|n| if n.starts_with("GET") {
                n + "__exit"
            } else {
                n
            })
        );
        assert_eq!(texts::<Unnamed, Entry, NoArguments>()[..2], ["shop".to_owned(), "debug_1203".to_owned()]);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn arguments_have_the_size_and_sign_of_their_types() {
        type Fields = And<And<And<And<NoArguments, i32>, &'static str>, bool>, u64>;
        assert_eq!(
            texts::<Unnamed, Entry, Fields>()[2],
            "8@0(%rax) -4@8(%rax) 8@16(%rax) 8@24(%rax) 1@32(%rax) 8@40(%rax)"
        );
    }

    #[test]
    fn the_longest_note_has_room() {
        type Two<T> = And<And<T, i16>, i16>;
        type Ten = Two<Two<Two<Two<Two<NoArguments>>>>>;
        let texts = texts::<Long, Exit, Ten>();
        assert_eq!((texts[0].len(), texts[1].len()), (MAX_PROVIDER, MAX_NAME + "__exit".len()));
        assert_eq!(texts[2].matches('@').count(), MAX_ARGUMENTS);
    }
}
