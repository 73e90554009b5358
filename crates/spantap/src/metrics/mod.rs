//! The stats for Prometheus, at `http://ADDRESS/metrics`, in the OpenMetrics text format.
//!
//! `address` parses `--metrics`, and `server` answers requests. `span_metrics` counts spans by service and name, and
//! `sampling` has what `--keep` decided. The page itself is made here.

mod address;
mod sampling;
mod server;
mod span_metrics;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

pub use address::Address;
pub(crate) use span_metrics::Counted;
pub use span_metrics::SpanMetrics;

use crate::decode::Fault;
use crate::process::{Sender, SentBy};
use crate::sink::{OTHERS, SinkStats, Sinks, State};
use crate::stats::{FromSender, Stats, Wait};

/// Starts to serve the stats. Returns the address, because with port 0 the system chooses one.
///
/// # Errors
///
/// The address can't be listened on.
pub async fn serve(
    address: &Address,
    stats: Arc<Stats>,
    sinks: Arc<Sinks>,
    spans: Arc<SpanMetrics>,
) -> Result<SocketAddr> {
    let listener = address.listen().await.with_context(|| {
        format!("can't serve metrics on {address}; choose another address with --metrics")
    })?;
    let local = listener.local_addr()?;
    let mut registry = Registry::with_prefix("spantap");
    registry.register_collector(Box::new(StatsCollector { stats, sinks, spans }));
    tokio::spawn(server::serve(listener, registry));
    Ok(local)
}

struct StatsCollector {
    stats: Arc<Stats>,
    sinks: Arc<Sinks>,
    spans: Arc<SpanMetrics>,
}

// The fields have nothing to show beyond the page itself.
impl fmt::Debug for StatsCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsCollector").finish_non_exhaustive()
    }
}

/// The labels of a series, and its value.
type Series = (Vec<(&'static str, String)>, u64);

impl Collector for StatsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (senders, others) = self.stats.by_sender();
        let of = |stats: fn(&FromSender) -> u64| -> Vec<Series> {
            let known = senders.iter().map(|(sender, from)| (labels(*sender, from), stats(from)));
            known.chain(others.iter().map(|from| (other_labels(), stats(from)))).collect()
        };
        counters(&mut encoder, "received_spans", "Spans accepted", of(|from| from.spans))?;
        counters(
            &mut encoder,
            "received_datagrams",
            "Datagrams, including malformed ones",
            of(|from| from.datagrams),
        )?;
        counters(
            &mut encoder,
            "received_bytes",
            "Bytes of datagrams and OTLP requests",
            of(|from| from.bytes),
        )?;
        counters(
            &mut encoder,
            "received_requests",
            "OTLP requests (--otlp), including those with faults",
            of(|from| from.requests),
        )?;
        let refused = self.stats.refused_requests().into_iter();
        let refused = refused.map(|(refusal, count)| (vec![("reason", refusal.label().to_owned())], count));
        counters(
            &mut encoder,
            "refused_requests",
            "OTLP requests refused as a whole, and refused connections",
            refused.collect(),
        )?;
        counters(
            &mut encoder,
            "refused_datagrams",
            "Datagrams of users that may not send (--allow-uid)",
            of(|from| from.refused),
        )?;
        counters(
            &mut encoder,
            "malformed",
            "Spans and datagrams refused for a fault",
            of(FromSender::malformed),
        )?;
        counters(
            &mut encoder,
            "missing_spans",
            "Spans that a sender sent and that never arrived",
            of(|from| from.missing),
        )?;
        counters(
            &mut encoder,
            "spans_sent_before",
            "Spans that a sender had sent before the first one that arrived",
            of(|from| from.sent_before),
        )?;
        let mut faults = Vec::new();
        let mut lost = Vec::new();
        for (labels, from) in senders
            .iter()
            .map(|(sender, from)| (labels(*sender, from), from))
            .chain(others.iter().map(|from| (other_labels(), from)))
        {
            let with = |key, value: &str| [labels.clone(), vec![(key, value.to_owned())]].concat();
            for (fault, count) in Fault::ALL.iter().zip(from.faults).filter(|(_, count)| *count > 0) {
                faults.push((with("fault", fault.name()), count));
            }
            lost.extend(from.lost.iter().map(|(reason, spans)| (with("reason", reason), *spans)));
        }
        counters(&mut encoder, "faults", "Faults in datagrams and spans, by kind", faults)?;
        counters(&mut encoder, "sender_lost_spans", "Spans that a sender reported as lost", lost)?;
        let (shown, traces_not_shown, spans_not_shown) = self.stats.view();
        for (name, help, value) in [
            ("traces_shown", "Traces shown", shown),
            ("traces_not_shown", "Traces not shown for lack of room", traces_not_shown),
            ("spans_not_shown", "Spans that came too fast to be shown", spans_not_shown),
        ] {
            counters(&mut encoder, name, help, vec![(Vec::new(), value)])?;
        }
        let kernel_spans = self.stats.kernel_spans.load(Ordering::Relaxed);
        counters(&mut encoder, "kernel_spans", "Spans of kernel activity", vec![(Vec::new(), kernel_spans)])?;
        let missed = self.stats.missed().into_iter();
        let missed = missed.map(|(missed, count)| (vec![("reason", missed.label.to_owned())], count));
        counters(
            &mut encoder,
            "missed",
            "What the probes and tracepoints could not report",
            missed.collect(),
        )?;
        self.encode_waits(&mut encoder)?;
        if let Some(counts) = self.stats.sampling.get() {
            sampling::encode(&counts, &mut encoder)?;
        }
        self.spans.encode(&mut encoder)?;
        self.encode_sinks(&mut encoder)
    }
}

impl StatsCollector {
    fn encode_waits(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let waits = self.stats.waits();
        let labels = |wait: &Wait| vec![("span", wait.span.to_string()), ("waker", wait.waker.to_string())];
        counters(
            encoder,
            "span_waits",
            "Waits of a span that a thread in another span, the waker, ended; by the names of the two",
            waits.iter().map(|wait| (labels(wait), wait.count)).collect(),
        )?;
        let help = "The time of these waits";
        let mut family =
            encoder.encode_descriptor("span_wait", help, Some(&Unit::Seconds), MetricType::Counter)?;
        for wait in &waits {
            let seconds = Duration::from_nanos(wait.time_ns).as_secs_f64();
            family.encode_family(&labels(wait))?.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        Ok(())
    }

    fn encode_sinks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sinks = self.sinks.stats();
        let of = |stats: fn(&SinkStats) -> u64| -> Vec<Series> {
            sinks.iter().map(|sink| (vec![("target", sink.target.clone())], stats(sink))).collect()
        };
        counters(encoder, "pushed_spans", "Spans queued for a target", of(|sink| sink.pushed))?;
        counters(
            encoder,
            "recovered_spans",
            "Spans found in the spool at the start",
            of(|sink| sink.recovered),
        )?;
        counters(encoder, "forwarded_spans", "Spans accepted by the backend", of(|sink| sink.forwarded))?;
        let captures = sinks.iter().filter_map(|sink| Some((sink, sink.recorded_bytes?)));
        let bytes = captures.map(|(sink, bytes)| (vec![("target", sink.target.clone())], bytes));
        counters(encoder, "recorded_bytes", "Bytes written to a capture", bytes.collect())?;
        counters(encoder, "rejected_spans", "Spans rejected by the backend", of(|sink| sink.rejected))?;
        counters(encoder, "requests", "Requests, counting each attempt", of(|sink| sink.requests))?;
        counters(encoder, "retries", "Attempts that failed and were repeated", of(|sink| sink.retries))?;
        let dropped = sinks.iter().flat_map(|sink| {
            let reasons = [
                ("queue_full", sink.dropped.queue_full),
                ("spool_full", sink.dropped.spool_full),
                ("spool_write", sink.dropped.spool_write),
                ("unreadable", sink.dropped.unreadable),
                ("shutdown", sink.dropped.shutdown),
            ];
            let target = ("target", sink.target.clone());
            reasons.map(|(reason, spans)| (vec![target.clone(), ("reason", reason.to_owned())], spans))
        });
        counters(encoder, "dropped_spans", "Spans that spantap lost", dropped.collect())?;
        gauges(encoder, "queued_spans", "Spans that wait in memory or in the spool", of(|sink| sink.queued))?;
        let spooled = sinks.iter().filter(|sink| sink.is_spooled);
        let spooled = spooled.map(|sink| (vec![("target", sink.target.clone())], sink.queued));
        gauges(encoder, "spooled_spans", "Spans that wait in the spool", spooled.collect())?;
        let (mut passed, mut queued, mut retried) = (Vec::new(), Vec::new(), Vec::new());
        for (sink, sender, of) in
            sinks.iter().flat_map(|sink| sink.senders.iter().map(move |(sender, of)| (sink, *sender, of)))
        {
            let sender = match sender {
                OTHERS => other_labels(),
                Sender::OVER_OTLP => vec![("pid", "otlp".to_owned())],
                sender => ids(sender),
            };
            let labels = [vec![("target", sink.target.clone())], sender].concat();
            queued.push((labels.clone(), of.queued()));
            retried.push((labels.clone(), of.retried));
            for (outcome, spans) in
                [("forwarded", of.forwarded), ("rejected", of.rejected), ("dropped", of.dropped)]
            {
                passed.push(([labels.clone(), vec![("outcome", outcome.to_owned())]].concat(), spans));
            }
        }
        counters(encoder, "sender_spans", "A sender's spans, by outcome", passed)?;
        counters(encoder, "sender_retried_spans", "A sender's spans in failed attempts", retried)?;
        gauges(encoder, "sender_queued_spans", "A sender's spans that wait", queued)?;
        let is_up = |sink: &SinkStats| u64::from(sink.state == State::Ok);
        gauges(encoder, "target_up", "1 if the last request was answered", of(is_up))
    }
}

fn labels(sender: SentBy, from: &FromSender) -> Vec<(&'static str, String)> {
    let sender = match sender {
        SentBy::Process(sender) => ids(sender),
        // Any number of services may send from an address.
        SentBy::Address(address) => return vec![("address", address.to_string())],
    };
    [sender, vec![("service", from.service.clone())]].concat()
}

fn ids(sender: Sender) -> Vec<(&'static str, String)> {
    let Sender { pid, uid, gid } = sender;
    vec![("pid", pid.to_string()), ("uid", uid.to_string()), ("gid", gid.to_string())]
}

/// The labels of all senders beyond the limit.
fn other_labels() -> Vec<(&'static str, String)> {
    vec![("pid", "other".to_owned())]
}

fn counters(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, series: Vec<Series>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
    }
    Ok(())
}

fn gauges(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, series: Vec<Series>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}
