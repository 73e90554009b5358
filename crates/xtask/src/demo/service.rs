//! Builds, starts and stops the shop.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::process::{Started, cargo_build, lines};

/// Builds it, with cargo's usual progress on stderr, and returns the executable.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let messages = cargo_build(root, &["--package", "examples", "--bin", "shop"])?;
    let executable = messages.iter().find_map(|message| {
        let is_shop = message["target"]["name"] == "shop";
        message["executable"].as_str().filter(|_| is_shop).map(PathBuf::from)
    });
    executable.context("cargo built the service but named no executable")
}

pub(crate) struct Service {
    process: Started,
    pub(crate) binary: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) log: PathBuf,
}

impl Service {
    /// Starts it on a free port with its spans going to `socket` and its database in `folder`, and
    /// waits until it listens.
    pub(crate) fn start(binary: &Path, socket: &Path, folder: &Path) -> Result<Self> {
        let log = binary.with_file_name("shop.log");
        // A file left by another user's run can be removed, but not written.
        let _ = fs::remove_file(&log);
        let log_file = File::create(&log).with_context(|| format!("can't write {}", log.display()))?;
        let mut command = Command::new(binary);
        command
            .arg("0")
            .env("TMPDIR", folder)
            .env("TRACING_USDT_SOCKET", socket)
            .env("TRACING_USDT_MAX_WAIT_MS", "100")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file);
        // What somebody may have set for programs of their own.
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
        let mut process = Started::spawn("the service", &mut command)?;
        let output = lines(process.output()?.0);
        let Ok(line) = output.recv_timeout(Duration::from_secs(30)) else {
            let state = match process.ended()? {
                Some(status) => format!("ended at once ({status})"),
                None => "did not listen within 30 s".to_owned(),
            };
            bail!("the service {} {state}; {}", binary.display(), last_words(&log));
        };
        let address = line.rsplit_once("http://").and_then(|(_, address)| address.parse().ok());
        let address = address.with_context(|| format!("the service named no address but said {line:?}"))?;
        Ok(Self { process, binary: binary.to_owned(), address, log })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Asks it to stop, and waits until it has done its work.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(Duration::from_secs(20))?;
        if !status.success() {
            bail!("the service failed when asked to stop ({status}); {}", last_words(&self.log));
        }
        Ok(())
    }
}

fn last_words(log: &Path) -> String {
    let text = match fs::read_to_string(log) {
        Ok(text) if text.trim().is_empty() => return format!("its log {} is empty", log.display()),
        Ok(text) => text,
        Err(error) => return format!("its log {} can't be read: {error}", log.display()),
    };
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(5)..].join("\n  ");
    format!("its log {} ends:\n  {end}", log.display())
}
