//! What makes the flight recorder write.

use std::fmt;
use std::time::Duration;

use crate::text::{cut, readable};

/// How long a span that was chosen waits for the other spans of its trace. Most parents end soon after their children.
const OF_A_TRACE: Duration = Duration::from_secs(5);
/// How long what was sent before a signal is on its way: twice the time that a frame waits to be filled.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// The least time between two files that the user asks for, as long as the program runs.
pub(super) const SPACING: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// The user asked by SIGUSR1.
    Signal,
    /// A query chose a span.
    Span {
        /// The query.
        query: String,
        /// The name of the span.
        name: String,
        /// The service of the span.
        service: String,
        /// How long the span took, in nanoseconds.
        duration_ns: u64,
        /// Its trace.
        trace_id: u128,
    },
    /// The traced program died, in these words.
    Death(String),
}

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Signal,
    Span,
    Death,
}

impl Trigger {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Signal => Kind::Signal,
            Self::Span { .. } => Kind::Span,
            Self::Death(_) => Kind::Death,
        }
    }
}

impl Kind {
    /// How long to wait for spans that are still to come, if spans are kept for `kept`: with the spacing and another wait, it is
    /// shorter than that. Otherwise, the file would not have the span that was chosen.
    pub(super) fn wait(self, kept: Duration) -> Duration {
        match self {
            Self::Signal => ON_THE_WAY,
            Self::Span => OF_A_TRACE.min(kept / 4).max(ON_THE_WAY),
            Self::Death => Duration::ZERO,
        }
    }

    /// The least time since the last file, if spans are kept for `kept`. A query may choose spans all the time. Then each span is
    /// in two files.
    pub(super) fn spacing(self, kept: Duration) -> Duration {
        match self {
            Self::Signal | Self::Death => SPACING,
            Self::Span => (kept / 2).max(ON_THE_WAY),
        }
    }
}

/// As the reason of a file: "because ...".
impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("of SIGUSR1"),
            Self::Span { query, name, service, duration_ns, trace_id } => {
                let (name, took) = (cut(name, 40), readable(*duration_ns));
                let service = cut(service, 40);
                write!(f, "{name} of {service} took {took} in trace {trace_id:032x} (--on '{query}')")
            }
            Self::Death(how) => f.write_str(how),
        }
    }
}
