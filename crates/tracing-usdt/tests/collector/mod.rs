//! A receiver for the tests: binds a socket in a folder of its own and reads back what came.
#![allow(dead_code)] // each test file uses a part of it

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tracing_subscriber::prelude::*;
use tracing_usdt::{Builder, Delivery, Handle};

/// Long enough that only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Collector {
    socket: UnixDatagram,
    path: PathBuf,
    folder: tempfile::TempDir,
}

/// A Zipkin span as it was received.
pub(crate) type Span = serde_json::Map<String, Value>;

impl Collector {
    pub(crate) fn bind() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("trace.sock");
        let socket = UnixDatagram::bind(&path).expect("a socket in a folder of our own");
        socket.set_nonblocking(true).expect("a fresh socket");
        Self { socket, path, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A layer's options with this collector as the receiver, deaf to the environment's parent. A
    /// span has been sent, or dropped, when its close returns.
    pub(crate) fn builder(&self) -> Builder {
        tracing_usdt::builder()
            .socket(&self.path)
            .service_name("test")
            .parent(None)
            .delivery(Delivery::Inline)
    }

    /// The datagrams that are waiting to be received.
    pub(crate) fn drain_text(&self) -> Vec<String> {
        let mut buffer = vec![0; 1 << 18];
        std::iter::from_fn(move || self.socket.recv(&mut buffer).ok().map(|bytes| buffer[..bytes].to_vec()))
            .map(|datagram| String::from_utf8(datagram).expect("UTF-8"))
            .collect()
    }

    /// Their spans.
    pub(crate) fn drain(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for text in self.drain_text() {
            let datagram: Vec<Span> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(!datagram.is_empty(), "a datagram without a span");
            spans.extend(datagram);
        }
        spans
    }

    /// The spans by name, after `f` has made them and while they are no more than the queue holds.
    pub(crate) fn spans_of(&self, f: impl FnOnce()) -> BTreeMap<String, Span> {
        let layer = self.builder().delivery(Delivery::Background).build();
        let handle = layer.handle();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), f);
        handle.flush(PATIENCE).expect("the queue has room");
        let stats = handle.stats();
        assert_eq!(stats.closed, stats.sent, "the test made more than the queue holds: {stats:?}");
        let spans = self.drain();
        let count = spans.len();
        let by_name: BTreeMap<_, _> = spans.into_iter().map(|s| (text(&s, "name").to_owned(), s)).collect();
        assert_eq!(by_name.len(), count, "the test's spans have names of their own");
        by_name
    }
}

/// A string member.
#[track_caller]
pub(crate) fn text<'a>(object: &'a Span, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no string {key:?} in {object:?}"))
}

/// A tag, if it is there.
pub(crate) fn tag<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    span["tags"].get(key).map(|value| value.as_str().unwrap_or_else(|| panic!("{key} is not a string")))
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// closed = sent + queued + dropped, at rest.
#[track_caller]
pub(crate) fn assert_accounted(handle: &Handle) {
    let stats = handle.stats();
    assert_eq!(stats.closed, stats.sent + stats.queued + stats.dropped.total(), "{stats:?}");
}
