//! From the closing threads through the socket into a process that reads every span: how many a
//! second, and whether every single one is accounted for.

use anyhow::{Context, Result};
use serde_json::Value;

use super::machine::cores;
use super::programs::{self, command, number};
use super::receiver::{Manner, Receiver};
use super::stage::Stage;

pub(crate) struct Flood {
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
                floods.push(flood(stage, delivery, wait_ms, threads, milliseconds)?);
            }
        }
    }
    Ok(floods)
}

fn flood(
    stage: &Stage,
    delivery: &'static str,
    wait_ms: u64,
    threads: usize,
    milliseconds: u64,
) -> Result<Flood> {
    let name = format!("{delivery}-{wait_ms}-{threads}.sock");
    let receiver = Receiver::start(&stage.programs, Manner::Parse, stage.folder(), &name)?;
    let mut command = command(stage.programs.path("flood"));
    command.args(["--threads", &threads.to_string(), "--milliseconds", &milliseconds.to_string()]);
    command.env("TRACING_USDT_SOCKET", &receiver.socket);
    command.env("TRACING_USDT_DELIVERY", delivery);
    command.env("TRACING_USDT_MAX_WAIT_MS", wait_ms.to_string());
    let flood = programs::run("flood", &mut command)?.json;
    let received = receiver.finish()?;

    let (closed, spans) = (count(&flood, "closed")?, count(&received, "spans")?);
    Ok(Flood {
        delivery,
        wait_ms,
        threads,
        closed_per_s: closed as f64 / number(&flood, "closing_s")?,
        received_per_s: spans as f64 / number(&flood, "delivered_s")?,
        lost: closed.saturating_sub(spans) as f64 / closed as f64,
        mismatches: mismatches(&flood, &received)?,
    })
}

/// What the program closed, what its account says, what arrived, and the losses told in the stream:
/// four witnesses of the same spans.
fn mismatches(flood: &Value, received: &Value) -> Result<Vec<String>> {
    let closed = count(flood, "closed")?;
    let account = &flood["stats"];
    let (sent, dropped) = (count(account, "sent")?, count(account, "dropped")?);
    let (spans, told) = (count(received, "spans")?, count(received, "told_lost")?);
    let checks = [
        ("closed by the account", count(account, "closed")?, "closed", closed),
        ("received + dropped", spans + dropped, "closed", closed),
        ("received", spans, "sent", sent),
        ("losses told in the stream", told, "dropped", dropped),
    ];
    let wrong = checks.into_iter().filter(|(_, this, _, that)| this != that);
    Ok(wrong.map(|(what, this, of, that)| format!("MISMATCH: {what} {this} != {of} {that}")).collect())
}

fn count(json: &Value, name: &str) -> Result<u64> {
    json[name].as_u64().with_context(|| format!("no count {name} in {json}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_span_that_nobody_accounts_for_is_a_mismatch() -> Result<()> {
        let flood = json!({ "closed": 10, "stats": { "closed": 10, "sent": 7, "dropped": 3 } });
        let told = |spans, told_lost| mismatches(&flood, &json!({ "spans": spans, "told_lost": told_lost }));
        assert!(told(7, 3)?.is_empty());
        assert_eq!(
            told(6, 3)?,
            ["MISMATCH: received + dropped 9 != closed 10", "MISMATCH: received 6 != sent 7"]
        );
        assert_eq!(told(7, 2)?, ["MISMATCH: losses told in the stream 2 != dropped 3"]);
        Ok(())
    }
}
