//! Formats the counters: the status line, the line that is written every minute, and all of them at the end.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::sampling::{sampling, sampling_in_short};
use crate::decode::Fault;
use crate::open::{EndedProcess, OpenCount, OpenSpan, OpenSpans};
use crate::process::{Sender, SentBy};
use crate::sink::{OTHERS, SenderStats, SinkStats, Sinks, State};
use crate::stats::{FromSender, Stats, Wait};
use crate::text::duration::column;
use crate::text::{bytes, counted, cut, grouped, readable, safe, width};
use crate::view;

/// How many senders are listed at the end.
const LISTED_SENDERS: usize = 20;

/// How many pairs of spans are listed at the end.
const LISTED_WAITS: usize = 10;

/// How many spans are listed that were open when a process ended.
const LISTED_OPEN: usize = 20;

/// The most columns for a name.
const NAME_COLUMNS: usize = 40;

/// The status line of the terminal, drawn every second; `spans_before` is the count of spans one second ago.
pub fn status_line(
    stats: &Stats,
    total: &FromSender,
    sinks: &Sinks,
    open: &OpenSpans,
    spans_before: u64,
) -> String {
    let mut parts =
        vec![format!("{} spans, {}/s", grouped(total.spans), grouped(total.spans - spans_before))];
    parts.extend(open_in_short(open));
    parts.extend(troubles(stats, total));
    parts.extend(stats.sampling.get().map(|counts| sampling_in_short(&counts)));
    parts.extend(sinks.stats().iter().map(sink_in_short));
    parts.join(" · ")
}

/// The line that is written every minute, for a log.
pub fn minute_line(stats: &Stats, sinks: &Sinks, open: &OpenSpans) -> String {
    let total = stats.total();
    let mut parts = vec![spans_in_datagrams(&total)];
    parts.extend(open_in_short(open));
    parts.extend(troubles(stats, &total));
    parts.extend(stats.sampling.get().map(|counts| sampling_in_short(&counts)));
    parts.extend(sinks.stats().iter().map(sink_in_short));
    format!("spantap: {}\n", parts.join(" · "))
}

/// The losses and faults in a few words, if there are any.
pub(crate) fn trouble(stats: &Stats, sinks: &Sinks) -> Option<String> {
    let mut parts = troubles(stats, &stats.total());
    let failing = |sink: &SinkStats| matches!(sink.state, State::Failing { .. }) || sink.dropped.total() > 0;
    parts.extend(
        sinks.stats().iter().filter(|sink| failing(sink)).map(|sink| format!("{} is failing", sink.target)),
    );
    (!parts.is_empty()).then(|| parts.join(" · "))
}

/// `2 open > 1.00 s`, if spans are open for long.
fn open_in_short(open: &OpenSpans) -> Option<String> {
    let OpenCount { spans, threshold_ns, has_more } = open.count()?;
    let more = if has_more { "+" } else { "" };
    Some(format!("{}{more} open > {}", grouped(spans), readable(threshold_ns)))
}

/// What is open when spantap ends, in processes that run on.
pub(super) fn still_open_line(open: &OpenSpans) -> Option<String> {
    let OpenCount { spans, threshold_ns, has_more } = open.count()?;
    let (are, spans) = (if spans == 1 { "is" } else { "are" }, counted(spans, "span", "spans"));
    let at_least = if has_more { "at least " } else { "" };
    Some(format!("spantap: {at_least}{spans} {are} still open for more than {}\n", readable(threshold_ns)))
}

/// The line above the traces that were open when a process ended.
pub(super) fn ended_line(ended: &EndedProcess) -> String {
    let EndedProcess { process, spans, count, silent } = ended;
    let ago = readable(u64::try_from(silent.as_nanos()).unwrap_or(u64::MAX));
    let were = if *count == 1 { "was" } else { "were" };
    let shown = spans.len() as u64;
    let more = if shown < *count { format!(" (shown: {})", grouped(shown)) } else { String::new() };
    format!(
        "spantap: {} ({}) has ended; {} {were} open by its last report, {ago} ago{more}\n",
        cut(&process.service, NAME_COLUMNS),
        process.sender,
        counted(*count, "span", "spans"),
    )
}

/// The same, and a line for each span that `is_chosen` chooses, up to a limit: for who shows no traces.
pub(crate) fn ended_lines(ended: &EndedProcess, is_chosen: impl Fn(&OpenSpan) -> bool) -> String {
    let mut lines = ended_line(ended);
    let mut chosen = ended.spans.iter().filter(|open| is_chosen(open));
    for OpenSpan { process, span, .. } in chosen.by_ref().take(LISTED_OPEN) {
        let so_far = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
        lines += &format!("spantap: it was open for {}\n", view::open_span(process, span, so_far));
    }
    match chosen.count() as u64 {
        0 => {}
        others => lines += &format!("spantap: and {}\n", counted(others, "more span", "more spans")),
    }
    lines
}

/// The counts of spans, datagrams and OTLP requests; spans from probes come without either.
fn spans_in_datagrams(total: &FromSender) -> String {
    let spans = counted(total.spans, "span", "spans");
    let datagrams = || counted(total.datagrams, "datagram", "datagrams");
    let requests = || counted(total.requests, "OTLP request", "OTLP requests");
    match (total.datagrams, total.requests) {
        (0, 0) if total.spans > 0 => spans,
        (_, 0) => format!("{spans} in {}", datagrams()),
        (0, _) => format!("{spans} in {}", requests()),
        _ => format!("{spans} in {} and {}", datagrams(), requests()),
    }
}

/// The counters of losses and faults that are not zero.
fn troubles(stats: &Stats, total: &FromSender) -> Vec<String> {
    let (_, traces_not_shown, spans_not_shown) = stats.view();
    let known = [
        (total.lost_by_sender(), "lost by senders"),
        (total.missing, "sent and never received"),
        (total.malformed(), "malformed"),
        (total.refused, "refused"),
        (stats.refused_requests().iter().map(|(_, number)| number).sum(), "OTLP requests refused"),
        (traces_not_shown, "traces not shown"),
        (spans_not_shown, "spans not shown"),
        (stats.missed().iter().map(|(_, number)| number).sum(), "missed in the kernel"),
    ];
    let found = known.into_iter().filter(|(number, _)| *number > 0);
    found.map(|(number, what)| format!("{} {what}", grouped(number))).collect()
}

fn sink_in_short(sink: &SinkStats) -> String {
    let mut out = format!("{}: {} {}", sink.target, grouped(sink.forwarded), taken(sink));
    for (number, what) in sink_troubles(sink) {
        if number > 0 {
            let _ = write!(out, ", {} {what}", grouped(number));
        }
    }
    if sink.retries > 0 {
        let _ = write!(out, ", {} retried", counted(sink.retries, "request", "requests"));
    }
    if let State::Failing { .. } = sink.state {
        out.push_str(", failing");
    }
    out
}

/// What happened to the spans that the target took.
fn taken(sink: &SinkStats) -> String {
    match sink.recorded_bytes {
        Some(recorded) => format!("recorded, {}", bytes(recorded)),
        None if sink.is_flight_recorder => "kept in memory".to_owned(),
        None => "forwarded".to_owned(),
    }
}

fn sink_troubles(sink: &SinkStats) -> [(u64, &'static str); 3] {
    [(sink.queued, queued(sink)), (sink.rejected, "rejected"), (sink.dropped.total(), "dropped")]
}

fn queued(sink: &SinkStats) -> &'static str {
    if sink.is_spooled { "spooled" } else { "queued" }
}

/// The counters of each sender at a sink. Empty for a single sender, whose counters are the sink's own.
fn senders_of(sink: &SinkStats, names: &HashMap<Sender, String>) -> String {
    let mut senders: Vec<(&Sender, &SenderStats)> = sink.senders.iter().collect();
    if senders.len() < 2 {
        return String::new();
    }
    senders.sort_by_key(|(_, of)| Reverse((of.rejected + of.dropped > 0, of.taken)));
    let mut out = String::new();
    for (sender, of) in senders.iter().take(LISTED_SENDERS) {
        let name = names.get(*sender).cloned().unwrap_or_else(|| match **sender {
            OTHERS => "others".to_owned(),
            sender => sender.to_string(),
        });
        let _ = write!(out, "      {name}: {} forwarded", grouped(of.forwarded));
        for (number, what) in [
            (of.queued(), queued(sink)),
            (of.rejected, "rejected"),
            (of.dropped, "dropped"),
            (of.retried, "in requests that were retried"),
        ] {
            if number > 0 {
                let _ = write!(out, ", {} {what}", grouped(number));
            }
        }
        out.push('\n');
    }
    if senders.len() > LISTED_SENDERS {
        let _ = writeln!(out, "      and {} more senders", grouped((senders.len() - LISTED_SENDERS) as u64));
    }
    out
}

/// Which spans waited for which, by name.
fn waits(waits: &[Wait]) -> String {
    let listed = &waits[..waits.len().min(LISTED_WAITS)];
    let names = |of: fn(&Wait) -> &str| -> Vec<String> {
        let names: Vec<String> = listed.iter().map(|wait| cut(of(wait), NAME_COLUMNS)).collect();
        let columns = names.iter().map(|name| width(name)).max().unwrap_or(0);
        names.into_iter().map(|name| format!("{name}{}", " ".repeat(columns - width(&name)))).collect()
    };
    let mut out = String::new();
    if !listed.is_empty() {
        out += "  waits that a thread in another span ended:\n";
    }
    let (spans, wakers) = (names(|wait| &wait.span), names(|wait| &wait.waker));
    for (wait, (span, waker)) in listed.iter().zip(spans.iter().zip(&wakers)) {
        let time = column(wait.time_ns);
        let _ = writeln!(
            out,
            "    {time}  {span}  waited for  {waker}  {}",
            counted(wait.count, "time", "times")
        );
    }
    if waits.len() > listed.len() {
        let _ = writeln!(out, "    and {} more pairs of spans", grouped((waits.len() - listed.len()) as u64));
    }
    out
}

/// All counters, printed at the end.
pub fn final_stats(stats: &Stats, sinks: &Sinks) -> String {
    let total = stats.total();
    let (mut known, others) = stats.by_sender();
    let senders = match &others {
        Some(_) => format!("more than {} senders", grouped(known.len() as u64)),
        None => counted(known.len() as u64, "sender", "senders"),
    };
    let mut out = format!("spantap: {} from {senders}\n", spans_in_datagrams(&total));
    // Senders with losses or faults come first, then those with the most spans.
    known.sort_by_key(|(_, from)| Reverse((from.is_in_trouble(), from.spans)));
    let name = |(sender, from): &(SentBy, FromSender)| {
        // Any number of services may send from an address.
        if let SentBy::Address(_) = sender {
            return sender.to_string();
        }
        let service = if from.service.is_empty() {
            "(no service name)".into()
        } else {
            cut(&from.service, NAME_COLUMNS)
        };
        format!("{service}, {sender}")
    };
    let names: HashMap<Sender, String> = known
        .iter()
        .filter_map(|known| match known.0 {
            SentBy::Process(sender) => Some((sender, name(known))),
            SentBy::Address(_) => None,
        })
        .collect();
    let listed = known.iter().take(LISTED_SENDERS);
    let mut rows: Vec<(String, FromSender)> = listed.map(|known| (name(known), known.1.clone())).collect();
    let mut rest = others.clone().unwrap_or_default();
    known.iter().skip(LISTED_SENDERS).for_each(|(_, from)| rest.add(from));
    if rest.has_sent() {
        let more = known.len().saturating_sub(LISTED_SENDERS);
        rows.push((if others.is_some() { "all others".into() } else { format!("{more} others") }, rest));
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, from) in &rows {
        let _ = write!(out, "  {name:<width$}  {:>12}", counted(from.spans, "span", "spans"));
        for (reason, spans) in &from.lost {
            let _ = write!(out, ", {} lost by the sender ({})", grouped(*spans), safe(reason));
        }
        for (number, what) in [
            (from.missing, "sent and never received (an earlier spantap ended)"),
            (from.sent_before, "sent before this spantap started"),
        ] {
            if number > 0 {
                let _ = write!(out, ", {} {what}", grouped(number));
            }
        }
        for (fault, number) in Fault::ALL.iter().zip(from.faults).filter(|(_, number)| *number > 0) {
            let verdict = if fault.refuses() { "refused" } else { "odd" };
            let _ = write!(out, ", {} {verdict}: {fault}", grouped(number));
        }
        if from.refused > 0 {
            let _ = write!(
                out,
                ", {} refused: not an allowed user",
                counted(from.refused, "datagram", "datagrams")
            );
        }
        out.push('\n');
    }
    for (refusal, number) in stats.refused_requests() {
        let requests = counted(number, "OTLP request", "OTLP requests");
        let _ = writeln!(out, "  {requests} refused {}", refusal.words());
    }
    let kernel_spans = stats.kernel_spans.load(Ordering::Relaxed);
    if kernel_spans > 0 {
        let _ = writeln!(out, "  {} of kernel activity", counted(kernel_spans, "span", "spans"));
    }
    out += &waits(&stats.waits());
    for (missed, number) in stats.missed() {
        let _ = writeln!(out, "  {} missed {}", grouped(number), missed.words);
    }
    let (shown, traces_not_shown, spans_not_shown) = stats.view();
    if traces_not_shown + spans_not_shown > 0 {
        let _ = write!(
            out,
            "  {} shown, {} not shown",
            counted(shown, "trace", "traces"),
            grouped(traces_not_shown)
        );
        if spans_not_shown > 0 {
            let _ = write!(out, "; {} came too fast to be shown", counted(spans_not_shown, "span", "spans"));
        }
        out.push('\n');
    }
    if let Some(counts) = stats.sampling.get() {
        out += &sampling(&counts);
    }
    for sink in sinks.stats() {
        let (request, requests) = match sink.recorded_bytes {
            Some(_) => ("write", "writes"),
            None if sink.is_flight_recorder => ("frame", "frames"),
            None => ("request", "requests"),
        };
        let _ = write!(
            out,
            "  → {}: {} {} in {}, {} of them retried",
            sink.target,
            counted(sink.forwarded, "span", "spans"),
            taken(&sink),
            counted(sink.requests, request, requests),
            grouped(sink.retries),
        );
        for (number, what) in sink_troubles(&sink) {
            let _ = write!(out, ", {} {what}", grouped(number));
        }
        let (queue_full, shutdown) = match sink.is_flight_recorder {
            true => (
                "they came faster than they could be compressed",
                "they were not compressed within --flush-timeout",
            ),
            false => (
                "the queue was full (use --spool DIR for more room)",
                "they were not sent within --flush-timeout (use --spool DIR to keep them)",
            ),
        };
        for (number, why) in [
            (sink.dropped.queue_full, queue_full),
            (sink.dropped.spool_full, "the spool was full (raise --spool-size)"),
            (sink.dropped.spool_write, "the spool could not be written"),
            (sink.dropped.unreadable, "the spool was damaged"),
            (sink.dropped.shutdown, shutdown),
        ] {
            if number > 0 {
                let _ = write!(out, "; {} because {why}", grouped(number));
            }
        }
        if let State::Failing { why, .. } = &sink.state {
            let _ = write!(out, "; failing: {}", safe(why));
        }
        out.push('\n');
        out += &senders_of(&sink, &names);
    }
    out
}
