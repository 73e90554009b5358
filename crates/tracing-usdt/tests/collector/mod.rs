//! A receiver for the tests, with a socket in a folder of its own.
#![allow(dead_code)] // each test file uses a part of it

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tracing_subscriber::prelude::*;
use tracing_usdt::{Builder, Delivery, Handle};

/// Long enough that only a hang reaches it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

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

    /// Options for a layer that sends to this collector and ignores the environment's parent. It sends or drops
    /// a span before its close returns.
    pub(crate) fn builder(&self) -> Builder {
        tracing_usdt::builder()
            .with_socket(&self.path)
            .with_service_name("test")
            .without_remote_parent()
            .with_delivery(Delivery::Inline)
    }

    /// Receives the datagrams in the socket's queue.
    pub(crate) fn drain_bytes(&self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 1 << 18];
        std::iter::from_fn(move || self.socket.recv(&mut buffer).ok().map(|bytes| buffer[..bytes].to_vec()))
            .collect()
    }

    /// The same for datagrams of text.
    pub(crate) fn drain_text(&self) -> Vec<String> {
        let datagrams = self.drain_bytes().into_iter();
        datagrams.map(|datagram| String::from_utf8(datagram).expect("UTF-8")).collect()
    }

    /// Receives the spans of the datagrams in the socket's queue.
    pub(crate) fn drain(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for text in self.drain_text() {
            let datagram: Vec<Span> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(!datagram.is_empty(), "a datagram without a span");
            spans.extend(datagram);
        }
        spans
    }

    /// Runs `f` under a layer and returns its spans by name. There may be no more spans than the queue holds.
    pub(crate) fn spans_of(&self, f: impl FnOnce()) -> BTreeMap<String, Span> {
        let layer = self.builder().with_delivery(Delivery::Background).build();
        let handle = layer.handle();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), f);
        handle.flush(TIMEOUT).expect("the queue has room");
        let stats = handle.stats();
        assert_eq!(stats.closed, stats.sent, "the test made more than the queue holds: {stats:?}");
        let spans = self.drain();
        let count = spans.len();
        let by_name: BTreeMap<_, _> = spans.into_iter().map(|s| (text(&s, "name").to_owned(), s)).collect();
        assert_eq!(by_name.len(), count, "the test's spans need different names");
        by_name
    }
}

/// The string `key` of a JSON object.
#[track_caller]
pub(crate) fn text<'a>(object: &'a Span, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no string {key:?} in {object:?}"))
}

/// The span's tag `key`, if it has one.
pub(crate) fn tag<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    span["tags"].get(key).map(|value| value.as_str().unwrap_or_else(|| panic!("{key} is not a string")))
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "waited {TIMEOUT:?} without success until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Checks that closed = sent + queued + dropped, which holds while no span is on its way.
#[track_caller]
pub(crate) fn assert_stats_add_up(handle: &Handle) {
    let stats = handle.stats();
    assert_eq!(stats.closed, stats.sent + stats.queued + stats.dropped.total(), "{stats:?}");
}
