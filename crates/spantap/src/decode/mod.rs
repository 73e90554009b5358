//! Decodes a datagram, or an OTLP request, into spans of a [`Process`].
//!
//! `zipkin`, `otlp` (JSON) and `protobuf` read the formats, with what they share in `value`, and with `json` below the
//! first two. `processes` keeps the descriptions of the processes that send, and `sequence` reads the number of a
//! datagram. `open` has the reports of open spans. `fault` defines the possible faults, and `faults` counts them. The `spans` of a datagram are kept by
//! process. Once all are read, `place` finds times for spans without any, and `shared` gives each half of a shared span
//! of Zipkin an id of its own.
//!
//! Datagrams are untrusted. A part of a span that can't be read is left out and counted. Only a span without valid ids
//! is refused, and the other spans of its datagram are not. In protobuf, a span with a text that is not UTF-8 is refused
//! as well. A datagram is refused as a whole if it is not JSON or protobuf to its end, or of no known format.

mod fault;
mod faults;
mod json;
mod open;
mod otlp;
mod place;
mod processes;
mod protobuf;
mod sequence;
mod shared;
mod spans;
mod value;
mod zipkin;

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};

pub use fault::{Fault, Found};
pub use faults::Faults;
pub use open::OpenReport;

use crate::process::{Process, Sender, Sequence};
use crate::span::{EncodedScopes, attributes};
use json::Json;
use processes::Processes;
use shared::Shared;
use spans::Spans;

/// The name of the span in which senders report lost spans, and the prefix of its attributes, one for each reason.
/// `docs/wire.md` describes it.
pub const LOSSES: &str = "tracing_usdt.dropped";

/// A decoded datagram.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The spans, by process. No entry is empty.
    pub processes: Vec<(Arc<Process>, Vec<ScopeSpans>)>,
    /// Spans that stay as they were sent, by process. No entry is empty.
    pub encoded: Vec<(Arc<Process>, EncodedScopes)>,
    /// The faults that were found.
    pub faults: Faults,
    /// The report of spans that are still open, if the datagram is one.
    pub open: Option<(Arc<Process>, OpenReport)>,
    /// The position among the sender's datagrams, if the sender numbers its spans.
    pub sequence: Option<Sequence>,
}

/// The encoding of an OTLP request, as its content type says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Protobuf.
    Protobuf,
    /// JSON.
    Json,
}

/// Decodes datagrams, and remembers the processes that send them.
#[derive(Debug, Default)]
pub struct Decoder {
    processes: Processes,
    shared: Shared,
}

impl Decoder {
    /// A decoder of what was written to a file. The kernel reports nothing of who sent it. If spantap recorded the file, its
    /// resources have what the kernel reported then, or say that they came over OTLP; otherwise the senders are unknown, because a process may say
    /// anything of itself, and many have the pid 1, each in its container.
    pub(crate) fn of_file(is_capture: bool) -> Self {
        Self { processes: Processes::of_file(is_capture), shared: Shared::default() }
    }

    /// A decoder of OTLP requests from the network.
    pub(crate) fn of_requests() -> Self {
        Self { processes: Processes::of_requests(), shared: Shared::default() }
    }

    /// Decodes an OTLP request that arrived at `now_ns`. It need not have any spans.
    ///
    /// # Errors
    ///
    /// The reason for which the request is refused as a whole. Spans that are refused one by one are among the faults.
    pub(crate) fn decode_request(
        &mut self,
        bytes: &[u8],
        encoding: Encoding,
        now_ns: u64,
    ) -> Result<Decoded, Found> {
        let faults = Faults::of_request(now_ns);
        let (read, decoded) = match encoding {
            Encoding::Protobuf => self.read_protobuf(bytes, Sender::OVER_OTLP, faults),
            Encoding::Json if is_empty_object(bytes) => return Ok(Decoded::default()),
            Encoding::Json => self.read_json(bytes, Sender::OVER_OTLP, faults, Formats::Otlp),
        };
        match read {
            Ok(processes) => Ok(Decoded { processes, ..decoded }),
            Err(found) => {
                // As below.
                self.processes.forget(Sender::OVER_OTLP);
                Err(found)
            }
        }
    }

    /// Decodes a datagram that arrived from `sender` at `now_ns`, in nanoseconds since 1970.
    pub fn decode(&mut self, bytes: &[u8], sender: Sender, now_ns: u64) -> Decoded {
        self.decode_with(bytes, sender, Faults::at(now_ns))
    }

    /// Decodes a request of a file that was written at `written_ns`. With `were_checked`, spantap has decoded the spans
    /// before, and they are what it wrote then.
    pub(crate) fn decode_recorded(&mut self, bytes: &[u8], written_ns: u64, were_checked: bool) -> Decoded {
        self.decode_with(bytes, Sender::UNKNOWN, Faults::of_file(written_ns, were_checked))
    }

    fn decode_with(&mut self, bytes: &[u8], sender: Sender, faults: Faults) -> Decoded {
        let now_ns = faults.now_ns;
        let (read, decoded) = self.read(bytes, sender, faults);
        read.map(|processes| Decoded { processes, ..decoded }).unwrap_or_else(|found| {
            // A datagram that is not valid to its end is refused as a whole.
            let mut faults = Faults::at(now_ns);
            faults.add(found);
            self.processes.forget(sender);
            Decoded { faults, ..Decoded::default() }
        })
    }

    /// The process with this service name.
    #[cfg(feature = "ebpf")]
    pub(crate) fn process(&mut self, sender: Sender, service: &str) -> Arc<Process> {
        self.processes.of_service(sender, service, &mut Faults::default())
    }

    /// The process with this resource, in protobuf.
    #[cfg(feature = "ebpf")]
    pub(crate) fn process_of(&mut self, sender: Sender, resource: &[u8]) -> Arc<Process> {
        self.processes.of_encoded(sender, resource, &mut Faults::default())
    }

    /// Reads a datagram. Returns the spans or the reason for refusing it and, separately, the faults and the
    /// sequence.
    fn read(&mut self, bytes: &[u8], sender: Sender, faults: Faults) -> (Result<Spans, Found>, Decoded) {
        if bytes.is_empty() {
            return (Err(Found::new(Fault::Empty, "no bytes")), Decoded::default());
        }
        if protobuf::is_protobuf(bytes) {
            return self.read_protobuf(bytes, sender, faults);
        }
        self.read_json(bytes, sender, faults, Formats::OtlpAndZipkin)
    }

    fn read_json(
        &mut self,
        bytes: &[u8],
        sender: Sender,
        mut faults: Faults,
        formats: Formats,
    ) -> (Result<Spans, Found>, Decoded) {
        // `from_utf8_lossy` is slow even for valid text: 300 ns per span.
        let (text, error) = match std::str::from_utf8(bytes) {
            Ok(text) => (Cow::Borrowed(text), None),
            Err(error) => (String::from_utf8_lossy(bytes), Some(error)),
        };
        // Without `error_len`, the text ends within a character: it is refused as cut short.
        let odd = error.filter(|error| error.error_len().is_some());
        if let Some(error) = odd {
            faults.note(Fault::BadText, || error.to_string());
        }
        // RFC 8259 lets a reader ignore a byte order mark.
        let mut json = Json::new(text.strip_prefix('\u{feff}').unwrap_or(&text), faults);
        let mut last = None;
        let read = self.read_text(&mut json, sender, formats, &mut last);
        let read =
            read.map_err(|found| odd.map_or(found, |error| Found::new(Fault::NotUtf8, error.to_string())));
        let open = of_process(json.open.take(), last, &mut json.faults);
        (read, Decoded { faults: json.faults, open, sequence: json.sequence, ..Decoded::default() })
    }

    fn read_protobuf(
        &mut self,
        bytes: &[u8],
        sender: Sender,
        mut faults: Faults,
    ) -> (Result<Spans, Found>, Decoded) {
        let (mut spans, mut encoded, mut last) = (Vec::new(), Vec::new(), None);
        let read = protobuf::request(bytes, &mut faults, |resource, scopes, faults| {
            let process = self.processes.of_encoded(sender, resource, faults);
            last = Some(Arc::clone(&process));
            match scopes {
                protobuf::Scopes::Encoded(scopes) if scopes.spans.is_empty() => {}
                protobuf::Scopes::Encoded(scopes) => encoded.push((process, scopes)),
                protobuf::Scopes::Typed(scopes) if scopes.is_empty() => {}
                protobuf::Scopes::Typed(scopes) => spans.push((process, scopes)),
            }
        });
        if faults.has(Fault::NoTime) {
            place::place(&mut spans, &mut faults);
        }
        match read {
            Ok((sequence, open)) => {
                let open = of_process(open, last, &mut faults);
                (Ok(spans), Decoded { encoded, faults, open, sequence, ..Decoded::default() })
            }
            Err(found) => (Err(found), Decoded { faults, ..Decoded::default() }),
        }
    }

    /// Reads JSON. `last` becomes the process of an OTLP request.
    fn read_text(
        &mut self,
        json: &mut Json<'_>,
        sender: Sender,
        formats: Formats,
        last: &mut Option<Arc<Process>>,
    ) -> Result<Spans, Found> {
        let mut spans = Vec::new();
        let takes_zipkin = formats == Formats::OtlpAndZipkin;
        let is_zipkin = match json.peek() {
            Some(b'[') if takes_zipkin => {
                self.zipkin(json, sender, &mut spans)?;
                true
            }
            Some(b'{') => {
                let text = json.rest();
                let read = self.otlp(json, sender, &mut spans, last);
                if let Err(found @ Found { fault: Fault::UnknownFormat, .. }) = read {
                    if !takes_zipkin {
                        return Err(found);
                    }
                    return self.one_of_zipkin(text, sender, &mut json.faults).ok_or(found);
                }
                read?;
                false
            }
            // Neither an array nor an object.
            _ => {
                let text = json.rest();
                return Err(match json.raw().and_then(|_| json.end()) {
                    Ok(()) => Found::new(Fault::UnknownFormat, excerpt(text)),
                    Err(_) => Found::new(Fault::NotJson, excerpt(text)),
                });
            }
        };
        json.end()?;
        if json.faults.has(Fault::NoTime) {
            place::place(&mut spans, &mut json.faults);
        }
        if is_zipkin {
            self.shared.split(&mut spans);
        }
        Ok(spans)
    }

    /// Reads a single Zipkin span that is not in an array.
    fn one_of_zipkin(&mut self, text: &str, sender: Sender, faults: &mut Faults) -> Option<Spans> {
        let array = format!("[{text}]");
        let mut json = Json::new(&array, Faults::at(faults.now_ns));
        let spans = self.read_text(&mut json, sender, Formats::OtlpAndZipkin, &mut None).ok()?;
        *faults = json.faults;
        (!spans.is_empty()).then_some(spans)
    }

    fn zipkin(&mut self, json: &mut Json<'_>, sender: Sender, found: &mut Spans) -> Result<(), Found> {
        zipkin::spans(json, |service, spans, faults| {
            let process = self.processes.of_service(sender, service, faults);
            found.push((process, vec![ScopeSpans { spans, ..ScopeSpans::default() }]));
        })
    }

    fn otlp(
        &mut self,
        json: &mut Json<'_>,
        sender: Sender,
        found: &mut Spans,
        last: &mut Option<Arc<Process>>,
    ) -> Result<(), Found> {
        let has_unknown = otlp::request(json, |resource, scopes, faults| {
            let process = self.processes.of_resource(sender, resource, faults);
            *last = Some(Arc::clone(&process));
            if !scopes.is_empty() {
                found.push((process, scopes));
            }
        })?;
        // For example a request of another version of OTLP, whose members have other names.
        if has_unknown && found.is_empty() && !json.faults.iter().any(|(found, _)| found.fault.refuses()) {
            return Err(Found::new(Fault::UnknownFormat, "there are no spans in it"));
        }
        Ok(())
    }
}

/// The report with the process that sent it.
fn of_process(
    report: Option<OpenReport>,
    process: Option<Arc<Process>>,
    faults: &mut Faults,
) -> Option<(Arc<Process>, OpenReport)> {
    let report = report?;
    if process.is_none() {
        faults.add(Found::new(Fault::WrongType, "a report of open spans without a resource"));
    }
    Some((process?, report))
}

/// The losses that a span reports, if it is such a report: how many spans were lost for each reason.
pub(crate) fn losses(span: &Span) -> impl Iterator<Item = (&str, u64)> {
    let attributes = if span.name == LOSSES { &span.attributes[..] } else { &[] };
    attributes.iter().filter_map(|attribute| {
        let reason = attribute.key.strip_prefix(LOSSES)?.strip_prefix('.')?;
        Some((reason, attributes::count(attributes::value(attribute)?)?))
    })
}

/// The formats in JSON that are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Formats {
    OtlpAndZipkin,
    Otlp,
}

/// Whether a text is `{}`, which is a request without spans.
fn is_empty_object(text: &[u8]) -> bool {
    text.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"{}")
}

fn excerpt(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    format!("{shown:?}")
}
