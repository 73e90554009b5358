//! What clients may use of time and memory.

use std::time::Duration;

/// The limits. Tests have smaller ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most bytes of a message, as sent and uncompressed. Exporters send some hundred spans at once, and a Collector
    /// accepts 4 MiB over gRPC and 20 MiB over HTTP.
    pub(super) message: usize,
    /// The most bytes of all requests that are being read or wait to be decoded. Only one at a time is uncompressed.
    pub(super) memory: usize,
    /// The most requests that wait to be decoded.
    pub(super) queue: usize,
    /// How long a request may wait for its place in the queue.
    pub(super) queue_time: Duration,
    /// The time for a whole request to arrive: exporters themselves give up after ten seconds by default.
    pub(super) read_time: Duration,
    /// The time for a TLS handshake, and from there to the first request.
    pub(super) first_time: Duration,
    /// How long a connection may have no request. Exporters send one every few seconds, or every minute.
    pub(super) idle_time: Duration,
    /// The most connections. Each takes a file descriptor, of which a process often has 1024, and the spool and the
    /// targets need some, too.
    pub(super) connections: usize,
    /// How long connections may take to end when spantap does.
    pub(super) farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 16 << 20,
            memory: 64 << 20,
            queue: 64,
            queue_time: Duration::from_secs(1),
            read_time: Duration::from_secs(10),
            first_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(120),
            connections: 256,
            farewell: Duration::from_secs(1),
        }
    }
}

/// The most bytes of the head of a request. In HTTP/1, they are also the buffer of a connection.
pub(super) const MAX_HEAD: usize = 16 << 10;

/// The most requests at once on a connection of HTTP/2.
pub(super) const MAX_STREAMS: u32 = 32;

/// The most bytes that HTTP/2 lets a client send on a connection, or on a stream, before they are read.
pub(super) const WINDOW: u32 = 256 << 10;

/// How long a client waits before it sends a request again for which there was no room.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The time for the rest of a request without the right token. Such clients must not take up connections.
pub(super) const STRANGER_TIME: Duration = Duration::from_secs(1);

/// How long a connection may take to end when another one needs its place.
pub(super) const LEAVE_TIME: Duration = Duration::from_millis(100);
