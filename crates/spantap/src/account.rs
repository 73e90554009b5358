//! How a span spent the time in which it was entered, as the kernel saw its threads: the attributes that say
//! so, for those who write them and those who read them.

use opentelemetry_proto::tonic::common::v1::KeyValue;
#[cfg(feature = "ebpf")]
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};

use crate::attributes::{count, find};

/// What a thread may be doing.
pub(crate) const PARTS: usize = 9;

/// The attributes, and what to call them. In the order in which the kernel's side counts them.
pub(crate) const KEYS: [&str; PARTS] = [
    "kernel.on_cpu_ns",
    "kernel.run_queue_ns",
    "kernel.preempted_ns",
    "kernel.throttled_ns",
    "kernel.sleep_ns",
    "kernel.disk_ns",
    "kernel.blocked_ns",
    "kernel.stopped_ns",
    "kernel.unseen_ns",
];

/// Why less than all of it is known.
pub(crate) const PARTIAL: &str = "kernel.partial";

/// Nanoseconds for each of the parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Account(pub(crate) [u64; PARTS]);

impl Account {
    /// As a span's attributes have it.
    pub(crate) fn of(attributes: &[KeyValue]) -> Option<Self> {
        let account = KEYS.map(|key| find(attributes, key).and_then(count).unwrap_or(0));
        account.iter().any(|ns| *ns > 0).then_some(Self(account))
    }

    /// In which it may have been anywhere: the kernel did not tell of all changes of its thread.
    #[cfg(feature = "ebpf")]
    pub(crate) fn unseen_ns(self) -> u64 {
        self.0[PARTS - 1]
    }

    /// All of it: the time in which the span was entered.
    pub(crate) fn entered_ns(self) -> u64 {
        self.0.iter().fold(0, |sum, ns| sum.saturating_add(*ns))
    }

    /// What is not zero.
    #[cfg(feature = "ebpf")]
    pub(crate) fn attributes(self) -> impl Iterator<Item = KeyValue> {
        let parts = KEYS.into_iter().zip(self.0).filter(|(_, ns)| *ns > 0);
        parts.map(|(key, ns)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(Value::IntValue(i64::try_from(ns).unwrap_or(i64::MAX))) }),
            ..KeyValue::default()
        })
    }
}
