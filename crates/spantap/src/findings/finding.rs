//! What is found.

use std::sync::Arc;

use serde_json::{Map, Value};

/// The kinds of findings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One span makes many calls that differ only in a value.
    RepeatedCalls,
    /// Calls run one after the other that could run at the same time.
    SerialCalls,
    /// A span waits, and nothing says for what.
    Gap,
    /// A span holds a thread that other tasks need.
    HeldThread,
    /// Spans wait for a lock that other spans hold.
    Blocked,
    /// An error that did not occur before.
    NewError,
}

impl Kind {
    /// The kind in a word for scripts.
    pub fn id(self) -> &'static str {
        match self {
            Self::RepeatedCalls => "repeated_calls",
            Self::SerialCalls => "serial_calls",
            Self::Gap => "gap",
            Self::HeldThread => "held_thread",
            Self::Blocked => "blocked",
            Self::NewError => "new_error",
        }
    }

    /// The kind in words for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::RepeatedCalls => "N+1 calls",
            Self::SerialCalls => "serial calls",
            Self::Gap => "gap",
            Self::HeldThread => "held thread",
            Self::Blocked => "blocked",
            Self::NewError => "new error",
        }
    }
}

/// Something that is wrong, with its evidence. All texts may have text from senders in them.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// The service and the name of the spans that it is about.
    pub service: Arc<str>,
    /// See `service`.
    pub name: Arc<str>,
    /// What happens, as a sentence without its end.
    pub what: String,
    /// What proves it, as a sentence without its end.
    pub why: String,
    /// The time that it costs in all traces.
    pub cost_ns: u64,
    /// How often it was seen.
    pub times: u64,
    /// In how many traces.
    pub traces: u64,
    /// Traces that show it, the one in which it costs most first. At least one.
    pub trace_ids: Vec<u128>,
    /// The numbers of the two sentences, for scripts.
    pub details: Map<String, Value>,
}

/// All that was found.
#[derive(Clone, Default, Debug)]
pub struct Found {
    /// The findings that are shown, the most important first.
    pub findings: Vec<Finding>,
    /// How many others there are.
    pub more: usize,
    /// How many traces were looked at.
    pub traces: u64,
    /// The sum of their durations.
    pub total_ns: u64,
    /// What was not looked at, a line each.
    pub lacks: Vec<String>,
}

impl Found {
    /// So many of them, of which not more errors than that if there are others. Errors are first.
    pub(super) fn at_most(mut self, most: usize, most_errors: usize) -> Self {
        let all = self.findings.len();
        let errors = self.findings.iter().take_while(|finding| finding.kind == Kind::NewError).count();
        let kept_errors = errors.min(most_errors.max(most.saturating_sub(all - errors)));
        self.findings.drain(kept_errors..errors);
        self.findings.truncate(most);
        self.more += all - self.findings.len();
        self
    }
}
