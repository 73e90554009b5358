//! A backend over HTTP/1.1 that answers as it is told.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::numbers;

/// One answer.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Status(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The connection is closed instead.
    HangUp,
}

impl Reply {
    pub(super) fn status(code: u16) -> Self {
        Self::Status(code, vec![], vec![])
    }

    pub(super) fn says(code: u16, words: &str) -> Self {
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

/// What came.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    /// 0 if we hung up.
    pub(super) answered: u16,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    received: Vec<Received>,
}

/// Answers as in its script, then with 200.
pub(super) struct HttpBackend {
    pub(super) port: u16,
    state: Arc<Mutex<State>>,
}

impl HttpBackend {
    pub(super) fn start(script: impl Into<Vec<Reply>>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(super) fn on(listener: TcpListener, script: impl Into<Vec<Reply>>) -> Self {
        let state = State { script: script.into().into(), received: vec![] };
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

    /// The spans of the requests that were answered with 200, of OTLP.
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
    while let Some(mut request) = read(&mut reader) {
        let mut state = state.lock().unwrap();
        let reply = state.script.pop_front().unwrap_or(Reply::status(200));
        request.answered = if let Reply::Status(code, ..) = reply { code } else { 0 };
        state.received.push(request);
        drop(state);
        let Reply::Status(code, headers, body) = reply else { return };
        let mut head = format!("HTTP/1.1 {code} Said\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += "\r\n";
        if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Received> {
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
    let length = headers["content-length"].parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { path, headers, body, answered: 0 })
}
