//! Spans that a test makes up, and finds again in rotel.

use std::fmt::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Rotel, wait_until};

/// 2026-01-01, in microseconds.
const START_US: u64 = 1_767_225_600_000_000;

/// Spans of a trace. The parent of span `n` is span `n / 2`.
const OF_A_TRACE: u64 = 20;

/// A span whose content follows from its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MadeUp(pub u64);

impl MadeUp {
    /// The first `spans` spans.
    pub fn many(spans: u64) -> Vec<Self> {
        (0..spans).map(Self).collect()
    }

    /// Half of the spans are sent as Zipkin JSON, half as OTLP.
    fn is_zipkin(self) -> bool {
        self.0 / 40 % 2 == 0
    }

    /// Its id, in hex.
    pub fn id(self) -> String {
        format!("{:016x}", 0x00de_cade_0000_0000 + self.0)
    }

    fn trace_id(self) -> String {
        format!("{:032x}", 0x00c0_ffee_u128 << 64 | u128::from(self.0 / OF_A_TRACE + 1))
    }

    fn parent_id(self) -> Option<String> {
        let (trace, n) = (self.0 / OF_A_TRACE, self.0 % OF_A_TRACE);
        (n > 0).then(|| Self(trace * OF_A_TRACE + n / 2).id())
    }

    fn start_us(self) -> u64 {
        START_US + 1000 * self.0
    }

    fn duration_us(self) -> u64 {
        1 + self.0 * 7 % 10_000
    }

    fn has_event(self) -> bool {
        self.0 % 3 == 0
    }

    fn is_error(self) -> bool {
        self.0 % 5 == 0
    }

    fn zipkin(self) -> Value {
        let mut span = json!({
            "traceId": self.trace_id(), "id": self.id(), "name": format!("span {}", self.0),
            "timestamp": self.start_us(), "duration": self.duration_us(),
            "localEndpoint": { "serviceName": "made up" },
            "tags": { "number": self.0.to_string(), "text": "quote\" and é" },
        });
        if let Some(parent) = self.parent_id() {
            span["parentId"] = parent.into();
        }
        if self.has_event() {
            span["annotations"] =
                json!([{ "timestamp": self.start_us() + 1, "value": r#""it happened": {"code":7}"# }]);
        }
        if self.is_error() {
            span["tags"]["otel.status_code"] = "ERROR".into();
            span["tags"]["error"] = "it broke".into();
        }
        span
    }

    fn otlp(self) -> Value {
        let nanos = |us: u64| (us * 1000).to_string();
        let mut span = json!({
            "traceId": self.trace_id(), "spanId": self.id(), "name": format!("span {}", self.0), "kind": 1,
            "startTimeUnixNano": nanos(self.start_us()),
            "endTimeUnixNano": nanos(self.start_us() + self.duration_us()),
            "attributes": [
                { "key": "number", "value": { "intValue": self.0.to_string() } },
                { "key": "text", "value": { "stringValue": "quote\" and é" } },
            ],
        });
        if let Some(parent) = self.parent_id() {
            span["parentSpanId"] = parent.into();
        }
        if self.has_event() {
            span["events"] = json!([{
                "timeUnixNano": nanos(self.start_us() + 1), "name": "it happened",
                "attributes": [{ "key": "code", "value": { "intValue": "7" } }],
            }]);
        }
        if self.is_error() {
            span["status"] = json!({ "code": 2, "message": "it broke" });
        }
        span
    }

    /// The text that rotel prints for it.
    pub fn printed(self) -> String {
        let mut out = format!("    Trace ID       : {}\n", self.trace_id());
        let _ = writeln!(out, "    Parent ID      : {}", self.parent_id().unwrap_or_default());
        let _ = writeln!(out, "    ID             : {}", self.id());
        let _ = writeln!(out, "    Name           : span {}", self.0);
        let _ = writeln!(out, "    Kind           : SPAN_KIND_INTERNAL");
        let _ = writeln!(out, "Start time: {}", self.start_us() * 1000);
        let _ = writeln!(out, "End time: {}", (self.start_us() + self.duration_us()) * 1000);
        if self.is_error() {
            let _ = writeln!(out, "    Status code    : STATUS_CODE_ERROR\n    Status message : it broke");
        }
        let number = if self.is_zipkin() { format!("Str({})", self.0) } else { format!("Int({})", self.0) };
        let _ = writeln!(out, "Attributes:\n     -> number: {number}\n     -> text: Str(quote\" and é)");
        if self.has_event() {
            let _ = writeln!(out, "Events:\nSpanEvent #0\n     -> Name: it happened");
            let _ = writeln!(out, "     -> Timestamp: {}", (self.start_us() + 1) * 1000);
            let _ = writeln!(out, "     -> DroppedAttributesCount: 0\n     -> Attributes::");
            let _ = writeln!(out, "          -> code: Int(7)");
        }
        out.trim_end().to_owned()
    }
}

/// Sends the spans, up to 40 in a datagram. Waits while the socket is full.
pub fn send(path: &Path, spans: &[MadeUp]) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(path).unwrap();
    for spans in spans.chunk_by(|a, b| a.0 / 40 == b.0 / 40) {
        let datagram = if spans[0].is_zipkin() {
            spans.iter().map(|span| span.zipkin()).collect()
        } else {
            let spans: Vec<Value> = spans.iter().map(|span| span.otlp()).collect();
            let service = json!([{ "key": "service.name", "value": { "stringValue": "made up" } }]);
            json!({ "resourceSpans": [{
                "resource": { "attributes": service },
                "scopeSpans": [{ "scope": { "name": "spans.rs" }, "spans": spans }],
            }] })
        };
        socket.send(datagram.to_string().as_bytes()).unwrap();
    }
}

/// Sends `bytes` as one datagram.
pub fn send_bytes(path: &Path, bytes: &[u8]) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(path).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(socket.send(bytes).unwrap(), bytes.len());
}

/// Waits until rotel has printed all of `spans`, and checks that each was printed once and unchanged.
#[track_caller]
pub fn wait_for_all(rotel: &Rotel, spans: &[MadeUp]) {
    wait_until("rotel has printed all spans", || {
        // Counts first, because comparing each span takes a while.
        if rotel.log().matches("\n    ID             : ").count() < spans.len() {
            return false;
        }
        let printed = rotel.spans();
        // The last span may be incomplete: rotel is still writing it.
        let is_whole = |span: &MadeUp| {
            let found = printed.get(&span.id());
            found.is_some_and(|found| found[0].1.len() >= span.printed().len())
        };
        printed.len() >= spans.len() && spans.iter().all(is_whole)
    });
    let printed = rotel.spans();
    assert_eq!(printed.len(), spans.len());
    let pid = format!("-> process.pid: Int({})", std::process::id());
    for span in spans {
        let found = &printed[&span.id()];
        assert_eq!(found.len(), 1, "{span:?} came {} times", found.len());
        let (resource, span_itself) = &found[0];
        assert_eq!(*span_itself, span.printed(), "{span:?}");
        for line in ["-> service.name: Str(made up)", &pid] {
            assert!(resource.contains(line), "no {line:?} in {resource}");
        }
    }
}
