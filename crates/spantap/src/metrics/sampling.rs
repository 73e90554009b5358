//! What `--keep` has decided.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::{Series, counters, gauges};
use crate::sampling::{Counts, OfRule};

pub(super) fn encode(counts: &Counts, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let of_rules = |value: fn(&OfRule) -> u64| -> Vec<Series> {
        counts.rules.iter().map(|of| (vec![("rule", of.rule.clone())], value(of))).collect()
    };
    let alone = |value: u64| vec![(Vec::new(), value)];
    let by = |key: &'static str, values: &[(&str, u64)]| -> Vec<Series> {
        values.iter().map(|(label, value)| (vec![(key, (*label).to_owned())], *value)).collect()
    };
    counters(encoder, "sampling_kept_traces", "Traces that --keep has kept", of_rules(|of| of.traces))?;
    counters(encoder, "sampling_kept_spans", "Spans that --keep has kept", of_rules(|of| of.spans))?;
    let dropped = alone(counts.dropped_traces);
    counters(encoder, "sampling_dropped_traces", "Traces that no rule of --keep has kept", dropped)?;
    let dropped = alone(counts.dropped_spans);
    counters(encoder, "sampling_dropped_spans", "Spans that no rule of --keep has kept", dropped)?;
    let incomplete = alone(counts.incomplete_traces);
    let help = "Dropped traces that are kept from a late span on";
    counters(encoder, "sampling_incomplete_traces", help, incomplete)?;
    let early = [("waited", counts.waited), ("no_room", counts.no_room), ("too_large", counts.too_large)];
    let help = "Traces that were decided before they were complete";
    counters(encoder, "sampling_early_decisions", help, by("reason", &early))?;
    let late = [("kept", counts.late_kept), ("dropped", counts.late_dropped)];
    let help = "Spans that came after their trace was decided";
    counters(encoder, "sampling_late_spans", help, by("outcome", &late))?;
    let unrepresented = alone(counts.unrepresented_traces);
    let help = "Traces that a rate has refused since it last kept one, and that no weight has";
    gauges(encoder, "sampling_unrepresented_traces", help, unrepresented)?;
    gauges(
        encoder,
        "sampling_waiting_traces",
        "Traces that wait for a decision",
        alone(counts.waiting_traces),
    )?;
    gauges(encoder, "sampling_waiting_spans", "Spans that wait for a decision", alone(counts.waiting_spans))
}
