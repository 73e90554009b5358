//! Clients for OTLP: requests made by hand, and the exporters of OpenTelemetry's SDK for Python.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::TIMEOUT;
use crate::build::workspace;
use crate::net::Headers;

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The headers, with names in lower case.
    pub headers: HashMap<String, String>,
    /// The content.
    pub body: Vec<u8>,
}

impl Answer {
    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Posts to `path`, and reads the answer.
///
/// # Errors
///
/// The server closed the connection without an answer.
pub fn post(address: SocketAddr, path: &str, headers: Headers<'_>, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)?;
    read_answer(&mut stream)
}

/// Reads the answer to a request on a connection that stays open.
///
/// # Errors
///
/// The server closed the connection without an answer.
pub fn read_answer(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
            let mut lines = text.lines();
            let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap();
            let pairs = lines.filter_map(|line| line.split_once(':'));
            let headers: HashMap<String, String> =
                pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
            let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            while bytes.len() < head + 4 + length {
                read_some(stream, &mut buffer, &mut bytes)?;
            }
            return Ok(Answer { status, headers, body: bytes[head + 4..].to_vec() });
        }
        read_some(stream, &mut buffer, &mut bytes)?;
    }
}

fn read_some(stream: &mut TcpStream, buffer: &mut [u8], bytes: &mut Vec<u8>) -> io::Result<()> {
    match stream.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => {
            bytes.extend_from_slice(&buffer[..length]);
            Ok(())
        }
    }
}

/// A request with spans of the service `shop` that have just ended. Their numbers are in their ids and their names.
pub fn otlp_request(numbers: Range<u64>) -> ExportTraceServiceRequest {
    let service = any_value::Value::StringValue("shop".to_owned());
    let service = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue { value: Some(service) }),
        ..KeyValue::default()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let span = |number: u64| Span {
        trace_id: (u128::from(number / 10) + (1 << 64)).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: format!("span {number}"),
        start_time_unix_nano: now - 1_000_000,
        end_time_unix_nano: now,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: numbers.map(span).collect(), ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: vec![service], ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

/// Posts spans as protobuf.
///
/// # Errors
///
/// The server closed the connection without an answer.
pub fn post_spans(address: SocketAddr, numbers: Range<u64>) -> io::Result<Answer> {
    let body = otlp_request(numbers).encode_to_vec();
    post(address, "/v1/traces", &[("Content-Type", "application/x-protobuf")], &body)
}

/// The folder of the package that `cargo xtask test` installs.
pub(crate) fn opentelemetry() -> PathBuf {
    let version = include_str!("opentelemetry.version").trim();
    workspace().join(format!("target/tools/opentelemetry-exporter-otlp=={version}"))
}

/// Runs a script with OpenTelemetry's SDK for Python. `environment` configures it.
pub fn python_sdk(script: &Path, args: &[&str], environment: Headers<'_>) -> Output {
    let mut python = Command::new("python3");
    // Settings of the user who runs the tests. The library `requests` prefers these certificates to those of OTEL_*.
    let is_setting = |name: &str| {
        name.starts_with("OTEL_") || matches!(name, "REQUESTS_CA_BUNDLE" | "CURL_CA_BUNDLE" | "SSL_CERT_FILE")
    };
    for (variable, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
        python.env_remove(variable);
    }
    python.arg(script).args(args).env("PYTHONPATH", opentelemetry()).envs(environment.iter().copied());
    python.output().unwrap()
}

/// Opens connections that send nothing.
pub fn idle_connections(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let open = |_| {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        stream
    };
    (0..count).map(open).collect()
}
