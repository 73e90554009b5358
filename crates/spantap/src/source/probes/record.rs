//! What the programs in the kernel tell, as `src/bpf/records.h` lays it out.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::account::{Account, PARTS};
use crate::process::Sender;

/// One of them.
#[derive(Debug)]
pub(super) enum Record<'a> {
    /// A span that ended.
    Span { ended: Ended, json: &'a [u8] },
    /// One that had begun before anybody looked.
    Partial { ended: Ended, parent: Parent, name: &'a [u8] },
    /// Something that the kernel did in a span.
    Kernel(KernelRecord<'a>),
    /// What it did in it for shorter times.
    Small { who: Who, whose: Whose, slots: Vec<Slot> },
}

/// The parent of a span that began before the attach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parent {
    /// It is a root.
    None,
    /// The span of this id.
    Span(u64),
    /// The program's layer is an older one, whose probe `close` does not tell it.
    Unknown,
}

/// Which span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    pub(super) span_id: u64,
    pub(super) trace_id: u128,
}

/// The process and thread in which it was.
#[derive(Clone, Debug)]
pub(super) struct Whose {
    pub(super) program: Program,
    pub(super) tid: u32,
    pub(super) comm: String,
}

/// A process and what it runs: not one of later, that has the same pid, nor what it runs after an exec.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Program {
    pub(super) pid: u32,
    /// Greater than of those before it.
    pub(super) image: u64,
}

/// Those of `programs` that run: of each pid the latest, if there is such a process.
pub(super) fn running(programs: impl Iterator<Item = Program>) -> HashSet<Program> {
    let mut latest: HashMap<u32, u64> = HashMap::new();
    for Program { pid, image } in programs {
        let latest = latest.entry(pid).or_default();
        *latest = image.max(*latest);
    }
    let latest = latest.into_iter().map(|(pid, image)| Program { pid, image });
    latest.filter(|program| Path::new(&format!("/proc/{}", program.pid)).exists()).collect()
}

/// What is known of a span at its end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) who: Who,
    pub(super) program: Program,
    pub(super) sender: Sender,
    pub(super) now_ns: u64,
    pub(super) account: Account,
    /// When it was first seen entered; 0: never.
    pub(super) since_ns: u64,
    /// How often it was seen to be left.
    pub(super) exits: u64,
}

/// What the kernel did.
#[derive(Debug)]
pub(super) struct KernelRecord<'a> {
    pub(super) what: What,
    /// Of a system call, or of a block operation that is neither read nor write.
    pub(super) number: u32,
    pub(super) who: Who,
    pub(super) whose: Whose,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) detail: Detail<'a>,
}

/// Short ones of a kind.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) what: What,
    pub(super) number: u32,
    pub(super) count: u64,
    pub(super) total_ns: u64,
    pub(super) longest_ns: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

/// `enum part`, without the time on the CPU and what was not seen, and `enum what`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    RunQueue,
    Preempted,
    Throttled,
    Sleep,
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

impl What {
    /// From 1 on.
    const ALL: [Self; 17] = [
        Self::RunQueue,
        Self::Preempted,
        Self::Throttled,
        Self::Sleep,
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

/// What explains it.
#[derive(Debug)]
pub(super) enum Detail<'a> {
    None,
    Waker { pid: u32, tid: u32, comm: &'a [u8], in_interrupt: bool },
    Block { device: u32, error: i32, bytes: u64, disk: &'a [u8] },
    Connection(Connection),
    Exec { pid: u32, status: i32, path: &'a [u8] },
    Call { result: i64, first: u64, path: CallPath<'a> },
}

/// What a system call was about.
#[derive(Debug)]
pub(super) enum CallPath<'a> {
    None,
    Argument(&'a [u8]),
    /// The last part of the name of what is open as the descriptor, if the first argument is one.
    Descriptor(&'a [u8]),
    Address(Address<'a>),
}

/// A `sockaddr`.
#[derive(Debug)]
pub(super) enum Address<'a> {
    Internet(IpAddr, u16),
    /// The path of a Unix socket, or its abstract name.
    Path(&'a [u8]),
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
pub(super) struct Connection {
    pub(super) error: i32,
    /// Local and peer; none for a family that is not of the internet.
    pub(super) addresses: Option<(IpAddr, IpAddr)>,
    pub(super) ports: (u16, u16),
    pub(super) round_trip_us: u32,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lifetime_ns: u64,
    pub(super) retransmits: u32,
}

impl<'a> Record<'a> {
    /// None for what is not of our making.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        match fields.u32()? {
            1 => {
                let (length, ended, _) = fields.ended()?;
                Some(Self::Span { ended, json: fields.bytes(length)? })
            }
            2 => {
                let (length, ended, parent) = fields.ended()?;
                Some(Self::Partial { ended, parent, name: fields.bytes(length)? })
            }
            3 => fields.kernel().map(Self::Kernel),
            4 => fields.small(),
            _ => None,
        }
    }
}

/// When what is in a `struct record_small` ended last, which the programs may still be adding to.
pub(super) fn last_of_small(bytes: &[u8]) -> Option<u64> {
    match Record::read(bytes)? {
        Record::Small { slots, .. } => slots.iter().map(|slot| slot.last_ns).max(),
        _ => None,
    }
}

/// Of a `struct kept_account`, whose span's it is.
pub(super) fn program_of_account(bytes: &[u8]) -> Option<Program> {
    // Behind the parts, the beginning and the exits.
    let mut fields = Fields(bytes.get(8 * (PARTS + 2)..)?);
    let (pid, _) = (fields.u32()?, fields.u32()?);
    Some(Program { pid, image: fields.u64()? })
}

/// What is left to read.
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

    /// Up to its NUL.
    fn text(&mut self, room: usize) -> Option<&'a [u8]> {
        self.bytes(room)?.split(|byte| *byte == 0).next()
    }

    /// The name of a thread. The kernel names the first thread of a program in a memfd `memfd:NAME`.
    fn comm(&mut self) -> Option<&'a [u8]> {
        let comm = self.text(16)?;
        Some(comm.strip_prefix(b"memfd:").unwrap_or(comm))
    }

    fn who(&mut self) -> Option<Who> {
        let (span_id, high, low) = (self.u64()?, self.u64()?, self.u64()?);
        Some(Who { span_id, trace_id: u128::from(high) << 64 | u128::from(low) })
    }

    fn whose(&mut self) -> Option<Whose> {
        let (pid, tid) = (self.u32()?, self.u32()?);
        let comm = String::from_utf8_lossy(self.comm()?).into_owned();
        Some(Whose { program: Program { pid, image: self.u64()? }, tid, comm })
    }

    /// `struct record_span` after its kind, with the length of its text and its parent.
    fn ended(&mut self) -> Option<(usize, Ended, Parent)> {
        let (length, uid, gid) = (self.u32()? as usize, self.u32()?, self.u32()?);
        let (who, whose, now_ns) = (self.who()?, self.whose()?, self.u64()?);
        let mut account = Account([0; PARTS]);
        for part in &mut account.0 {
            *part = self.u64()?;
        }
        let program = whose.program;
        let sender = Sender { pid: program.pid, uid, gid };
        let (since_ns, exits) = (self.u64()?, self.u64()?);
        let (parent_id, knows_parent) = (self.u64()?, self.u64()? != 0);
        let parent = match (knows_parent, parent_id) {
            (false, _) => Parent::Unknown,
            (true, 0) => Parent::None,
            (true, id) => Parent::Span(id),
        };
        Some((length, Ended { who, program, sender, now_ns, account, since_ns, exits }, parent))
    }

    fn what(&mut self) -> Option<What> {
        self.u32().and_then(What::of)
    }

    fn kernel(&mut self) -> Option<KernelRecord<'a>> {
        self.u32()?;
        let (what, number) = (self.what()?, self.u32()?);
        let (who, whose, start_ns, end_ns) = (self.who()?, self.whose()?, self.u64()?, self.u64()?);
        let detail = self.detail(what)?;
        Some(KernelRecord { what, number, who, whose, start_ns, end_ns, detail })
    }

    fn detail(&mut self, what: What) -> Option<Detail<'a>> {
        Some(match what {
            What::Preempted | What::Throttled => Detail::None,
            What::RunQueue | What::Sleep | What::Disk | What::Blocked | What::Stopped => Detail::Waker {
                pid: self.u32()?,
                tid: self.u32()?,
                comm: self.comm()?,
                in_interrupt: self.u32()? != 0,
            },
            What::BlockRead | What::BlockWrite | What::BlockOther => Detail::Block {
                device: self.u32()?,
                error: self.u32()? as i32,
                bytes: self.u64()?,
                disk: self.text(32)?,
            },
            What::TcpConnect | What::TcpAccept | What::TcpRetransmit | What::TcpClose | What::TcpReset => {
                Detail::Connection(self.connection()?)
            }
            What::Exec => Detail::Exec { pid: self.u32()?, status: self.u32()? as i32, path: self.text(96)? },
            What::Syscall => {
                let (result, first) = (self.u64()? as i64, self.u64()?);
                let (about, _, bytes) = (self.u32()?, self.u32()?, self.bytes(96)?);
                let path = bytes.split(|byte| *byte == 0).next()?;
                let path = match about {
                    1 => CallPath::Argument(path),
                    2 => CallPath::Descriptor(path),
                    3 => Address::read(bytes).map_or(CallPath::None, CallPath::Address),
                    _ => CallPath::None,
                };
                Detail::Call { result, first, path }
            }
        })
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

    fn small(&mut self) -> Option<Record<'a>> {
        self.u32()?;
        let (who, whose) = (self.who()?, self.whose()?);
        let mut slots = Vec::new();
        while let Some(what) = self.u32().and_then(What::of) {
            slots.push(Slot {
                what,
                number: self.u32()?,
                count: self.u64()?,
                total_ns: self.u64()?,
                longest_ns: self.u64()?,
                first_ns: self.u64()?,
                last_ns: self.u64()?,
            });
        }
        Some(Record::Small { who, whose, slots })
    }
}
