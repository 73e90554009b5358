//! What can be wrong with what comes.

use std::fmt;

/// Why a span, or a whole datagram, was refused; or what is odd about one that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// A datagram of no bytes.
    Empty,
    /// Neither UTF-8 nor nearly so.
    NotUtf8,
    /// It ends in the middle.
    CutShort,
    /// Not JSON.
    NotJson,
    /// JSON, but neither an array of Zipkin spans nor an OTLP request.
    UnknownFormat,
    /// No span, or one without its ids.
    WrongType,
    /// An id that is not hex digits, or too many.
    BadId,
    /// An id of zeros only.
    ZeroId,
    /// Taken without a member, an attribute, an event or a link that can't be read.
    LeftOut,
    /// Taken without its parent or a link, an id of which is missing or can't be read.
    BadReference,
    /// Taken without a value that is nested too deep.
    TooDeep,
    /// Taken: a member that is there twice. Of lists both are taken, of all else the last.
    Duplicate,
    /// Taken: half of a character, or bytes that are not UTF-8, which are read as U+FFFD.
    BadText,
    /// Taken: a span without its start or end.
    NoTime,
    /// Taken: an end before the start, or a time beyond the year 2554.
    BadTime,
    /// Taken: an id with upper-case digits, which are read as lower-case.
    UpperCaseId,
    /// Taken: a time before the year 2000 or more than a day ahead.
    OddTime,
    /// Taken: a value of more than 64 KiB.
    LongValue,
    /// Taken, but without some attributes of its resource, which has more than 16 KiB.
    LongResource,
}

impl Fault {
    /// All there are, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::Empty,
        Self::NotUtf8,
        Self::CutShort,
        Self::NotJson,
        Self::UnknownFormat,
        Self::WrongType,
        Self::BadId,
        Self::ZeroId,
        Self::LeftOut,
        Self::BadReference,
        Self::TooDeep,
        Self::Duplicate,
        Self::BadText,
        Self::NoTime,
        Self::BadTime,
        Self::UpperCaseId,
        Self::OddTime,
        Self::LongValue,
        Self::LongResource,
    ];

    /// Whether the span, or the datagram, was refused.
    pub fn refuses(self) -> bool {
        self < Self::LeftOut
    }

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotUtf8 => "not_utf8",
            Self::CutShort => "cut_short",
            Self::NotJson => "not_json",
            Self::UnknownFormat => "unknown_format",
            Self::WrongType => "wrong_type",
            Self::BadId => "bad_id",
            Self::ZeroId => "zero_id",
            Self::LeftOut => "left_out",
            Self::BadReference => "bad_reference",
            Self::TooDeep => "too_deep",
            Self::Duplicate => "duplicate",
            Self::BadText => "bad_text",
            Self::NoTime => "no_time",
            Self::BadTime => "bad_time",
            Self::UpperCaseId => "upper_case_id",
            Self::OddTime => "odd_time",
            Self::LongValue => "long_value",
            Self::LongResource => "long_resource",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty datagram",
            Self::NotUtf8 => "text that is not UTF-8",
            Self::CutShort => "JSON that ends in the middle",
            Self::NotJson => "text that is not JSON",
            Self::UnknownFormat => "JSON that is neither an array of Zipkin spans nor an OTLP request",
            Self::WrongType => "a member that is missing or of another type",
            Self::BadId => "an id that is not as many hex digits as it may have",
            Self::ZeroId => "an id of zeros only",
            Self::LeftOut => "an unreadable part of a span (left out)",
            Self::BadReference => "the id of a parent or a link that can't be read (left out)",
            Self::TooDeep => "a value that is nested too deep (left out)",
            Self::Duplicate => "a member that is there twice (the last one counts)",
            Self::BadText => {
                "text with half a character or with bytes that are not UTF-8 (U+FFFD stands there)"
            }
            Self::NoTime => "a span without its start or end",
            Self::BadTime => "an impossible time, such as an end before the start",
            Self::UpperCaseId => "an id with upper-case digits",
            Self::OddTime => "a time before the year 2000 or more than a day ahead",
            Self::LongValue => "a value of more than 64 KiB",
            Self::LongResource => "a resource of more than 16 KiB, cut to that",
        })
    }
}

/// A fault, with what exactly.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of what kind.
    pub fault: Fault,
    /// In a few words, which may hold what a stranger sent: not to be printed as they are.
    pub detail: String,
}

/// Characters of a detail: a line or two.
const MAX_DETAIL: usize = 200;

impl Found {
    pub(super) fn new(fault: Fault, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL) {
            detail.truncate(end);
            detail.push('…');
        }
        Self { fault, detail }
    }

    /// The same, which says in which member it is.
    pub(super) fn of(self, member: &str) -> Self {
        Self::new(self.fault, format!("{member}: {}", self.detail))
    }
}

impl From<serde_json::Error> for Found {
    fn from(error: serde_json::Error) -> Self {
        let detail = error.to_string();
        // Its position is counted from the value that was read last.
        let detail = detail.split_once(" at line ").map_or(&*detail, |(detail, _)| detail);
        Self::new(if error.is_eof() { Fault::CutShort } else { Fault::NotJson }, detail)
    }
}
