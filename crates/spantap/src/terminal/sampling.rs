//! Formats what `--keep` has decided, for the counts at the end.

use std::fmt::Write;

use crate::sampling::Counts;
use crate::text::{counted, cut, grouped, safe, width};

/// The most columns for a rule.
const RULE_COLUMNS: usize = 60;

/// `12 traces kept, 988 dropped`
pub(super) fn sampling_in_short(counts: &Counts) -> String {
    let kept = counted(counts.kept_traces(), "trace", "traces");
    format!("{kept} kept, {} dropped", grouped(counts.dropped_traces))
}

/// The line of the total, a line for each rule, and lines for what went another way than usual.
pub(super) fn sampling(counts: &Counts) -> String {
    let (kept, kept_spans) = (counts.kept_traces(), counts.kept_spans());
    let spans = |spans: u64| counted(spans, "span", "spans");
    let traces = |traces: u64| counted(traces, "trace", "traces");
    let mut out = format!(
        "  --keep: {} kept ({}), {} dropped ({})\n",
        traces(kept),
        spans(kept_spans),
        grouped(counts.dropped_traces),
        spans(counts.dropped_spans)
    );
    if counts.waiting_traces > 0 {
        let _ = writeln!(
            out,
            "    {} ({}) still wait",
            traces(counts.waiting_traces),
            spans(counts.waiting_spans)
        );
    }
    let label = |rule: &str| cut(&safe(rule), RULE_COLUMNS);
    let columns = counts.rules.iter().map(|of| width(&label(&of.rule))).max().unwrap_or(0);
    for of in &counts.rules {
        let rule = label(&of.rule);
        let space = " ".repeat(columns - width(&rule));
        let _ = writeln!(out, "    {rule}{space}  {:>12}  {:>14}", traces(of.traces), spans(of.spans));
    }
    let nothing: Vec<String> =
        counts.rules.iter().filter(|of| of.spans == 0).map(|of| label(&of.rule)).collect();
    if !nothing.is_empty() && kept + counts.dropped_traces > 0 {
        let _ = writeln!(out, "    kept nothing: {}", nothing.join(", "));
    }
    let early = [
        (counts.waited, "had waited for --keep-wait"),
        (counts.no_room, "had to make room for others"),
        (counts.too_large, "had too many spans to wait"),
    ];
    let early: Vec<String> = early
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, why)| format!("{} {why}", grouped(number)))
        .collect();
    if !early.is_empty() {
        let _ = writeln!(out, "    decided before they were complete: {}", early.join(", "));
    }
    if counts.late_kept + counts.late_dropped > 0 {
        let _ = writeln!(
            out,
            "    spans that came after the decision: {} kept, {} dropped",
            grouped(counts.late_kept),
            grouped(counts.late_dropped)
        );
    }
    if counts.unrepresented_traces > 0 {
        let _ = writeln!(
            out,
            "    in no weight: {} that a rate has refused since it last kept one",
            counted(counts.unrepresented_traces, "trace", "traces")
        );
    }
    if counts.incomplete_traces > 0 {
        let _ = writeln!(
            out,
            "    incomplete: of {}, only what came from a late span on is kept",
            counted(counts.incomplete_traces, "dropped trace", "dropped traces")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::OfRule;

    #[test]
    fn rules_are_aligned_and_only_what_happened_is_listed() {
        let of = |rule: &str, traces, spans| OfRule { rule: rule.to_owned(), traces, spans };
        let mut counts = Counts {
            rules: vec![of("error", 1, 5), of("duration > 100ms \u{1b}[31m", 1_200, 12_000)],
            dropped_traces: 9_000,
            dropped_spans: 90_000,
            ..Counts::default()
        };
        assert_eq!(
            sampling(&counts),
            "  --keep: 1,201 traces kept (12,005 spans), 9,000 dropped (90,000 spans)\n    \
             error                           1 trace         5 spans\n    \
             duration > 100ms \\x1b[31m  1,200 traces    12,000 spans\n"
        );
        counts = Counts { waited: 3, too_large: 1, late_dropped: 7, incomplete_traces: 1, ..counts };
        counts.unrepresented_traces = 12;
        counts.rules.extend([of("eror", 0, 0), of("duration > 1s and duration < 1ms", 0, 0)]);
        let last: Vec<String> = sampling(&counts).lines().skip(5).map(str::to_owned).collect();
        assert_eq!(
            last,
            [
                "    kept nothing: eror, duration > 1s and duration < 1ms",
                "    decided before they were complete: 3 had waited for --keep-wait, 1 had too many spans to wait",
                "    spans that came after the decision: 0 kept, 7 dropped",
                "    in no weight: 12 traces that a rate has refused since it last kept one",
                "    incomplete: of 1 dropped trace, only what came from a late span on is kept",
            ]
        );
    }
}
