//! The label of the process that sent a span: `shop[4242]`.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use crate::process::Process;
use crate::span::attributes::{find, find_text};

/// The service and the pid that the kernel reports. If the kernel reports none, the pid that the process reports, with
/// `?`.
pub(super) fn label(process: &Process) -> String {
    match (process.sender.pid, own_pid(process)) {
        (0, Some(pid)) => format!("{}[{pid}?]", process.service),
        (0, None) => format!("{}[?]", process.service),
        (pid, _) => format!("{}[{pid}]", process.service),
    }
}

/// Whether both are the same process, which may have been decoded more than once. A pid means something only on its own host:
/// several captures may come from several hosts.
pub(super) fn is_same(one: &Arc<Process>, other: &Arc<Process>) -> bool {
    let is_known = one.sender.pid != 0;
    Arc::ptr_eq(one, other)
        || (one.sender == other.sender
            && one.service == other.service
            && if is_known { host(one) == host(other) } else { one.resource == other.resource })
}

fn host(process: &Process) -> Option<&str> {
    find_text(&process.resource.attributes, "host.name")
}

fn own_pid(process: &Process) -> Option<i64> {
    match find(&process.resource.attributes, "process.pid")? {
        Value::IntValue(pid) => Some(*pid),
        Value::StringValue(pid) => pid.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

    use super::*;
    use crate::process::Sender;
    use crate::span::attributes::attribute;

    fn process(pid: u32, own_pid: Option<i64>) -> Process {
        let attribute = |pid| KeyValue {
            key: "process.pid".into(),
            value: Some(AnyValue { value: Some(Value::IntValue(pid)) }),
            ..KeyValue::default()
        };
        let mut process = Process {
            sender: Sender { pid, uid: 0, gid: 0 },
            service: "shop".into(),
            resource: Default::default(),
        };
        process.resource.attributes.extend(own_pid.map(attribute));
        process
    }

    #[test]
    fn the_pid_of_the_kernel_takes_precedence() {
        let all = [(4242, Some(7)), (0, Some(7)), (0, None)];
        let labels = all.map(|(pid, own)| label(&process(pid, own)));
        assert_eq!(labels, ["shop[4242]", "shop[7?]", "shop[?]"]);
    }

    #[test]
    fn without_a_pid_processes_are_distinguished_by_their_resource() {
        let same = |one: Process, other: Process| is_same(&Arc::new(one), &Arc::new(other));
        assert!(same(process(1, Some(7)), process(1, None)));
        assert!(same(process(0, Some(7)), process(0, Some(7))));
        assert!(!same(process(0, Some(7)), process(0, Some(8))));
        assert!(!same(process(1, None), process(2, None)));
        let on = |host: &str| {
            let mut process = process(1, Some(1));
            process.resource.attributes.push(attribute("host.name", Value::StringValue(host.into())));
            process
        };
        assert!(same(on("a"), on("a")));
        assert!(!same(on("a"), on("b")), "another host has the same pid");
    }
}
