//! Runs the shop under spantap: `spantap run -- shop`.

use std::fs;
use std::io::stdout;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::process::{Started, cargo_build, lines};
use crate::setup;

/// The programs that the demo runs.
pub(crate) struct Binaries {
    pub(crate) shop: PathBuf,
    pub(crate) spantap: PathBuf,
}

/// Builds the programs, with cargo's usual progress on stderr. With `debug`, uses the options of the tests, so that cargo
/// finds the programs already built.
pub(crate) fn build(root: &Path, debug: bool) -> Result<Binaries> {
    let mut args = vec!["--bin", "shop", "--bin", "spantap"];
    if !debug {
        args.extend(["--release", "--package", "examples", "--package", "spantap"]);
    } else if setup::ensure(&setup::EBPF).is_empty() {
        args.extend(["--workspace", "--features", "spantap/ebpf"]);
    } else {
        args.push("--workspace");
    }
    let mut built = cargo_build(root, &args)?;
    let mut executable =
        |name| built.remove(name).with_context(|| format!("cargo built {name} but named no executable"));
    Ok(Binaries { shop: executable("shop")?, spantap: executable("spantap")? })
}

pub(crate) struct Service {
    spantap: Started,
    pub(crate) address: SocketAddr,
    pub(crate) log: PathBuf,
}

/// People can't read more.
pub(crate) const TRACES_A_SECOND: &str = "3";

/// A shell script. Its arguments are the program, the program's argument, and the file for the log.
const WITH_LOG: &str = "exec \"$0\" \"$1\" 2> \"$2\"";

impl Service {
    /// Starts the shop on a free port under spantap, and waits until it listens. spantap shows traces on this program's
    /// stdout and writes spans to the file `spans`. The shop's database is in `folder`.
    pub(crate) fn start(binaries: &Binaries, spans: &Path, folder: &Path) -> Result<Self> {
        let log = binaries.shop.with_file_name("shop.log");
        // A file left by another user's run can be removed, but not written.
        let _ = fs::remove_file(&log);
        let mut command = Command::new(&binaries.spantap);
        command.args(["run", "--max-traces", TRACES_A_SECOND, "--to"]);
        command.arg(format!("jsonl={}", spans.display()));
        command.args(["--", "sh", "-c", WITH_LOG]).arg(&binaries.shop).arg("0").arg(&log);
        command
            .env("TMPDIR", folder)
            .env("TRACING_USDT_MAX_WAIT_MS", "100")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stdout().as_fd().try_clone_to_owned()?);
        // The user may have set these for other programs.
        for variable in [
            "RUST_BACKTRACE",
            "OTEL_RESOURCE_ATTRIBUTES",
            "OTEL_SERVICE_NAME",
            "OTEL_TRACES_SAMPLER",
            "TRACEPARENT",
            "TRACING_USDT_DELIVERY",
            "TRACING_USDT_FORMAT",
        ] {
            command.env_remove(variable);
        }
        let mut spantap = Started::spawn("spantap", &mut command)?;
        let output = lines(spantap.output()?.0);
        let Ok(line) = output.recv_timeout(Duration::from_secs(30)) else {
            let state = match spantap.ended()? {
                Some(status) => format!("ended at once ({status})"),
                None => "did not listen within 30 s".to_owned(),
            };
            bail!("the service {} {state}; {}", binaries.shop.display(), end_of_log(&log));
        };
        let address = line.rsplit_once("http://").and_then(|(_, address)| address.parse().ok());
        let address =
            address.with_context(|| format!("the service printed {line:?} instead of its address"))?;
        Ok(Self { spantap, address, log })
    }

    /// Stops the service, and waits until it has finished its requests and spantap has forwarded all spans.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.spantap.signal(Signal::SIGTERM)?;
        let status = self.spantap.wait(Duration::from_secs(20))?;
        if !status.success() {
            bail!("the service failed when asked to stop ({status}); {}", end_of_log(&self.log));
        }
        Ok(())
    }
}

fn end_of_log(log: &Path) -> String {
    let text = match fs::read_to_string(log) {
        Ok(text) if text.trim().is_empty() => return format!("its log {} is empty", log.display()),
        Ok(text) => text,
        Err(error) => return format!("its log {} can't be read: {error}", log.display()),
    };
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(5)..].join("\n  ");
    format!("its log {} ends:\n  {end}", log.display())
}
