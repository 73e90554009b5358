//! Spans a second from the closing threads through the socket into a process that reads each span. Compares the
//! counts of both sides, so that no span is missing without being counted as dropped.

use anyhow::Result;
use serde_json::Value;

use super::machine::cores;
use super::programs::{self, command, count, number};
use super::receiver::{Mode, Receiver};
use super::spantap::{Spantap, Stats};
use super::stage::Stage;

/// The program that reads the socket.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reader {
    /// `receiver parse`, which parses and counts.
    Parser,
    /// `spantap listen --max-traces 1`.
    Spantap,
}

pub(crate) struct Flood {
    pub(crate) reader: Reader,
    pub(crate) delivery: &'static str,
    pub(crate) wait_ms: u64,
    pub(crate) threads: usize,
    pub(crate) closed_per_s: f64,
    pub(crate) received_per_s: f64,
    pub(crate) lost: f64,
    /// The counts that differ; empty if all agree.
    pub(crate) mismatches: Vec<String>,
}

pub(crate) fn measure(stage: &mut Stage, milliseconds: u64) -> Result<Vec<Flood>> {
    let mut floods = Vec::new();
    for delivery in ["background", "inline"] {
        if !stage.rows().iter().any(|row| row.key == delivery) {
            stage.skip(&format!("{delivery}, end to end"), "its row above was left out");
            continue;
        }
        for wait_ms in [0, 1000] {
            for threads in [1, cores()] {
                stage.progress(&format!("end to end: {delivery}, {threads} threads, max wait {wait_ms} ms"));
                floods.push(flood(stage, Reader::Parser, delivery, wait_ms, threads, milliseconds)?);
            }
        }
        if delivery == "background" {
            for threads in [1, cores()] {
                stage.progress(&format!("end to end, into spantap: {delivery}, {threads} threads"));
                floods.push(flood(stage, Reader::Spantap, delivery, 1000, threads, milliseconds)?);
            }
        }
    }
    Ok(floods)
}

fn flood(
    stage: &Stage,
    reader: Reader,
    delivery: &'static str,
    wait_ms: u64,
    threads: usize,
    milliseconds: u64,
) -> Result<Flood> {
    let mut command = command(stage.programs.path("flood"));
    command.args(["--threads", &threads.to_string(), "--milliseconds", &milliseconds.to_string()]);
    command.env("TRACING_USDT_DELIVERY", delivery);
    command.env("TRACING_USDT_MAX_WAIT_MS", wait_ms.to_string());
    let name = format!("{delivery}-{wait_ms}-{threads}.sock");
    let (flood, received) = match reader {
        Reader::Parser => {
            let receiver = Receiver::start(&stage.programs, Mode::Parse, stage.folder(), &name)?;
            command.env("TRACING_USDT_SOCKET", &receiver.socket);
            let flood = programs::run("flood", &mut command)?.json;
            let received = receiver.finish()?;
            let (spans, reported_lost) = (count(&received, "spans")?, count(&received, "reported_lost")?);
            (flood, Received { spans, reported_lost })
        }
        Reader::Spantap => {
            let spantap = Spantap::start(&stage.programs, stage.folder(), &name, &["--max-traces", "1"])?;
            command.env("TRACING_USDT_SOCKET", &spantap.socket);
            let flood = programs::run("flood", &mut command)?.json;
            let (stats, _) = spantap.end()?;
            spantap.reap()?;
            let received = Received::of_spantap(&stats, count(&flood["stats"], "sent")?);
            (flood, received)
        }
    };
    let closed = count(&flood, "closed")?;
    Ok(Flood {
        reader,
        delivery,
        wait_ms,
        threads,
        closed_per_s: closed as f64 / number(&flood, "closing_s")?,
        received_per_s: received.spans as f64 / number(&flood, "delivered_s")?,
        lost: closed.saturating_sub(received.spans) as f64 / closed as f64,
        mismatches: mismatches(&flood, &received)?,
    })
}

/// What the reader counted.
struct Received {
    spans: u64,
    reported_lost: u64,
}

impl Received {
    /// spantap also counts the spans that report losses. A datagram has at most one of them.
    fn of_spantap(stats: &Stats, sent: u64) -> Self {
        let reports = stats.spans.saturating_sub(sent);
        let may_report = stats.reported_lost > 0 && reports <= stats.datagrams;
        let spans = if may_report { stats.spans - reports } else { stats.spans };
        Self { spans, reported_lost: stats.reported_lost }
    }
}

/// Compares four independent counts of the same spans: closed by the program, the layer's stats, received by the
/// reader, and losses reported in the stream.
fn mismatches(flood: &Value, received: &Received) -> Result<Vec<String>> {
    let closed = count(flood, "closed")?;
    let stats = &flood["stats"];
    let (sent, dropped) = (count(stats, "sent")?, count(stats, "dropped")?);
    let (spans, reported) = (received.spans, received.reported_lost);
    let checks = [
        ("closed in the stats", count(stats, "closed")?, "closed", closed),
        ("received + dropped", spans + dropped, "closed", closed),
        ("received", spans, "sent", sent),
        ("losses reported in the stream", reported, "dropped", dropped),
    ];
    let wrong = checks.into_iter().filter(|(_, this, _, that)| this != that);
    Ok(wrong.map(|(what, this, of, that)| format!("MISMATCH: {what} {this} != {of} {that}")).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_missing_span_that_is_not_counted_is_a_mismatch() -> Result<()> {
        let flood = json!({ "closed": 10, "stats": { "closed": 10, "sent": 7, "dropped": 3 } });
        let found = |spans, reported_lost| mismatches(&flood, &Received { spans, reported_lost });
        assert!(found(7, 3)?.is_empty());
        assert_eq!(
            found(6, 3)?,
            ["MISMATCH: received + dropped 9 != closed 10", "MISMATCH: received 6 != sent 7"]
        );
        assert_eq!(found(7, 2)?, ["MISMATCH: losses reported in the stream 2 != dropped 3"]);
        Ok(())
    }
}
