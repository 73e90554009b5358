//! From the bytes of a datagram to spans of a [`Process`].
//!
//! `zipkin` and `otlp` know the formats, `value` what they have in common, `fault` what can be wrong.
//! A datagram may come from anybody and hold anything: a span that can't be read is refused alone, with
//! its reason, and the others are taken.
//!
//! serde_json reads it. Measured on datagrams of this project's, into borrowed structs: serde_json 765
//! ns a span, sonic-rs 666, simd-json 668; the spans' own memory costs more than that, and serde_json
//! has no `unsafe` SIMD to trust with strangers' bytes.

mod count;
mod fault;
mod otlp;
mod processes;
mod value;
mod zipkin;

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use serde_json::value::RawValue;

pub use count::Counted;
pub use fault::{Fault, Found};

use crate::process::{Process, Sender};
use otlp::OtlpSpan;
use processes::Processes;
use zipkin::ZipkinSpan;

/// The span in which senders tell what they lost, and the beginning of the attributes that say why, by the
/// contract of the datagrams.
pub const LOSSES: &str = "tracing_usdt.dropped";

/// What a datagram held.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The spans, by process. Never an empty one.
    pub processes: Vec<(Arc<Process>, Vec<ScopeSpans>)>,
    /// What was wrong or odd.
    pub faults: Faults,
}

impl Decoded {
    fn at(now_ns: u64) -> Self {
        Self { faults: Faults { now_ns, ..Faults::default() }, ..Self::default() }
    }
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
    /// Each kind once, with its number.
    pub fn iter(&self) -> impl Iterator<Item = (&Found, u64)> {
        self.counts.iter().map(|(found, count)| (found, *count))
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty()
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

    fn check_odd_time(&mut self, start_ns: u64, end_ns: u64) {
        let ahead = self.now_ns.saturating_add(DAY);
        if start_ns < YEAR_2000 || (self.now_ns > 0 && end_ns > ahead) {
            self.note(Fault::OddTime, || format!("from {start_ns} to {end_ns} ns since 1970"));
        }
    }
}

/// Reads datagrams; remembers the processes that send them.
#[derive(Debug, Default)]
pub struct Decoder {
    processes: Processes,
}

impl Decoder {
    /// Reads a datagram of `sender`'s that came at `now_ns` since 1970.
    pub fn decode(&mut self, bytes: &[u8], sender: Sender, now_ns: u64) -> Decoded {
        let mut decoded = Decoded::at(now_ns);
        if let Err(found) = self.read(bytes, sender, &mut decoded) {
            decoded.faults.add(found);
        }
        decoded
    }

    /// How many spans of which processes a datagram holds. Nothing if that takes more than counting: it
    /// is to be decoded. Faults inside of tags, attributes, events and links are not looked for.
    pub fn count(&mut self, bytes: &[u8], sender: Sender, now_ns: u64) -> Option<Counted> {
        count::count(&mut self.processes, bytes, sender, now_ns)
    }

    fn read(&mut self, bytes: &[u8], sender: Sender, decoded: &mut Decoded) -> Result<(), Found> {
        if bytes.is_empty() {
            return Err(Found::new(Fault::Empty, "no bytes"));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| match error.error_len() {
            // A datagram that was cut may be cut inside of a character.
            None => Found::new(Fault::CutShort, error.to_string()),
            Some(_) => Found::new(Fault::NotUtf8, error.to_string()),
        })?;
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'[') => self.zipkin(text, sender, decoded),
            Some(b'{') => self.otlp(text, sender, decoded),
            // Whatever else it may be.
            _ => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => Err(Found::new(Fault::UnknownFormat, excerpt(text))),
                Err(_) => Err(Found::new(Fault::NotJson, excerpt(text))),
            },
        }
    }

    fn zipkin(&mut self, text: &str, sender: Sender, decoded: &mut Decoded) -> Result<(), Found> {
        let now_ns = decoded.faults.now_ns;
        let mut take = |span: ZipkinSpan<'_>| self.zipkin_span(span, sender, decoded);
        if zipkin::each_span(text, &mut take).is_ok() {
            return Ok(());
        }
        // Once more, from the beginning, and each span for itself.
        *decoded = Decoded::at(now_ns);
        // What is not JSON at all fails here; else it is the fault of single spans.
        for span in serde_json::from_str::<Vec<&RawValue>>(text)? {
            match serde_json::from_str::<ZipkinSpan<'_>>(span.get()) {
                Ok(span) => self.zipkin_span(span, sender, decoded),
                Err(error) => decoded.faults.add(error.into()),
            }
        }
        Ok(())
    }

    fn zipkin_span(&mut self, span: ZipkinSpan<'_>, sender: Sender, decoded: &mut Decoded) {
        let service = span.service();
        let process = match decoded.processes.last() {
            Some((process, _)) if process.service == service => Arc::clone(process),
            _ => self.processes.of_service(sender, service, &mut decoded.faults),
        };
        match span.into_span(&mut decoded.faults) {
            Ok(span) => push(decoded, process, span),
            Err(found) => decoded.faults.add(found),
        }
    }

    fn otlp(&mut self, text: &str, sender: Sender, decoded: &mut Decoded) -> Result<(), Found> {
        if let Ok(request) = serde_json::from_str::<otlp::Request<'_, OtlpSpan<'_>>>(text) {
            return self.otlp_request(request, sender, decoded, |span, faults| span.into_span(faults));
        }
        let request = serde_json::from_str::<otlp::Request<'_, &RawValue>>(text)?;
        self.otlp_request(request, sender, decoded, otlp::span_of)
    }

    fn otlp_request<S>(
        &mut self,
        request: otlp::Request<'_, S>,
        sender: Sender,
        decoded: &mut Decoded,
        read: impl Fn(S, &mut Faults) -> Result<Span, Found>,
    ) -> Result<(), Found> {
        let Some(resource_spans) = request.resource_spans else {
            return Err(Found::new(Fault::UnknownFormat, "an object without resourceSpans"));
        };
        let is_empty = resource_spans.is_empty();
        for spans in resource_spans {
            let resource = spans.resource.map_or("{}", RawValue::get);
            let process = self.processes.of_resource(sender, resource, &mut decoded.faults);
            // Who sent it is known all the same.
            let process = process.or_else(|found| {
                decoded.faults.add(found);
                self.processes.of_resource(sender, "{}", &mut decoded.faults)
            })?;
            let mut scopes = Vec::new();
            for scope_spans in spans.scope_spans.into_iter().flatten() {
                let spans = scope_spans.spans.unwrap_or_default();
                let mut read_spans = Vec::with_capacity(spans.len());
                for span in spans {
                    match read(span, &mut decoded.faults) {
                        Ok(span) => read_spans.push(span),
                        Err(found) => decoded.faults.add(found),
                    }
                }
                if !read_spans.is_empty() {
                    let scope = scope_spans.scope.map(|scope| otlp::scope_of(scope, &mut decoded.faults));
                    let scope = scope.transpose().unwrap_or_else(|found| {
                        decoded.faults.add(found);
                        None
                    });
                    scopes.push(ScopeSpans {
                        scope,
                        spans: read_spans,
                        schema_url: otlp::schema_url(scope_spans.schema_url),
                    });
                }
            }
            if !scopes.is_empty() {
                decoded.processes.push((process, scopes));
            }
        }
        // Such as a request of a version before this one, whose members have other names.
        if !is_empty && decoded.processes.is_empty() && decoded.faults.is_empty() {
            return Err(Found::new(Fault::UnknownFormat, "there are no spans in it"));
        }
        Ok(())
    }
}

/// Adds a span that has no scope.
fn push(decoded: &mut Decoded, process: Arc<Process>, span: Span) {
    let last = decoded.processes.last_mut().filter(|(known, _)| Arc::ptr_eq(known, &process));
    match last.and_then(|(_, scopes)| scopes.last_mut()) {
        Some(scope) => scope.spans.push(span),
        None => {
            let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
            decoded.processes.push((process, vec![scope]));
        }
    }
}

fn excerpt(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    format!("{shown:?}")
}
