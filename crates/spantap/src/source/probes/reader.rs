//! The thread that reads the records of the programs in the kernel, and makes spans of them.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use libbpf_rs::RingBufferBuilder;
use nix::errno::Errno;
use nix::time::ClockId;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};

use super::binary::Stamp;
use super::clock::{WallOffset, clock_ns, wall_offset};
use super::foreign::Foreign;
use super::join::{Accounts, Join};
use super::load::Loaded;
use super::losses::FORGOTTEN;
use super::records::{Program, Record, kernel_span, running};
use super::waits::{Names, Waits};
use crate::pipeline::{Datagram, Intake};
use crate::process::{Process, Sender, program_name};
use crate::span::is_kernel_scope;
use crate::stats::Stats;

/// How long the reader sleeps when the ring buffer is empty. A wake-up for each record would cost the traced
/// program 2 to 3 µs per record. At a million spans a second, 10,000 arrive in this time.
const PAUSE: Duration = Duration::from_millis(10);

/// The most records that are read between two checks for other work.
const MAX_RECORDS_AT_ONCE: usize = 8192;

/// How often the clocks are compared and the losses read.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the kernel's maps and the known processes are swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long a sweep waits for an empty ring buffer.
const MAX_SWEEP_DELAY: Duration = Duration::from_secs(30);

/// The most span groups, of all processes together, that wait until their process's service name is known.
const MAX_WAITING: usize = 10_000;

/// The size of a span made here, an estimate for the limit of what is passed on at once.
const SPAN_BYTES: usize = 512;

/// How long no batch comes before all have come that had spans from before the stop. The layer gathers spans for
/// 20 ms.
const LAST_BATCH: Duration = Duration::from_millis(100);

/// How long reading goes on after the stop at most.
const MAX_LAST: Duration = Duration::from_secs(2);

/// Reads until `stopped`, then the batches with spans from before, then detaches, and reads the rest.
pub(super) fn read(
    mut loaded: Loaded,
    intake: &mut Intake<'_>,
    stats: &Stats,
    stopped: &AtomicBool,
) -> Result<()> {
    let reader = RefCell::new(Reader {
        intake,
        stats,
        wall: wall_offset(),
        attached: loaded.attached(),
        knows_time: loaded.knows_time,
        foreign: loaded.foreign.take(),
        has_executed: false,
        processes: HashMap::new(),
        waiting: 0,
        accounts: Accounts::default(),
        names: Names::default(),
        waits: Waits::default(),
        summarized: Vec::new(),
        stopped_at: None,
        last_batch: Instant::now(),
    });
    let mut ring = RingBufferBuilder::new();
    ring.add(loaded.records(), |bytes| {
        reader.borrow_mut().take(bytes);
        0
    })?;
    let ring = ring.build()?;
    let mut next_check = Instant::now() + CHECK_INTERVAL;
    let mut next_sweep = Instant::now() + SWEEP_INTERVAL;
    let mut is_detached = false;
    loop {
        if stopped.load(Ordering::Acquire) && reader.borrow().stopped_at.is_none() {
            let now_ns = clock_ns(ClockId::CLOCK_MONOTONIC);
            loaded.stop_following();
            let mut reader = reader.borrow_mut();
            reader.stopped_at = Some((now_ns.saturating_add_signed(reader.wall), Instant::now()));
            reader.last_batch = Instant::now();
        }
        if loaded.follow_changes() {
            reader.borrow_mut().attached = loaded.attached();
        }
        loaded.news.drain(..).for_each(|line| reader.borrow().intake.say(line));
        let read = ring.consume_raw_n(MAX_RECORDS_AT_ONCE);
        if read < 0 {
            return Err(anyhow!("can't read the ring buffer: {}", Errno::from_raw(-read)));
        }
        let summarized = std::mem::take(&mut reader.borrow_mut().summarized);
        for summary in summarized.into_iter().filter_map(|span_id| loaded.take_summary(span_id)) {
            reader.borrow_mut().take(&summary);
        }
        let is_empty = read == 0;
        if is_empty && !is_detached && reader.borrow().has_all_batches() {
            loaded.detach();
            is_detached = true;
            continue;
        }
        if is_empty && !reader.borrow_mut().intake.pass_on() {
            return Ok(());
        }
        if Instant::now() >= next_check || is_detached {
            next_check = Instant::now() + CHECK_INTERVAL;
            reader.borrow_mut().wall = wall_offset();
            let mut losses = loaded.losses();
            let forgotten = reader.borrow().accounts.forgotten;
            losses.extend((forgotten > 0).then_some((FORGOTTEN, forgotten)));
            stats.set_missed(losses);
            stats.set_waits(reader.borrow().waits.all());
            reader.borrow_mut().check_foreign();
        }
        // What ended processes have left may still be in the ring buffer.
        let may_sweep = is_empty || Instant::now() >= next_sweep + MAX_SWEEP_DELAY;
        if may_sweep && Instant::now() >= next_sweep {
            next_sweep = Instant::now() + SWEEP_INTERVAL;
            loaded.release_unused();
            let before_ns =
                clock_ns(ClockId::CLOCK_MONOTONIC).saturating_sub(SWEEP_INTERVAL.as_nanos() as u64);
            loaded.take_summaries(before_ns).iter().for_each(|summary| reader.borrow_mut().take(summary));
            reader.borrow_mut().forget_gone();
        }
        match (is_empty, is_detached) {
            (true, true) => break,
            (true, false) => thread::sleep(PAUSE),
            (false, _) => {}
        }
    }
    drop(ring);
    // The summaries of spans that are still open.
    loaded.take_summaries(u64::MAX).iter().for_each(|summary| reader.borrow_mut().take(summary));
    reader.into_inner().end();
    Ok(())
}

/// Makes spans of records.
struct Reader<'a, 'b> {
    intake: &'a mut Intake<'b>,
    stats: &'a Stats,
    wall: WallOffset,
    /// As `Loaded::attached`.
    attached: Vec<(Stamp, u64)>,
    knows_time: bool,
    foreign: Option<Foreign>,
    /// Whether that has executed another program.
    has_executed: bool,
    processes: HashMap<Program, Known>,
    /// The number of span groups that wait, in all processes.
    waiting: usize,
    accounts: Accounts,
    names: Names,
    waits: Waits,
    /// The spans that have ended, and that have short kernel spans in the kernel.
    summarized: Vec<u64>,
    /// When spantap was told to stop: in nanoseconds since 1970, and by our clock.
    stopped_at: Option<(u64, Instant)>,
    /// When the last batch came that had a span from before that.
    last_batch: Instant,
}

/// What is known of a process.
struct Known {
    /// The process as its own spans describe it; `None` until the first of them ends.
    process: Option<Arc<Process>>,
    /// Span groups that wait for the first span.
    waiting: Vec<ScopeSpans>,
    /// Name and owner in case no span of its own ever ends. Read at once, because the process may be gone later.
    name: String,
    sender: Option<Sender>,
    /// When its build was attached to, by the kernel's clock.
    attached_ns: u64,
    /// Whether the process was gone at the previous sweep.
    is_gone: bool,
}

impl Known {
    fn of(pid: u32, attached: &[(Stamp, u64)]) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let name = program_name(&process).unwrap_or_default();
        let owner = fs::metadata(&process).ok();
        let sender = owner.map(|owner| Sender { pid, uid: owner.uid(), gid: owner.gid() });
        let executable = fs::metadata(process.join("exe")).map(|file| Stamp::of(&file)).ok();
        let is_executable =
            |stamp: &Stamp| executable.is_some_and(|executable| executable.is_same_file(stamp));
        // The executable doesn't identify a library, so the latest build is assumed.
        let build = attached.iter().find(|(stamp, _)| is_executable(stamp)).or(attached.last());
        let attached_ns = build.map_or(0, |(_, attached_ns)| *attached_ns);
        Self { process: None, waiting: Vec::new(), name, sender, attached_ns, is_gone: false }
    }
}

impl Reader<'_, '_> {
    fn take(&mut self, bytes: &[u8]) {
        match Record::read(bytes) {
            Some(Record::Batch { program, sender, now_ns, lost, bytes }) => {
                self.accounts.lost(lost, now_ns.saturating_add_signed(self.wall));
                self.take_batch(program, &Datagram { bytes, sender, cut: false });
            }
            Some(Record::Unseen(unseen)) => {
                self.known(unseen.program);
                let wall = self.wall;
                self.accounts.add_unseen(&unseen, wall);
            }
            Some(Record::Gap(gap)) => {
                self.known(gap.program);
                self.accounts.add_gap(&gap);
            }
            Some(Record::Time(time)) => {
                self.known(time.program);
                self.accounts.add(&time);
                self.waits.add(&time, &self.names);
            }
            Some(Record::Name(at, name)) => {
                self.known(at.program);
                self.names.add(at, name);
            }
            // No batch would take it.
            Some(Record::Summarized { .. }) if self.foreign.is_some() => {}
            Some(Record::Summarized { program, span_id }) => {
                self.known(program);
                self.accounts.summarized(program, span_id);
            }
            Some(Record::Kernel(record)) => {
                let span = kernel_span::of_record(&record, self.wall, |name| self.names.of(name));
                self.take_kernel(record.owner.program, vec![span]);
            }
            Some(Record::Summary { ids, owner, slots }) => {
                let wall = self.wall;
                let spans = slots.iter().map(|slot| kernel_span::of_slot(ids, &owner, slot, wall)).collect();
                self.take_kernel(owner.program, spans);
            }
            // Both sides were built together.
            None => debug_assert!(false, "an unknown record of {} bytes", bytes.len()),
        }
    }

    fn take_batch(&mut self, program: Program, datagram: &Datagram<'_>) {
        let attached_at_ns = self.known(program).attached_ns.saturating_add_signed(self.wall);
        let mut join = Join {
            accounts: &mut self.accounts,
            program,
            attached_at_ns,
            until_ns: self.stopped_at.map_or(u64::MAX, |(at_ns, _)| at_ns),
            knows_time: self.knows_time,
            summarized: &mut self.summarized,
        };
        let mut is_in_time = false;
        let process = self.intake.take_batch(datagram, |decoded| is_in_time = join.complete(decoded));
        if is_in_time {
            self.last_batch = Instant::now();
        }
        let Some(process) = process else { return };
        let known = self.known(program);
        known.process = Some(Arc::clone(&process));
        for spans in std::mem::take(&mut known.waiting) {
            self.waiting -= 1;
            self.take_made(&process, spans);
        }
    }

    /// Whether spantap was told to stop, and has what the program's threads had closed by then.
    fn has_all_batches(&self) -> bool {
        self.stopped_at.is_some_and(|(_, stopped)| {
            self.last_batch.elapsed() >= LAST_BATCH || stopped.elapsed() >= MAX_LAST
        })
    }

    fn known(&mut self, program: Program) -> &mut Known {
        self.processes.entry(program).or_insert_with(|| {
            let mut known = Known::of(program.pid, &self.attached);
            if let Some(foreign) = self.foreign.as_ref().filter(|foreign| foreign.sender.pid == program.pid) {
                known.process = Some(self.intake.process_of(foreign.sender, &foreign.resource));
            }
            known
        })
    }

    /// Tells the user once that a process without the layer runs another program.
    fn check_foreign(&mut self) {
        let Some(foreign) = self.foreign.as_ref().filter(|_| !self.has_executed) else { return };
        let pid = foreign.sender.pid;
        if !foreign.is_there() && Path::new(&format!("/proc/{pid}/exe")).exists() {
            self.has_executed = true;
            self.intake.say(format!(
                "process {pid} has executed another program; what the kernel does in its spans is not shown any more, so \
                 attach to it again"
            ));
        }
    }

    fn take_kernel(&mut self, of: Program, spans: Vec<Span>) {
        let scope = Some(kernel_span::scope());
        self.take_or_hold(of, ScopeSpans { scope, spans, ..ScopeSpans::default() });
    }

    fn take_or_hold(&mut self, of: Program, spans: ScopeSpans) {
        let has_room = self.waiting < MAX_WAITING;
        let known = self.known(of);
        match known.process.clone() {
            Some(process) => self.take_made(&process, spans),
            None if has_room => {
                known.waiting.push(spans);
                self.waiting += 1;
            }
            None => self.count_without_process(&spans),
        }
    }

    /// Counts the spans and passes them on. Spans that wait for their process are not counted earlier, because they
    /// may turn out to have none, which is counted as a loss.
    fn take_made(&mut self, process: &Arc<Process>, spans: ScopeSpans) {
        let count = spans.spans.len();
        if is_kernel_scope(&spans) {
            self.stats.kernel_spans.fetch_add(count as u64, Ordering::Relaxed);
        } else {
            self.stats.spans(process.sender, &process.service, count as u64);
        }
        self.intake.take_made(process, spans, SPAN_BYTES * count);
    }

    fn count_without_process(&self, spans: &ScopeSpans) {
        self.stats.spans_without_process.fetch_add(spans.spans.len() as u64, Ordering::Relaxed);
    }

    /// Forgets processes already gone at the previous sweep. Not at once: a summary is reported only when it has not
    /// changed between two sweeps.
    fn forget_gone(&mut self) {
        let gone: HashSet<Program> =
            self.processes.iter().filter(|(_, known)| known.is_gone).map(|(program, _)| *program).collect();
        let running = running(self.processes.keys().copied());
        for (program, known) in &mut self.processes {
            known.is_gone = !running.contains(program);
        }
        self.accounts.forget(&gone);
        self.names.forget(&gone);
        for program in gone {
            if let Some(known) = self.processes.remove(&program) {
                self.pass_on_waiting(known);
            }
        }
    }

    fn end(mut self) {
        for (_, known) in std::mem::take(&mut self.processes) {
            self.pass_on_waiting(known);
        }
        self.intake.pass_on();
    }

    /// Passes on the spans of a process that has ended before any span of its own.
    fn pass_on_waiting(&mut self, known: Known) {
        for spans in known.waiting {
            self.waiting -= 1;
            match known.sender {
                Some(sender) => {
                    let process = self.intake.process(sender, &known.name);
                    self.take_made(&process, spans);
                }
                None => self.count_without_process(&spans),
            }
        }
    }
}
