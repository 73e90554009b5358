//! From the compiled programs to attached ones.

use std::collections::HashSet;
use std::fs;
use std::io::{Write, stderr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Typedef;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, OpenObject, PrintLevel, ProgramType, set_print};
use nix::time::ClockId;
use nix::unistd::geteuid;

use super::build::{Build, Stamp};
use super::elf::PROVIDER;
use super::mapped::mapped_of;
use super::place::Change;
use super::reader::clock_ns;
use super::record;
use super::target::Target;
use crate::cli::Kernel;
use crate::figures::Missed;

/// What the build script made of `src/bpf`.
mod skeleton {
    #![allow(clippy::all, clippy::panic, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]
    #![allow(dead_code, missing_docs, rust_2018_idioms, unreachable_pub, unsafe_code)]
    include!(concat!(env!("OUT_DIR"), "/spantap.skel.rs"));
}

use skeleton::{SpantapProgs, SpantapSkel, SpantapSkelBuilder};

/// The types of the running kernel.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Programs in the kernel. They leave it with the value, and with the process.
pub(super) struct Loaded {
    skeleton: SpantapSkel<'static>,
    /// Links to the kernel's tracepoints; `None` after `detach`.
    tracepoints: Option<Links>,
    /// The builds whose probes are attached to, the latest at the end.
    followed: Vec<Followed>,
    /// The target's.
    name: String,
    /// The only process to attach to; `None` means all.
    pid: Option<i32>,
    /// Builds that take the place of the target's file.
    changes: Option<Receiver<Change>>,
    /// The scheduler is seen.
    pub(super) knows_time: bool,
    /// For the user: to what it is attached, and what this kernel has not.
    pub(super) news: Vec<String>,
}

/// A build whose probes are attached to.
struct Followed {
    links: Links,
    build: Build,
    attached_ns: u64,
    /// No process ran it at the last look.
    is_unused: bool,
}

/// Attached programs. They are detached in the reverse order when the value is dropped.
struct Links(Vec<Link>);

impl Drop for Links {
    fn drop(&mut self) {
        while let Some(link) = self.0.pop() {
            drop(link);
        }
    }
}

/// The most builds of a program that are followed at once: libbpf has room for 256 probes.
const MOST_BUILDS: usize = 32;

/// Set, a program that was built for tests does not see every other thread that gets the CPU.
const MISSES_RETURNS: &str = "SPANTAP_MISSES_RETURNS";

/// What keeps count of the spans that a thread is in.
const ENTERED: [&str; 2] = ["enter", "leave"];

/// The tracepoints of each part of the kernel.
fn tracepoints(kernel: Kernel) -> &'static [&'static str] {
    match kernel {
        Kernel::None => &[],
        Kernel::Sched => &["sched_switch", "sched_waking"],
        Kernel::Block => &["block_io_start", "block_rq_merge", "block_rq_complete"],
        Kernel::Net => &[
            "inet_sock_set_state",
            "sock_send_length",
            "sock_recv_length",
            "tcp_retransmit_skb",
            "tcp_receive_reset",
        ],
        Kernel::Exec => &["sched_process_fork", "sched_process_exec", "sched_process_exit"],
        Kernel::Syscall => &["sys_enter", "sys_exit"],
    }
}

impl Loaded {
    pub(super) fn attach(target: Target, kernel: &[Kernel], min: Duration) -> Result<Self> {
        let kernel: Vec<Kernel> = kernel.iter().copied().filter(|of| *of != Kernel::None).collect();
        set_print(Some((PrintLevel::Warn, remember)));
        // Lent to what is in it for as long as the process lives; there is one.
        let place = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = SpantapSkelBuilder::default().open(place).map_err(|error| refused(&error))?;
        let misses_returns = cfg!(debug_assertions) && std::env::var_os(MISSES_RETURNS).is_some();
        if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
            rodata.misses_returns = misses_returns;
            rodata.sees_kernel = !kernel.is_empty();
            rodata.sees_sched = kernel.contains(&Kernel::Sched);
            rodata.min_ns = u64::try_from(min.as_nanos()).unwrap_or(u64::MAX);
        }
        let mut news = choose(open.open_object_mut(), &kernel)?;
        if misses_returns {
            news.push(format!("{MISSES_RETURNS} is set: it misses changes of threads"));
        }
        let skeleton = open.load().map_err(|error| refused(&error))?;
        // The tracepoints come first, so that everything is seen that happens in a span after its enter.
        let tracepoints = Some(attach_to_kernel(&skeleton)?);
        let attached_to = target.to_string();
        let (pid, name) = (target.pid, target.name.clone());
        let (build, changes) = target.watch().context("can't start the thread `watch`")?;
        let followed = vec![attach_to_probes(&skeleton, pid, build, &name)?];
        let parts: Vec<String> = kernel.iter().map(ToString::to_string).collect();
        let parts = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
        news.insert(0, format!("attached to {attached_to}; of the kernel it sees {parts}"));
        Ok(Self {
            skeleton,
            tracepoints,
            followed,
            name,
            pid,
            changes: Some(changes),
            news,
            knows_time: kernel.contains(&Kernel::Sched),
        })
    }

    /// The builds that are attached to, the latest at the end, each with when it was, by the kernel's clock.
    pub(super) fn attached(&self) -> Vec<(Stamp, u64)> {
        self.followed.iter().map(|followed| (followed.build.stamp(), followed.attached_ns)).collect()
    }

    /// Where the records are.
    pub(super) fn records(&self) -> &impl MapCore {
        &self.skeleton.maps.records
    }

    /// What was lost so far, with the reasons. After it has detached, also what had not ended.
    pub(super) fn losses(&self) -> Vec<(Missed, u64)> {
        let bss = self.skeleton.maps.bss.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
        let bss = bss.ok().flatten().unwrap_or_default();
        let counts = bss.chunks_exact(8).map(|bytes| bytes.try_into().map_or(0, u64::from_ne_bytes));
        let has_detached = self.tracepoints.is_none();
        let counted = LOSSES.into_iter().zip(counts).map(|(missed, count)| match missed {
            REQUEST_ENDS if has_detached => {
                (missed, count + self.skeleton.maps.requests.keys().count() as u64)
            }
            _ => (missed, count),
        });
        let all = counted.chain([(RECURSION, self.recursion_misses())]);
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// A program is not run where an interrupt finds the same one running.
    fn recursion_misses(&self) -> u64 {
        let misses =
            self.skeleton.object().progs().filter(|program| program.autoload()).filter_map(|program| {
                let info =
                    fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd())).ok()?;
                info.lines()
                    .find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse::<u64>().ok())
            });
        misses.sum()
    }

    /// Gives back what spans of processes that are gone have left.
    pub(super) fn forget_gone(&self) {
        let accounts = &self.skeleton.maps.accounts;
        let of = |(key, value): (Vec<u8>, Vec<u8>)| Some((key, record::program_of_account(&value)?));
        let all: Vec<_> = all(accounts).filter_map(of).collect();
        let running = record::running(all.iter().map(|(_, program)| *program));
        for (key, program) in all {
            if !running.contains(&program) {
                // It may have been closed meanwhile.
                let _ = accounts.delete(&key);
            }
        }
    }

    /// What was added up for spans and has not grown since `before_ns`: for long ones, and for those that have
    /// closed before all of it was over.
    pub(super) fn take_smalls(&self, before_ns: u64) -> Vec<Vec<u8>> {
        let smalls = &self.skeleton.maps.smalls;
        let is_due = |value: &[u8]| record::last_of_small(value).is_some_and(|last_ns| last_ns <= before_ns);
        let due = all(smalls).filter(|(_, value)| is_due(value));
        due.filter_map(|(key, _)| smalls.lookup_and_delete(&key).ok().flatten()).collect()
    }

    /// Takes the programs off, in the order that leaves no span entered.
    pub(super) fn detach(&mut self) {
        self.changes = None;
        self.followed.clear();
        self.tracepoints = None;
    }

    /// Attaches also to the builds that have taken the place of the target's file, and adds a line about each to the
    /// news. Whether there were changes.
    pub(super) fn follow_changes(&mut self) -> bool {
        let mut are_any = false;
        while let Some(Ok(change)) = self.changes.as_ref().map(Receiver::try_recv) {
            let news = match change {
                Change::Build(build, news) => self.follow(build, news),
                Change::Useless(why) => Some(why),
                Change::Rewritten(stamp) => {
                    self.forget_content(stamp);
                    None
                }
            };
            self.news.extend(news);
            are_any = true;
        }
        are_any
    }

    fn follow(&mut self, build: Build, news: String) -> Option<String> {
        if self.pid.is_some() {
            // The process runs nothing else now. Even to the same file it is attached anew: the kernel knows the process
            // by its first thread, which another one replaces when that executes a program.
            self.release(|_| true);
        } else if let Some(at) = self.followed.iter().position(|followed| followed.build.is_same(&build)) {
            // Either only its times have changed, or a rollback has brought it back. Then it is the latest again.
            let is_back = at + 1 < self.followed.len();
            self.followed[at..].rotate_left(1);
            return is_back.then(|| format!("an earlier build of {} is back, and still followed", self.name));
        }
        self.forget_content(build.stamp());
        match attach_to_probes(&self.skeleton, self.pid, build, &self.name) {
            Ok(followed) => self.followed.push(followed),
            Err(error) => {
                return Some(format!("the build that replaced {} can't be followed: {error:#}", self.name));
            }
        }
        if self.followed.len() > MOST_BUILDS {
            self.look_for_unused();
            self.followed.retain(|followed| !followed.is_unused);
        }
        if self.followed.len() <= MOST_BUILDS {
            return Some(news);
        }
        let oldest = self.followed[0].build.stamp();
        self.release(|followed| followed.build.stamp() == oldest);
        Some(format!(
            "{news}; spans of the oldest build are no longer collected: at most {MOST_BUILDS} builds are followed"
        ))
    }

    /// Detaches from builds that no process runs, and gives back the disk space of those that were deleted. Two looks in
    /// a row must find no process, since one that is just starting has not mapped its file yet.
    pub(super) fn release_unused(&mut self) {
        if self.followed.len() > 1 {
            let were_unused: Vec<Stamp> = self.unused().collect();
            self.look_for_unused();
            self.followed
                .retain(|followed| !(followed.is_unused && were_unused.contains(&followed.build.stamp())));
        }
    }

    fn unused(&self) -> impl Iterator<Item = Stamp> {
        self.followed.iter().filter(|followed| followed.is_unused).map(|followed| followed.build.stamp())
    }

    /// The latest build is never unused: its first process may be still to come.
    fn look_for_unused(&mut self) {
        let Some((_, earlier)) = self.followed.split_last_mut() else { return };
        let stamps: Vec<Stamp> = earlier.iter().map(|followed| followed.build.stamp()).collect();
        let used = mapped_of(&stamps);
        for followed in earlier {
            followed.is_unused = !used.contains(&followed.build.stamp());
        }
    }

    /// Detaches from a file whose content has changed: in the new content other instructions are at the old addresses.
    fn forget_content(&mut self, stamp: Stamp) {
        self.release(|followed| followed.build.stamp().is_same_file(&stamp));
    }

    /// Detaches from builds that processes may be running. Their threads leave spans unseen from then on, so that spans
    /// that are entered are not followed any more.
    fn release(&mut self, is_released: impl Fn(&Followed) -> bool) {
        let (mut released, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.followed).into_iter().partition(is_released);
        self.followed = kept;
        if released.is_empty() {
            return;
        }
        // First from `enter`, the last of them, so that no span is entered after this time.
        released.iter_mut().for_each(|followed| drop(followed.links.0.pop()));
        if let Some(data) = self.skeleton.maps.data_data.as_deref_mut() {
            data.entered_from = clock_ns(ClockId::CLOCK_MONOTONIC);
        }
    }
}

/// All keys and values of a map. No more than it has room for: while it changes, the kernel may begin anew. One by one,
/// since of libbpf-rs's batches the first that is not full ends it, and the kernel fills those that come before the last
/// only as far as the next bucket fits.
fn all(map: &impl MapCore) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let keys: HashSet<Vec<u8>> = map.keys().take(1 << 18).collect();
    keys.into_iter().filter_map(|key| {
        let value = map.lookup(&key, MapFlags::ANY).ok()??;
        Some((key, value))
    })
}

const fn missed(label: &'static str, words: &'static str) -> Missed {
    Missed { label, words }
}

/// In the order of `enum lost`.
const LOSSES: [Missed; 14] = [
    missed("spans_ring_full", "spans: the ring buffer was full"),
    missed("kernel_ring_full", "of what the kernel did: the ring buffer was full"),
    missed("spans_too_long", "spans: longer than 256 KiB"),
    missed("spans_unreadable", "spans: their memory could not be read"),
    missed("threads_no_memory", "enters of threads for which the kernel had no memory"),
    missed("enters_too_deep", "enters deeper than 64 spans"),
    missed("accounts_full", "exits of more spans than are kept at once"),
    missed("short_full", "of what the kernel did for short times: more than is kept at once"),
    missed("requests_full", "block requests: more than are kept at once"),
    missed("connections_no_memory", "connections: there was no memory to remember who uses them"),
    missed("programs_full", "programs that were started: more than are kept at once"),
    missed("stretches_untold", "stretches of time: the kernel did not tell where the thread was"),
    missed("retransmits_untold", "connections: the kernel did not tell of all of their retransmits"),
    REQUEST_ENDS,
];

const REQUEST_ENDS: Missed = missed("request_ends", "block requests: the kernel did not tell of their end");

const RECURSION: Missed = missed(
    "recursion",
    "of what the kernel did, for whatever program: it did two of a kind at once on a CPU",
);

/// Of the machine's own pid namespace: PROC_PID_INIT_INO of linux/proc_ns.h.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether programs can be attached here at all.
///
/// # Errors
///
/// When that takes another kernel, or another place.
pub fn check_kernel() -> Result<()> {
    // The kernel tells the pids of that one, and /proc those of ours.
    if fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != FIRST_PID_NAMESPACE) {
        bail!(
            "this is a pid namespace of its own, such as a container's, in which processes have other numbers than to \
             the kernel; run spantap on the host, or with the host's pids (docker run --pid=host, hostPID in Kubernetes)"
        );
    }
    if !Path::new(BTF).exists() {
        bail!(
            "this kernel has no {BTF}, without which programs can't be fitted to it; it takes one that is built with \
             CONFIG_DEBUG_INFO_BTF, as those of all large distributions are"
        );
    }
    Ok(())
}

/// Leaves out what is not wanted, and what this kernel has not.
fn choose(object: &mut OpenObject, kernel: &[Kernel]) -> Result<Vec<String>> {
    let mut lacking = Vec::new();
    let btf = Btf::from_vmlinux().with_context(|| format!("can't read {BTF}"))?;
    let is_there = |name: &str| btf.type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}")).is_some();
    for mut program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        let of = Kernel::ALL.into_iter().find(|of| tracepoints(*of).contains(&&*name));
        let is_wanted = match of {
            Some(of) => kernel.contains(&of),
            // Whoever looks at spans alone need not know which of them a thread is in.
            None => !ENTERED.contains(&&*name) || !kernel.is_empty(),
        };
        // Which spans it was in, ends with a program whatever else is seen.
        let is_wanted = is_wanted || (name == "sched_process_exec" && !kernel.is_empty());
        let is_there = of.is_none() || is_there(&name);
        if let (Some(of), true, false) = (of, is_wanted, is_there) {
            lacking
                .push(format!("this kernel lacks the tracepoint {name}: without it, less is seen of {of}"));
        }
        program.set_autoload(is_wanted && is_there);
    }
    Ok(lacking)
}

fn attach_to_kernel(skeleton: &SpantapSkel<'static>) -> Result<Links> {
    let mut links = Links(Vec::new());
    for program in skeleton.object().progs_mut() {
        let is_tracepoint = program.prog_type() == ProgramType::Tracing;
        if program.autoload() && is_tracepoint {
            let link = program.attach().map_err(|error| refused(&error));
            let name = program.name().to_string_lossy().into_owned();
            links.0.push(link.with_context(|| format!("can't attach to the kernel's tracepoint {name}"))?);
        }
    }
    Ok(links)
}

/// Attaches to `enter` last, so that no enter is seen whose exit could be missed.
fn attach_to_probes(
    skeleton: &SpantapSkel<'static>,
    pid: Option<i32>,
    build: Build,
    name: &str,
) -> Result<Followed> {
    let mut links = Links(Vec::new());
    let SpantapProgs { enter, leave, span_emit, close, .. } = &skeleton.progs;
    for (program, probe) in [(span_emit, "span_emit"), (close, "close"), (leave, "exit"), (enter, "enter")] {
        if program.autoload() {
            let link = program.attach_usdt(pid.unwrap_or(-1), build.path(), PROVIDER, probe);
            let link = link.map_err(|error| refused(&error));
            links.0.push(
                link.with_context(|| format!("can't attach to the probe {PROVIDER}:{probe} of {name}"))?,
            );
        }
    }
    Ok(Followed { links, build, attached_ns: clock_ns(ClockId::CLOCK_MONOTONIC), is_unused: false })
}

/// What libbpf had to say since it was asked last.
static SAID: Mutex<String> = Mutex::new(String::new());

fn remember(_: PrintLevel, text: String) {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    // The verifier's log comes first and may be long; what matters is at its end.
    if said.len() > 1 << 20 {
        said.clear();
    }
    said.push_str(&text);
}

/// Set, it has all of that written to stderr when something fails: the verifier's log among it.
const SHOW_ALL: &str = "SPANTAP_LIBBPF_LOG";

/// The error in words that help.
fn refused(error: &libbpf_rs::Error) -> anyhow::Error {
    let said = std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner));
    if std::env::var_os(SHOW_ALL).is_some() {
        let _ = stderr().write_all(said.as_bytes());
    }
    // The verifier says this, too, when a program is not to its taste.
    let is_denied = error.kind() == libbpf_rs::ErrorKind::PermissionDenied;
    if is_denied && (!geteuid().is_root() || !said.contains("libbpf: prog ")) {
        return anyhow!(
            "the kernel doesn't let us attach programs; that takes root (sudo spantap attach ...), or the \
             capabilities CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE, outside of a container that forbids it"
        );
    }
    // The first that is about a program names it.
    let line = said.lines().find(|line| line.starts_with("libbpf: prog "));
    let line = line.or(said.lines().rev().find(|line| line.starts_with("libbpf: ")));
    let line = line.and_then(|line| line.strip_prefix("libbpf: ")).unwrap_or("it doesn't say why");
    anyhow!("the kernel refused it: {error}: {line} ({SHOW_ALL}=1 shows all that libbpf says)")
}
