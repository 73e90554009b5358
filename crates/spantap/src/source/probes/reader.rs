//! The thread that reads what the programs in the kernel tell, and makes spans of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use libbpf_rs::RingBufferBuilder;
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};

use super::build::Stamp;
use super::kernel_span::{self, WallOffset, attribute};
use super::load::Loaded;
use super::record::{self, Ended, Parent, Program, Record};
use crate::account::{Account, PARTIAL};
use crate::attributes::{count, find};
use crate::executable::program_name;
use crate::figures::Figures;
use crate::intake::Intake;
use crate::process::{Process, Sender};
use crate::source::Datagram;

/// When nothing is left in the ring buffer, it is left alone for so long: to wake us for each record would cost
/// the program that is looked at 2 to 3 µs each time. Of a million spans a second, 10,000 come in between.
const PAUSE: Duration = Duration::from_millis(10);

/// So many records are taken before there is a look at other things.
const AT_ONCE: usize = 8192;

/// The clocks are compared, the losses counted, and what processes that are gone have left cleared up, so often.
const EACH: Duration = Duration::from_secs(1);

/// What spans have left in the kernel's maps is looked through so often.
const SWEEP: Duration = Duration::from_secs(5);

/// Of all processes, what a process did before it is known which service it is.
const MOST_WAITING: usize = 10_000;

/// What a span that is made here counts among the bytes that are passed on at once.
const BYTES: usize = 512;

/// Reads until `stopped`, detaches, and reads what was left.
pub(super) fn read(
    mut loaded: Loaded,
    intake: &mut Intake<'_>,
    figures: &Figures,
    stopped: &AtomicBool,
) -> Result<()> {
    let reader = RefCell::new(Reader {
        intake,
        figures,
        wall: wall_offset(),
        attached: loaded.attached(),
        knows_time: loaded.knows_time,
        processes: HashMap::new(),
        waiting: 0,
    });
    let mut ring = RingBufferBuilder::new();
    ring.add(loaded.records(), |bytes| {
        reader.borrow_mut().take(bytes);
        0
    })?;
    let ring = ring.build()?;
    let mut next_look = Instant::now() + EACH;
    let mut next_sweep = Instant::now() + SWEEP;
    let mut is_detached = false;
    loop {
        if stopped.load(Ordering::Acquire) && !is_detached {
            loaded.detach();
            is_detached = true;
        }
        if loaded.follow_changes() {
            reader.borrow_mut().attached = loaded.attached();
        }
        loaded.news.drain(..).for_each(|line| reader.borrow().intake.say(line));
        let read = ring.consume_raw_n(AT_ONCE);
        if read < 0 {
            return Err(anyhow!("can't read the ring buffer: {}", Errno::from_raw(-read)));
        }
        let is_empty = read == 0;
        if is_empty && !reader.borrow_mut().intake.pass_on() {
            return Ok(());
        }
        if Instant::now() >= next_look || is_detached {
            next_look = Instant::now() + EACH;
            reader.borrow_mut().wall = wall_offset();
            figures.set_missed(loaded.losses());
        }
        if Instant::now() >= next_sweep {
            next_sweep = Instant::now() + SWEEP;
            loaded.forget_gone();
            loaded.release_unused();
            let before_ns = clock_ns(ClockId::CLOCK_MONOTONIC).saturating_sub(SWEEP.as_nanos() as u64);
            loaded.take_smalls(before_ns).iter().for_each(|small| reader.borrow_mut().take(small));
            reader.borrow_mut().forget_gone();
        }
        match (is_empty, is_detached) {
            (true, true) => break,
            (true, false) => thread::sleep(PAUSE),
            (false, _) => {}
        }
    }
    drop(ring);
    // Of spans that are still open.
    loaded.take_smalls(u64::MAX).iter().for_each(|small| reader.borrow_mut().take(small));
    reader.into_inner().end();
    Ok(())
}

/// Makes spans of records.
struct Reader<'a, 'b> {
    intake: &'a mut Intake<'b>,
    figures: &'a Figures,
    wall: WallOffset,
    /// As `Loaded::attached`.
    attached: Vec<(Stamp, u64)>,
    knows_time: bool,
    processes: HashMap<Program, Known>,
    /// So many that wait in all of them.
    waiting: usize,
}

/// What is known of a process.
struct Known {
    /// What it calls itself is only in the spans that it describes.
    process: Option<Arc<Process>>,
    /// Until then.
    waiting: Vec<ScopeSpans>,
    /// By what and whose it is if no span of its own ever ends: asked for at once, as it may be gone by then.
    name: String,
    sender: Option<Sender>,
    /// When its build was attached to, by the kernel's clock.
    attached_ns: u64,
    /// At the last look it was gone.
    is_gone: bool,
}

impl Known {
    fn of(pid: u32, attached: &[(Stamp, u64)]) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let name = program_name(&process).unwrap_or_default();
        let owner = fs::metadata(&process).ok();
        let sender = owner.map(|owner| Sender { pid, uid: owner.uid(), gid: owner.gid() });
        let executable = fs::metadata(process.join("exe")).map(|file| Stamp::of(&file)).ok();
        let is_it = |stamp: &Stamp| executable.is_some_and(|executable| executable.is_same_file(stamp));
        // A library's is not known by process.
        let build = attached.iter().find(|(stamp, _)| is_it(stamp)).or(attached.last());
        let attached_ns = build.map_or(0, |(_, attached_ns)| *attached_ns);
        Self { process: None, waiting: Vec::new(), name, sender, attached_ns, is_gone: false }
    }
}

impl Reader<'_, '_> {
    fn take(&mut self, bytes: &[u8]) {
        match Record::read(bytes) {
            Some(Record::Span { ended, json }) => self.ended(&ended, json),
            Some(Record::Partial { ended, parent, name }) => {
                let mut span = partial(&ended, parent, name, self.wall);
                if self.knows_time {
                    span.attributes.extend(ended.account.attributes());
                }
                self.known(ended.program).sender = Some(ended.sender);
                self.made(ended.program, ScopeSpans { spans: vec![span], ..ScopeSpans::default() });
            }
            Some(Record::Kernel(record)) => {
                let span = kernel_span::of_record(&record, self.wall);
                self.kernel(record.whose.program, vec![span]);
            }
            Some(Record::Small { who, whose, slots }) => {
                let wall = self.wall;
                let spans = slots.iter().map(|slot| kernel_span::of_slot(who, &whose, slot, wall)).collect();
                self.kernel(whose.program, spans);
            }
            // Both sides were built together.
            None => debug_assert!(false, "a record of {} bytes that nobody knows", bytes.len()),
        }
    }

    fn ended(&mut self, ended: &Ended, json: &[u8]) {
        let datagram = Datagram { bytes: json, sender: ended.sender, cut: false };
        let attached_at_ns = self.known(ended.program).attached_ns.saturating_add_signed(self.wall);
        let knows_time = self.knows_time;
        let complete = |span: &mut Span| {
            // Without the scheduler's tracepoints, all time is taken for time on the CPU.
            if knows_time {
                tell_account(span, ended.account, ended.exits, attached_at_ns);
            }
        };
        let process = self.intake.take_probed(&datagram, complete);
        let Some(process) = process else { return };
        let known = self.known(ended.program);
        known.process = Some(Arc::clone(&process));
        for spans in std::mem::take(&mut known.waiting) {
            self.waiting -= 1;
            self.take_made(&process, spans);
        }
    }

    fn known(&mut self, program: Program) -> &mut Known {
        self.processes.entry(program).or_insert_with(|| Known::of(program.pid, &self.attached))
    }

    fn kernel(&mut self, of: Program, spans: Vec<Span>) {
        let scope = Some(kernel_span::scope());
        self.made(of, ScopeSpans { scope, spans, ..ScopeSpans::default() });
    }

    fn made(&mut self, of: Program, spans: ScopeSpans) {
        let has_room = self.waiting < MOST_WAITING;
        let known = self.known(of);
        match known.process.clone() {
            Some(process) => self.take_made(&process, spans),
            None if has_room => {
                known.waiting.push(spans);
                self.waiting += 1;
            }
            None => self.nobodys(&spans),
        }
    }

    /// Counts the spans and passes them on. Spans that wait for their process are not counted earlier, because they may
    /// turn out to belong to none, which is a loss of its own.
    fn take_made(&mut self, process: &Arc<Process>, spans: ScopeSpans) {
        let count = spans.spans.len();
        if kernel_span::is_kernels(&spans) {
            self.figures.kernel_spans.fetch_add(count as u64, Ordering::Relaxed);
        } else {
            self.figures.spans(process.sender, &process.service, count as u64);
        }
        self.intake.take_made(process, spans, BYTES * count);
    }

    fn nobodys(&self, spans: &ScopeSpans) {
        self.figures.spans_without_process.fetch_add(spans.spans.len() as u64, Ordering::Relaxed);
    }

    /// Knows no more of those that were gone at the last look, too: what spans have left is told once it has not
    /// grown from one look to the next.
    fn forget_gone(&mut self) {
        let gone: Vec<Program> =
            self.processes.iter().filter(|(_, known)| known.is_gone).map(|(program, _)| *program).collect();
        let running = record::running(self.processes.keys().copied());
        for (program, known) in &mut self.processes {
            known.is_gone = !running.contains(program);
        }
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

    /// None of its own spans has ended, so that nobody knows what it calls itself.
    fn pass_on_waiting(&mut self, known: Known) {
        for spans in known.waiting {
            self.waiting -= 1;
            match known.sender {
                Some(sender) => {
                    let process = self.intake.process(sender, &known.name);
                    self.take_made(&process, spans);
                }
                None => self.nobodys(&spans),
            }
        }
    }
}

/// Of a span that began before anybody looked, all that is known: since when it was seen, and until when.
fn partial(ended: &Ended, parent: Parent, name: &[u8], wall: WallOffset) -> Span {
    let since_ns = if ended.since_ns == 0 { ended.now_ns } else { ended.since_ns };
    let (parent_id, why) = match parent {
        Parent::Unknown => (None, PARENT_UNKNOWN),
        Parent::None => (None, BEGAN_BEFORE),
        Parent::Span(id) => (Some(id), BEGAN_BEFORE),
    };
    Span {
        trace_id: ended.who.trace_id.to_be_bytes().to_vec(),
        span_id: ended.who.span_id.to_be_bytes().to_vec(),
        parent_span_id: parent_id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        name: String::from_utf8_lossy(name).into_owned(),
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: since_ns.saturating_add_signed(wall),
        end_time_unix_nano: ended.now_ns.saturating_add_signed(wall),
        attributes: vec![attribute(PARTIAL, Value::StringValue(why.to_owned()))],
        ..Span::default()
    }
}

/// Why less than all of a span is known.
const BEGAN_BEFORE: &str = "it began before spantap attached";
const PARENT_UNKNOWN: &str = "it began before spantap attached, and its parent is unknown";
const LESS: &str = "less of its time was seen than the program counted";
const UNSEEN: &str = "the kernel did not tell of all changes of its thread";

/// The time by the probes should be that by the program's own clock.
fn tell_account(span: &mut Span, account: Account, exits: u64, attached_at_ns: u64) {
    let entered_ns = account.entered_ns();
    let busy_ns = find(&span.attributes, "busy_ns").and_then(count);
    span.attributes.extend(account.attributes());
    // What may be missing is the time from the clock to the probe: of an enter and exit of an unoptimised program
    // on a busy machine 1 to 15 µs.
    let is_less = |busy_ns: u64| busy_ns.saturating_sub(entered_ns) > busy_ns / 50 + 15_000 * (exits + 1);
    let began_before = span.start_time_unix_nano < attached_at_ns;
    let is_less = busy_ns.map_or(began_before && entered_ns > 0, is_less);
    let is_unseen = account.unseen_ns() > 0;
    if is_less || is_unseen {
        let why = match (is_less && began_before, is_unseen) {
            // If only somebody listened at a socket, it was entered while nobody looked.
            (true, _) => BEGAN_BEFORE,
            (false, true) => UNSEEN,
            (false, false) => LESS,
        };
        span.attributes.push(attribute(PARTIAL, Value::StringValue(why.to_owned())));
    }
}

/// What to add to the kernel's clock to get the time since 1970.
fn wall_offset() -> WallOffset {
    let ns = |clock| clock_ns(clock) as i64;
    // The pair between which least time went by.
    let pairs = (0..5).map(|_| {
        let (before, wall, after) =
            (ns(ClockId::CLOCK_MONOTONIC), ns(ClockId::CLOCK_REALTIME), ns(ClockId::CLOCK_MONOTONIC));
        (after - before, wall - (before + (after - before) / 2))
    });
    pairs.min().map_or(0, |(_, offset)| offset)
}

/// 0 for a clock that isn't there.
pub(super) fn clock_ns(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
