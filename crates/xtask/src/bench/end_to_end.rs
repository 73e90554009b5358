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

    let count =
        |json: &Value, name: &str| json[name].as_u64().with_context(|| format!("no count {name} in {json}"));
    let closed = count(&flood, "closed")?;
    let stats = &flood["stats"];
    let (sent, dropped) = (count(stats, "sent")?, count(stats, "dropped")?);
    let (spans, told) = (count(&received, "spans")?, count(&received, "told_lost")?);
    let checks = [
        ("the account's closed", count(stats, "closed")?, "closed", closed),
        ("received + dropped", spans + dropped, "closed", closed),
        ("received", spans, "sent", sent),
        ("losses told in the stream", told, "dropped", dropped),
    ];
    let mismatches = checks.iter().filter(|(_, this, _, that)| this != that);
    Ok(Flood {
        delivery,
        wait_ms,
        threads,
        closed_per_s: closed as f64 / number(&flood, "closing_s")?,
        received_per_s: spans as f64 / number(&flood, "delivered_s")?,
        lost: (closed.saturating_sub(spans)) as f64 / closed as f64,
        mismatches: mismatches
            .map(|(what, this, of, that)| format!("MISMATCH: {what} {this} != {of} {that}"))
            .collect(),
    })
}
