//! From the closing threads through the socket into a process that reads every span: how many a
//! second, and whether every single one is accounted for.

use anyhow::Result;
use serde_json::Value;

use super::machine::cores;
use super::programs::{self, command, count, number};
use super::receiver::{Manner, Receiver};
use super::spantap::{Account, Spantap};
use super::stage::Stage;

/// Who reads.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reader {
    /// The bench's own, which parses and counts.
    Parser,
    /// `spantap listen --quiet`.
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
    /// What does not add up; empty if all does.
    pub(crate) mismatches: Vec<String>,
}

pub(crate) fn measure(stage: &mut Stage, milliseconds: u64) -> Result<Vec<Flood>> {
    let mut floods = Vec::new();
    for delivery in ["background", "inline"] {
        if !stage.rows().iter().any(|row| row.key == delivery) {
            stage.skip(&format!("{delivery}, end to end"), "left out with its row above");
            continue;
        }
        for wait_ms in [0, 1000] {
            for threads in [1, cores()] {
                stage.progress(&format!("end to end: {delivery}, {threads} threads, waits {wait_ms} ms"));
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
            let receiver = Receiver::start(&stage.programs, Manner::Parse, stage.folder(), &name)?;
            command.env("TRACING_USDT_SOCKET", &receiver.socket);
            let flood = programs::run("flood", &mut command)?.json;
            let received = receiver.finish()?;
            let (spans, told_lost) = (count(&received, "spans")?, count(&received, "told_lost")?);
            (flood, Received { spans, told_lost })
        }
        Reader::Spantap => {
            let spantap = Spantap::start(&stage.programs, stage.folder(), &name, &["--quiet"])?;
            command.env("TRACING_USDT_SOCKET", &spantap.socket);
            let flood = programs::run("flood", &mut command)?.json;
            let (account, _) = spantap.end()?;
            spantap.reap()?;
            let received = Received::of_spantap(&account, count(&flood["stats"], "sent")?);
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

/// What the reader got.
struct Received {
    spans: u64,
    told_lost: u64,
}

impl Received {
    /// spantap counts the spans that tell of losses, too: one in a datagram at most.
    fn of_spantap(account: &Account, sent: u64) -> Self {
        let telling = account.spans.saturating_sub(sent);
        let may_tell = account.told_lost > 0 && telling <= account.datagrams;
        let spans = if may_tell { account.spans - telling } else { account.spans };
        Self { spans, told_lost: account.told_lost }
    }
}

/// What the program closed, what its account says, what arrived, and the losses told in the stream:
/// four witnesses of the same spans.
fn mismatches(flood: &Value, received: &Received) -> Result<Vec<String>> {
    let closed = count(flood, "closed")?;
    let account = &flood["stats"];
    let (sent, dropped) = (count(account, "sent")?, count(account, "dropped")?);
    let (spans, told) = (received.spans, received.told_lost);
    let checks = [
        ("closed by the account", count(account, "closed")?, "closed", closed),
        ("received + dropped", spans + dropped, "closed", closed),
        ("received", spans, "sent", sent),
        ("losses told in the stream", told, "dropped", dropped),
    ];
    let wrong = checks.into_iter().filter(|(_, this, _, that)| this != that);
    Ok(wrong.map(|(what, this, of, that)| format!("MISMATCH: {what} {this} != {of} {that}")).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_span_that_nobody_accounts_for_is_a_mismatch() -> Result<()> {
        let flood = json!({ "closed": 10, "stats": { "closed": 10, "sent": 7, "dropped": 3 } });
        let told = |spans, told_lost| mismatches(&flood, &Received { spans, told_lost });
        assert!(told(7, 3)?.is_empty());
        assert_eq!(
            told(6, 3)?,
            ["MISMATCH: received + dropped 9 != closed 10", "MISMATCH: received 6 != sent 7"]
        );
        assert_eq!(told(7, 2)?, ["MISMATCH: losses told in the stream 2 != dropped 3"]);
        Ok(())
    }
}
