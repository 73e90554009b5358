//! Loads the compiled programs and attaches them.

use std::collections::HashSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, PrintLevel, ProgramType, UprobeMultiOpts, UsdtOpts, set_print};
use nix::time::ClockId;

use super::binary::{Build, Change, Stamp, Target, What, mapped_of};
use super::clock::clock_ns;
use super::foreign::Foreign;
use super::libbpf::{explain, store_message};
use super::losses::{LOSSES, RECURSION, REQUEST_ENDS};
use super::records::last_ns_of_summary;
use super::tracepoints::choose;
use crate::notes::{self, EXIT, PROVIDER, Pattern, Probe};
use crate::source::kernel::Kernel;
use crate::stats::Missed;
use crate::text::counted;

/// The code that the build script generated from `src/bpf`.
mod skeleton {
    #![allow(clippy::all, clippy::panic, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]
    #![allow(dead_code, missing_docs, rust_2018_idioms, unreachable_pub, unsafe_code)]
    include!(concat!(env!("OUT_DIR"), "/spantap.skel.rs"));
}

use skeleton::{SpantapProgs, SpantapSkel, SpantapSkelBuilder};

/// Programs in the kernel. They are unloaded when the value is dropped or the process ends.
pub(super) struct Loaded {
    skeleton: SpantapSkel<'static>,
    /// Links to the kernel's tracepoints; `None` after `detach`.
    tracepoints: Option<Links>,
    /// The builds with attached probes, the latest last.
    followed: Vec<Followed>,
    /// The target's name for the user.
    name: String,
    /// The only process to attach to; `None` means all.
    pid: Option<i32>,
    /// Builds that replace the target's file.
    changes: Option<Receiver<Change>>,
    /// The process, if it has no probes.
    pub(super) foreign: Option<Foreign>,
    /// Whether the kernel reports when threads lose the CPU.
    pub(super) knows_time: bool,
    /// Whether anything but the spans themselves is recorded.
    sees_kernel: bool,
    /// Whose spans to show, whatever the log level.
    callsites: Vec<Pattern>,
    /// How many builds have been attached to.
    builds: u64,
    /// Lines for the user: what the programs are attached to, and what this kernel lacks.
    pub(super) news: Vec<String>,
}

/// A build with attached probes.
struct Followed {
    links: Links,
    build: Build,
    /// By which the programs in the kernel know it.
    number: u64,
    attached_ns: u64,
    /// Whether the last check found no process that runs it.
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
const MAX_BUILDS: usize = 32;

/// An environment variable for tests, in debug builds only. The programs ignore every other switch to a thread (`returns`), or
/// from it (`leaves`), or both (`pairs`).
const MISSES_SWITCHES: &str = "SPANTAP_MISSES_SWITCHES";

impl Loaded {
    pub(super) fn attach(
        target: Target,
        kernel: &[Kernel],
        min: Duration,
        callsites: Vec<Pattern>,
    ) -> Result<Self> {
        let kernel: Vec<Kernel> = kernel.iter().copied().filter(|of| *of != Kernel::None).collect();
        let attached_to = target.to_string();
        let Target { what, pid, name } = target;
        let (watched, foreign) = match what {
            What::Probes(watched) => (Some(watched), None),
            What::Foreign(foreign) => (None, Some(foreign)),
        };
        if foreign.is_some() && !callsites.is_empty() {
            bail!("{attached_to} has no probes, and so no callsites to turn on");
        }
        if foreign.is_some() && kernel.is_empty() {
            bail!("{attached_to} has no probes, so without kernel activity there is nothing to show");
        }
        set_print(Some((PrintLevel::Warn, store_message)));
        // The skeleton borrows it for the rest of the process; there is only one.
        let place = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = SpantapSkelBuilder::default().open(place).map_err(|error| explain(&error))?;
        let misses = std::env::var_os(MISSES_SWITCHES).filter(|_| cfg!(debug_assertions));
        if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
            let is = |what: &str| misses.as_ref().is_some_and(|misses| misses == what);
            rodata.misses_returns = is("returns") || is("pairs");
            rodata.misses_leaves = is("leaves") || is("pairs");
            rodata.min_ns = u64::try_from(min.as_nanos()).unwrap_or(u64::MAX);
            if let Some(Foreign { sender, variable, .. }) = &foreign {
                rodata.foreign_pid = sender.pid;
                (rodata.foreign_distance, rodata.foreign_module) = (variable.distance, variable.module);
            }
        }
        let mut news = choose(open.open_object_mut(), &kernel, watched.is_some())?;
        open.progs.callsite_on.set_autoload(!callsites.is_empty());
        if misses.is_some() {
            news.push(format!("{MISSES_SWITCHES} is set: some thread switches are ignored"));
        }
        // Without it, all time would count as time on the CPU.
        let knows_time = open.progs.sched_switch.autoload();
        if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
            rodata.sees_switches = knows_time;
        }
        let skeleton = open.load().map_err(|error| explain(&error))?;
        // The tracepoints come first, so that nothing is missed that happens in a span after its enter.
        let tracepoints = Some(attach_to_kernel(&skeleton)?);
        if foreign.as_ref().is_some_and(|foreign| !foreign.is_there()) {
            bail!("{attached_to} has just ended or executed another program");
        }
        let (mut followed, mut changes) = (Vec::new(), None);
        if let Some(watched) = watched {
            let (build, of_it) =
                watched.watch(pid, name.clone()).context("can't start the thread `watch`")?;
            let mut first = attach_to_probes(&skeleton, pid, build, 1, &name)?;
            news.extend(turn_on(&skeleton, pid, &mut first, &callsites, &name)?);
            followed.push(first);
            changes = Some(of_it);
        }
        let parts: Vec<String> = kernel.iter().map(ToString::to_string).collect();
        let parts = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
        news.insert(0, format!("attached to {attached_to}; kernel activity: {parts}"));
        if foreign.is_some() {
            news.insert(1, "it has no probes of tracing-usdt, but OpenTelemetry's thread context: what the kernel does is \
                            shown below the ids of its spans, which it exports itself".to_owned());
        }
        Ok(Self {
            skeleton,
            tracepoints,
            followed,
            name,
            pid,
            changes,
            foreign,
            news,
            knows_time,
            sees_kernel: !kernel.is_empty(),
            callsites,
            builds: 1,
        })
    }

    /// The attached builds, the latest last, each with the time of its attach by the kernel's clock.
    pub(super) fn attached(&self) -> Vec<(Stamp, u64)> {
        self.followed.iter().map(|followed| (followed.build.stamp(), followed.attached_ns)).collect()
    }

    /// The ring buffer with the records.
    pub(super) fn records(&self) -> &impl MapCore {
        &self.skeleton.maps.records
    }

    /// The losses so far. After `detach`, they include block requests that had not ended.
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

    /// Counts how often the kernel skipped a program because an interrupt came while the same program ran.
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

    /// Takes the summary of a span that has ended.
    pub(super) fn take_summary(&self, span_id: u64) -> Option<Vec<u8>> {
        self.skeleton.maps.summaries.lookup_and_delete(&span_id.to_ne_bytes()).ok().flatten()
    }

    /// Takes the summaries that have not changed since `before_ns`: those of long spans, and those of spans that
    /// closed before all of their kernel activity was over.
    pub(super) fn take_summaries(&self, before_ns: u64) -> Vec<Vec<u8>> {
        let summaries = &self.skeleton.maps.summaries;
        let is_due = |value: &[u8]| last_ns_of_summary(value).is_some_and(|last_ns| last_ns <= before_ns);
        let due = all(summaries).filter(|(_, value)| is_due(value));
        due.filter_map(|(key, _)| summaries.lookup_and_delete(&key).ok().flatten()).collect()
    }

    /// Stops following threads. Batches still come.
    pub(super) fn stop_following(&mut self) {
        self.changes = None;
        if self.sees_kernel {
            // `thread_register` is the first link.
            self.followed.iter_mut().for_each(|followed| drop(followed.links.0.remove(0)));
            if let Some(data) = self.skeleton.maps.data_data.as_deref_mut() {
                data.stops_following = true;
            }
        }
    }

    /// Detaches the programs.
    pub(super) fn detach(&mut self) {
        self.followed.clear();
        self.tracepoints = None;
    }

    /// Attaches to the builds that have replaced the target's file, and adds a line about each to the news. Returns
    /// whether there were changes.
    pub(super) fn follow_changes(&mut self) -> bool {
        let mut are_any = false;
        while let Some(Ok(change)) = self.changes.as_ref().map(Receiver::try_recv) {
            let news = match change {
                Change::Build(build, news) => self.follow(build, news),
                Change::Unusable(why) => Some(why),
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
            // The process runs only the new build. The probes are attached again even if the file is the same: the
            // kernel identifies the process by its first thread, and a thread that executes a program replaces that
            // thread.
            self.release(|_| true);
        } else if let Some(at) = self.followed.iter().position(|followed| followed.build.is_same(&build)) {
            // Either only its times have changed, or a rollback has restored it. Then it is the latest again.
            let is_back = at + 1 < self.followed.len();
            self.followed[at..].rotate_left(1);
            return is_back.then(|| format!("an earlier build of {} is back, and still followed", self.name));
        }
        self.forget_content(build.stamp());
        self.builds += 1;
        self.set_released(self.builds, false);
        match attach_to_probes(&self.skeleton, self.pid, build, self.builds, &self.name) {
            Ok(mut followed) => {
                let wanted = turn_on(&self.skeleton, self.pid, &mut followed, &self.callsites, &self.name);
                self.news.extend(wanted.unwrap_or_else(|error| Some(format!("{error:#}"))));
                self.followed.push(followed);
            }
            Err(error) => {
                return Some(format!("the build that replaced {} can't be followed: {error:#}", self.name));
            }
        }
        if self.followed.len() > MAX_BUILDS {
            self.check_unused();
            self.followed.retain(|followed| !followed.is_unused);
        }
        if self.followed.len() <= MAX_BUILDS {
            return Some(news);
        }
        let oldest = self.followed[0].build.stamp();
        self.release(|followed| followed.build.stamp() == oldest);
        Some(format!(
            "{news}; spans of the oldest build are no longer collected: at most {MAX_BUILDS} builds are followed"
        ))
    }

    /// Detaches from builds that no process runs, which also frees the disk space of deleted files. Two checks in a
    /// row must find no process, because a process that is just starting has not mapped its file yet.
    pub(super) fn release_unused(&mut self) {
        if self.followed.len() > 1 {
            let were_unused: Vec<Stamp> = self.unused().collect();
            self.check_unused();
            self.followed
                .retain(|followed| !(followed.is_unused && were_unused.contains(&followed.build.stamp())));
        }
    }

    fn unused(&self) -> impl Iterator<Item = Stamp> {
        self.followed.iter().filter(|followed| followed.is_unused).map(|followed| followed.build.stamp())
    }

    /// The latest build never counts as unused: its first process may not have started yet.
    fn check_unused(&mut self) {
        let Some((_, earlier)) = self.followed.split_last_mut() else { return };
        let stamps: Vec<Stamp> = earlier.iter().map(|followed| followed.build.stamp()).collect();
        let used = mapped_of(&stamps);
        for followed in earlier {
            followed.is_unused = !used.contains(&followed.build.stamp());
        }
    }

    /// Detaches from a file whose content has changed: the old addresses hold other instructions now.
    fn forget_content(&mut self, stamp: Stamp) {
        self.release(|followed| followed.build.stamp().is_same_file(&stamp));
    }

    /// Detaches from builds that processes may still run. Their threads are not followed from then on.
    fn release(&mut self, is_released: impl Fn(&Followed) -> bool) {
        let (released, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.followed).into_iter().partition(is_released);
        self.followed = kept;
        released.iter().for_each(|followed| self.set_released(followed.number, true));
    }

    fn set_released(&mut self, number: u64, is_released: bool) {
        let Some(data) = self.skeleton.maps.data_data.as_deref_mut() else { return };
        let words = data.released.len() as u64;
        let word = usize::try_from(number / 64 % words).ok().and_then(|at| data.released.get_mut(at));
        if let Some(word) = word {
            *word = *word & !(1 << (number % 64)) | u64::from(is_released) << (number % 64);
        }
    }
}

/// All keys and values of a map, at most as many as the map has room for: if the map changes, the kernel may start
/// the iteration again. Read one by one, because libbpf-rs ends its batches at the first one that is not full, and
/// the kernel fills each batch only as far as the next bucket fits.
fn all(map: &impl MapCore) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let keys: HashSet<Vec<u8>> = map.keys().take(1 << 18).collect();
    keys.into_iter().filter_map(|key| {
        let value = map.lookup(&key, MapFlags::ANY).ok()??;
        Some((key, value))
    })
}

fn attach_to_kernel(skeleton: &SpantapSkel<'static>) -> Result<Links> {
    let mut links = Links(Vec::new());
    for program in skeleton.object().progs_mut() {
        let is_tracepoint = program.prog_type() == ProgramType::Tracing;
        if program.autoload() && is_tracepoint {
            let link = program.attach().map_err(|error| explain(&error));
            let name = program.name().to_string_lossy().into_owned();
            links.0.push(link.with_context(|| format!("can't attach to the kernel's tracepoint {name}"))?);
        }
    }
    Ok(links)
}

/// How long it takes until all threads that enter spans have registered: a thread does so every 100 ms.
const REGISTER_TIME: Duration = Duration::from_millis(120);

/// Attaches to `batch_emit` last. If this is the first build, the threads of all whole spans have registered then, even
/// those that had registered with an earlier consumer.
fn attach_to_probes(
    skeleton: &SpantapSkel<'static>,
    pid: Option<i32>,
    build: Build,
    number: u64,
    name: &str,
) -> Result<Followed> {
    let mut links = Links(Vec::new());
    let SpantapProgs { thread_register, batch_emit, .. } = &skeleton.progs;
    for (program, probe) in [(thread_register, "thread_register"), (batch_emit, "batch_emit")] {
        if probe == "batch_emit" && !links.0.is_empty() && number == 1 {
            std::thread::sleep(REGISTER_TIME);
        }
        if program.autoload() {
            let options = UsdtOpts { cookie: number, ..UsdtOpts::default() };
            let link =
                program.attach_usdt_with_opts(pid.unwrap_or(-1), build.path(), PROVIDER, probe, options);
            let link = link.map_err(|error| explain(&error));
            links.0.push(
                link.with_context(|| format!("can't attach to the probe {PROVIDER}:{probe} of {name}"))?,
            );
        }
    }
    Ok(Followed { links, build, number, attached_ns: clock_ns(ClockId::CLOCK_MONOTONIC), is_unused: false })
}

/// The length of the instruction of a probe.
const INSTRUCTION_BYTES: u64 = match cfg!(target_arch = "x86_64") {
    true => 1,
    false => 4,
};

/// Turns callsites on: the program makes their spans, whatever its log level. Returns a line about it.
///
/// The program looks at a counter for each callsite, and the kernel raises it for an attached program. Where that
/// program is attached does not matter, so it is attached where nothing runs: after the instruction of the callsite's
/// exit, which is passed only while the exit has a consumer of its own. So a span costs no trap.
fn turn_on(
    skeleton: &SpantapSkel<'static>,
    pid: Option<i32>,
    followed: &mut Followed,
    callsites: &[Pattern],
    name: &str,
) -> Result<Option<String>> {
    if callsites.is_empty() {
        return Ok(None);
    }
    let path = followed.build.path();
    let file = fs::File::open(&path).with_context(|| format!("can't open {name}"))?;
    let notes = notes::read(&file).with_context(|| format!("can't read the probes of {name}"))?;
    let matches = |exit: &Probe, pattern: &Pattern| {
        let span = exit.name.strip_suffix(EXIT).unwrap_or(&exit.name).to_owned();
        pattern.matches(exit) || pattern.matches(&Probe { name: span, ..exit.clone() })
    };
    let mut exits: Vec<&Probe> = notes.probes.iter().filter(|probe| probe.is_exit()).collect();
    for pattern in callsites {
        if exits.iter().any(|exit| matches(exit, pattern)) {
            continue;
        }
        let pattern_text = pattern.as_str();
        if notes.probes.iter().any(|probe| pattern.matches(probe)) {
            bail!("{pattern_text} names events or probes of the layer; --callsite takes spans");
        }
        bail!(
            "{name} has no span with a probe of its own that is named {pattern_text}; spantap probes lists all. They come from the \
             macros of tracing_usdt::tracing"
        );
    }
    exits.retain(|exit| callsites.iter().any(|pattern| matches(exit, pattern)));
    exits.dedup_by_key(|exit| exit.semaphore);
    let places = |place: fn(&Probe) -> u64| -> Result<Vec<usize>, _> {
        exits.iter().map(|exit| usize::try_from(place(exit))).collect()
    };
    let options = UprobeMultiOpts {
        offsets: places(|exit| exit.offset + INSTRUCTION_BYTES)?,
        // The counter of the entry is before that of the exit.
        ref_ctr_offsets: places(|exit| exit.semaphore - 2)?,
        ..UprobeMultiOpts::default()
    };
    // All at once, because the kernel takes long to detach from one place.
    let program = &skeleton.progs.callsite_on;
    let link = program.attach_uprobe_multi_with_opts(pid.unwrap_or(-1), &path, "", options);
    let link =
        link.map_err(|error| explain(&error)).context("can't turn on callsites, which takes Linux 6.6")?;
    followed.links.0.push(link);
    let count = counted(exits.len() as u64, "callsite", "callsites");
    Ok(Some(format!("turned on {count} of {name}")))
}
