//! Who sent a span: as the kernel vouches for it, and as it describes itself.

use std::fmt;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::attributes::value;

/// The sending process, by the kernel's word (`SCM_CREDENTIALS`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Sender {
    /// 0 for a process of a pid namespace that we can't see into.
    pub pid: u32,
    /// Its real user.
    pub uid: u32,
    /// Its real group.
    pub gid: u32,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => write!(f, "a process of another pid namespace, uid {}", self.uid),
            pid => write!(f, "pid {pid}, uid {}", self.uid),
        }
    }
}

/// A process that sends spans: one OpenTelemetry resource.
#[derive(Clone, PartialEq, Debug)]
pub struct Process {
    /// Who it is to the kernel.
    pub sender: Sender,
    /// `service.name`; empty if it says none.
    pub service: String,
    /// All that is known of it, `service.name` and `process.pid` among it.
    pub resource: Resource,
}

impl Process {
    /// Roughly what its resource takes in memory.
    pub fn resource_bytes(&self) -> usize {
        let text = |attribute: &KeyValue| match value(attribute) {
            Some(any_value::Value::StringValue(text)) => text.len(),
            _ => 0,
        };
        let attributes = self.resource.attributes.iter();
        attributes.map(|attribute| size_of::<KeyValue>() + attribute.key.len() + text(attribute)).sum()
    }
}
