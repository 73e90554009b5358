//! Names and targets as C strings, made once for each callsite.
//!
//! Consumers read `char *`, `tracing` has `&'static str` without a NUL. The copies live as long as the
//! program, as its callsites do. Being written once also puts them into memory, so that an eBPF
//! program that may not take a page fault can read them at once.

use std::ffi::{CStr, CString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use tracing_core::callsite::Identifier;
use tracing_core::{Level, Metadata};

pub(crate) struct CallsiteText {
    pub(crate) name: CString,
    pub(crate) target: CString,
}

/// A hash table whose lists only grow, so that to look into it takes no lock. Only the first look at
/// a callsite waits for another thread that is just having the same first look.
static TEXTS: [Slot; 256] = [const { Slot::new() }; 256];

type Slot = OnceLock<Box<Entry>>;

struct Entry {
    callsite: Identifier,
    text: CallsiteText,
    next: Slot,
}

/// The callsite's strings.
pub(crate) fn text(metadata: &Metadata<'_>) -> &'static CallsiteText {
    let callsite = metadata.callsite();
    let mut hasher = DefaultHasher::new();
    callsite.hash(&mut hasher);
    let mut slot = &TEXTS[hasher.finish() as usize % TEXTS.len()];
    loop {
        let entry = slot.get_or_init(|| {
            let text = CallsiteText { name: c_string(metadata.name()), target: c_string(metadata.target()) };
            Box::new(Entry { callsite: metadata.callsite(), text, next: Slot::new() })
        });
        if entry.callsite == callsite {
            return &entry.text;
        }
        slot = &entry.next;
    }
}

/// A copy with a NUL at its end; one inside would end it too early and becomes U+FFFD.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| {
        CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_else(|_| CStr::to_owned(c""))
    })
}

/// 1 ERROR to 5 TRACE, as the probes carry it.
pub(crate) fn level_number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::tests::metadata;

    #[test]
    fn a_callsite_has_one_text() {
        let first = text(metadata());
        let again = std::thread::spawn(|| text(metadata())).join().expect("no panic");
        assert!(std::ptr::eq(first, again));
        assert_eq!((&*first.name, &*first.target), (c"work", c"tracing_usdt::span::tests"));
    }

    #[test]
    fn a_nul_inside_does_not_end_the_string() {
        assert_eq!(c_string("a\0b").as_c_str(), c"a\u{fffd}b");
    }
}
