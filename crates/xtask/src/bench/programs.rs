//! Builds the programs of `benches/`, spantap and the example `shop`, and runs them without the user's settings in the
//! environment.

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

/// A program that runs longer counts as hung.
const TIMEOUT: Duration = Duration::from_secs(120);

impl Programs {
    /// Builds all, with cargo's usual progress on stderr.
    pub(crate) fn build(root: &Path) -> Result<Self> {
        // Several builds, because cargo unifies features: in one build, the programs that make spans would get the
        // features that spantap needs.
        let programs = cargo_build(root, &["--release", "--package", "bench", "--bins"])?;
        Ok(Self(programs.into_iter().chain(Self::build_for_captures(root)?.0).collect()))
    }

    /// Builds spantap, the programs that feed it, and the shop. Programs have the usual release profile, and spantap the
    /// one with which it is installed.
    pub(crate) fn build_for_captures(root: &Path) -> Result<Self> {
        let spantap = build_spantap(root, &["--bins"])?;
        let shop = cargo_build(root, &["--release", "--package", "examples", "--bin", "shop"])?;
        Ok(Self(spantap.into_iter().chain(shop).collect()))
    }

    /// Builds spantap, and the programs that make spans for its full screen.
    pub(crate) fn build_for_top(root: &Path) -> Result<Self> {
        Ok(Self(build_spantap(root, &["--bin", "spantap", "--bin", "blast", "--bin", "generate"])?))
    }

    /// The path of a built program, or a path that does not exist.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.get(name).cloned().unwrap_or_else(|| Path::new("/not-built").join(name))
    }
}

/// Builds these programs with spantap, in the profile with which it is installed.
fn build_spantap(root: &Path, programs: &[&str]) -> Result<HashMap<String, PathBuf>> {
    let packages = ["--profile", "dist", "--package", "spantap", "--package", "bench-collector"];
    let ebpf: &[&str] =
        if setup::ensure(&setup::EBPF).is_empty() { &["--features", "spantap/ebpf"] } else { &[] };
    cargo_build(root, &[&packages[..], programs, ebpf].concat())
}

/// A command without the environment variables that would change its behaviour.
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
        "TRACING_USDT_OPEN_SPANS",
        "TRACING_USDT_SOCKET",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The output of a program.
pub(crate) struct Output {
    pub(crate) json: Value,
    pub(crate) stderr: Vec<String>,
}

/// Runs a program to its end, and parses the line of JSON that it prints.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<Output> {
    let mut process = Started::spawn(name, command)?;
    let (stdout, stderr) = process.output()?;
    let stderr = lines(stderr.with_context(|| format!("no pipe from {name}"))?);
    let line = match lines(stdout).recv_timeout(TIMEOUT) {
        Ok(line) => line,
        Err(RecvTimeoutError::Timeout) => bail!("{name} printed nothing for {} s", TIMEOUT.as_secs()),
        Err(RecvTimeoutError::Disconnected) => String::new(),
    };
    let status = process.wait(TIMEOUT)?;
    let stderr: Vec<String> = stderr.iter().collect();
    if !status.success() {
        bail!("{name} failed ({status}): {}", stderr.join(" "));
    }
    let json =
        serde_json::from_str(&line).with_context(|| format!("{name} printed {line:?} instead of JSON"))?;
    Ok(Output { json, stderr })
}

/// A number in a program's output.
pub(crate) fn number(json: &Value, name: &str) -> Result<f64> {
    json[name].as_f64().with_context(|| format!("no number {name} in {json}"))
}

/// A whole number in a program's output.
pub(crate) fn count(json: &Value, name: &str) -> Result<u64> {
    json[name].as_u64().with_context(|| format!("no count {name} in {json}"))
}
