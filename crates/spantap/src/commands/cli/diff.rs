//! The options of `diff`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{Color, query, query_help, time};
use crate::diff::{Condition, ConditionError};
use crate::query::Query;

/// The options of `diff`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(in crate::commands) struct Diff {
    /// The file from before, and the one from after; with --at, any number of files that have both
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::commands) files: Vec<PathBuf>,
    /// One more file from before; may be repeated
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "at")]
    pub(in crate::commands) before: Vec<PathBuf>,
    /// One more file from after; may be repeated
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "at")]
    pub(in crate::commands) after: Vec<PathBuf>,
    /// Compare the traces that ended before this time with those that began later, such as '2026-11-30 10:00'
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::commands) at: Option<u64>,
    /// Only traces with a span that ended at this time or later, such as '2026-11-30 10:00', or 10min for ten minutes ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::commands) since: Option<u64>,
    /// Only traces with a span that began at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::commands) until: Option<u64>,
    /// Compare only spans that match this query, such as 'service == "shop" and not error'
    #[arg(long = "where", value_name = "QUERY", value_parser = query, long_help = where_help())]
    pub(in crate::commands) query: Option<Query>,
    /// Fail only for such a change, such as 'p95 > +10%'; may be repeated
    ///
    /// What can change: p50, p95, p99, mean and self, by a share (+10%) or a time (+5ms); calls, by a share or a number (+1);
    /// errors, by a share of what they were (+50%) or by percentage points (+1pp). For what gets less, write <: p50 < -10%. The words
    /// new, vanished and too-few are for names that only one side has, or that have too few spans to be compared. Only a
    /// change that is no chance counts, whatever the limit; a small one that is no chance counts too, although it is not shown.
    #[arg(long, value_name = "CONDITION", value_parser = condition)]
    pub(in crate::commands) fail_on: Vec<Condition>,
    /// Print a JSON object; the page "Traces as JSON" of the documentation describes it
    #[arg(long)]
    pub(in crate::commands) json: bool,
    /// When to use colors
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(in crate::commands) color: Color,
}

const HELP: &str = "Shows changes of at least 5 % and 20 µs that are no chance: that anything is shown although nothing has changed \
                    happens in 1 of 1,000 comparisons, if the load was the same, and what disturbed it was short compared to the \
                    recordings. Runs of the same program often differ by themselves, so that one run of each side is not \
                    enough: the manual says how many are. The exit code is 0 if nothing has changed, or \
                    with --fail-on nothing that it names; 1 if something has; and 2 if something failed, part of what was read is \
                    damaged, or there was too little to compare, or to judge what --fail-on names: p95 takes 200 spans of a \
                    name on each side, p99 1,000, and all others 20.";

fn where_help() -> String {
    query_help("Compare only spans that match this query")
}

fn condition(text: &str) -> Result<Condition, String> {
    text.parse().map_err(|error: ConditionError| format!("{error}\n\n{}", error.pointer(text)))
}
