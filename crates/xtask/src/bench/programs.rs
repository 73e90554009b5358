//! The programs of `benches/` and spantap: builds them, and runs them with nothing of somebody's environment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{Started, cargo_build, lines};
use crate::setup;

pub(crate) struct Programs(HashMap<String, PathBuf>);

/// A program that runs longer has hung.
const AT_MOST: Duration = Duration::from_secs(120);

impl Programs {
    /// Builds them, with cargo's usual progress on stderr.
    pub(crate) fn build(root: &Path) -> Result<Self> {
        // Apart, or the programs that make spans would have the features that spantap asks for. These are
        // built as any program is, and spantap as it is installed.
        let programs = cargo_build(root, &["--release", "--package", "bench", "--bins"])?;
        let spantap = ["--profile", "dist", "--package", "spantap", "--package", "bench-collector", "--bins"];
        let ebpf: &[&str] =
            if setup::ensure(&setup::EBPF).is_empty() { &["--features", "spantap/ebpf"] } else { &[] };
        let spantap = cargo_build(root, &[&spantap[..], ebpf].concat())?;
        Ok(Self(programs.into_iter().chain(spantap).collect()))
    }

    /// Of one that was built; else of one that is not there.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.get(name).cloned().unwrap_or_else(|| Path::new("/not-built").join(name))
    }
}

/// A command without what somebody may have set for programs of their own.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for variable in [
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_SERVICE_NAME",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_BSP_SCHEDULE_DELAY",
        "RUST_BACKTRACE",
        "RUST_LOG",
        "TRACEPARENT",
        "TRACING_USDT_DELIVERY",
        "TRACING_USDT_FORMAT",
        "TRACING_USDT_MAX_WAIT_MS",
        "TRACING_USDT_SOCKET",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a program had to say.
pub(crate) struct Said {
    pub(crate) json: Value,
    pub(crate) stderr: Vec<String>,
}

/// Runs it to its end, and reads the line of JSON it prints.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<Said> {
    let mut process = Started::spawn(name, command)?;
    let (stdout, stderr) = process.output()?;
    let stderr = lines(stderr.with_context(|| format!("no pipe from {name}"))?);
    let line = match lines(stdout).recv_timeout(AT_MOST) {
        Ok(line) => line,
        Err(RecvTimeoutError::Timeout) => bail!("{name} said nothing for {} s", AT_MOST.as_secs()),
        Err(RecvTimeoutError::Disconnected) => String::new(),
    };
    let status = process.wait(AT_MOST)?;
    let stderr: Vec<String> = stderr.iter().collect();
    if !status.success() {
        bail!("{name} failed ({status}): {}", stderr.join(" "));
    }
    let json = serde_json::from_str(&line).with_context(|| format!("{name} printed no JSON but {line:?}"))?;
    Ok(Said { json, stderr })
}

/// A number of what a program said.
pub(crate) fn number(json: &Value, name: &str) -> Result<f64> {
    json[name].as_f64().with_context(|| format!("no number {name} in {json}"))
}

/// A number that must be a whole one.
pub(crate) fn count(json: &Value, name: &str) -> Result<u64> {
    json[name].as_u64().with_context(|| format!("no count {name} in {json}"))
}
