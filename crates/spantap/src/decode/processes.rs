//! The processes that send, each known once.

use std::collections::HashMap;
use std::sync::Arc;

use nix::unistd::gethostname;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::Faults;
use super::fault::Fault;
use super::otlp;
use super::value::attribute;
use crate::attributes::find_text;
use crate::process::{Process, Sender};

/// Who claims to be more services or resources than this is forgotten and learned again.
const MAX_OF_A_SENDER: usize = 16;

/// All texts together that are remembered: a stranger may not fill our memory. Decoded they take several
/// times as much.
const MAX_TEXTS: usize = 4 << 20;

/// What a text takes that is empty.
const OVERHEAD: usize = 1024;

/// Of the attributes of one resource; it is in memory with each trace, and in every request.
const MAX_RESOURCE: usize = 16 * 1024;

/// What was seen of each sender, with the text that said it.
#[derive(Debug, Default)]
pub(super) struct Processes {
    services: Known,
    resources: Known,
}

/// A process, and the text that said so.
type Said = (Box<str>, Arc<Process>);

#[derive(Debug, Default)]
struct Known {
    senders: HashMap<Sender, Vec<Said>>,
    /// The size of all texts.
    bytes: usize,
}

impl Processes {
    /// The process that calls itself `service`.
    pub(super) fn of_service(&mut self, sender: Sender, service: &str, faults: &mut Faults) -> Arc<Process> {
        if let Some(known) = self.services.find(sender, service) {
            return known;
        }
        let mut attributes = Vec::new();
        if !service.is_empty() {
            attributes.push(attribute("service.name", any_value::Value::StringValue(service.to_owned())));
        }
        self.services.remember(sender, service, process(sender, attributes, 0, faults))
    }

    /// The process with the resource that the JSON `text` describes.
    pub(super) fn of_resource(&mut self, sender: Sender, text: &str, faults: &mut Faults) -> Arc<Process> {
        if let Some(known) = self.resources.find(sender, text) {
            return known;
        }
        // Who sent it is known all the same.
        let (attributes, dropped) = otlp::resource(text, faults).unwrap_or_else(|found| {
            faults.leave_out(found.of("resource"));
            Default::default()
        });
        self.resources.remember(sender, text, process(sender, attributes, dropped, faults))
    }
}

impl Processes {
    /// Learns anew what the sender says of itself: what was odd about it has not been told.
    pub(super) fn forget(&mut self, sender: Sender) {
        self.services.forget(sender);
        self.resources.forget(sender);
    }
}

impl Known {
    fn forget(&mut self, sender: Sender) {
        let known = self.senders.remove(&sender).unwrap_or_default();
        self.bytes -= known.iter().map(|(text, _)| OVERHEAD + text.len()).sum::<usize>();
    }

    fn find(&self, sender: Sender, text: &str) -> Option<Arc<Process>> {
        let of_sender = self.senders.get(&sender)?;
        of_sender.iter().find(|(said, _)| **said == *text).map(|(_, process)| Arc::clone(process))
    }

    fn remember(&mut self, sender: Sender, text: &str, process: Process) -> Arc<Process> {
        let process = Arc::new(process);
        let bytes = OVERHEAD + text.len();
        if self.bytes + bytes > MAX_TEXTS {
            *self = Self::default();
        }
        self.bytes += bytes;
        let of_sender = self.senders.entry(sender).or_default();
        if of_sender.len() >= MAX_OF_A_SENDER {
            self.bytes -= of_sender.drain(..).map(|(text, _)| OVERHEAD + text.len()).sum::<usize>();
        }
        of_sender.push((text.into(), Arc::clone(&process)));
        process
    }
}

/// What a process says of itself, and what the kernel says of it, which wins.
///
/// The names are of OpenTelemetry's semantic conventions, but for the group, which has none there.
fn process(
    sender: Sender,
    mut attributes: Vec<KeyValue>,
    mut dropped_attributes_count: u32,
    faults: &mut Faults,
) -> Process {
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
        dropped_attributes_count = dropped_attributes_count.saturating_add(left_out as u32);
        faults.note(Fault::LongResource, || format!("{left_out} of {before} attributes are left out"));
    }
    let ids = [
        (sender.pid != 0).then_some(("process.pid", sender.pid)),
        Some(("process.real_user.id", sender.uid)),
        Some(("process.real_group.id", sender.gid)),
    ];
    for (key, id) in ids.into_iter().flatten() {
        attributes.retain(|known| known.key != key);
        attributes.push(attribute(key, any_value::Value::IntValue(id.into())));
    }
    if !attributes.iter().any(|known| known.key == "host.name") {
        if let Some(name) = gethostname().ok().and_then(|name| name.into_string().ok()) {
            attributes.push(attribute("host.name", any_value::Value::StringValue(name)));
        }
    }
    let service = find_text(&attributes, "service.name").unwrap_or_default().to_owned();
    let resource = Resource { attributes, dropped_attributes_count, ..Resource::default() };
    Process { sender, service, resource }
}
