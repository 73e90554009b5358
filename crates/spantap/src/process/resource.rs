//! The process that sent a span, as it describes itself.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::sender::Sender;
use crate::span::attributes::value;

/// A process that sends spans: one OpenTelemetry resource.
#[derive(Clone, PartialEq, Debug)]
pub struct Process {
    /// The process as the kernel identifies it.
    pub sender: Sender,
    /// `service.name`; empty if the process sends none.
    pub service: String,
    /// All attributes of the process, including `service.name` and `process.pid`.
    pub resource: Resource,
}

impl Process {
    /// Roughly how many bytes of memory the process takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.resource_bytes()
    }

    /// Roughly how many bytes of memory the resource takes.
    pub fn resource_bytes(&self) -> usize {
        let text = |attribute: &KeyValue| match value(attribute) {
            Some(any_value::Value::StringValue(text)) => text.len(),
            _ => 0,
        };
        let attributes = self.resource.attributes.iter();
        attributes.map(|attribute| size_of::<KeyValue>() + attribute.key.len() + text(attribute)).sum()
    }
}
