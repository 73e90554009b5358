//! The faults that a datagram can have.

use std::fmt;

/// Why a span or a whole datagram was refused, or what is odd about a span that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// Refused: an empty datagram.
    Empty,
    /// Refused: text that is not UTF-8 and not JSON either.
    NotUtf8,
    /// Refused: JSON or protobuf that ends in the middle.
    CutShort,
    /// Refused: text that is not JSON.
    NotJson,
    /// Refused: protobuf that can't be read.
    BadProtobuf,
    /// Refused: JSON that is neither an array of Zipkin spans nor an OTLP request.
    UnknownFormat,
    /// Refused: a value that is not a span, or a span without its ids.
    WrongType,
    /// Refused: an id that is not hex digits, or has too many of them.
    BadId,
    /// Refused: an id of zeros only.
    ZeroId,
    /// Refused: spans that would take too much memory when they are decoded.
    TooMuch,
    /// Accepted without a member, an attribute, an event or a link that can't be read.
    LeftOut,
    /// Accepted without its parent or a link, because an id is missing or can't be read.
    BadReference,
    /// Accepted without a value that is nested too deeply.
    TooDeep,
    /// Accepted: a member that occurs twice. Lists are joined; of other values the last one counts.
    Duplicate,
    /// Accepted: half of a surrogate pair, or bytes that are not UTF-8. They are read as U+FFFD.
    BadText,
    /// Accepted: a span without its start or end.
    NoTime,
    /// Accepted: an end before the start, or a time beyond the year 2554.
    BadTime,
    /// Accepted: an id with upper-case digits, which are read as lower-case.
    UpperCaseId,
    /// Accepted: a time before the year 2000 or more than a day ahead.
    OddTime,
    /// Accepted: a value of more than 64 KiB.
    LongValue,
    /// Accepted without some attributes of its resource, which has more than 16 KiB.
    LongResource,
}

impl Fault {
    /// All faults, in the order of their discriminants.
    pub const ALL: [Self; 21] = [
        Self::Empty,
        Self::NotUtf8,
        Self::CutShort,
        Self::NotJson,
        Self::BadProtobuf,
        Self::UnknownFormat,
        Self::WrongType,
        Self::BadId,
        Self::ZeroId,
        Self::TooMuch,
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

    /// Whether the span or the datagram was refused.
    pub fn refuses(self) -> bool {
        self < Self::LeftOut
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotUtf8 => "not_utf8",
            Self::CutShort => "cut_short",
            Self::NotJson => "not_json",
            Self::BadProtobuf => "bad_protobuf",
            Self::UnknownFormat => "unknown_format",
            Self::WrongType => "wrong_type",
            Self::BadId => "bad_id",
            Self::ZeroId => "zero_id",
            Self::TooMuch => "too_much",
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
            Self::CutShort => "JSON or protobuf that ends in the middle",
            Self::NotJson => "text that is not JSON",
            Self::BadProtobuf => "protobuf that can't be read",
            Self::UnknownFormat => "JSON that is neither an array of Zipkin spans nor an OTLP request",
            Self::WrongType => "a member that is missing or of another type",
            Self::BadId => "an id of another length, or not hexadecimal",
            Self::ZeroId => "an id of zeros only",
            Self::TooMuch => "more than fits into memory when it is decoded",
            Self::LeftOut => "an unreadable part of a span (left out)",
            Self::BadReference => "the id of a parent or a link that can't be read (left out)",
            Self::TooDeep => "a value that is nested too deeply (left out)",
            Self::Duplicate => "a member that occurs twice (the last one counts)",
            Self::BadText => {
                "text with half a surrogate pair or bytes that are not UTF-8 (replaced by U+FFFD)"
            }
            Self::NoTime => "a span without its start or end",
            Self::BadTime => "an impossible time, such as an end before the start",
            Self::UpperCaseId => "an id with upper-case digits",
            Self::OddTime => "a time before the year 2000 or more than a day ahead",
            Self::LongValue => "a value of more than 64 KiB",
            Self::LongResource => "a resource of more than 16 KiB (some attributes left out)",
        })
    }
}

/// A fault that was found, with details.
#[derive(Clone, Debug)]
pub struct Found {
    /// The kind of fault.
    pub fault: Fault,
    /// What exactly was found. It may quote untrusted text, so escape it before printing.
    pub detail: String,
}

/// The most characters of a detail: one or two lines.
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

    /// A value other than the `expected` one.
    #[cold]
    pub(super) fn misplaced(text: &str, expected: &str) -> Self {
        let shown: String = text.chars().take(40).collect();
        Self::new(Fault::WrongType, format!("{shown:?} where {expected} belongs"))
    }

    /// The same fault, with the name of the member in front of the detail.
    pub(super) fn of(self, member: &str) -> Self {
        Self::new(self.fault, format!("{member}: {}", self.detail))
    }
}

impl From<serde_json::Error> for Found {
    fn from(error: serde_json::Error) -> Self {
        let detail = error.to_string();
        // serde_json's position starts at the value that it was given, not at the datagram, so it would mislead.
        let detail = detail.split_once(" at line ").map_or(&*detail, |(detail, _)| detail);
        Self::new(if error.is_eof() { Fault::CutShort } else { Fault::NotJson }, detail)
    }
}
