//! Names and targets as C strings, made once for each callsite.
//!
//! Consumers read `char *`, `tracing` has `&'static str` without a NUL. The copies are leaked on
//! purpose: there are as many as the program has callsites, and they live as long as it does. Being
//! written once also puts them into memory, so that an eBPF program that may not take a page fault
//! can read them at once.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{PoisonError, RwLock};

use tracing_core::callsite::Identifier;
use tracing_core::{Level, Metadata};

pub(crate) struct CallsiteText {
    pub(crate) name: CString,
    pub(crate) target: CString,
}

static TEXTS: RwLock<Option<HashMap<Identifier, &'static CallsiteText>>> = RwLock::new(None);

/// The callsite's strings.
pub(crate) fn text(metadata: &Metadata<'_>) -> &'static CallsiteText {
    let callsite = metadata.callsite();
    let known = TEXTS.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = known.as_ref().and_then(|texts| texts.get(&callsite)) {
        return text;
    }
    drop(known);
    let mut texts = TEXTS.write().unwrap_or_else(PoisonError::into_inner);
    texts.get_or_insert_default().entry(callsite).or_insert_with(|| {
        Box::leak(Box::new(CallsiteText {
            name: c_string(metadata.name()),
            target: c_string(metadata.target()),
        }))
    })
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
