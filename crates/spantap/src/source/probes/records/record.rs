//! Reads the records of the programs in the kernel, laid out as in `src/bpf/records.h`.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::program::{NameAt, Program};
use crate::process::Sender;
use crate::span::account::{Account, RUN_QUEUE};

/// A record from the ring buffer.
#[derive(Debug)]
pub(in crate::source::probes) enum Record<'a> {
    /// Spans that ended, in protobuf.
    /// `lost` counts the records of times, of any process, that are lost by then.
    Batch { program: Program, sender: Sender, now_ns: u64, lost: u64, bytes: &'a [u8] },
    /// A thread was off the CPU while it was in spans.
    Time(TimeRecord),
    /// A thread was in spans before it was followed.
    Gap(UnseenRecord),
    /// The kernel did not report what a thread did for a while.
    Unseen(UnseenRecord),
    /// One kernel span.
    Kernel(KernelRecord<'a>),
    /// The name of spans.
    Name(NameAt, &'a [u8]),
    /// The aggregated short kernel spans of a span.
    Summary { ids: SpanIds, owner: Owner, slots: Vec<Slot> },
    /// The first of them has come.
    Summarized { program: Program, span_id: u64 },
}

/// The ids of a span.
#[derive(Clone, Copy, Debug)]
pub(in crate::source::probes) struct SpanIds {
    pub(in crate::source::probes) span_id: u64,
    pub(in crate::source::probes) trace_id: u128,
}

/// The process and thread of a span.
#[derive(Clone, Debug)]
pub(in crate::source::probes) struct Owner {
    pub(in crate::source::probes) program: Program,
    pub(in crate::source::probes) tid: u32,
    pub(in crate::source::probes) comm: String,
}

/// How long a thread was off the CPU.
#[derive(Debug)]
pub(in crate::source::probes) struct TimeRecord {
    pub(in crate::source::probes) program: Program,
    /// The spans that it was in, the outermost first. Not empty.
    pub(in crate::source::probes) span_ids: Vec<u64>,
    /// The time in each state.
    pub(in crate::source::probes) account: Account,
    /// The name of the innermost span.
    pub(in crate::source::probes) name: NameAt,
    /// The name of the span in which another thread woke this one.
    pub(in crate::source::probes) waker: Option<NameAt>,
    /// The time until it was woken, or could have gone on.
    pub(in crate::source::probes) waited_ns: u64,
}

/// A time in which it is not known what a thread did.
#[derive(Debug)]
pub(in crate::source::probes) struct UnseenRecord {
    pub(in crate::source::probes) program: Program,
    pub(in crate::source::probes) from_ns: u64,
    pub(in crate::source::probes) to_ns: u64,
    /// The spans that the thread was in, of those of which it tells: each with the times of its enter and its exit.
    pub(in crate::source::probes) spans: Vec<(u64, (u64, u64))>,
    /// Whether it has exited more spans than it tells of.
    pub(in crate::source::probes) has_others: bool,
}

/// A kernel span.
#[derive(Debug)]
pub(in crate::source::probes) struct KernelRecord<'a> {
    pub(in crate::source::probes) kind: KernelKind,
    /// The number of a system call, or of a block operation other than read and write.
    pub(in crate::source::probes) number: u32,
    pub(in crate::source::probes) ids: SpanIds,
    pub(in crate::source::probes) owner: Owner,
    pub(in crate::source::probes) start_ns: u64,
    pub(in crate::source::probes) end_ns: u64,
    pub(in crate::source::probes) detail: Detail<'a>,
}

/// Short kernel spans of one kind and number.
#[derive(Debug)]
pub(in crate::source::probes) struct Slot {
    pub(in crate::source::probes) kind: KernelKind,
    pub(in crate::source::probes) number: u32,
    pub(in crate::source::probes) count: u64,
    pub(in crate::source::probes) total_ns: u64,
    pub(in crate::source::probes) longest_ns: u64,
    pub(in crate::source::probes) first_ns: u64,
    pub(in crate::source::probes) last_ns: u64,
}

/// The kinds of kernel spans: `enum thread_state` without `ON_CPU` and `UNSEEN`, then `enum kernel_kind`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::source::probes) enum KernelKind {
    RunQueue,
    Preempted,
    Throttled,
    Sleep,
    Network,
    Lock,
    Disk,
    Blocked,
    Stopped,
    BlockRead,
    BlockWrite,
    BlockOther,
    TcpConnect,
    TcpAccept,
    TcpRetransmit,
    TcpClose,
    TcpReset,
    Exec,
    Syscall,
}

impl KernelKind {
    /// In the order of the C values, from 1 on.
    const ALL: [Self; 19] = [
        Self::RunQueue,
        Self::Preempted,
        Self::Throttled,
        Self::Sleep,
        Self::Network,
        Self::Lock,
        Self::Disk,
        Self::Blocked,
        Self::Stopped,
        Self::BlockRead,
        Self::BlockWrite,
        Self::BlockOther,
        Self::TcpConnect,
        Self::TcpAccept,
        Self::TcpRetransmit,
        Self::TcpClose,
        Self::TcpReset,
        Self::Exec,
        Self::Syscall,
    ];

    fn of(number: u32) -> Option<Self> {
        Self::ALL.get((number as usize).checked_sub(1)?).copied()
    }
}

/// The details of a kernel span.
#[derive(Debug)]
pub(in crate::source::probes) enum Detail<'a> {
    None,
    /// `span` is the span that the waker was in, with its name.
    Waker {
        pid: u32,
        tid: u32,
        comm: &'a [u8],
        in_interrupt: bool,
        span: Option<(SpanIds, NameAt)>,
    },
    Block {
        device: u32,
        error: i32,
        bytes: u64,
        disk: &'a [u8],
    },
    Connection(Connection),
    Exec {
        pid: u32,
        status: i32,
        path: &'a [u8],
    },
    Call {
        result: i64,
        first_argument: u64,
        path: CallPath<'a>,
    },
}

/// What a system call works on.
#[derive(Debug)]
pub(in crate::source::probes) enum CallPath<'a> {
    None,
    Argument(&'a [u8]),
    /// The last part of the open file's name; valid only if the first argument is a descriptor.
    Descriptor(&'a [u8]),
    Address(Address<'a>),
}

/// A `sockaddr`.
#[derive(Debug)]
pub(in crate::source::probes) enum Address<'a> {
    Internet(IpAddr, u16),
    /// The path of a Unix socket.
    Path(&'a [u8]),
    /// The abstract name of a Unix socket.
    Name(&'a [u8]),
}

impl<'a> Address<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let family = i32::from(fields.u16()?);
        if family == libc::AF_UNIX {
            let path = fields.0;
            return match path.first()? {
                0 => {
                    path[1..].split(|byte| *byte == 0).next().filter(|name| !name.is_empty()).map(Self::Name)
                }
                _ => path.split(|byte| *byte == 0).next().map(Self::Path),
            };
        }
        let port = u16::from_be_bytes(fields.array()?);
        let ip = match family {
            libc::AF_INET => IpAddr::from(fields.array::<4>()?),
            libc::AF_INET6 => {
                fields.u32()?;
                IpAddr::from(fields.array::<16>()?).to_canonical()
            }
            _ => return None,
        };
        Some(Self::Internet(ip, port))
    }
}

#[derive(Debug)]
pub(in crate::source::probes) struct Connection {
    pub(in crate::source::probes) error: i32,
    /// Local and peer; `None` for other families than IPv4 and IPv6.
    pub(in crate::source::probes) addresses: Option<(IpAddr, IpAddr)>,
    pub(in crate::source::probes) ports: (u16, u16),
    pub(in crate::source::probes) round_trip_us: u32,
    pub(in crate::source::probes) sent: u64,
    pub(in crate::source::probes) received: u64,
    pub(in crate::source::probes) lifetime_ns: u64,
    pub(in crate::source::probes) retransmits: u32,
}

impl<'a> Record<'a> {
    /// Returns `None` for bytes that are not one of our records.
    pub(in crate::source::probes) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        match fields.u32()? {
            1 => fields.batch(),
            2 => fields.time().map(Self::Time),
            3 => fields.kernel().map(Self::Kernel),
            4 => fields.summary(),
            5 => fields.summarized(),
            6 => fields.unseen().map(Self::Unseen),
            7 => fields.unseen().map(Self::Gap),
            8 => fields.name(),
            _ => None,
        }
    }
}

/// When the last kernel span in a `struct record_summary` ended.
pub(in crate::source::probes) fn last_ns_of_summary(bytes: &[u8]) -> Option<u64> {
    match Record::read(bytes)? {
        Record::Summary { slots, .. } => slots.iter().map(|slot| slot.last_ns).max(),
        _ => None,
    }
}

/// The bytes that are left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    /// A text up to its NUL, in a field of `room` bytes.
    fn text(&mut self, room: usize) -> Option<&'a [u8]> {
        self.bytes(room)?.split(|byte| *byte == 0).next()
    }

    /// The name of a thread. The kernel names the first thread of a program executed from a memfd `memfd:NAME`.
    fn comm(&mut self) -> Option<&'a [u8]> {
        let comm = self.text(16)?;
        Some(comm.strip_prefix(b"memfd:").unwrap_or(comm))
    }

    fn ids(&mut self) -> Option<SpanIds> {
        let (span_id, high, low) = (self.u64()?, self.u64()?, self.u64()?);
        Some(SpanIds { span_id, trace_id: u128::from(high) << 64 | u128::from(low) })
    }

    fn owner(&mut self) -> Option<Owner> {
        let (pid, tid) = (self.u32()?, self.u32()?);
        let comm = String::from_utf8_lossy(self.comm()?).into_owned();
        Some(Owner { program: Program { pid, image: self.u64()? }, tid, comm })
    }

    fn batch(&mut self) -> Option<Record<'a>> {
        let (length, uid, gid) = (self.u32()? as usize, self.u32()?, self.u32()?);
        let (program, now_ns, lost) = (self.owner()?.program, self.u64()?, self.u64()?);
        let sender = Sender { pid: program.pid, uid, gid };
        Some(Record::Batch { program, sender, now_ns, lost, bytes: self.bytes(length)? })
    }

    fn time(&mut self) -> Option<TimeRecord> {
        let (depth, pid, state) = (self.u32()? as usize, self.u32()?, self.u32()? as usize);
        let (image, time_ns, queued_ns, address) = (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
        let program = Program { pid, image };
        let (waker_image, waker_address) = (self.u64()?, self.u64()?);
        let waker = Program { pid: self.u32()?, image: waker_image };
        self.u32()?;
        let mut account = Account::default();
        *account.0.get_mut(state)? += time_ns;
        account.0[RUN_QUEUE] += queued_ns;
        let span_ids: Option<Vec<u64>> = (0..depth).map(|_| self.u64()).collect();
        Some(TimeRecord {
            program,
            span_ids: span_ids?,
            account,
            name: NameAt { program, address },
            waker: (waker_image != 0).then_some(NameAt { program: waker, address: waker_address }),
            waited_ns: time_ns,
        })
    }

    /// With a copy of the thread's context, as `docs/wire.md` describes it.
    fn unseen(&mut self) -> Option<UnseenRecord> {
        const LEVELS: usize = 64;
        const EXITS: u64 = 16;
        let (pid, image, from_ns, to_ns) = (self.u32()?, self.u64()?, self.u64()?, self.u64()?);
        let depth = (self.u64()? & 0xff) as usize;
        let ids: Option<Vec<u64>> = (0..LEVELS).map(|_| self.u64()).collect();
        let mut spans = Vec::new();
        for span_id in ids? {
            let (_, since_ns, _) = (self.bytes(32)?, self.u64()?, self.bytes(24)?);
            spans.push((span_id, (since_ns, u64::MAX)));
        }
        spans.truncate(depth);
        // A span that was entered twice counts from the first enter on.
        let mut known = HashSet::new();
        spans.retain(|(span_id, _)| known.insert(*span_id));
        let exits = self.u64()?;
        for _ in 0..exits.min(EXITS) {
            let (span_id, since_ns, until_ns) = (self.u64()?, self.u64()?, self.u64()?);
            spans.push((span_id, (since_ns, if until_ns == 0 { to_ns } else { until_ns })));
        }
        spans.retain(|(span_id, _)| *span_id != 0);
        let program = Program { pid, image };
        Some(UnseenRecord { program, from_ns, to_ns, spans, has_others: exits > EXITS })
    }

    fn summarized(&mut self) -> Option<Record<'a>> {
        let (pid, image, span_id) = (self.u32()?, self.u64()?, self.u64()?);
        Some(Record::Summarized { program: Program { pid, image }, span_id })
    }

    fn kind(&mut self) -> Option<KernelKind> {
        self.u32().and_then(KernelKind::of)
    }

    fn kernel(&mut self) -> Option<KernelRecord<'a>> {
        self.u32()?;
        let (kind, number) = (self.kind()?, self.u32()?);
        let (ids, owner, start_ns, end_ns) = (self.ids()?, self.owner()?, self.u64()?, self.u64()?);
        let detail = self.detail(kind)?;
        Some(KernelRecord { kind, number, ids, owner, start_ns, end_ns, detail })
    }

    fn detail(&mut self, kind: KernelKind) -> Option<Detail<'a>> {
        Some(match kind {
            KernelKind::RunQueue | KernelKind::Preempted | KernelKind::Throttled => Detail::None,
            KernelKind::Sleep
            | KernelKind::Network
            | KernelKind::Lock
            | KernelKind::Disk
            | KernelKind::Blocked
            | KernelKind::Stopped => self.waker()?,
            KernelKind::BlockRead | KernelKind::BlockWrite | KernelKind::BlockOther => Detail::Block {
                device: self.u32()?,
                error: self.u32()? as i32,
                bytes: self.u64()?,
                disk: self.text(32)?,
            },
            KernelKind::TcpConnect
            | KernelKind::TcpAccept
            | KernelKind::TcpRetransmit
            | KernelKind::TcpClose
            | KernelKind::TcpReset => Detail::Connection(self.connection()?),
            KernelKind::Exec => {
                Detail::Exec { pid: self.u32()?, status: self.u32()? as i32, path: self.text(96)? }
            }
            KernelKind::Syscall => {
                let (result, first_argument) = (self.u64()? as i64, self.u64()?);
                let (path_kind, _, bytes) = (self.u32()?, self.u32()?, self.bytes(96)?);
                let path = bytes.split(|byte| *byte == 0).next()?;
                let path = match path_kind {
                    1 => CallPath::Argument(path),
                    2 => CallPath::Descriptor(path),
                    3 => Address::read(bytes).map_or(CallPath::None, CallPath::Address),
                    _ => CallPath::None,
                };
                Detail::Call { result, first_argument, path }
            }
        })
    }

    fn name(&mut self) -> Option<Record<'a>> {
        let program = Program { pid: self.u32()?, image: self.u64()? };
        Some(Record::Name(NameAt { program, address: self.u64()? }, self.text(64)?))
    }

    fn waker(&mut self) -> Option<Detail<'a>> {
        let (pid, tid, comm, in_interrupt) = (self.u32()?, self.u32()?, self.comm()?, self.u32()? != 0);
        self.u32()?;
        let (ids, image, address) = (self.ids()?, self.u64()?, self.u64()?);
        let name = NameAt { program: Program { pid, image }, address };
        Some(Detail::Waker { pid, tid, comm, in_interrupt, span: (ids.span_id != 0).then_some((ids, name)) })
    }

    fn connection(&mut self) -> Option<Connection> {
        let (family, error) = (self.u32()?, self.u32()? as i32);
        let (local, peer): ([u8; 16], [u8; 16]) = (self.array()?, self.array()?);
        let v4 = |[a, b, c, d, ..]: [u8; 16]| IpAddr::from(Ipv4Addr::new(a, b, c, d));
        let v6 = |octets: [u8; 16]| IpAddr::from(Ipv6Addr::from(octets)).to_canonical();
        let addresses = match i32::try_from(family).ok()? {
            libc::AF_INET => Some((v4(local), v4(peer))),
            libc::AF_INET6 => Some((v6(local), v6(peer))),
            _ => None,
        };
        Some(Connection {
            error,
            addresses,
            ports: (self.u16()?, self.u16()?),
            round_trip_us: self.u32()?,
            sent: self.u64()?,
            received: self.u64()?,
            lifetime_ns: self.u64()?,
            retransmits: self.u32()?,
        })
    }

    fn summary(&mut self) -> Option<Record<'a>> {
        self.u32()?;
        let (ids, owner) = (self.ids()?, self.owner()?);
        let mut slots = Vec::new();
        while let Some(kind) = self.u32().and_then(KernelKind::of) {
            slots.push(Slot {
                kind,
                number: self.u32()?,
                count: self.u64()?,
                total_ns: self.u64()?,
                longest_ns: self.u64()?,
                first_ns: self.u64()?,
                last_ns: self.u64()?,
            });
        }
        Some(Record::Summary { ids, owner, slots })
    }
}
