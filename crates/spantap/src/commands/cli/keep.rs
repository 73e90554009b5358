//! The options of tail sampling.

use std::time::Duration;

use clap::Args;

use super::{FORWARDING, duration};
use crate::sampling::Rule;

/// Which traces are forwarded.
#[derive(Args, Debug)]
pub(in crate::commands) struct Keep {
    /// Forward and record only traces that this rule keeps: a query, ratio(1%), rate(100/s) or both; may be repeated
    ///
    /// A trace is kept as a whole if a rule keeps it, such as: error, 'duration > 100ms', 'kernel.disk > 10ms',
    /// 'ratio(1%)', 'rate(100/s)' or 'name glob "GET *" and ratio(10%)'. A query keeps traces with a span that it chooses.
    /// Each span gets the rule and its weight as attributes. The view and --metrics still have all spans.
    #[arg(long, value_name = "RULE", value_parser = rule, help_heading = FORWARDING)]
    pub(in crate::commands) keep: Vec<Rule>,
    /// With --keep, wait this long for more spans of a trace that looks complete, because other processes may send some
    #[arg(long, value_name = "DURATION", value_parser = wait, default_value = "10s", requires = "keep", help_heading = FORWARDING)]
    pub(in crate::commands) keep_quiet: Duration,
    /// With --keep, decide about a trace this long after its first span, if it is not complete and quiet before
    #[arg(long, value_name = "DURATION", value_parser = wait, default_value = "30s", requires = "keep", help_heading = FORWARDING)]
    pub(in crate::commands) keep_wait: Duration,
}

fn rule(text: &str) -> Result<Rule, String> {
    text.parse()
}

/// Reads a time for which traces wait.
fn wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    let is_useful = Duration::from_millis(100) <= wait && wait <= Duration::from_secs(3600);
    if is_useful { Ok(wait) } else { Err("write a time from 100ms to 1h, such as 30s".into()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use clap::Parser;

    use super::super::Cli;

    #[test]
    fn rules_are_read_by_all_commands_that_forward() {
        let parse = |args: &[&str]| Cli::try_parse_from(["spantap"].iter().chain(args)).map(drop);
        let good: [&[&str]; 5] = [
            &[
                "listen",
                "a.sock",
                "--to",
                "jsonl=a",
                "--keep",
                "error",
                "--keep",
                "ratio(1%)",
                "--keep-wait",
                "5s",
                "--keep-quiet",
                "1s",
            ],
            &["run", "--to", "jsonl=a", "--keep", "duration > 1s and rate(1/s)", "--", "./a"],
            &["attach", "--pid", "7", "--to", "jsonl=a", "--keep", "kernel.disk > 1ms"],
            &["record", "c.spans", "a.sock", "--keep", "error", "--keep-files", "3"],
            &["top", "a.sock", "--to", "jsonl=a", "--keep", "error"],
        ];
        for args in good {
            assert!(parse(args).is_ok(), "{args:?}: {:?}", parse(args));
        }
        let bad: [&[&str]; 6] = [
            &["listen", "a.sock", "--to", "jsonl=a", "--keep", "ratio(150%)"],
            &["listen", "a.sock", "--to", "jsonl=a", "--keep-wait", "5s"],
            &["listen", "a.sock", "--to", "jsonl=a", "--keep", "error", "--keep-wait", "0s"],
            &["listen", "a.sock", "--to", "jsonl=a", "--keep-quiet", "1s"],
            &["record", "c.spans", "a.sock", "--keep", "3"],
            &["record", "c.spans", "a.sock", "--keep-last", "5m", "--keep", "error"],
        ];
        for args in bad {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
