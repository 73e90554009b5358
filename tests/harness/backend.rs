//! A Zipkin backend whose answers the test chooses.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// A backend that runs until the test program ends.
pub struct ZipkinBackend {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    answer: u16,
    /// The number of requests that are accepted before `answer` applies.
    accept: usize,
    /// The largest body that is accepted, in bytes.
    largest: usize,
    /// The time that each answer takes.
    pause: Duration,
    /// The names of accepted spans by their ids.
    accepted: HashMap<String, String>,
}

impl ZipkinBackend {
    /// Answers all requests with the status `answer`.
    pub fn start(answer: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            answer,
            accept: 0,
            largest: usize::MAX,
            pause: Duration::ZERO,
            accepted: HashMap::new(),
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&stream.unwrap(), &state));
            }
        });
        Self { port, state }
    }

    /// The argument for `--to`.
    pub fn target(&self) -> String {
        format!("zipkin=http://127.0.0.1:{}", self.port)
    }

    /// Answers with this status from now on.
    pub fn answer(&self, status: u16) {
        self.state.lock().unwrap().answer = status;
    }

    /// Accepts the next `requests` requests, whatever it answers to others.
    pub fn accept(&self, requests: usize) {
        self.state.lock().unwrap().accept = requests;
    }

    /// Waits for `pause` before each answer from now on.
    pub fn take(&self, pause: Duration) {
        self.state.lock().unwrap().pause = pause;
    }

    /// Answers requests of more than `largest` bytes with 413 from now on.
    pub fn limit(&self, largest: usize) {
        self.state.lock().unwrap().largest = largest;
    }

    /// The number of different spans that it has accepted.
    pub fn accepted(&self) -> usize {
        self.state.lock().unwrap().accepted.len()
    }

    /// The number of accepted spans with another name than `name`.
    pub fn spans_not_named(&self, name: &str) -> usize {
        self.state.lock().unwrap().accepted.values().filter(|accepted| *accepted != name).count()
    }
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = read(&mut reader) {
        let pause = state.lock().unwrap().pause;
        thread::sleep(pause);
        let mut state = state.lock().unwrap();
        let answer = match state.accept {
            _ if body.len() > state.largest => 413,
            0 => state.answer,
            _ => 202,
        };
        state.accept = state.accept.saturating_sub(1);
        if answer < 300 {
            let spans: Vec<Value> = serde_json::from_slice(&body).unwrap();
            let text = |span: &Value, key: &str| span[key].as_str().unwrap_or_default().to_owned();
            state.accepted.extend(spans.iter().map(|span| (text(span, "id"), text(span, "name"))));
        }
        drop(state);
        if write!(stream, "HTTP/1.1 {answer} Said\r\nContent-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// Reads the body of a request.
fn read(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length?];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
