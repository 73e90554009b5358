//! The probes of a callsite: where a macro of [`crate::tracing`] stands, there is a USDT probe with the values of its
//! fields.
//!
//! All of it is known when the program is compiled: `note` writes the names of the probes and the places of their
//! arguments, `description` the names of the fields, `semaphore` counts the consumers, `argument` says how a value
//! travels, and `hit` is the instruction of a probe, of which a span has two (`step`).
//!
//! The functions are generic in the callsite and inlined into the code that has the macro, so that the probe is where
//! the user's code is. Where that code is inlined or generic itself, the probe has several locations.

// On platforms without probes, nobody asks for notes and counters.
#![cfg_attr(
    not(all(
        any(target_os = "linux", target_os = "android"),
        any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
        target_pointer_width = "64",
        not(miri),
    )),
    allow(dead_code, unused_macros)
)]

mod argument;
mod description;
mod hit;
mod note;
mod semaphore;
mod step;

use tracing_core::Level;

pub use argument::{
    And, Argument, Arguments, Formatted, Kinds, Known, NoArguments, Value, ViaKnown, ViaValue,
};
pub use description::{Description, Kind, as_text, field_name, field_name_len, place, text_len};
pub(crate) use hit::words;
pub use hit::{Words, exit, hit};
pub use semaphore::{Consumers, consumers};
pub use step::{Entry, Exit, Step};

/// A place in the source that has a macro of [`crate::tracing`]. The macro defines a type for it.
pub trait Site: 'static {
    /// The path of the module, which gives the probes their provider.
    const MODULE: &'static str;
    /// The name of the span or event, if the source has one.
    const NAME: Option<&'static str>;
    /// What follows the name, for the events of `#[instrument]`.
    const SUFFIX: &'static str = "";
    /// The level of the span or event.
    const LEVEL: Level;
    /// The line in the source.
    const LINE: u32;
    /// A number that stands for this callsite alone, see [`place`].
    const PLACE: u64;
}
