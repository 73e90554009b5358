//! The messages of Perfetto's format that are needed here, as its `protos/perfetto/trace` define them.

use std::io::{self, Write};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use prost::encoding::{encode_key, encode_varint};

/// Of `TrackEvent.Type`.
const SLICE_BEGIN: i32 = 1;
const SLICE_END: i32 = 2;
/// Of `BuiltinClock`. Without another one, times of packets are of the second.
const REALTIME: u32 = 1;
const BOOTTIME: u32 = 6;
/// `ChildTracksOrdering.EXPLICIT`: by `sibling_order_rank`.
const EXPLICIT: i32 = 3;
/// Packets of one writer, which are in order.
const SEQUENCE: u32 = 1;
/// `SEQ_INCREMENTAL_STATE_CLEARED`, in the first packet.
const CLEARED: u32 = 1;
/// The number of `Trace.packet`.
const PACKET: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(message, optional, tag = "6")]
    clock_snapshot: Option<ClockSnapshot>,
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    track_event: Option<Event>,
    #[prost(uint32, optional, tag = "13")]
    sequence_flags: Option<u32>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    clocks: Vec<Clock>,
}

#[derive(Clone, PartialEq, Message)]
struct Clock {
    #[prost(uint32, optional, tag = "1")]
    clock_id: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    timestamp: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, optional, tag = "3")]
    process: Option<ProcessDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
    #[prost(int32, optional, tag = "11")]
    child_ordering: Option<i32>,
    #[prost(int32, optional, tag = "12")]
    sibling_order_rank: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct ProcessDescriptor {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(string, optional, tag = "6")]
    process_name: Option<String>,
}

/// A `TrackEvent`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<Annotation>,
    #[prost(int32, optional, tag = "9")]
    r#type: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(string, repeated, tag = "22")]
    categories: Vec<String>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    flow_ids: Vec<u64>,
}

/// A `DebugAnnotation`.
#[derive(Clone, PartialEq, Message)]
struct Annotation {
    #[prost(bool, optional, tag = "2")]
    bool_value: Option<bool>,
    #[prost(int64, optional, tag = "4")]
    int_value: Option<i64>,
    #[prost(double, optional, tag = "5")]
    double_value: Option<f64>,
    #[prost(string, optional, tag = "6")]
    string_value: Option<String>,
    #[prost(string, optional, tag = "10")]
    name: Option<String>,
}

impl Event {
    /// The beginning of a slice. `categories` are separated by commas. Arrows go between the slices with the same flow id.
    pub(super) fn begin(name: String, categories: &str, flow_ids: Vec<u64>) -> Self {
        let categories = categories.split(',').map(str::to_owned).collect();
        Self { r#type: Some(SLICE_BEGIN), name: Some(name), categories, flow_ids, ..Self::default() }
    }

    /// Adds an attribute. Other values than numbers, texts, true and false are left out.
    pub(super) fn annotate(&mut self, name: &str, value: &Value) {
        let mut annotation = Annotation { name: Some(name.to_owned()), ..Annotation::default() };
        match value {
            Value::BoolValue(is) => annotation.bool_value = Some(*is),
            Value::IntValue(number) => annotation.int_value = Some(*number),
            Value::DoubleValue(number) => annotation.double_value = Some(*number),
            Value::StringValue(text) => annotation.string_value = Some(text.clone()),
            _ => return,
        }
        self.debug_annotations.push(annotation);
    }

    /// Roughly the memory that it takes, in addition to its own size.
    pub(super) fn bytes(&self) -> usize {
        let annotation = |of: &Annotation| {
            let texts = [&of.name, &of.string_value].into_iter().flatten().map(String::len).sum::<usize>();
            size_of::<Annotation>() + texts + 32
        };
        let annotations = self.debug_annotations.iter().map(annotation).sum::<usize>();
        annotations + self.name.as_ref().map_or(0, String::len) + 8 * self.flow_ids.len() + 128
    }
}

/// Writes packets.
pub(super) struct Packets<'a> {
    out: &'a mut dyn Write,
    /// How many tracks there are. Each has its number as its `uuid`.
    tracks: u64,
    processes: Vec<u64>,
    buffer: Vec<u8>,
}

impl<'a> Packets<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, tracks: 0, processes: Vec::new(), buffer: Vec::new() }
    }

    /// The times of packets are nanoseconds since 1970. `at_ns` is any of them.
    pub(super) fn clock(&mut self, at_ns: u64) -> io::Result<()> {
        let clocks =
            [REALTIME, BOOTTIME].map(|clock| Clock { clock_id: Some(clock), timestamp: Some(at_ns) });
        let clock_snapshot = Some(ClockSnapshot { clocks: clocks.into() });
        self.write(Packet { clock_snapshot, sequence_flags: Some(CLEARED), ..Packet::default() })
    }

    /// Processes come in the order of their places.
    pub(super) fn process(&mut self, place: usize, pid: i32, name: &str) -> io::Result<()> {
        debug_assert_eq!(place, self.processes.len());
        let process = Some(ProcessDescriptor { pid: Some(pid), process_name: Some(name.to_owned()) });
        let uuid = self.track(TrackDescriptor { process, ..TrackDescriptor::default() })?;
        self.processes.push(uuid);
        Ok(())
    }

    /// The track of a thread. Not a `ThreadDescriptor`: Perfetto takes threads with the same id, such as those of two machines, for
    /// one.
    pub(super) fn thread(&mut self, process: usize, number: usize, name: &str) -> io::Result<u64> {
        self.track(TrackDescriptor {
            name: Some(name.to_owned()),
            parent_uuid: self.processes.get(process).copied(),
            child_ordering: Some(EXPLICIT),
            sibling_order_rank: i32::try_from(number).ok(),
            ..TrackDescriptor::default()
        })
    }

    /// A track below that of a thread.
    pub(super) fn below(&mut self, parent: u64, name: &str, rank: i32) -> io::Result<u64> {
        self.track(TrackDescriptor {
            name: Some(name.to_owned()),
            parent_uuid: Some(parent),
            sibling_order_rank: Some(rank),
            ..TrackDescriptor::default()
        })
    }

    fn track(&mut self, descriptor: TrackDescriptor) -> io::Result<u64> {
        self.tracks += 1;
        let track_descriptor = Some(TrackDescriptor { uuid: Some(self.tracks), ..descriptor });
        self.write(Packet { track_descriptor, ..Packet::default() })?;
        Ok(self.tracks)
    }

    pub(super) fn event(&mut self, at_ns: u64, track: u64, event: &Event) -> io::Result<()> {
        let track_event = Some(Event { track_uuid: Some(track), ..event.clone() });
        self.write(Packet { timestamp: Some(at_ns), track_event, ..Packet::default() })
    }

    /// The end of the last slice that began on the track.
    pub(super) fn end(&mut self, at_ns: u64, track: u64) -> io::Result<()> {
        let event = Event { r#type: Some(SLICE_END), ..Event::default() };
        self.event(at_ns, track, &event)
    }

    fn write(&mut self, packet: Packet) -> io::Result<()> {
        let packet = Packet { trusted_packet_sequence_id: Some(SEQUENCE), ..packet };
        self.buffer.clear();
        encode_key(PACKET, prost::encoding::WireType::LengthDelimited, &mut self.buffer);
        encode_varint(packet.encoded_len() as u64, &mut self.buffer);
        // A list grows.
        let _ = packet.encode(&mut self.buffer);
        self.out.write_all(&self.buffer)
    }
}
