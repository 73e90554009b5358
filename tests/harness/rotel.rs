//! A real OpenTelemetry collector that prints every span it is given.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::build::workspace;
use crate::{Process, free_address, wait_until};

/// It ends with the value.
pub struct Rotel {
    agent: Option<Process>,
    /// Where it takes OTLP over HTTP.
    pub http: SocketAddr,
    /// Where it takes OTLP over gRPC.
    pub grpc: SocketAddr,
    log: tempfile::NamedTempFile,
}

/// The one that `cargo xtask test` installs.
pub(crate) fn rotel() -> PathBuf {
    workspace().join("target/rotel/rotel/rotel-agent")
}

impl Rotel {
    /// On free ports.
    pub fn start() -> Self {
        let (http, grpc, log) = (free_address(), free_address(), tempfile::NamedTempFile::new().unwrap());
        let mut rotel = Self { agent: None, http, grpc, log };
        rotel.start_again();
        rotel
    }

    /// After a stop, on the same ports.
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

    /// As if it had crashed.
    pub fn stop(&mut self) {
        self.agent = None;
    }

    /// All that it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// What it printed of each span, by the span's id: what it printed of the span's resource and scope,
    /// and of the span itself. A span that came twice has two.
    pub fn spans(&self) -> HashMap<String, Vec<(String, String)>> {
        let log = self.log();
        let mut spans: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for request in log.split("ResourceSpans #").skip(1) {
            let mut parts = request.split("\nSpan #");
            let resource = parts.next().unwrap().to_owned();
            for span in parts {
                // The next scope of the same resource begins in between.
                let span = span.split("\nScopeSpans #").next().unwrap();
                // The last one may be written just now.
                let Some((_, span)) = span.split_once('\n') else { continue };
                let id = span.lines().find_map(|line| line.strip_prefix("    ID             : "));
                let Some(id) = id.filter(|id| id.len() == 16) else { continue };
                // Behind the last span before a stop.
                let lines: Vec<&str> = span.lines().filter(|line| !line.contains("Starting Rotel")).collect();
                let printed = (resource.clone(), lines.join("\n").trim_end().to_owned());
                spans.entry(id.to_owned()).or_default().push(printed);
            }
        }
        spans
    }
}
