//! The names that a query knows: what a span tells by itself, apart from its attributes.

use Intrinsic as I;

/// Something that every query can ask of a span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Intrinsic {
    Duration,
    Busy,
    Name,
    Service,
    Kind,
    Status,
    Error,
    Root,
    TraceId,
    SpanId,
    ParentId,
    Level,
    Target,
    /// The time in a state of the account, by its place in `span::account::KEYS`.
    Kernel(usize),
}

/// What a name is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Values {
    Duration,
    Text,
    Bool,
    /// An id with so many hex digits.
    Id(usize),
    /// One of these words. If they are ordered, `<` and `>` compare them, too.
    Words {
        words: &'static [&'static str],
        ordered: bool,
    },
}

/// A name that queries know, for help texts, documents and completions.
#[derive(Debug)]
pub struct Name {
    name: &'static str,
    pub(super) intrinsic: Intrinsic,
    pub(super) values: Values,
    meaning: &'static str,
}

impl Name {
    /// The name, as a query has it.
    pub fn as_str(&self) -> &'static str {
        self.name
    }

    /// What the name stands for, in one line.
    pub fn meaning(&self) -> &'static str {
        self.meaning
    }

    /// What the name is compared with: `text in quotes`, or the words to choose from.
    pub fn values(&self) -> String {
        match self.values {
            Values::Duration => "a duration, such as 100ms".to_owned(),
            Values::Text => "text in quotes".to_owned(),
            Values::Bool => "true or false".to_owned(),
            Values::Id(digits) => format!("{digits} hex digits in quotes"),
            Values::Words { words, .. } => one_of(words),
        }
    }

    /// The words to choose from; none if the name takes other values.
    pub fn words(&self) -> &'static [&'static str] {
        match self.values {
            Values::Words { words, .. } => words,
            Values::Bool => &["true", "false"],
            _ => &[],
        }
    }
}

/// `one, two or three`.
fn one_of(words: &[&str]) -> String {
    match words {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => words.concat(),
    }
}

/// In the order of OTLP's numbers.
const KIND: Values = Values::Words {
    words: &["unspecified", "internal", "server", "client", "producer", "consumer"],
    ordered: false,
};
const STATUS: Values = Values::Words { words: &["unset", "ok", "error"], ordered: false };
const LEVEL: Values = Values::Words { words: LEVELS, ordered: true };

/// The levels of `tracing`, from the least to the most severe.
pub(super) const LEVELS: &[&str] = &["trace", "debug", "info", "warn", "error"];

const fn name(name: &'static str, intrinsic: I, values: Values, meaning: &'static str) -> Name {
    Name { name, intrinsic, values, meaning }
}

const fn kernel(of: &'static str, place: usize, meaning: &'static str) -> Name {
    name(of, I::Kernel(place), Values::Duration, meaning)
}

static NAMES: [Name; 24] = [
    name("duration", I::Duration, Values::Duration, "from the start of the span to its end"),
    name("busy", I::Busy, Values::Duration, "for how long a thread was inside the span"),
    name("name", I::Name, Values::Text, "the name of the span"),
    name("service", I::Service, Values::Text, "the service that sent the span"),
    name("kind", I::Kind, KIND, "the span's role in a call between services"),
    name("status", I::Status, STATUS, "the outcome of the span"),
    name("error", I::Error, Values::Bool, "the status is an error"),
    name("root", I::Root, Values::Bool, "the span has no parent"),
    name("trace_id", I::TraceId, Values::Id(32), "the id of the trace"),
    name("span_id", I::SpanId, Values::Id(16), "the id of the span"),
    name("parent_id", I::ParentId, Values::Id(16), "the id of the parent; missing in a root"),
    name("level", I::Level, LEVEL, "the level in the program; error is the highest"),
    name("target", I::Target, Values::Text, "the module in the program"),
    kernel("kernel.on_cpu", 0, "the thread ran"),
    kernel("kernel.run_queue", 1, "the thread was ready and waited for a CPU"),
    kernel("kernel.preempted", 2, "the thread lost the CPU to another thread"),
    kernel("kernel.throttled", 3, "the thread had used up its CPU quota"),
    kernel("kernel.sleep", 4, "the thread waited for a timer, a pipe, another program or the like"),
    kernel("kernel.network", 5, "the thread waited for a socket"),
    kernel("kernel.lock", 6, "the thread slept in futex(): a mutex, a channel, a parked thread or the like"),
    kernel("kernel.disk", 7, "the thread waited for block I/O"),
    kernel("kernel.blocked", 8, "the thread waited and could not be interrupted, but not for block I/O"),
    kernel("kernel.stopped", 9, "the thread was stopped by a signal or a debugger"),
    kernel(
        "kernel.unseen",
        10,
        "the kernel did not report what the thread did, or its memory could not be read",
    ),
];

/// All names that queries know, apart from the keys of attributes.
pub fn names() -> &'static [Name] {
    &NAMES
}

/// What other tools call some of the names, and what nobody would guess.
const ALIASES: [(&str, &str); 10] = [
    ("trace", "trace_id"),
    ("traceid", "trace_id"),
    ("trace.id", "trace_id"),
    ("span", "span_id"),
    ("spanid", "span_id"),
    ("parent", "parent_id"),
    ("parentid", "parent_id"),
    ("parent.id", "parent_id"),
    ("latency", "duration"),
    ("kernel.cpu", "kernel.on_cpu"),
];

/// The shortest name that is suggested for a word that differs in letters. One letter makes many words of a shorter one:
/// `root` and `route`.
const MIN_LETTERS: usize = 6;

/// The name with exactly this text.
pub(super) fn find(word: &str) -> Option<&'static Name> {
    NAMES.iter().find(|name| name.name == word)
}

/// The name that was probably meant, for a word that is none.
pub(super) fn similar(word: &str) -> Option<&'static Name> {
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(word));
    let other_case = NAMES.iter().find(|name| name.name.eq_ignore_ascii_case(word));
    let distance = |name: &Name| strsim::osa_distance(name.name, word);
    let is_close = |name: &&Name| name.name.len() >= MIN_LETTERS && distance(name) == 1;
    alias.and_then(|(_, name)| find(name)).or(other_case).or_else(|| NAMES.iter().find(is_close))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::account::KEYS;

    #[test]
    fn each_part_of_the_account_has_its_name() {
        let of_the_kernel = NAMES.iter().filter_map(|name| match name.intrinsic {
            I::Kernel(place) => Some((place, format!("{}_ns", name.name))),
            _ => None,
        });
        let expected = KEYS.into_iter().map(str::to_owned).enumerate();
        assert_eq!(of_the_kernel.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        let found = |word| similar(word).map(Name::as_str);
        for (word, expected) in [
            ("duraton", "duration"),
            ("Duration", "duration"),
            ("serivce", "service"),
            ("kernel.dsk", "kernel.disk"),
            ("kernel.cpu", "kernel.on_cpu"),
            ("traceId", "trace_id"),
            ("ERROR", "error"),
        ] {
            assert_eq!(found(word), Some(expected), "{word}");
        }
    }

    #[test]
    fn keys_of_attributes_are_not_taken_for_misspelt_names() {
        let keys =
            ["route", "names", "errors", "kinds", "http.route", "service.name", "kernel.waker", "db.name"];
        for key in keys.into_iter().chain(KEYS) {
            assert!(similar(key).is_none(), "{key}");
        }
    }

    #[test]
    fn aliases_lead_to_names() {
        assert!(ALIASES.iter().all(|(_, name)| find(name).is_some()));
        assert!(ALIASES.iter().all(|(alias, _)| find(alias).is_none()));
    }
}
