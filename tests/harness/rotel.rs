//! Runs rotel, an OpenTelemetry collector that prints every span it receives.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::build::workspace;
use crate::{Process, free_address, wait_until};

/// A running rotel. Dropping the value kills it.
pub struct Rotel {
    agent: Option<Process>,
    /// Its address for OTLP over HTTP.
    pub http: SocketAddr,
    /// Its address for OTLP over gRPC.
    pub grpc: SocketAddr,
    log: tempfile::NamedTempFile,
}

/// The program that `cargo xtask test` installs.
pub(crate) fn rotel() -> PathBuf {
    let version = include_str!("rotel.version").trim();
    workspace().join(format!("target/tools/rotel=={version}/rotel/rotel-agent"))
}

impl Rotel {
    /// Starts it on free ports.
    pub fn start() -> Self {
        let (http, grpc, log) = (free_address(), free_address(), tempfile::NamedTempFile::new().unwrap());
        let mut rotel = Self { agent: None, http, grpc, log };
        rotel.start_again();
        rotel
    }

    /// Starts it after a stop, on the same ports.
    pub fn start_again(&mut self) {
        let mut agent = Command::new(rotel());
        agent.args(["start", "--exporter", "blackhole", "--debug-log", "traces"]);
        agent.args(["--debug-log-verbosity", "detailed"]);
        agent.args(["--otlp-grpc-endpoint", &self.grpc.to_string()]);
        agent.args(["--otlp-http-endpoint", &self.http.to_string()]);
        let log = OpenOptions::new().append(true).open(self.log.path()).unwrap();
        self.agent = Some(Process(agent.stdout(log).stderr(Stdio::null()).spawn().unwrap()));
        wait_until("rotel listens", || {
            TcpStream::connect(self.http).is_ok() && TcpStream::connect(self.grpc).is_ok()
        });
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.agent = None;
    }

    /// Everything that it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Its output for each span, by the span's id: the text of the span's resource and scope, and the text of
    /// the span. A span that arrived twice has two entries.
    pub fn spans(&self) -> HashMap<String, Vec<(String, String)>> {
        let log = self.log();
        let mut spans: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for request in log.split("ResourceSpans #").skip(1) {
            let mut parts = request.split("\nSpan #");
            let resource = parts.next().unwrap().to_owned();
            for span in parts {
                // The next scope of the same resource may follow.
                let span = span.split("\nScopeSpans #").next().unwrap();
                // The last span may be incomplete: rotel is still writing it.
                let Some((_, span)) = span.split_once('\n') else { continue };
                let id = span.lines().find_map(|line| line.strip_prefix("    ID             : "));
                let Some(id) = id.filter(|id| id.len() == 16) else { continue };
                // A restart prints this after the last span.
                let lines: Vec<&str> = span.lines().filter(|line| !line.contains("Starting Rotel")).collect();
                let printed = (resource.clone(), lines.join("\n").trim_end().to_owned());
                spans.entry(id.to_owned()).or_default().push(printed);
            }
        }
        spans
    }
}
