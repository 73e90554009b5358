//! A receiver of datagrams.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// A Zipkin span as it was received.
pub type Span = serde_json::Map<String, Value>;

/// A receiver that reads on a thread of its own, as fast as it can.
pub struct Collector {
    path: PathBuf,
    _folder: tempfile::TempDir,
    datagrams: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Binds a socket in a folder of its own.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let datagrams = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (sink, stopped) = (Arc::clone(&datagrams), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 18];
            loop {
                // Loaded before the receive, so that everything sent before the stop is received.
                let last = stopped.load(Ordering::Acquire);
                match socket.recv(&mut buffer) {
                    Ok(bytes) => sink.lock().unwrap().push(buffer[..bytes].to_vec()),
                    Err(_) if last => return,
                    Err(_) => {}
                }
            }
        });
        Self { path, _folder: folder, datagrams, stop, thread: Some(thread) }
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Receives the rest, and returns all datagrams, which are text. Call it after the senders have ended.
    pub fn datagrams(self) -> Vec<String> {
        self.bytes().into_iter().map(|datagram| String::from_utf8(datagram).unwrap()).collect()
    }

    /// Receives the rest, and returns all datagrams of any format.
    pub fn bytes(mut self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut self.datagrams.lock().unwrap())
    }

    /// Receives the rest, and returns the spans of all datagrams.
    pub fn spans(self) -> Vec<Span> {
        let parse = |text: String| -> Vec<Span> {
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"))
        };
        self.datagrams().into_iter().flat_map(parse).collect()
    }
}

/// The string `key` of a JSON object.
#[track_caller]
pub fn text<'a>(object: &'a Span, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no string {key:?} in {object:?}"))
}
