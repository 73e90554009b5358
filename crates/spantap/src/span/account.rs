//! A span's account: how its threads spent the time in which the span was entered, as the kernel measured it. Defines
//! the attributes that hold it, for the source that writes them and the view that reads them.

use opentelemetry_proto::tonic::common::v1::KeyValue;
#[cfg(feature = "ebpf")]
use opentelemetry_proto::tonic::common::v1::any_value::Value;

#[cfg(feature = "ebpf")]
use crate::span::attributes::attribute;
use crate::span::attributes::{count, find};

/// The number of states that a thread can be in.
pub(crate) const STATES: usize = 11;

/// The places of three: on a CPU, waiting for one, and unknown.
#[cfg(feature = "ebpf")]
pub(crate) const ON_CPU: usize = 0;
#[cfg(feature = "ebpf")]
pub(crate) const RUN_QUEUE: usize = 1;
#[cfg(feature = "ebpf")]
pub(crate) const UNSEEN: usize = STATES - 1;

/// The attribute of each state, in the order in which the eBPF programs count them.
pub(crate) const KEYS: [&str; STATES] = [
    "kernel.on_cpu_ns",
    "kernel.run_queue_ns",
    "kernel.preempted_ns",
    "kernel.throttled_ns",
    "kernel.sleep_ns",
    "kernel.network_ns",
    "kernel.lock_ns",
    "kernel.disk_ns",
    "kernel.blocked_ns",
    "kernel.stopped_ns",
    "kernel.unseen_ns",
];

/// The attribute that explains why the account is incomplete.
pub(crate) const PARTIAL: &str = "kernel.partial";

/// Nanoseconds spent in each state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Account(pub(crate) [u64; STATES]);

impl Account {
    /// Reads the account from a span's attributes; `None` if they have none.
    pub(crate) fn of(attributes: &[KeyValue]) -> Option<Self> {
        Self::read(|key| find(attributes, key).and_then(count))
    }

    /// Reads the account by a function that returns the count in an attribute; `None` if there is none.
    pub(crate) fn read(count_of: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        let account = KEYS.map(|key| count_of(key).unwrap_or(0));
        account.iter().any(|ns| *ns > 0).then_some(Self(account))
    }

    /// The time for which the state is unknown, because the kernel did not report all of its changes.
    #[cfg(feature = "ebpf")]
    pub(crate) fn unseen_ns(self) -> u64 {
        self.0[UNSEEN]
    }

    /// The sum of all states: the time in which the span was entered.
    pub(crate) fn entered_ns(self) -> u64 {
        self.0.iter().fold(0, |sum, ns| sum.saturating_add(*ns))
    }

    /// An attribute for each state whose time is not zero.
    #[cfg(feature = "ebpf")]
    pub(crate) fn attributes(self) -> impl Iterator<Item = KeyValue> {
        let states = KEYS.into_iter().zip(self.0).filter(|(_, ns)| *ns > 0);
        states.map(|(key, ns)| attribute(key, Value::IntValue(i64::try_from(ns).unwrap_or(i64::MAX))))
    }
}
