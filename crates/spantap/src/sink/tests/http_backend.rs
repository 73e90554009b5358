//! An HTTP/1.1 backend with scripted answers.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::numbers;

/// An answer.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Status(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Closes the connection instead.
    HangUp,
    /// Sends these bytes and closes the connection.
    Raw(Vec<u8>),
}

impl Reply {
    pub(super) fn status(code: u16) -> Self {
        Self::Status(code, vec![], vec![])
    }

    pub(super) fn with_message(code: u16, words: &str) -> Self {
        Self::Status(code, vec![], words.into())
    }

    pub(super) fn retry_after(code: u16, value: impl ToString) -> Self {
        Self::Status(code, vec![("Retry-After", value.to_string())], vec![])
    }

    pub(super) fn partial(rejected_spans: i64, message: &str) -> Self {
        Self::Status(200, vec![], partial(rejected_spans, message).encode_to_vec())
    }
}

pub(super) fn partial(rejected_spans: i64, message: &str) -> ExportTraceServiceResponse {
    let partial = ExportTracePartialSuccess { rejected_spans, error_message: message.into() };
    ExportTraceServiceResponse { partial_success: Some(partial) }
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    /// The status of the answer; 0 if the connection was closed.
    pub(super) answered: u16,
}

/// What the backend does with a body that is too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TooLarge {
    Answers,
    /// Answers without reading the body, and closes the connection.
    IsHasty,
    /// Closes the connection without an answer.
    HangsUp,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    /// The most bytes of a body, and what happens to larger ones.
    limit: Option<(usize, TooLarge)>,
    received: Vec<Received>,
}

/// Answers as scripted, then with 200.
pub(super) struct HttpBackend {
    pub(super) port: u16,
    state: Arc<Mutex<State>>,
}

impl HttpBackend {
    pub(super) fn start(script: impl Into<Vec<Reply>>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// Accepts requests up to `largest` bytes.
    pub(super) fn limited(largest: usize, too_large: TooLarge) -> Self {
        let backend = Self::start([]);
        backend.state.lock().unwrap().limit = Some((largest, too_large));
        backend
    }

    pub(super) fn on(listener: TcpListener, script: impl Into<Vec<Reply>>) -> Self {
        let state = State { script: script.into().into(), ..Default::default() };
        let backend =
            Self { port: listener.local_addr().unwrap().port(), state: Arc::new(Mutex::new(state)) };
        let state = backend.state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = state.clone();
                std::thread::spawn(move || serve(&stream.unwrap(), &state));
            }
        });
        backend
    }

    pub(super) fn otlp(&self) -> String {
        format!("otlp=http://127.0.0.1:{}", self.port)
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// The spans of the OTLP requests that were answered with 200.
    pub(super) fn accepted(&self) -> Vec<u64> {
        let requests = self.received().into_iter().filter(|request| request.answered == 200);
        requests.flat_map(|request| numbers_of(&request.body)).collect()
    }
}

pub(super) fn numbers_of(body: &[u8]) -> Vec<u64> {
    numbers(&ExportTraceServiceRequest::decode(body).unwrap().resource_spans)
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some((mut request, length)) = read_head(&mut reader) {
        let limit = state.lock().unwrap().limit;
        let too_large = limit.filter(|(largest, _)| length > *largest).map(|(_, too_large)| too_large);
        if too_large.is_none_or(|too_large| too_large == TooLarge::Answers) {
            request.body.resize(length, 0);
            if reader.read_exact(&mut request.body).is_err() {
                return;
            }
        }
        let is_read = request.body.len() == length;
        let mut state = state.lock().unwrap();
        let reply = match too_large {
            Some(TooLarge::HangsUp) => Reply::HangUp,
            Some(_) => Reply::with_message(413, "too large for us"),
            None => state.script.pop_front().unwrap_or(Reply::status(200)),
        };
        request.answered = match &reply {
            Reply::Status(code, ..) => *code,
            Reply::Raw(_) => 200,
            Reply::HangUp => 0,
        };
        state.received.push(request);
        drop(state);
        if let Reply::Raw(bytes) = &reply {
            let _ = stream.write_all(bytes);
        }
        let Reply::Status(code, headers, body) = reply else { return };
        let mut head = format!("HTTP/1.1 {code} Said\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += "\r\n";
        if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() || !is_read {
            return;
        }
    }
}

/// Reads a request without its body. Also returns the length of the body.
fn read_head(reader: &mut impl BufRead) -> Option<(Received, usize)> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())
    };
    let path = line()?.split(' ').nth(1).unwrap().to_owned();
    let mut headers = HashMap::new();
    while let Some(header) = line() {
        let (name, value) = header.split_once(": ").unwrap();
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    // An empty body has no length.
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    Some((Received { path, headers, body: vec![], answered: 0 }, length))
}
