//! Remembers the processes that send, so that their descriptions are decoded and kept once.

use std::collections::HashMap;
use std::sync::Arc;

use nix::unistd::gethostname;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::fault::{Fault, Found};
use super::faults::Faults;
use super::{otlp, protobuf};
use crate::process::{Process, Sender};
use crate::span::attributes::{OVER_OTLP, attribute, count, find, find_text};

/// The most descriptions per sender. With more, all of its descriptions are forgotten and read again.
const MAX_OF_A_SENDER: usize = 16;

/// The most bytes of all remembered texts. Bounds memory against untrusted senders; decoded, the texts take several
/// times as much.
const MAX_TEXTS: usize = 4 << 20;

/// How many bytes a text counts in addition to its length.
const OVERHEAD: usize = 1024;

/// The attributes with the ids of a process, its user and its group.
const PID: &str = "process.pid";
const UID: &str = "process.real_user.id";
const GID: &str = "process.real_group.id";

/// The most bytes of a resource's attributes: they are in memory with each trace, and in every request.
const MAX_RESOURCE: usize = 16 * 1024;

/// The processes of each sender, by what describes them.
#[derive(Debug, Default)]
pub(super) struct Processes {
    services: Known,
    /// By the resource in JSON.
    resources: Known,
    /// By the resource in protobuf.
    encoded: Known,
}

/// Where descriptions of processes come from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Origin {
    /// From the processes, and the kernel says which process sent them.
    #[default]
    Sender,
    /// From a capture, whose resources have what the kernel reported when it was recorded, or [`OVER_OTLP`].
    Capture,
    /// From another file. Whoever wrote it did not know the senders.
    File,
    /// From OTLP requests, of which the kernel says nothing.
    Request,
}

#[derive(Debug, Default)]
struct Known {
    /// By a text or an encoded resource.
    senders: HashMap<Sender, HashMap<Arc<[u8]>, Arc<Process>>>,
    /// The last one that was found or remembered: mostly, it is the next one, too.
    last: Option<(Sender, Arc<[u8]>, Arc<Process>)>,
    /// The size of all texts, with their overhead.
    bytes: usize,
    /// Where the descriptions come from.
    origin: Origin,
}

impl Processes {
    /// The processes of a capture, or of another file.
    pub(super) fn of_file(is_capture: bool) -> Self {
        Self::from(if is_capture { Origin::Capture } else { Origin::File })
    }

    /// The processes of OTLP requests.
    pub(super) fn of_requests() -> Self {
        Self::from(Origin::Request)
    }

    fn from(origin: Origin) -> Self {
        let known = || Known { origin, ..Known::default() };
        Self { services: known(), resources: known(), encoded: known() }
    }

    /// The process with this service name.
    pub(super) fn of_service(&mut self, sender: Sender, service: &str, faults: &mut Faults) -> Arc<Process> {
        if let Some(known) = self.services.find(sender, service.as_bytes()) {
            return known;
        }
        let mut attributes = Vec::new();
        if !service.is_empty() {
            attributes.push(attribute("service.name", any_value::Value::StringValue(service.to_owned())));
        }
        let process = self.services.process(sender, attributes, 0, faults);
        self.services.remember(sender, service.as_bytes(), process)
    }

    /// The process with the resource in the JSON `text`.
    pub(super) fn of_resource(&mut self, sender: Sender, text: &str, faults: &mut Faults) -> Arc<Process> {
        self.resources.described_by(sender, text.as_bytes(), faults, |faults| otlp::resource(text, faults))
    }

    /// The process with the resource in protobuf.
    pub(super) fn of_encoded(&mut self, sender: Sender, bytes: &[u8], faults: &mut Faults) -> Arc<Process> {
        self.encoded.described_by(sender, bytes, faults, |faults| protobuf::resource(bytes, faults))
    }
}

impl Known {
    fn described_by(
        &mut self,
        sender: Sender,
        description: &[u8],
        faults: &mut Faults,
        read: impl FnOnce(&mut Faults) -> Result<(Vec<KeyValue>, u32), Found>,
    ) -> Arc<Process> {
        if let Some(known) = self.find(sender, description) {
            return known;
        }
        // Without a readable resource, the sender's ids are still known.
        let (attributes, dropped) = read(faults).unwrap_or_else(|found| {
            faults.leave_out(found.of("resource"));
            Default::default()
        });
        let process = self.process(sender, attributes, dropped, faults);
        self.remember(sender, description, process)
    }

    fn process(
        &self,
        sender: Sender,
        mut attributes: Vec<KeyValue>,
        mut dropped: u32,
        faults: &mut Faults,
    ) -> Process {
        limit(&mut attributes, &mut dropped, faults);
        let sender = match self.origin {
            Origin::Sender => {
                add_what_the_kernel_reports(sender, &mut attributes);
                sender
            }
            Origin::Capture => described_sender(&attributes),
            Origin::File => Sender::UNKNOWN,
            Origin::Request => {
                // A recording says so, too.
                attributes.retain(|known| known.key != OVER_OTLP);
                attributes.push(attribute(OVER_OTLP, any_value::Value::BoolValue(true)));
                Sender::OVER_OTLP
            }
        };
        process(sender, attributes, dropped)
    }
}

impl Processes {
    /// Forgets the sender's descriptions. Their faults were dropped with the datagram, so they must be read again to be
    /// reported.
    pub(super) fn forget(&mut self, sender: Sender) {
        for known in [&mut self.services, &mut self.resources, &mut self.encoded] {
            known.forget(sender);
        }
    }
}

impl Known {
    fn forget(&mut self, sender: Sender) {
        let known = self.senders.remove(&sender).unwrap_or_default();
        self.bytes -= known.keys().map(|text| OVERHEAD + text.len()).sum::<usize>();
        self.last = None;
    }

    fn find(&mut self, sender: Sender, text: &[u8]) -> Option<Arc<Process>> {
        if let Some((_, _, process)) =
            self.last.as_ref().filter(|(of, known, _)| *of == sender && **known == *text)
        {
            return Some(Arc::clone(process));
        }
        let (text, process) = self.senders.get(&sender)?.get_key_value(text)?;
        self.last = Some((sender, Arc::clone(text), Arc::clone(process)));
        Some(Arc::clone(process))
    }

    fn remember(&mut self, sender: Sender, text: &[u8], process: Process) -> Arc<Process> {
        let process = Arc::new(process);
        let bytes = OVERHEAD + text.len();
        if self.bytes + bytes > MAX_TEXTS {
            *self = Self { origin: self.origin, ..Self::default() };
        }
        self.bytes += bytes;
        let of_sender = self.senders.entry(sender).or_default();
        // In a file and in requests, all have the same sender.
        if of_sender.len() >= MAX_OF_A_SENDER && self.origin == Origin::Sender {
            self.bytes -= of_sender.drain().map(|(text, _)| OVERHEAD + text.len()).sum::<usize>();
        }
        let text = Arc::<[u8]>::from(text);
        of_sender.insert(Arc::clone(&text), Arc::clone(&process));
        self.last = Some((sender, text, Arc::clone(&process)));
        process
    }
}

/// Leaves out attributes that are too many.
fn limit(attributes: &mut Vec<KeyValue>, dropped: &mut u32, faults: &mut Faults) {
    let before = attributes.len();
    let mut bytes = 0;
    attributes.retain(|attribute| {
        let attribute = attribute.encoded_len();
        let fits = bytes + attribute <= MAX_RESOURCE;
        bytes += if fits { attribute } else { 0 };
        fits
    });
    if attributes.len() < before {
        let left_out = before - attributes.len();
        *dropped = dropped.saturating_add(left_out as u32);
        faults.note(Fault::LongResource, || format!("{left_out} of {before} attributes are left out"));
    }
}

/// Combines the attributes that a process sends with those that the kernel reports, which take precedence.
///
/// The names follow OpenTelemetry's semantic conventions, which have no name for the group.
fn add_what_the_kernel_reports(sender: Sender, attributes: &mut Vec<KeyValue>) {
    let ids =
        [(sender.pid != 0).then_some((PID, sender.pid)), Some((UID, sender.uid)), Some((GID, sender.gid))];
    for (key, id) in ids.into_iter().flatten() {
        attributes.retain(|known| known.key != key);
        attributes.push(attribute(key, any_value::Value::IntValue(id.into())));
    }
    if !attributes.iter().any(|known| known.key == "host.name")
        && let Some(name) = gethostname().ok().and_then(|name| name.into_string().ok())
    {
        attributes.push(attribute("host.name", any_value::Value::StringValue(name)));
    }
}

/// The sender as its attributes describe it; what they don't say is 0.
fn described_sender(attributes: &[KeyValue]) -> Sender {
    if find(attributes, OVER_OTLP).is_some() {
        return Sender::OVER_OTLP;
    }
    let id = |key| find(attributes, key).and_then(count).and_then(|id| id.try_into().ok());
    let [pid, uid, gid] = [PID, UID, GID].map(|key| id(key).unwrap_or(0));
    Sender { pid, uid, gid }
}

fn process(sender: Sender, attributes: Vec<KeyValue>, dropped_attributes_count: u32) -> Process {
    let service = find_text(&attributes, "service.name").unwrap_or_default().to_owned();
    let resource = Resource { attributes, dropped_attributes_count, ..Resource::default() };
    Process { sender, service, resource }
}
