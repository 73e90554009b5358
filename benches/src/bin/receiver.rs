//! A receiver: `receiver drain <path>` receives datagrams, `receiver parse <path>` also parses them like a
//! collector. It prints `ready`, and its counts when its stdin ends.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::io::{ErrorKind, Read, Write, stdin, stdout};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counts of what was received. Spans and losses are counted only by `parse`.
#[derive(Default, Serialize)]
struct Received {
    datagrams: u64,
    spans: u64,
    /// Spans reported as lost in the stream.
    reported_lost: u64,
}

/// The members of a Zipkin span that a collector reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    #[serde(borrow)]
    trace_id: Cow<'a, str>,
    id: Cow<'a, str>,
    parent_id: Option<Cow<'a, str>>,
    name: Cow<'a, str>,
    timestamp: u64,
    duration: u64,
    #[serde(default)]
    tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

static ALL_IS_SENT: AtomicBool = AtomicBool::new(false);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (parses, path) = match &arguments[..] {
        [what, path] if what == "drain" || what == "parse" => (what == "parse", path),
        _ => return Err("usage: receiver drain|parse <path>".into()),
    };
    let socket = UnixDatagram::bind(path).map_err(|error| format!("can't bind {path}: {error}"))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    thread::spawn(|| {
        let _ = stdin().read_to_end(&mut Vec::new());
        ALL_IS_SENT.store(true, Ordering::Release);
    });
    writeln!(stdout(), "ready")?;
    bench::print(&receive(&socket, parses)?)
}

fn receive(socket: &UnixDatagram, parses: bool) -> Result<Received, Box<dyn Error>> {
    let mut received = Received::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        // Loaded before the receive: if everything was sent by then, an empty queue is the end.
        let is_last = ALL_IS_SENT.load(Ordering::Acquire);
        match socket.recv(&mut buffer) {
            Ok(length) => {
                received.datagrams += 1;
                if parses {
                    let spans = serde_json::from_slice(&buffer[..length]);
                    received.count(spans.map_err(|error| format!("a datagram is not Zipkin JSON: {error}"))?);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if is_last {
                    return Ok(received);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Received {
    fn count(&mut self, spans: Vec<Span<'_>>) {
        for span in spans {
            black_box((&span.trace_id, &span.id, &span.parent_id, span.timestamp, span.duration));
            if span.name != "tracing_usdt.dropped" {
                self.spans += 1;
                continue;
            }
            let losses = span.tags.iter().filter(|(name, _)| name.starts_with("tracing_usdt.dropped."));
            self.reported_lost += losses.filter_map(|(_, spans)| spans.parse::<u64>().ok()).sum::<u64>();
        }
    }
}
