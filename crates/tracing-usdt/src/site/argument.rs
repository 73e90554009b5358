//! How the value of a field travels as an argument of a probe.
//!
//! A value whose type is known when the program is compiled travels as itself: an integer, a boolean, or the address and
//! length of a text. Any other value is formatted, as a text that ends with a NUL. Which of the two it is, the compiler
//! finds out: [`ViaKnown`] has a method for the [`Value`] of a known type, [`ViaValue`] one of the same name for a
//! reference to it, and a method call tries the first one first.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::num::{NonZero, Wrapping};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing_core::Field;
use tracing_core::field::Visit;

use crate::bounds::floor_char_boundary;

/// The most arguments that a probe has. bpftrace reads no more: its last is `arg9`.
pub(super) const MAX_ARGUMENTS: usize = 10;

/// Longest formatted text in bytes, without its NUL. A longer one ends with `...`.
const MAX_TEXT_BYTES: usize = 1023;

/// What kind of value an argument is: a size in bytes, or one of these, with a bit for the sign.
const SIGNED: u8 = 0x80;
const BOOL: u8 = b'b';
const STR: u8 = b's';
const C_STRING: u8 = b'c';

/// How many arguments a field of this kind takes.
pub(super) const fn words(kind: u8) -> usize {
    if kind == STR { 2 } else { 1 }
}

/// The size of an argument as a note gives it: negative if the value has a sign.
pub(super) const fn size(kind: u8) -> i8 {
    match kind {
        BOOL => 1,
        STR | C_STRING => 8,
        kind if kind & SIGNED != 0 => -((kind & !SIGNED) as i8),
        kind => kind as i8,
    }
}

/// A value that can be an argument of a probe.
pub trait Argument {
    #[doc(hidden)]
    const KIND: u8;

    /// The value as words, of which a text takes two.
    #[doc(hidden)]
    fn words(&self) -> [u64; 2];
}

/// A type whose values travel as themselves.
pub trait Known: Argument {}

macro_rules! integers {
    ($($type:ty)+) => {$(
        impl Argument for $type {
            #[allow(unused_comparisons)]
            const KIND: u8 = size_of::<$type>() as u8 | if <$type>::MIN < 0 { SIGNED } else { 0 };

            #[inline(always)]
            fn words(&self) -> [u64; 2] {
                [*self as u64, 0]
            }
        }
        impl Known for $type {}

        impl Argument for NonZero<$type> {
            const KIND: u8 = <$type>::KIND;

            #[inline(always)]
            fn words(&self) -> [u64; 2] {
                self.get().words()
            }
        }
        impl Known for NonZero<$type> {}
    )+};
}

integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

impl<T: Argument> Argument for Wrapping<T> {
    const KIND: u8 = T::KIND;

    #[inline(always)]
    fn words(&self) -> [u64; 2] {
        self.0.words()
    }
}
impl<T: Known> Known for Wrapping<T> {}

impl Argument for bool {
    const KIND: u8 = BOOL;

    #[inline(always)]
    fn words(&self) -> [u64; 2] {
        [u64::from(*self), 0]
    }
}
impl Known for bool {}

impl Argument for str {
    const KIND: u8 = STR;

    #[inline(always)]
    fn words(&self) -> [u64; 2] {
        [self.as_ptr() as u64, self.len() as u64]
    }
}
impl Known for str {}

impl Argument for String {
    const KIND: u8 = STR;

    #[inline(always)]
    fn words(&self) -> [u64; 2] {
        self.as_str().words()
    }
}
impl Known for String {}

macro_rules! pointers {
    ($($pointer:ty)+) => {$(
        impl<T: Argument + ?Sized> Argument for $pointer {
            const KIND: u8 = T::KIND;

            #[inline(always)]
            fn words(&self) -> [u64; 2] {
                (**self).words()
            }
        }
        impl<T: Known + ?Sized> Known for $pointer {}
    )+};
}

pointers!(&T &mut T Box<T>);

/// A value that was formatted.
#[derive(Debug)]
pub struct Formatted(Vec<u8>);

impl Argument for Formatted {
    const KIND: u8 = C_STRING;

    #[inline(always)]
    fn words(&self) -> [u64; 2] {
        [self.0.as_ptr() as u64, 0]
    }
}

/// The value of a field.
#[derive(Debug)]
pub struct Value<'a, T: ?Sized>(pub &'a T);

/// Makes an argument of a value whose type is known.
pub trait ViaKnown<'a> {
    #[doc(hidden)]
    type Argument: Argument;

    #[doc(hidden)]
    fn argument(&self) -> Self::Argument;
}

impl<'a, T: Known + ?Sized> ViaKnown<'a> for Value<'a, T> {
    type Argument = &'a T;

    #[inline(always)]
    fn argument(&self) -> &'a T {
        self.0
    }
}

/// Makes an argument of any value that a field can have.
pub trait ViaValue {
    #[doc(hidden)]
    fn argument(&self) -> Formatted;
}

impl<T: tracing_core::field::Value + ?Sized> ViaValue for &Value<'_, T> {
    #[cold]
    #[inline(never)]
    fn argument(&self) -> Formatted {
        let mut text = Shortened(String::new());
        // A program must not fail because someone looks.
        let formatted = catch_unwind(AssertUnwindSafe(|| self.0.record(&any_field(), &mut text)));
        if formatted.is_err() {
            text.0 = "(panicked while it was formatted)".to_owned();
        }
        let mut bytes = text.0.into_bytes();
        bytes.push(0);
        Formatted(bytes)
    }
}

/// A value is only recorded together with a field. It does not matter here which one that is.
fn any_field() -> Field {
    static CALLSITE: tracing_core::callsite::DefaultCallsite =
        tracing_core::callsite::DefaultCallsite::new(&METADATA);
    static METADATA: tracing_core::Metadata<'static> = tracing_core::metadata! {
        name: "argument",
        target: module_path!(),
        level: tracing_core::Level::TRACE,
        fields: &["value"],
        callsite: &CALLSITE,
        kind: tracing_core::metadata::Kind::EVENT
    };
    METADATA.fields().iter().next().unwrap_or_else(|| unreachable!("it has a field"))
}

/// A text of limited length.
struct Shortened(String);

impl Write for Shortened {
    /// Fails when the text is full, so that a long value is not formatted to its end.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // A NUL would end the text for whoever reads it.
        let text = &*if text.contains('\0') {
            Cow::Owned(text.replace('\0', "\u{fffd}"))
        } else {
            Cow::Borrowed(text)
        };
        let room = MAX_TEXT_BYTES - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..floor_char_boundary(text, room)]);
        self.0.truncate(floor_char_boundary(&self.0, MAX_TEXT_BYTES - 3));
        self.0.push_str("...");
        Err(fmt::Error)
    }
}

impl Visit for Shortened {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self, "{value:?}");
    }

    fn record_str(&mut self, _: &Field, value: &str) {
        let _ = self.write_str(value);
    }

    fn record_error(&mut self, _: &Field, value: &(dyn std::error::Error + 'static)) {
        let _ = write!(self, "{value}");
    }
}

/// The kinds of the first fields of a callsite. There are no more than can be arguments.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    kinds: [u8; MAX_ARGUMENTS],
    len: usize,
}

impl Kinds {
    const fn and(mut self, kind: u8) -> Self {
        if self.len < MAX_ARGUMENTS {
            self.kinds[self.len] = kind;
            self.len += 1;
        }
        self
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn get(&self, field: usize) -> u8 {
        self.kinds[field]
    }

    /// Eight kinds from `first` on, as a number.
    pub(super) const fn word(&self, first: usize) -> u64 {
        let mut bytes = [0; 8];
        let mut at = 0;
        while at < 8 && first + at < MAX_ARGUMENTS {
            bytes[at] = self.kinds[first + at];
            at += 1;
        }
        u64::from_le_bytes(bytes)
    }
}

/// The values of the fields of a callsite, in their order.
pub trait Arguments: Sized {
    #[doc(hidden)]
    const KINDS: Kinds;

    /// Writes the values behind the span's id, as far as there is room. Returns how many words are in use, or more than
    /// there are if a value had no room: those behind it have none either.
    #[doc(hidden)]
    fn write(&self, words: &mut [u64; MAX_ARGUMENTS]) -> usize;

    /// These values and one more.
    #[doc(hidden)]
    #[inline(always)]
    fn and<A: Argument>(self, argument: A) -> And<Self, A> {
        And(self, argument)
    }
}

/// No values.
#[derive(Debug)]
pub struct NoArguments;

impl Arguments for NoArguments {
    const KINDS: Kinds = Kinds { kinds: [0; MAX_ARGUMENTS], len: 0 };

    #[inline(always)]
    fn write(&self, _: &mut [u64; MAX_ARGUMENTS]) -> usize {
        1
    }
}

/// Values, and one more.
#[derive(Debug)]
pub struct And<F, A>(F, A);

impl<F: Arguments, A: Argument> Arguments for And<F, A> {
    const KINDS: Kinds = F::KINDS.and(A::KIND);

    #[inline(always)]
    fn write(&self, out: &mut [u64; MAX_ARGUMENTS]) -> usize {
        let used = self.0.write(out);
        let end = used + words(A::KIND);
        if end <= MAX_ARGUMENTS {
            out[used..end].copy_from_slice(&self.1.words()[..words(A::KIND)]);
            end
        } else {
            MAX_ARGUMENTS + 1
        }
    }
}

#[cfg(test)]
#[allow(clippy::needless_borrow)] // as the macros write it: it is what chooses the trait
mod tests {
    use super::*;
    use tracing_core::field::{debug, display};

    /// The text of a formatted argument.
    fn text(argument: &Formatted) -> &str {
        std::ffi::CStr::from_bytes_with_nul(&argument.0).expect("one NUL").to_str().expect("UTF-8")
    }

    #[test]
    fn values_of_known_types_travel_as_themselves() {
        assert_eq!((&Value(&-5_i16)).argument().words(), [(-5_i64) as u64, 0]);
        assert_eq!((&Value(&&true)).argument().words(), [1, 0]);
        let name = String::from("anna");
        assert_eq!((&Value(&name)).argument().words(), [name.as_ptr() as u64, 4]);
        assert_eq!((&Value(&*name)).argument().words(), [name.as_ptr() as u64, 4]);
    }

    #[test]
    fn other_values_are_formatted() {
        assert_eq!(text(&(&Value(&1.5_f64)).argument()), "1.5");
        assert_eq!(text(&(&Value(&debug("a\0b"))).argument()), "\"a\\0b\"");
        assert_eq!(text(&(&Value(&display("a\0b"))).argument()), "a\u{fffd}b");
        assert_eq!(text(&(&Value(&Some(7))).argument()), "7");
        assert_eq!(text(&(&Value(&None::<u8>)).argument()), "");
        assert_eq!(text(&(&Value(&tracing_core::field::Empty)).argument()), "");
        assert_eq!(text(&(&Value(&(1_u128 << 100))).argument()), (1_u128 << 100).to_string());
        assert_eq!(text(&(&Value(&format_args!("{}-{}", 1, 2))).argument()), "1-2");
    }

    #[test]
    fn a_type_that_is_only_known_to_be_a_value_is_formatted() {
        fn argument<T: tracing_core::field::Value>(value: &T) -> Formatted {
            (&Value(value)).argument()
        }
        assert_eq!(text(&argument(&12)), "12");
    }

    #[test]
    fn a_long_text_is_shortened_at_a_character_and_not_formatted_to_its_end() {
        struct Endless;
        impl fmt::Debug for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("\u{20ac}")?;
                }
            }
        }
        let argument = (&Value(&debug(Endless))).argument();
        let text = text(&argument);
        assert!(text.ends_with("\u{20ac}...") && text.len() <= MAX_TEXT_BYTES, "{text}");
    }

    #[test]
    fn a_value_that_panics_has_a_text_that_says_so() {
        struct Broken;
        impl fmt::Debug for Broken {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                std::panic::resume_unwind(Box::new(()))
            }
        }
        assert_eq!(text(&(&Value(&debug(Broken))).argument()), "(panicked while it was formatted)");
    }

    #[test]
    fn values_that_have_no_room_are_left_out_with_all_behind_them() {
        let fields = NoArguments
            .and(1_u64)
            .and(2_u64)
            .and(3_u64)
            .and(4_u64)
            .and(5_u64)
            .and(6_u64)
            .and(7_u64)
            .and(8_u64);
        let mut words = [0; MAX_ARGUMENTS];
        // One word is left, and the text takes two.
        assert!(fields.and("text").and(9_u64).write(&mut words) > MAX_ARGUMENTS);
        assert_eq!(words, [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
    }
}
