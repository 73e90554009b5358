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

/// Receives on a thread of its own, as fast as it can.
pub struct Collector {
    path: PathBuf,
    _folder: tempfile::TempDir,
    datagrams: Arc<Mutex<Vec<String>>>,
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
                // Read before the question, so that nothing is left behind.
                let last = stopped.load(Ordering::Acquire);
                match socket.recv(&mut buffer) {
                    Ok(bytes) => {
                        let text = String::from_utf8(buffer[..bytes].to_vec()).unwrap();
                        sink.lock().unwrap().push(text);
                    }
                    Err(_) if last => return,
                    Err(_) => {}
                }
            }
        });
        Self { path, _folder: folder, datagrams, stop, thread: Some(thread) }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All datagrams, once no more are waiting. For after the senders have ended.
    pub fn datagrams(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut self.datagrams.lock().unwrap())
    }

    /// Their spans.
    pub fn spans(self) -> Vec<Span> {
        let parse = |text: String| -> Vec<Span> {
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"))
        };
        self.datagrams().into_iter().flat_map(parse).collect()
    }
}

/// A string member.
#[track_caller]
pub fn text<'a>(object: &'a Span, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no string {key:?} in {object:?}"))
}
