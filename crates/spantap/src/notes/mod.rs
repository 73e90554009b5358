//! The probes of an executable or library, as its ELF notes describe them.
//!
//! `elf` reads the notes. `contract` knows the arguments of the layer's own probes, which the notes don't name, and
//! `callsite` the notes by which a callsite's probe names its fields. `pattern` chooses probes by their names, and
//! `consumers` counts who is attached in a running process.

mod callsite;
mod consumers;
mod contract;
mod elf;
mod pattern;

pub use consumers::{Attached, attached};
pub use contract::{CONTRACT, PROVIDER};
pub use elf::{Unreadable, probes};
pub use pattern::Pattern;

/// A probe at one place of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// For a callsite, the path of its module.
    pub provider: String,
    /// The name of the span or event.
    pub name: String,
    /// Where its instruction is in the file.
    pub offset: u64,
    /// Where the counter of its consumers is in the file. Callsites of the same name share it.
    pub semaphore: u64,
    /// What it tells, in order.
    pub arguments: Vec<Argument>,
    /// The place in the source; not for the layer's own probes.
    pub source: Option<Source>,
}

/// What a probe tells: a value in one argument, or in two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Argument {
    /// The name of the field, or what the argument is.
    pub name: String,
    /// How to read it.
    pub kind: Kind,
}

/// How to read a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An id.
    Id,
    /// An integer of so many bytes.
    Integer {
        /// From one to eight.
        bytes: u8,
        /// Whether it may be negative.
        is_signed: bool,
    },
    /// A boolean.
    Bool,
    /// A text: its address, and in the next argument its length.
    Text,
    /// A text that ends with a NUL: its address.
    CText,
    /// An address of something else.
    Address,
}

impl Kind {
    /// How many arguments it takes.
    pub fn words(self) -> usize {
        if self == Self::Text { 2 } else { 1 }
    }
}

/// Where a callsite is in the source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Whether it makes a span; otherwise an event.
    pub is_span: bool,
    /// Its level: error, warn, info, debug or trace.
    pub level: &'static str,
    /// Its target.
    pub target: String,
    /// The file.
    pub file: String,
    /// The line.
    pub line: u32,
    /// How many fields are no arguments, because there is no room for them.
    pub left_out: usize,
}

impl Probe {
    /// The provider and the name, as bpftrace takes them.
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.provider, self.name)
    }

    /// Whether it fires at the end of a span.
    pub fn is_exit(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.is_span) && self.name.ends_with(EXIT)
    }
}

/// What follows the name of a span in the name of the probe that fires at its end.
pub const EXIT: &str = "__exit";
