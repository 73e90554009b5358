//! Spans of kernel activity, as children of the span in which it happened. There are few names; the attributes tell
//! the spans apart, by OpenTelemetry's names where it has them.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};
use syscalls::Sysno;

use super::program::NameAt;
use super::record::{Address, CallPath, Connection, Detail, KernelKind, KernelRecord, Owner, Slot, SpanIds};
use crate::source::probes::clock::WallOffset;
use crate::span::KERNEL_SCOPE;
use crate::span::attributes::{SUMMARY_COUNT, WAKER, WAKER_SPAN, attribute};

pub(in crate::source::probes) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: KERNEL_SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn text(key: &str, text: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(text.into()))
}

fn number(key: &str, number: impl TryInto<i64>) -> KeyValue {
    attribute(key, Value::IntValue(number.try_into().unwrap_or(i64::MAX)))
}

fn bytes_text(key: &str, bytes: &[u8]) -> KeyValue {
    text(key, String::from_utf8_lossy(bytes))
}

/// Makes a span of a record. `name_of` finds the names of other spans.
pub(in crate::source::probes) fn of_record(
    record: &KernelRecord<'_>,
    wall: WallOffset,
    name_of: impl FnOnce(NameAt) -> Option<Arc<str>>,
) -> Span {
    let mut span = below(record.ids, &record.owner, name(record.kind, record.number));
    span.start_time_unix_nano = record.start_ns.saturating_add_signed(wall);
    span.end_time_unix_nano = record.end_ns.saturating_add_signed(wall);
    add_detail(&record.detail, record.number, name_of, &mut span);
    span
}

/// Makes a span of the short ones of one kind.
pub(in crate::source::probes) fn of_slot(ids: SpanIds, owner: &Owner, slot: &Slot, wall: WallOffset) -> Span {
    let mut span = below(ids, owner, name(slot.kind, slot.number));
    span.start_time_unix_nano = slot.first_ns.saturating_add_signed(wall);
    span.end_time_unix_nano = slot.last_ns.max(slot.first_ns).saturating_add_signed(wall);
    span.attributes.extend([
        number(SUMMARY_COUNT, slot.count),
        number("kernel.total_ns", slot.total_ns),
        number("kernel.longest_ns", slot.longest_ns),
    ]);
    span
}

fn below(ids: SpanIds, owner: &Owner, name: String) -> Span {
    Span {
        trace_id: ids.trace_id.to_be_bytes().to_vec(),
        span_id: fastrand::u64(1..).to_be_bytes().to_vec(),
        parent_span_id: ids.span_id.to_be_bytes().to_vec(),
        name,
        kind: SpanKind::Internal as i32,
        attributes: vec![number("thread.id", owner.tid), text("thread.name", &*owner.comm)],
        ..Span::default()
    }
}

fn name(kind: KernelKind, number: u32) -> String {
    let name = match kind {
        KernelKind::RunQueue => "run queue",
        KernelKind::Preempted => "preempted",
        KernelKind::Throttled => "throttled",
        KernelKind::Sleep => "sleep",
        KernelKind::Network => "network wait",
        KernelKind::Lock => "lock wait",
        KernelKind::Disk => "disk wait",
        KernelKind::Blocked => "blocked",
        KernelKind::Stopped => "stopped",
        KernelKind::BlockRead => "block read",
        KernelKind::BlockWrite => "block write",
        // linux/blk_types.h
        KernelKind::BlockOther => match number {
            2 => "block flush",
            3 | 5 => "block discard",
            9 => "block write zeroes",
            _ => "block other",
        },
        KernelKind::TcpConnect => "tcp connect",
        KernelKind::TcpAccept => "tcp accept",
        KernelKind::TcpRetransmit => "tcp retransmit",
        KernelKind::TcpClose => "tcp close",
        KernelKind::TcpReset => "tcp reset",
        KernelKind::Exec => "exec",
        KernelKind::Syscall => return format!("syscall {}", call_name(number)),
    };
    name.to_owned()
}

fn call_name(call: u32) -> String {
    Sysno::new(call as usize).map_or_else(|| call.to_string(), |call| call.name().to_owned())
}

fn add_detail(
    detail: &Detail<'_>,
    call: u32,
    name_of: impl FnOnce(NameAt) -> Option<Arc<str>>,
    span: &mut Span,
) {
    let attributes = &mut span.attributes;
    match detail {
        Detail::None => {}
        // The wake-up was not recorded.
        Detail::Waker { tid: 0, in_interrupt: false, comm: [], .. } => {}
        Detail::Waker { in_interrupt: true, .. } => attributes.push(text(WAKER, "an interrupt")),
        Detail::Waker { pid, tid, comm, span: waking, .. } => {
            attributes.extend([
                bytes_text(WAKER, comm),
                number("kernel.waker.pid", *pid),
                number("kernel.waker.tid", *tid),
            ]);
            if let Some((SpanIds { span_id, trace_id }, name)) = waking {
                attributes.extend(name_of(*name).map(|name| text(WAKER_SPAN, &*name)));
                span.links.push(Link {
                    trace_id: trace_id.to_be_bytes().to_vec(),
                    span_id: span_id.to_be_bytes().to_vec(),
                    ..Link::default()
                });
            }
        }
        Detail::Block { device, error, bytes, disk } => {
            let numbers = format!("{}:{}", device >> 20, device & 0xf_ffff);
            attributes.push(match disk {
                [] => text("system.device", numbers),
                disk => bytes_text("system.device", disk),
            });
            attributes.push(number("kernel.block.bytes", *bytes));
            if *error != 0 {
                // A blk_status_t of linux/blk_types.h, not an errno.
                span.status = failed(format!("block status {error}"));
            }
        }
        Detail::Connection(connection) => add_connection(connection, span),
        Detail::Exec { pid, status, path } => {
            attributes.push(bytes_text("kernel.exec.path", path));
            attributes.push(number("kernel.exec.pid", *pid));
            // The status is that of wait().
            match status & 0x7f {
                0 => attributes.push(number("kernel.exec.exit_code", status >> 8 & 0xff)),
                signal => attributes.push(number("kernel.exec.signal", signal)),
            }
        }
        Detail::Call { result, first_argument, path } => {
            let descriptor = takes_descriptor(call).then_some(*first_argument as i32);
            match (path, descriptor) {
                (CallPath::Argument(path), _) | (CallPath::Descriptor(path), Some(_)) => {
                    attributes.push(bytes_text("kernel.syscall.path", path));
                }
                (CallPath::Address(address), _) => add_address(address, call, attributes),
                _ => {}
            }
            if let Some(descriptor) = descriptor {
                attributes.push(attribute("kernel.syscall.fd", Value::IntValue(descriptor.into())));
            }
            attributes.push(attribute("kernel.syscall.result", Value::IntValue(*result)));
            // Errors such as EAGAIN are normal, so the span's status stays unset.
            if let Ok(error @ 1..=4095) = i32::try_from(-*result) {
                attributes.push(text("kernel.syscall.error", error_name(error)));
            }
        }
    }
}

/// The address of a bind is the local one, all others are the peer's.
fn add_address(address: &Address<'_>, call: u32, attributes: &mut Vec<KeyValue>) {
    let (address_key, port_key) = match Sysno::new(call as usize) {
        Some(Sysno::bind) => ("network.local.address", "network.local.port"),
        _ => ("network.peer.address", "network.peer.port"),
    };
    match address {
        Address::Internet(ip, port) => {
            attributes.extend([text(address_key, ip.to_string()), number(port_key, *port)]);
        }
        Address::Path(path) => {
            attributes.extend([text("network.transport", "unix"), bytes_text(address_key, path)]);
        }
        // In the notation of ss(8).
        Address::Name(name) => attributes.extend([
            text("network.transport", "unix"),
            text(address_key, format!("@{}", String::from_utf8_lossy(name))),
        ]),
    }
}

/// Whether the first argument of a call is a descriptor that is still open after the call.
fn takes_descriptor(call: u32) -> bool {
    use Sysno as S;
    matches!(
        Sysno::new(call as usize),
        Some(
            S::read
                | S::write
                | S::pread64
                | S::pwrite64
                | S::readv
                | S::writev
                | S::preadv
                | S::pwritev
                | S::preadv2
                | S::pwritev2
                | S::lseek
                | S::ioctl
                | S::fcntl
                | S::flock
                | S::fsync
                | S::fdatasync
                | S::ftruncate
                | S::fallocate
                | S::fstat
                | S::getdents64
                | S::fchmod
                | S::fchown
                | S::syncfs
                | S::sync_file_range
                | S::connect
                | S::accept
                | S::accept4
                | S::bind
                | S::listen
                | S::shutdown
                | S::sendto
                | S::recvfrom
                | S::sendmsg
                | S::recvmsg
                | S::sendmmsg
                | S::recvmmsg
                | S::getsockopt
                | S::setsockopt
                | S::getsockname
                | S::getpeername
                | S::sendfile
                | S::splice
                | S::epoll_ctl
                | S::epoll_pwait
                | S::epoll_pwait2
        )
    ) || call_name(call) == "epoll_wait" // only on x86-64
}

fn add_connection(connection: &Connection, span: &mut Span) {
    let attributes = &mut span.attributes;
    attributes.push(text("network.transport", "tcp"));
    if let Some((local, peer)) = connection.addresses {
        let (local_port, peer_port) = connection.ports;
        attributes.extend([
            text("network.type", if peer.is_ipv4() { "ipv4" } else { "ipv6" }),
            text("network.local.address", local.to_string()),
            number("network.local.port", local_port),
            text("network.peer.address", peer.to_string()),
            number("network.peer.port", peer_port),
        ]);
    }
    for (key, value) in [
        ("kernel.tcp.sent_bytes", connection.sent),
        ("kernel.tcp.received_bytes", connection.received),
        ("kernel.tcp.round_trip_us", connection.round_trip_us.into()),
        ("kernel.tcp.retransmits", connection.retransmits.into()),
        ("kernel.tcp.lifetime_ns", connection.lifetime_ns),
    ] {
        if value > 0 {
            attributes.push(number(key, value));
        }
    }
    if connection.error != 0 {
        let name = error_name(connection.error);
        attributes.push(text("error.type", &*name));
        span.status = failed(name);
    }
}

fn failed(message: String) -> Option<Status> {
    Some(Status { message, code: StatusCode::Error as i32 })
}

fn error_name(error: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(error))
}
