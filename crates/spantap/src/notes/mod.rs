//! The probes of an executable or library, as its ELF notes describe them.
//!
//! `elf` reads the notes. `contract` knows the arguments of the layer's own probes, which the notes don't name, and
//! `callsite` the notes by which a callsite's probe names its fields. `pattern` chooses probes by their names, and
//! `consumers` finds out whether someone is attached in a running process.

mod callsite;
mod consumers;
mod contract;
mod elf;
mod pattern;

pub use consumers::{Counters, counters};
pub use contract::{CONTRACT, PROVIDER};
pub use elf::{Notes, Unreadable, read};
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
    /// The values that it passes, in order.
    pub arguments: Vec<Argument>,
    /// The place in the source; not for the layer's own probes.
    pub source: Option<Source>,
}

/// A value that a probe passes, in one argument or in two.
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
    /// Something that bpftrace can't read, such as a number in a floating-point register.
    Other,
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

    /// Whether it fires at the end of a span. The name does not tell: a span's own name may end like that.
    pub fn is_exit(&self) -> bool {
        self.source.is_some() && is_counter_of_exit(self.semaphore)
    }
}

/// Whether the counter at this place is that of the exits of a callsite. The counters of a callsite are side by side, two
/// bytes each, and that of the entry is at a multiple of four.
fn is_counter_of_exit(semaphore: u64) -> bool {
    semaphore % 4 == 2
}

/// What follows the name of a span in the name of the probe that fires at its end.
pub const EXIT: &str = "__exit";
