//! From the bytes of a datagram to spans of a [`Process`].
//!
//! `zipkin` and `otlp` know the formats, `value` what they have in common, `fault` what can be wrong. `json` reads for
//! them, by way of `scan`. When all spans of a datagram are read, `place` looks for the
//! times of those that have none, and `shared` gives each half of a span that Zipkin shares an id of its own.
//!
//! A datagram may come from anybody and hold anything. What can't be read of a span is left out and counted; only
//! without its ids a span is refused, and then alone.

mod fault;
mod json;
mod otlp;
mod place;
mod processes;
mod scan;
mod sequence;
mod shared;
mod skip;
mod value;
mod zipkin;

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};

pub use fault::{Fault, Found};
pub(crate) use shared::MOST_HALVES;

use crate::process::{Process, Sender};
use crate::sequence::Sequence;
use json::Json;
use processes::Processes;
use shared::Shared;

/// The span in which senders tell what they lost, and the beginning of the attributes that say why, by the
/// contract of the datagrams.
pub const LOSSES: &str = "tracing_usdt.dropped";

/// Spans, by process.
type Spans = Vec<(Arc<Process>, Vec<ScopeSpans>)>;

/// What a datagram held.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The spans, by process. Never an empty one.
    pub processes: Vec<(Arc<Process>, Vec<ScopeSpans>)>,
    /// What was wrong or odd.
    pub faults: Faults,
    /// Where the datagram stands among all that its sender sends, if that numbers its spans.
    pub sequence: Option<Sequence>,
}

fn each(spans: &Spans) -> impl Iterator<Item = &Span> {
    spans.iter().flat_map(|(_, scopes)| scopes).flat_map(|scope| &scope.spans)
}

fn each_mut(spans: &mut Spans) -> impl Iterator<Item = &mut Span> {
    spans.iter_mut().flat_map(|(_, scopes)| scopes).flat_map(|scope| &mut scope.spans)
}

/// What was wrong or odd with a datagram: how often, and the first of each kind in words.
#[derive(Debug, Default)]
pub struct Faults {
    counts: Vec<(Found, u64)>,
    /// What time it is, for what is odd about others. 0: not known.
    now_ns: u64,
}

/// 2000-01-01, in nanoseconds.
const YEAR_2000: u64 = 946_684_800_000_000_000;
const DAY: u64 = 86_400_000_000_000;

impl Faults {
    fn at(now_ns: u64) -> Self {
        Self { now_ns, ..Self::default() }
    }

    /// Each kind once, with its number.
    pub fn iter(&self) -> impl Iterator<Item = (&Found, u64)> {
        self.counts.iter().map(|(found, count)| (found, *count))
    }

    fn note(&mut self, fault: Fault, detail: impl FnOnce() -> String) {
        match self.counts.iter_mut().find(|(known, _)| known.fault == fault) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((Found::new(fault, detail()), 1)),
        }
    }

    fn add(&mut self, found: Found) {
        self.note(found.fault, || found.detail);
    }

    /// A part of a span that can't be read costs no more than itself.
    fn leave_out(&mut self, found: Found) {
        let fault = match found.fault {
            Fault::TooDeep | Fault::BadTime | Fault::BadReference => found.fault,
            _ => Fault::LeftOut,
        };
        self.note(fault, || found.detail);
    }

    fn has(&self, fault: Fault) -> bool {
        self.counts.iter().any(|(found, _)| found.fault == fault)
    }

    fn check_odd_time(&mut self, start_ns: u64, end_ns: u64) {
        if is_odd_time(start_ns, end_ns, self.now_ns) {
            self.note(Fault::OddTime, || format!("from {start_ns} to {end_ns} ns since 1970"));
        }
    }
}

fn is_odd_time(start_ns: u64, end_ns: u64, now_ns: u64) -> bool {
    start_ns < YEAR_2000 || (now_ns > 0 && end_ns > now_ns.saturating_add(DAY))
}

/// Reads datagrams; remembers the processes that send them.
#[derive(Debug, Default)]
pub struct Decoder {
    processes: Processes,
    shared: Shared,
}

impl Decoder {
    /// Reads a datagram of `sender`'s that came at `now_ns` since 1970.
    pub fn decode(&mut self, bytes: &[u8], sender: Sender, now_ns: u64) -> Decoded {
        let (read, decoded) = self.read(bytes, sender, Faults::at(now_ns));
        read.map(|processes| Decoded { processes, ..decoded }).unwrap_or_else(|found| {
            // What is not JSON to its end is refused as a whole.
            let mut faults = Faults::at(now_ns);
            faults.add(found);
            self.processes.forget(sender);
            Decoded { faults, ..Decoded::default() }
        })
    }

    /// The process that calls itself `service`.
    #[cfg(feature = "ebpf")]
    pub(crate) fn process(&mut self, sender: Sender, service: &str) -> Arc<Process> {
        self.processes.of_service(sender, service, &mut Faults::default())
    }

    /// The spans, and all else.
    fn read(&mut self, bytes: &[u8], sender: Sender, mut faults: Faults) -> (Result<Spans, Found>, Decoded) {
        if bytes.is_empty() {
            return (Err(Found::new(Fault::Empty, "no bytes")), Decoded::default());
        }
        // `from_utf8_lossy` is slow, also where nothing is lossy: 300 ns a span.
        let (text, error) = match std::str::from_utf8(bytes) {
            Ok(text) => (Cow::Borrowed(text), None),
            Err(error) => (String::from_utf8_lossy(bytes), Some(error)),
        };
        // A datagram that was cut inside of a character is refused as one that was cut.
        let odd = error.filter(|error| error.error_len().is_some());
        if let Some(error) = odd {
            faults.note(Fault::BadText, || error.to_string());
        }
        // RFC 8259 lets a reader ignore a byte order mark.
        let mut json = Json::new(text.strip_prefix('\u{feff}').unwrap_or(&text), faults);
        let read = self.read_text(&mut json, sender);
        let read =
            read.map_err(|found| odd.map_or(found, |error| Found::new(Fault::NotUtf8, error.to_string())));
        (read, Decoded { faults: json.faults, sequence: json.sequence, ..Decoded::default() })
    }

    fn read_text(&mut self, json: &mut Json<'_>, sender: Sender) -> Result<Spans, Found> {
        let mut spans = Vec::new();
        let is_zipkin = match json.first() {
            Some(b'[') => {
                self.zipkin(json, sender, &mut spans)?;
                true
            }
            Some(b'{') => {
                let text = json.rest();
                let read = self.otlp(json, sender, &mut spans);
                if let Err(found @ Found { fault: Fault::UnknownFormat, .. }) = read {
                    return self.one_of_zipkin(text, sender, &mut json.faults).ok_or(found);
                }
                read?;
                false
            }
            // Whatever else it may be.
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

    /// A span of Zipkin's without the array that it belongs in.
    fn one_of_zipkin(&mut self, text: &str, sender: Sender, faults: &mut Faults) -> Option<Spans> {
        let array = format!("[{text}]");
        let mut json = Json::new(&array, Faults::at(faults.now_ns));
        let spans = self.read_text(&mut json, sender).ok()?;
        *faults = json.faults;
        (!spans.is_empty()).then_some(spans)
    }

    fn zipkin(&mut self, json: &mut Json<'_>, sender: Sender, found: &mut Spans) -> Result<(), Found> {
        zipkin::spans(json, |service, spans, faults| {
            let process = self.processes.of_service(sender, service, faults);
            found.push((process, vec![ScopeSpans { spans, ..ScopeSpans::default() }]));
        })
    }

    fn otlp(&mut self, json: &mut Json<'_>, sender: Sender, found: &mut Spans) -> Result<(), Found> {
        let has_unknown = otlp::request(json, |resource, scopes, faults| {
            let process = self.processes.of_resource(sender, resource, faults);
            if !scopes.is_empty() {
                found.push((process, scopes));
            }
        })?;
        // Such as a request of a version before this one, whose members have other names.
        if has_unknown && found.is_empty() && !json.faults.iter().any(|(found, _)| found.fault.refuses()) {
            return Err(Found::new(Fault::UnknownFormat, "there are no spans in it"));
        }
        Ok(())
    }
}

fn excerpt(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    format!("{shown:?}")
}
