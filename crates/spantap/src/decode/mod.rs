//! From the bytes of a datagram to spans of a [`Process`].
//!
//! `zipkin` and `otlp` know the formats, `value` what they have in common, `fault` what can be wrong. `json` reads for
//! them, by way of `scan`; `count` does with `scan` alone.
//! A datagram may come from anybody and hold anything: a span that can't be read is refused alone, with
//! its reason, and the others are taken.

mod count;
mod fault;
mod json;
mod otlp;
mod processes;
mod scan;
mod skip;
mod value;
mod zipkin;

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

pub use fault::{Fault, Found};

use crate::process::{Process, Sender};
use count::Said;
use json::Json;
use processes::Processes;

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

/// How many spans of which process.
pub type Counted = Vec<(Arc<Process>, u64)>;

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
}

impl Decoder {
    /// Reads a datagram of `sender`'s that came at `now_ns` since 1970.
    pub fn decode(&mut self, bytes: &[u8], sender: Sender, now_ns: u64) -> Decoded {
        let mut decoded = Decoded::at(now_ns);
        if let Err(found) = self.read_into(bytes, sender, &mut decoded) {
            // What is not JSON to its end is refused as a whole.
            decoded = Decoded::at(now_ns);
            decoded.faults.add(found);
            self.processes.forget(sender);
        }
        decoded
    }

    /// How many spans of which processes a datagram holds, for who doesn't want the spans themselves: in
    /// less than a fifth of the time. Nothing if there is more to say of it than their number, so that it is to be
    /// decoded. It looks at ids, times, services, resources, the length of members, and whether all of it is
    /// JSON; a fault in something else stays unknown.
    pub fn count(&mut self, bytes: &[u8], sender: Sender, now_ns: u64) -> Option<Counted> {
        let rows = count::rows(bytes, now_ns)?;
        let mut faults = Faults::default();
        let mut counted = Vec::with_capacity(rows.len());
        for row in rows {
            let process = match row.said {
                Said::Service(service) => {
                    let service = std::str::from_utf8(service).ok()?;
                    Ok(self.processes.of_service(sender, service, &mut faults))
                }
                Said::Resource(resource) => {
                    let resource = std::str::from_utf8(resource).ok()?;
                    self.processes.of_resource(sender, resource, &mut faults)
                }
            };
            match process {
                Ok(process) if faults.is_empty() => counted.push((process, row.spans)),
                _ => {
                    self.processes.forget(sender);
                    return None;
                }
            }
        }
        counted.retain(|(_, spans)| *spans > 0);
        // What holds none may be something else altogether.
        (!counted.is_empty()).then_some(counted)
    }

    /// The process that calls itself `service`.
    #[cfg(feature = "ebpf")]
    pub(crate) fn process(&mut self, sender: Sender, service: &str) -> Arc<Process> {
        self.processes.of_service(sender, service, &mut Faults::default())
    }

    fn read_into(&mut self, bytes: &[u8], sender: Sender, decoded: &mut Decoded) -> Result<(), Found> {
        if bytes.is_empty() {
            return Err(Found::new(Fault::Empty, "no bytes"));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| match error.error_len() {
            // A datagram that was cut may be cut inside of a character.
            None => Found::new(Fault::CutShort, error.to_string()),
            Some(_) => Found::new(Fault::NotUtf8, error.to_string()),
        })?;
        let mut json = Json::new(text);
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'[') => self.zipkin(&mut json, sender, decoded)?,
            Some(b'{') => self.otlp(&mut json, sender, decoded)?,
            // Whatever else it may be.
            _ => match json.raw().and_then(|_| json.end()) {
                Ok(()) => return Err(Found::new(Fault::UnknownFormat, excerpt(text))),
                Err(_) => return Err(Found::new(Fault::NotJson, excerpt(text))),
            },
        }
        json.end()
    }

    fn zipkin(&mut self, json: &mut Json<'_>, sender: Sender, decoded: &mut Decoded) -> Result<(), Found> {
        let Decoded { processes, faults } = decoded;
        zipkin::spans(json, faults, |service, spans, faults| {
            let process = self.processes.of_service(sender, service, faults);
            processes.push((process, vec![ScopeSpans { spans, ..ScopeSpans::default() }]));
        })
    }

    fn otlp(&mut self, json: &mut Json<'_>, sender: Sender, decoded: &mut Decoded) -> Result<(), Found> {
        let Decoded { processes, faults } = decoded;
        let had_any = otlp::request(json, faults, |resource, scopes, faults| {
            let process = self.processes.of_resource(sender, resource, faults);
            // Who sent it is known all the same.
            let process = process.or_else(|found| {
                faults.add(found);
                self.processes.of_resource(sender, "{}", faults)
            })?;
            if !scopes.is_empty() {
                processes.push((process, scopes));
            }
            Ok(())
        })?;
        // Such as a request of a version before this one, whose members have other names.
        if had_any && processes.is_empty() && !faults.iter().any(|(found, _)| found.fault.refuses()) {
            return Err(Found::new(Fault::UnknownFormat, "there are no spans in it"));
        }
        Ok(())
    }
}

fn excerpt(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    format!("{shown:?}")
}
