//! A trace for [Perfetto](https://ui.perfetto.dev), in its own format: TrackEvents in protobuf.
//!
//! Perfetto reads the JSON of Chrome's tracer, too, but calls that a legacy format. Tracks below other tracks, any number of
//! arrows at a slice and times in nanoseconds are only in its own (its documentation, "Writing TrackEvent Protos Synthetically").
//!
//! ```text
//! process ── thread ── spans in which a thread was inside all the time
//!                 ├─── async spans: the others
//!                 └─── kernel
//! ```
//!
//! A capture has the thread that *made* a span, its start and end, and for how long threads were inside; not when, and not
//! which. So a slice is a span from its start to its end, below the thread that made it. On a track, slices have to nest. One that
//! does not nest goes to another track of the same name, which Perfetto draws as one (`lanes`). `packets` has the messages.

mod lanes;
mod packets;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use crate::process::Process;
use crate::span::attributes::{SUMMARY_COUNT, count, find, find_text, value};
use crate::text::{bytes, counted, cut, on_one_line};
use crate::trace::{EncodedSpan, Trace, TraceSpan};
use lanes::{Placed, place};
use packets::{Event, Packets};

/// The most slices, and the most memory for them. The page of Perfetto keeps all of a trace in the memory of the browser.
const MAX_SLICES: usize = if cfg!(test) { 100 } else { 1_000_000 };
const MAX_BYTES: usize = if cfg!(test) { 128 << 10 } else { 256 << 20 };
/// The most lanes of a track. With more, nobody sees anything.
const MAX_LANES: usize = if cfg!(test) { 10 } else { 1_000 };
/// The most memory of the entries of a process or a thread, without its name.
const ENTRY: usize = 256;
/// Longer names and values are cut.
const MAX_COLUMNS: usize = 500;
/// The most attributes of a slice.
const MAX_ATTRIBUTES: usize = 50;

/// A span was entered all of its time if the rest is no more than a fiftieth, or than it takes to enter and to exit it.
const MAX_IDLE_SHARE: u64 = 50;
const MAX_IDLE_NS: u64 = 20_000;

/// The slices of all traces.
#[derive(Default)]
pub(super) struct Perfetto {
    processes: Vec<Named>,
    process_places: HashMap<String, usize>,
    threads: Vec<Thread>,
    thread_places: HashMap<(usize, Option<u64>), usize>,
    slices: Vec<Slice>,
    /// The process ids that are given.
    pids: HashSet<i32>,
    bytes: usize,
    /// Nothing is added any more.
    is_full: bool,
    left_out: u64,
    /// Slices without a lane.
    crowded: u64,
}

struct Named {
    name: String,
    pid: i32,
}

struct Thread {
    process: usize,
    name: String,
    /// The kernel cuts names. That of a span is better.
    is_kernels_name: bool,
}

/// The tracks of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Track {
    /// Spans in which a thread was inside all the time.
    Entered,
    /// Spans that were not entered all the time, or of which that is not known.
    Async,
    Kernel,
}

struct Slice {
    thread: usize,
    track: Track,
    times: (u64, u64),
    /// The event of its beginning.
    event: Event,
}

impl Perfetto {
    /// Adds the spans of a trace.
    pub(super) fn add(&mut self, trace: &Trace<EncodedSpan>) {
        // What has no room is not decoded.
        let room = if self.is_full { 0 } else { MAX_SLICES.saturating_sub(self.slices.len()) };
        self.left_out += trace.spans.len().saturating_sub(room) as u64;
        let spans: Vec<(&EncodedSpan, TraceSpan)> =
            trace.spans.iter().take(room).filter_map(|span| Some((span, span.decode()?))).collect();
        let threads: Vec<Option<usize>> =
            spans.iter().map(|(encoded, span)| self.thread(span, encoded.is_kernel)).collect();
        let places: HashMap<u64, usize> =
            spans.iter().enumerate().rev().map(|(place, (span, _))| (span.span_id, place)).collect();
        let mut flows: Vec<Vec<u64>> = vec![Vec::new(); spans.len()];
        for (place, (span, _)) in spans.iter().enumerate() {
            let parent = span.parent_id.and_then(|id| places.get(&id)).copied();
            let Some(parent) = parent.filter(|parent| threads[*parent] != threads[place]) else { continue };
            let id = flow_id(trace.id, span.span_id);
            flows[parent].push(id);
            flows[place].push(id);
        }
        for (((encoded, span), thread), flows) in spans.into_iter().zip(threads).zip(flows) {
            // A summary of short activity has no place in time.
            let is_summary = find(&span.span.attributes, SUMMARY_COUNT).is_some();
            if encoded.is_kernel && is_summary {
                continue;
            }
            match thread {
                Some(thread) => self.add_slice(trace.id, encoded, &span, thread, flows),
                None => self.left_out += 1,
            }
        }
    }

    fn add_slice(
        &mut self,
        trace_id: u128,
        encoded: &EncodedSpan,
        span: &TraceSpan,
        thread: usize,
        flows: Vec<u64>,
    ) {
        let track = match encoded.is_kernel {
            true => Track::Kernel,
            false if is_entered(encoded, &span.span.attributes) => Track::Entered,
            false => Track::Async,
        };
        let name = named(&span.span.name, "(no name)");
        let mut event = Event::begin(name, category(encoded), flows);
        event.annotate("trace_id", &Value::StringValue(format!("{trace_id:032x}")));
        event.annotate("span_id", &Value::StringValue(format!("{:016x}", encoded.span_id)));
        let message = span.span.status.as_ref().map(|status| &*status.message);
        if let Some(message) = message.filter(|message| !message.is_empty()) {
            event.annotate("status_message", &Value::StringValue(shown(message)));
        }
        for attribute in span.span.attributes.iter().take(MAX_ATTRIBUTES) {
            if let Some(value) = value(attribute) {
                event.annotate(&shown(&attribute.key), &shown_value(value));
            }
        }
        let size = size_of::<Slice>() + event.bytes();
        if !self.takes(size) {
            self.left_out += 1;
            return;
        }
        let (start_ns, end_ns) = encoded.times;
        self.slices.push(Slice { thread, track, times: (start_ns, end_ns.max(start_ns)), event });
    }

    /// Whether there is room for this many more bytes, which are then taken.
    fn takes(&mut self, bytes: usize) -> bool {
        self.is_full |= self.bytes + bytes > MAX_BYTES;
        if !self.is_full {
            self.bytes += bytes;
        }
        !self.is_full
    }

    /// The place of a span's thread. `None` if there is no room for it.
    fn thread(&mut self, span: &TraceSpan, is_kernel: bool) -> Option<usize> {
        let process = self.process(&span.process)?;
        let attributes = &span.span.attributes;
        let id = find(attributes, "thread.id").and_then(count);
        let next = self.threads.len();
        if !self.thread_places.contains_key(&(process, id)) && !self.takes(ENTRY + MAX_COLUMNS) {
            return None;
        }
        let place = *self.thread_places.entry((process, id)).or_insert(next);
        let is_known = self.threads.get(place).is_some_and(|known| is_kernel || !known.is_kernels_name);
        if !is_known {
            let name = find_text(attributes, "thread.name").unwrap_or("thread");
            let name = id.map_or_else(|| "unknown thread".to_owned(), |id| format!("{} {id}", shown(name)));
            let thread = Thread { process, name, is_kernels_name: is_kernel };
            match self.threads.get_mut(place) {
                Some(known) => *known = thread,
                None => self.threads.push(thread),
            }
        }
        Some(place)
    }

    fn process(&mut self, process: &Process) -> Option<usize> {
        let attributes = &process.resource.attributes;
        let pid = find(attributes, "process.pid").and_then(count);
        let key = format!("{}\0{pid:?}\0{:?}", process.service, find(attributes, "host.name"));
        if let Some(place) = self.process_places.get(&key) {
            return Some(*place);
        }
        if !self.takes(ENTRY + MAX_COLUMNS + key.len()) {
            return None;
        }
        let place = self.processes.len();
        self.process_places.insert(key, place);
        // Each process has an id of its own: Perfetto takes those with the same id, such as of two machines, for one. What is made up
        // is above the largest process id of Linux.
        let made_up = (1 << 23) + i32::try_from(place).unwrap_or(0);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid < 1 << 23);
        let pid = pid.filter(|pid| self.pids.insert(*pid)).unwrap_or(made_up);
        self.processes.push(Named { name: named(&process.service, "(no service)"), pid });
        Some(place)
    }

    /// Lines about spans that were left out, once it is written.
    pub(super) fn left_out(&self) -> impl Iterator<Item = String> {
        let crowded = counted(self.crowded, "span", "spans");
        let crowded = (self.crowded > 0)
            .then(|| format!("left out {crowded}: more than {MAX_LANES} overlap on a track for Perfetto"));
        self.no_room().into_iter().chain(crowded)
    }

    fn no_room(&self) -> Option<String> {
        let spans = counted(self.left_out, "span", "spans");
        let (most, memory) = (counted(MAX_SLICES as u64, "span", "spans"), bytes(MAX_BYTES as u64));
        (self.left_out > 0).then(|| {
            format!("left out {spans}, the latest: a trace for Perfetto has at most {most}, in {memory}. --where or --since chooses some")
        })
    }

    /// Writes the trace.
    pub(super) fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut packets = Packets::new(out);
        let first_ns = self.slices.iter().map(|slice| slice.times.0).min().unwrap_or(0);
        packets.clock(first_ns)?;
        for (place, process) in self.processes.iter().enumerate() {
            packets.process(place, process.pid, &process.name)?;
        }
        let mut crowded = 0;
        let mut by_track: HashMap<(usize, Track), Vec<usize>> = HashMap::new();
        for (place, slice) in self.slices.iter().enumerate() {
            by_track.entry((slice.thread, slice.track)).or_default().push(place);
        }
        // A slice that does not nest among those that were entered is drawn with the others.
        let mut placed: Vec<Placed> = Vec::new();
        for (number, thread) in self.threads.iter().enumerate() {
            let parent = packets.thread(thread.process, number, &thread.name)?;
            let take = |by_track: &mut HashMap<_, Vec<usize>>, track| {
                by_track.remove(&(number, track)).unwrap_or_default()
            };
            let entered = take(&mut by_track, Track::Entered);
            let mut others = take(&mut by_track, Track::Async);
            let times = |slice: usize| self.slices[slice].times;
            let (lanes, _) = place(entered, usize::MAX, times);
            for (lane, slices) in lanes.into_iter().enumerate() {
                match lane {
                    0 => placed.push(Placed { track: parent, slices }),
                    _ => others.extend(slices),
                }
            }
            for (track, name, slices) in [
                (Track::Async, "async spans", others),
                (Track::Kernel, "kernel", take(&mut by_track, Track::Kernel)),
            ] {
                let (lanes, no_lane) = place(slices, MAX_LANES, times);
                crowded += no_lane;
                for slices in lanes {
                    let track = packets.below(parent, name, track as i32)?;
                    placed.push(Placed { track, slices });
                }
            }
        }
        self.crowded = crowded;
        for moment in lanes::in_order(&placed, |slice| self.slices[slice].times) {
            match moment.is_begin {
                true => packets.event(moment.at_ns, moment.track, &self.slices[moment.slice].event)?,
                false => packets.end(moment.at_ns, moment.track)?,
            }
        }
        Ok(())
    }
}

/// Whether a thread was inside all of the time.
fn is_entered(span: &EncodedSpan, attributes: &[KeyValue]) -> bool {
    let duration_ns = span.duration_ns();
    let busy_ns = find(attributes, "busy_ns").and_then(count);
    busy_ns.is_some_and(|busy_ns| {
        duration_ns.saturating_sub(busy_ns) <= (duration_ns / MAX_IDLE_SHARE).max(MAX_IDLE_NS)
    })
}

fn category(span: &EncodedSpan) -> &'static str {
    match (span.is_kernel, span.is_error) {
        (true, _) => "kernel",
        (false, true) => "span,error",
        (false, false) => "span",
    }
}

/// The id of the arrow from a span's parent to it.
fn flow_id(trace_id: u128, span_id: u64) -> u64 {
    // Some ids are random in only one half, or count up.
    let [high, low] = [(trace_id >> 64) as u64, trace_id as u64];
    (high.wrapping_mul(31) ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ span_id
}

/// A name, or `empty` if nothing of it is shown.
fn named(name: &str, empty: &str) -> String {
    let shown = shown(name);
    if shown.trim().is_empty() { empty.to_owned() } else { shown }
}

fn shown(text: &str) -> String {
    cut(&on_one_line(text), MAX_COLUMNS)
}

fn shown_value(value: &Value) -> Value {
    match value {
        Value::BoolValue(_) | Value::IntValue(_) | Value::DoubleValue(_) => value.clone(),
        Value::StringValue(text) => Value::StringValue(shown(text)),
        other => Value::StringValue(shown(&format!("{other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::*;
    use crate::export::made::{span, trace};
    use crate::process::Sender;
    use crate::span::attributes::attribute;

    fn lines(perfetto: &mut Perfetto) -> Vec<String> {
        perfetto.write(&mut Vec::new()).expect("a list takes everything");
        perfetto.left_out().collect()
    }

    #[test]
    fn spans_beyond_the_limit_are_counted() {
        let mut perfetto = Perfetto::default();
        let times = |id: u64| id * 10..id * 10 + 5;
        perfetto.add(&trace(1, (1..=130).map(|id| span(id, 0, times(id))).collect()));
        (2..=21).for_each(|id| perfetto.add(&trace(id, vec![span(1, 0, times(1))])));
        assert_eq!((perfetto.slices.len(), perfetto.left_out), (MAX_SLICES, 50));
        let lines = lines(&mut perfetto);
        assert!(lines.len() == 1 && lines[0].starts_with("left out 50 spans"), "{lines:?}");
    }

    #[test]
    fn lanes_are_bounded() {
        let mut perfetto = Perfetto::default();
        perfetto.add(&trace(1, (1..=30).map(|id| span(id, 0, id..id + 1_000)).collect()));
        // The same each time that it is written.
        for _ in 0..2 {
            let lines = lines(&mut perfetto);
            assert!(lines.len() == 1 && lines[0].starts_with("left out 20 spans: more than 10"), "{lines:?}");
        }
    }

    #[test]
    fn threads_are_bounded_also_without_slices() {
        let mut perfetto = Perfetto::default();
        for of in 0..10_u64 {
            let summary = |id: u64| {
                let thread = attribute("thread.id", Value::IntValue((of * 90 + id) as i64));
                let count = attribute(SUMMARY_COUNT, Value::IntValue(2));
                Span { attributes: vec![thread, count], ..span(id, 0, 0..5) }
            };
            let mut trace = trace(of.into(), (1..=90).map(summary).collect());
            trace.spans.iter_mut().for_each(|span| span.is_kernel = true);
            perfetto.add(&trace);
        }
        assert!(perfetto.is_full && perfetto.bytes <= MAX_BYTES);
        assert!(perfetto.threads.len() < 200 && perfetto.left_out > 0, "{}", perfetto.threads.len());
        assert_eq!(perfetto.threads.len(), perfetto.thread_places.len());
    }

    #[test]
    fn each_process_has_an_id_of_its_own() {
        let mut perfetto = Perfetto::default();
        for (place, host) in ["a", "b", "a"].into_iter().enumerate() {
            let attributes = vec![
                attribute("process.pid", Value::IntValue(7)),
                attribute("host.name", Value::StringValue(host.to_owned())),
            ];
            let resource = Resource { attributes, ..Resource::default() };
            let sender = Sender { pid: 1, uid: 0, gid: 0 };
            let process = Process { sender, service: "a".into(), resource };
            assert_eq!(perfetto.process(&process), Some(place % 2));
        }
        let pids: Vec<i32> = perfetto.processes.iter().map(|process| process.pid).collect();
        assert_eq!(pids, [7, (1 << 23) + 1]);
    }
}
