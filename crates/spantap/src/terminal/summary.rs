//! The figures in words: the status line, a line a minute, and all of them at the end.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::decode::Fault;
use crate::figures::{Figures, FromSender};
use crate::process::Sender;
use crate::sink::{OTHERS, OfSender, SinkFigures, Sinks, State};
use crate::view::{counted, cut, grouped, safe};

/// The senders that are listed at the end.
const SENDERS: usize = 20;

/// The columns for what a sender calls itself.
const NAME: usize = 40;

/// For the terminal, each second; `spans_before` had come when it was asked the last time.
pub fn status_line(figures: &Figures, total: &FromSender, sinks: &Sinks, spans_before: u64) -> String {
    let mut parts =
        vec![format!("{} spans, {}/s", grouped(total.spans), grouped(total.spans - spans_before))];
    parts.extend(troubles(figures, total));
    parts.extend(sinks.figures().iter().map(sink_in_short));
    parts.join(" · ")
}

/// For a log, each minute.
pub fn minute_line(figures: &Figures, sinks: &Sinks) -> String {
    let total = figures.total();
    let mut parts = vec![spans_in_datagrams(&total)];
    parts.extend(troubles(figures, &total));
    parts.extend(sinks.figures().iter().map(sink_in_short));
    format!("spantap: {}\n", parts.join(" · "))
}

/// Without datagrams, where they came from probes.
fn spans_in_datagrams(total: &FromSender) -> String {
    let spans = counted(total.spans, "span", "spans");
    match total.datagrams {
        0 if total.spans > 0 => spans,
        datagrams => format!("{spans} in {}", counted(datagrams, "datagram", "datagrams")),
    }
}

/// What is not as it should be; nothing where all is well.
fn troubles(figures: &Figures, total: &FromSender) -> Vec<String> {
    let (_, not_shown, missed) = figures.view();
    let known = [
        (total.lost_by_sender(), "lost by senders"),
        (total.missing, "sent and never received"),
        (total.malformed(), "malformed"),
        (total.refused, "refused"),
        (not_shown, "traces not shown"),
        (missed, "spans not shown"),
        (figures.missed().iter().map(|(_, number)| number).sum(), "missed in the kernel"),
    ];
    let found = known.into_iter().filter(|(number, _)| *number > 0);
    found.map(|(number, what)| format!("{} {what}", grouped(number))).collect()
}

fn sink_in_short(sink: &SinkFigures) -> String {
    let mut out = format!("{}: {} forwarded", sink.target, grouped(sink.forwarded));
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

fn sink_troubles(sink: &SinkFigures) -> [(u64, &'static str); 3] {
    [(sink.queued, queued(sink)), (sink.rejected, "rejected"), (sink.dropped.total(), "dropped")]
}

fn queued(sink: &SinkFigures) -> &'static str {
    if sink.is_spooled { "spooled" } else { "queued" }
}

/// What became of each sender's spans; where there is but one, the sink's own line says it.
fn senders_of(sink: &SinkFigures, names: &HashMap<Sender, String>) -> String {
    let mut senders: Vec<(&Sender, &OfSender)> = sink.senders.iter().collect();
    if senders.len() < 2 {
        return String::new();
    }
    senders.sort_by_key(|(_, of)| Reverse((of.rejected + of.dropped > 0, of.taken)));
    let mut out = String::new();
    for (sender, of) in senders.iter().take(SENDERS) {
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
    if senders.len() > SENDERS {
        let _ = writeln!(out, "      and {} more senders", grouped((senders.len() - SENDERS) as u64));
    }
    out
}

/// All there is to say, at the end.
pub fn final_figures(figures: &Figures, sinks: &Sinks) -> String {
    let total = figures.total();
    let (mut known, others) = figures.by_sender();
    let senders = match &others {
        Some(_) => format!("more than {} senders", grouped(known.len() as u64)),
        None => counted(known.len() as u64, "sender", "senders"),
    };
    let mut out = format!("spantap: {} from {senders}\n", spans_in_datagrams(&total));
    // First those with trouble, then those with most spans.
    known.sort_by_key(|(_, from)| Reverse((from.is_in_trouble(), from.spans)));
    let name = |(sender, from): &(Sender, FromSender)| {
        let service =
            if from.service.is_empty() { "(no service name)".into() } else { cut(&from.service, NAME) };
        format!("{service}, {sender}")
    };
    let names: HashMap<Sender, String> = known.iter().map(|known| (known.0, name(known))).collect();
    let listed = known.iter().take(SENDERS);
    let mut rows: Vec<(String, FromSender)> = listed.map(|known| (name(known), known.1.clone())).collect();
    let mut rest = others.clone().unwrap_or_default();
    known.iter().skip(SENDERS).for_each(|(_, from)| rest.add(from));
    if rest.came_at_all() {
        let more = known.len().saturating_sub(SENDERS);
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
            (from.sent_before, "sent before this spantap listened"),
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
    let kernel_spans = figures.kernel_spans.load(Ordering::Relaxed);
    if kernel_spans > 0 {
        let _ = writeln!(out, "  {} of what the kernel did", counted(kernel_spans, "span", "spans"));
    }
    for (missed, number) in figures.missed() {
        let _ = writeln!(out, "  {} missed {}", grouped(number), missed.words);
    }
    let (shown, not_shown, missed) = figures.view();
    if not_shown + missed > 0 {
        let _ =
            write!(out, "  {} shown, {} not shown", counted(shown, "trace", "traces"), grouped(not_shown));
        if missed > 0 {
            let _ = write!(out, "; {} came too fast to be shown", counted(missed, "span", "spans"));
        }
        out.push('\n');
    }
    for sink in sinks.figures() {
        let _ = write!(
            out,
            "  → {}: {} forwarded in {}, {} of them retried",
            sink.target,
            counted(sink.forwarded, "span", "spans"),
            counted(sink.requests, "request", "requests"),
            grouped(sink.retries),
        );
        for (number, what) in sink_troubles(&sink) {
            let _ = write!(out, ", {} {what}", grouped(number));
        }
        for (number, why) in [
            (sink.dropped.queue_full, "the queue was full (--spool DIR has more room)"),
            (sink.dropped.spool_full, "the spool was full (--spool-size makes it larger)"),
            (sink.dropped.spool_write, "the spool could not be written"),
            (sink.dropped.unreadable, "the spool was damaged"),
            (sink.dropped.shutdown, "they were not sent within --flush-timeout (--spool DIR keeps them)"),
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
