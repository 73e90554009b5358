//! What the kernel did in a span, as a span below it. Names are few; what tells one from another is in the
//! attributes, which are OpenTelemetry's where it has one.

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status, status::StatusCode};
use syscalls::Sysno;

use super::record::{Address, CallPath, Connection, Detail, KernelRecord, Slot, What, Who, Whose};

/// The name of the scope of all of them, which tells them from the program's own.
const SCOPE: &str = "spantap.kernel";

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Whether the spans are of what the kernel did.
pub(super) fn is_kernels(spans: &ScopeSpans) -> bool {
    spans.scope.as_ref().is_some_and(|scope| scope.name == SCOPE)
}

/// What is added to the kernel's clock to have the time since 1970.
pub(super) type WallOffset = i64;

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
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

/// One that is told by itself.
pub(super) fn of_record(record: &KernelRecord<'_>, wall: WallOffset) -> Span {
    let mut span = below(record.who, &record.whose, name(record.what, record.number));
    span.start_time_unix_nano = record.start_ns.saturating_add_signed(wall);
    span.end_time_unix_nano = record.end_ns.saturating_add_signed(wall);
    tell(&record.detail, record.number, &mut span);
    span
}

/// Those of a kind that are told together.
pub(super) fn of_slot(who: Who, whose: &Whose, slot: &Slot, wall: WallOffset) -> Span {
    let mut span = below(who, whose, name(slot.what, slot.number));
    span.start_time_unix_nano = slot.first_ns.saturating_add_signed(wall);
    span.end_time_unix_nano = slot.last_ns.max(slot.first_ns).saturating_add_signed(wall);
    span.attributes.extend([
        number("kernel.count", slot.count),
        number("kernel.total_ns", slot.total_ns),
        number("kernel.longest_ns", slot.longest_ns),
    ]);
    span
}

fn below(who: Who, whose: &Whose, name: String) -> Span {
    Span {
        trace_id: who.trace_id.to_be_bytes().to_vec(),
        span_id: fastrand::u64(1..).to_be_bytes().to_vec(),
        parent_span_id: who.span_id.to_be_bytes().to_vec(),
        name,
        kind: SpanKind::Internal as i32,
        attributes: vec![number("thread.id", whose.tid), text("thread.name", &*whose.comm)],
        ..Span::default()
    }
}

fn name(what: What, number: u32) -> String {
    let name = match what {
        What::RunQueue => "run queue",
        What::Preempted => "preempted",
        What::Throttled => "throttled",
        What::Sleep => "sleep",
        What::Disk => "disk wait",
        What::Blocked => "blocked",
        What::Stopped => "stopped",
        What::BlockRead => "block read",
        What::BlockWrite => "block write",
        // linux/blk_types.h
        What::BlockOther => match number {
            2 => "block flush",
            3 | 5 => "block discard",
            9 => "block write zeroes",
            _ => "block other",
        },
        What::TcpConnect => "tcp connect",
        What::TcpAccept => "tcp accept",
        What::TcpRetransmit => "tcp retransmit",
        What::TcpClose => "tcp close",
        What::TcpReset => "tcp reset",
        What::Exec => "exec",
        What::Syscall => return format!("syscall {}", call_name(number)),
    };
    name.to_owned()
}

fn call_name(call: u32) -> String {
    Sysno::new(call as usize).map_or_else(|| call.to_string(), |call| call.name().to_owned())
}

fn tell(detail: &Detail<'_>, call: u32, span: &mut Span) {
    let attributes = &mut span.attributes;
    match detail {
        Detail::None => {}
        // Nobody, where the wake-up was not seen.
        Detail::Waker { tid: 0, in_interrupt: false, comm: [], .. } => {}
        Detail::Waker { in_interrupt: true, .. } => attributes.push(text("kernel.waker", "an interrupt")),
        Detail::Waker { pid, tid, comm, .. } => attributes.extend([
            bytes_text("kernel.waker", comm),
            number("kernel.waker.pid", *pid),
            number("kernel.waker.tid", *tid),
        ]),
        Detail::Block { device, error, bytes, disk } => {
            let numbers = format!("{}:{}", device >> 20, device & 0xf_ffff);
            attributes.push(match disk {
                [] => text("system.device", numbers),
                disk => bytes_text("system.device", disk),
            });
            attributes.push(number("kernel.block.bytes", *bytes));
            if *error != 0 {
                // Not an errno, but a blk_status_t of linux/blk_types.h.
                span.status = failed(format!("block status {error}"));
            }
        }
        Detail::Connection(connection) => tell_connection(connection, span),
        Detail::Exec { pid, status, path } => {
            attributes.push(bytes_text("kernel.exec.path", path));
            attributes.push(number("kernel.exec.pid", *pid));
            // As wait() has it.
            match status & 0x7f {
                0 => attributes.push(number("kernel.exec.exit_code", status >> 8 & 0xff)),
                signal => attributes.push(number("kernel.exec.signal", signal)),
            }
        }
        Detail::Call { result, first, path } => {
            let descriptor = takes_descriptor(call).then_some(*first as i32);
            match (path, descriptor) {
                (CallPath::Argument(path), _) | (CallPath::Descriptor(path), Some(_)) => {
                    attributes.push(bytes_text("kernel.syscall.path", path));
                }
                (CallPath::Address(address), _) => tell_address(address, call, attributes),
                _ => {}
            }
            if let Some(descriptor) = descriptor {
                attributes.push(attribute("kernel.syscall.fd", Value::IntValue(descriptor.into())));
            }
            attributes.push(attribute("kernel.syscall.result", Value::IntValue(*result)));
            // Also what is as usual, such as EAGAIN: so it is no error of the span.
            if let Ok(error @ 1..=4095) = i32::try_from(-*result) {
                attributes.push(text("kernel.syscall.error", error_name(error)));
            }
        }
    }
}

/// What it binds to is its own, what else it names is the other's.
fn tell_address(address: &Address<'_>, call: u32, attributes: &mut Vec<KeyValue>) {
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
        // As ss(8) has them.
        Address::Name(name) => attributes.extend([
            text("network.transport", "unix"),
            text(address_key, format!("@{}", String::from_utf8_lossy(name))),
        ]),
    }
}

/// Whether the first argument of a call is a descriptor that is still the same when the call is over.
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
    ) || call_name(call) == "epoll_wait" // of x86-64 alone
}

fn tell_connection(connection: &Connection, span: &mut Span) {
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
