//! Background delivery: closed spans gather in rings, and a thread sends many to a datagram.
//!
//! The thread may wait for a full socket, the application doesn't. Whoever has a reason to, a flush,
//! the end of the program or a closing thread that may wait, does the thread's work as well.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::outlet::{Outlet, Told, Undelivered};
use super::ring::{Bell, Full, Reading, Ring, Rung};
use super::stats::{Counters, Outcome, Stats};
use super::waiting::{UNORDERED, Waiting};
use super::{Carrier, DATAGRAM_BYTES, at_exec, unfinished, wire};
use crate::clock::Monotonic;
use crate::error::Error;
use crate::process::{self, PerProcess};
use crate::span::{ClosedSpan, UnfinishedSpan};
use crate::thread;

/// For each core one, up to so many; they are what bounds the memory.
const MAX_RINGS: usize = 16;

/// How long spans gather before they are sent.
const GATHER: Duration = Duration::from_millis(20);

/// The thread goes to sleep after so many rounds without a span.
const QUIET_ROUNDS: u32 = 25;

/// How often it looks for a receiver, and whether losses may be told again.
const LOOK: Duration = Duration::from_millis(250);

/// How long it waits for room before it looks whether the program ends.
const SLICE: Duration = Duration::from_millis(50);

/// How long a closing thread leaves the rings to those who are sending from them, before it looks again.
const PAUSE: Duration = Duration::from_millis(1);

/// How often a thread is asked for where there are none to be had.
const RETRY_NS: u64 = 1_000_000_000;

/// How long the end of the program may take for what is left.
const LAST_WORD: Duration = Duration::from_secs(1);

/// So many layers that were taken out may take their time to send what is left.
const MAX_CLOSING: isize = 8;
static CLOSING: AtomicIsize = AtomicIsize::new(0);

pub(crate) struct Background {
    outlet: Outlet,
    queue: PerProcess<Queue>,
}

/// What one process has to send.
struct Queue {
    /// Losses are to be told without a pause.
    tell_now: AtomicBool,
    rings: Box<[Ring]>,
    bell: Bell,
    /// Of spans that went by the rings, and of what became of those that came out of them.
    counters: Counters,
    told: Told,
    /// Closing threads that found no room.
    waiting: Waiting<WaitingSpan, Rung>,
    /// Less than `DATAGRAM_BYTES` where the socket has refused those.
    datagram_bytes: AtomicUsize,
    /// When all has to be over, in monotonic nanoseconds; 0 while more spans may come.
    end_ns: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_failed_ns: AtomicU64,
}

impl Queue {
    fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let rings = cores.next_power_of_two().min(MAX_RINGS);
        at_exec::watch();
        Self {
            tell_now: AtomicBool::new(false),
            rings: (0..rings).map(|_| Ring::new()).collect(),
            bell: Bell::new(),
            counters: Counters::new(),
            told: Told::nothing(),
            waiting: Waiting::new(),
            datagram_bytes: AtomicUsize::new(DATAGRAM_BYTES),
            end_ns: AtomicU64::new(0),
            thread: Mutex::new(None),
            thread_failed_ns: AtomicU64::new(0),
        }
    }

    fn is_closing(&self) -> bool {
        self.end_ns.load(Ordering::SeqCst) != 0
    }

    /// No more spans will come; how long what is left may take, whoever sends it.
    fn begin_to_close(&self, at_most: Duration) -> Option<Instant> {
        let now = Monotonic::of_kernel().as_ns();
        let end = now + at_most.as_nanos() as u64;
        let known = self.end_ns.compare_exchange(0, end, Ordering::SeqCst, Ordering::SeqCst);
        let end = known.err().unwrap_or(end);
        deadline(Duration::from_nanos(end.saturating_sub(now)))
    }

    /// Puts what threads wait to deliver into the rings, as far as there is room. Not at the end: rings that are empty
    /// by then are not looked at again, and their locks may be held for good.
    fn serve_waiting(&self) {
        if self.is_closing() {
            return;
        }
        for ring in &self.rings {
            self.waiting.serve(|span| {
                let wants_bell = span.write_to(ring, &self.bell).ok()?;
                Some(if wants_bell { self.bell.ring() } else { Rung::Heard })
            });
        }
    }

    fn is_empty(&self) -> bool {
        self.rings.iter().all(Ring::is_empty)
    }

    /// The calling thread's ring, and after it the others'.
    #[inline]
    fn rings_from_own(&self) -> impl Iterator<Item = &Ring> {
        // A power of two.
        let (own, last) = (thread::number(), self.rings.len() - 1);
        (0..self.rings.len()).map(move |i| &self.rings[own.wrapping_add(i) & last])
    }
}

/// When a wait of `timeout` ends; `None` for one without end.
fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

fn left_until(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
}

/// The patience of one who may wait until then.
fn until(deadline: Option<Instant>) -> impl Fn() -> Option<Duration> {
    move || Some(left_until(deadline)).filter(|left| !left.is_zero())
}

/// How an attempt to empty a ring ended.
#[derive(PartialEq)]
enum Ended {
    Emptied,
    /// Another thread is at it.
    Busy,
    NoReceiver,
    /// The receiver's queue stayed full.
    Full,
}

thread_local! {
    /// The thread is just emptying a ring. If it hears of a problem by that, and its user's callback then
    /// closes spans or flushes, that may not wait for the ring to be empty.
    static SENDING: Cell<bool> = const { Cell::new(false) };
}

/// How many records had been written to each ring.
#[derive(Clone, Copy)]
pub(super) struct BeforeExec {
    written: [u64; MAX_RINGS],
}

/// A span for which there is no room yet.
struct WaitingSpan {
    header: Vec<u64>,
    parts: Vec<Vec<u8>>,
}

impl WaitingSpan {
    fn new(header: &[u64], parts: &[&[u8]]) -> Self {
        Self { header: header.to_vec(), parts: parts.iter().map(|part| part.to_vec()).collect() }
    }

    /// It was counted when it found no room the first time.
    fn write_to(&self, ring: &Ring, bell: &Bell) -> Result<bool, Full> {
        let parts: Vec<&[u8]> = self.parts.iter().map(Vec::as_slice).collect();
        ring.write(&self.header, &parts, false, bell)
    }
}

/// What a thread needs for sending.
#[derive(Default)]
struct Buffers {
    record: Vec<u8>,
    datagram: Vec<u8>,
}

impl Background {
    pub(super) fn new(outlet: Outlet) -> Self {
        Self { outlet, queue: PerProcess::new(Queue::new()) }
    }

    #[inline]
    fn queue(&self) -> &Queue {
        self.queue.get(Queue::new)
    }

    /// Takes a closed span; a thread may have to be started for it.
    #[inline]
    pub(super) fn send(&self, span: &ClosedSpan<'_>) -> Rung {
        let queue = self.queue();
        wire::write(span, |header, parts| {
            let own = queue.rings_from_own().next();
            match own.map(|ring| ring.write(header, parts, true, &queue.bell)) {
                Some(Ok(false)) => Rung::Heard,
                Some(Ok(true)) => queue.bell.ring(),
                _ => self.send_late(queue, header, parts),
            }
        })
    }

    /// There is no room in the thread's own ring.
    #[cold]
    fn send_late(&self, queue: &Queue, header: &[u64], parts: &[&[u8]]) -> Rung {
        let end = deadline(self.outlet.max_wait);
        let unordered = deadline(self.outlet.max_wait.min(UNORDERED));
        // Where all cores are busy closing spans, the thread that sends has none to run on.
        let patience = until(end);
        let mut buffers = Buffers::default();
        let lost = loop {
            for ring in queue.rings_from_own() {
                match ring.write(header, parts, false, &queue.bell) {
                    Ok(true) => return queue.bell.ring(),
                    Ok(false) => return Rung::Heard,
                    Err(Full) => {}
                }
            }
            let own = queue.rings_from_own().next().filter(|_| !SENDING.get());
            let Some(own) = own.filter(|_| !left_until(end).is_zero()) else {
                let receiver = self.outlet.has_receiver();
                break if receiver { Outcome::QueueFull } else { Outcome::NoReceiver };
            };
            if left_until(unordered).is_zero() || !queue.waiting.is_empty() {
                match self.wait_in_turn(queue, own, &mut buffers, WaitingSpan::new(header, parts), end) {
                    Ok(rung) => return rung,
                    Err(outcome) => break outcome,
                }
            }
            match self.empty(queue, own, &mut buffers, 1, &patience) {
                Ended::Emptied => {}
                Ended::NoReceiver => break Outcome::NoReceiver,
                Ended::Busy | Ended::Full => {
                    std::thread::sleep(left_until(end).min(Duration::from_micros(200)));
                }
            }
        };
        queue.counters.end(lost, 1);
        Rung::Heard
    }

    /// Goes on sending what is in the rings, until the record had its turn to get into one or time is over.
    fn wait_in_turn(
        &self,
        queue: &Queue,
        own: &Ring,
        buffers: &mut Buffers,
        span: WaitingSpan,
        end: Option<Instant>,
    ) -> Result<Rung, Outcome> {
        let waiter = queue.waiting.enter(span);
        // Another thread may deliver the span meanwhile.
        let patience = || {
            let is_waiting = waiter.outcome(Duration::ZERO).is_none() && !left_until(end).is_zero();
            is_waiting.then(|| SLICE.min(left_until(end)))
        };
        let lost = loop {
            queue.serve_waiting();
            let ended = self.empty(queue, own, buffers, 1, &patience);
            if let Some(rung) = waiter.outcome(PAUSE.min(left_until(end))) {
                return Ok(rung);
            }
            if ended == Ended::NoReceiver {
                break Outcome::NoReceiver;
            }
            if left_until(end).is_zero() || queue.is_closing() {
                break Outcome::QueueFull;
            }
        };
        queue.waiting.leave(&waiter).ok_or(lost)
    }

    pub(super) fn leave_out(&self) {
        self.queue().counters.leave_out();
    }

    pub(super) fn abandon(&self, spans: u64) {
        self.queue().counters.close(Outcome::Abandoned, spans);
    }

    pub(super) fn stats(&self) -> Stats {
        let queue = self.queue();
        let mut stats = queue.counters.read();
        for [offered, written, released] in queue.rings.iter().map(Ring::counts) {
            stats.closed += offered;
            stats.queued += written.saturating_sub(released);
        }
        stats
    }

    /// Sends what is in `ring` at this moment, in so many `datagrams` at most. Where the receiver's queue is
    /// full, `patience` says how long to wait, again and again until it says `None`.
    fn empty(
        &self,
        queue: &Queue,
        ring: &Ring,
        buffers: &mut Buffers,
        datagrams: usize,
        patience: &dyn Fn() -> Option<Duration>,
    ) -> Ended {
        let Some(reading) = ring.try_read() else { return Ended::Busy };
        let before = SENDING.replace(true);
        let ended = self.empty_by(reading, queue, buffers, datagrams, patience);
        SENDING.set(before);
        ended
    }

    fn empty_by(
        &self,
        mut reading: Reading<'_>,
        queue: &Queue,
        buffers: &mut Buffers,
        datagrams: usize,
        patience: &dyn Fn() -> Option<Duration>,
    ) -> Ended {
        let (end, mut left) = (reading.end(), datagrams);
        while reading.start() < end && left > 0 {
            left -= 1;
            if !self.outlet.has_receiver() {
                return Ended::NoReceiver;
            }
            let Buffers { record, datagram } = buffers;
            let limit = queue.datagram_bytes.load(Ordering::Relaxed);
            let (mut at, mut spans) = (reading.start(), 0);
            datagram.clear();
            self.outlet.encoder.open(datagram);
            while at < end {
                let (next, before) = (reading.copy(at, record), datagram.len());
                let read = wire::read(record, |span| self.outlet.encoder.span(datagram, span));
                debug_assert!(read.is_some(), "a record that was never written");
                if spans > 0 && datagram.len() > limit {
                    datagram.truncate(before);
                    break;
                }
                (at, spans) = (next, spans + 1);
            }
            self.outlet.encoder.close(datagram, Some(&queue.counters.sequence(spans, &queue.told)));
            let outcome = self.outlet.send_patiently(datagram, patience);
            match outcome {
                Outcome::QueueFull => return Ended::Full,
                Outcome::NoReceiver => return Ended::NoReceiver,
                Outcome::TooLarge if spans > 1 => {
                    queue.datagram_bytes.store(datagram.len() / 2, Ordering::Relaxed);
                    left += 1;
                    continue;
                }
                Outcome::TooLarge => self.outlet.report_too_large(datagram.len()),
                _ => {}
            }
            queue.counters.end(outcome, spans);
            reading.release(at, spans);
            queue.serve_waiting();
            if outcome == Outcome::Sent {
                self.tell(queue, false);
            }
        }
        Ended::Emptied
    }

    fn tell(&self, queue: &Queue, last: bool) -> Option<Outcome> {
        self.outlet.tell(&queue.counters, &queue.told, last)
    }

    /// What the thread does.
    fn run(&self) {
        let queue = self.queue();
        queue.bell.attend();
        let mut buffers = Buffers::default();
        let patience = || (!queue.is_closing()).then_some(SLICE);
        let mut quiet_rounds = 0;
        while !queue.is_closing() {
            let before = queue.counters.read().sent;
            let mut receiver = true;
            for ring in &queue.rings {
                receiver &= self.empty(queue, ring, &mut buffers, usize::MAX, &patience) != Ended::NoReceiver;
            }
            self.tell(queue, queue.tell_now.swap(false, Ordering::Relaxed));
            let all_told = self.outlet.knows(queue.counters.read().dropped, &queue.told);
            let sent = queue.counters.read().sent > before;
            quiet_rounds = if sent { 0 } else { quiet_rounds + 1 };
            if !receiver {
                queue.bell.wait(LOOK, || queue.is_closing());
            } else if sent && queue.rings.iter().any(Ring::is_filling) {
                // More has come than was there a moment ago.
            } else if !all_told || quiet_rounds < QUIET_ROUNDS {
                queue.bell.doze(GATHER, || queue.is_closing());
            } else {
                queue.bell.sleep(|| queue.is_closing() || !queue.is_empty());
                quiet_rounds = 0;
                queue.bell.doze(GATHER, || queue.is_closing());
            }
        }
        self.finish(queue, queue.begin_to_close(LAST_WORD), &[]);
    }

    pub(super) fn flush(&self, timeout: Duration) -> Result<(), Error> {
        if SENDING.get() {
            return Err(Error::Flush { queued: self.stats().queued, timeout: Duration::ZERO });
        }
        let (queue, end) = (self.queue(), deadline(timeout));
        let targets: Vec<u64> = queue.rings.iter().map(|ring| ring.counts()[1]).collect();
        let mut buffers = Buffers::default();
        let patience = until(end);
        loop {
            for ring in &queue.rings {
                self.empty(queue, ring, &mut buffers, usize::MAX, &patience);
            }
            let released = queue.rings.iter().map(|ring| ring.counts()[2]);
            if released.zip(&targets).all(|(released, target)| released >= *target) {
                return Ok(());
            }
            if left_until(end).is_zero() {
                return Err(Error::Flush { queued: self.stats().queued, timeout });
            }
            std::thread::sleep(left_until(end).min(Duration::from_millis(1)));
        }
    }

    /// Has the thread send what there is and end.
    pub(super) fn close(&self) {
        let queue = self.queue();
        // Each has a thread and a socket, so there may not be many of those that take their time.
        let closing = CLOSING.fetch_add(1, Ordering::Relaxed);
        queue.begin_to_close(if closing < MAX_CLOSING { LAST_WORD } else { Duration::ZERO });
        if queue.bell.ring() == Rung::NeedsThread {
            // There never was one, so there is nothing or there could be none.
            self.finish(queue, deadline(Duration::ZERO), &[]);
            CLOSING.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What the thread that sends has to do before the program may become another one. Nothing if nobody is there to
    /// send it to.
    pub(super) fn before_exec(&self) -> Option<BeforeExec> {
        let queue = self.queue.known()?;
        let mut written = [0; MAX_RINGS];
        written.iter_mut().zip(&queue.rings).for_each(|(written, ring)| *written = ring.counts()[1]);
        self.outlet.socket.was_connected().then_some(BeforeExec { written })
    }

    /// Whether it is done. Losses are reported without the usual pause.
    pub(super) fn is_done(&self, before: &BeforeExec) -> bool {
        let Some(queue) = self.queue.known() else { return true };
        let mut rings = queue.rings.iter().zip(before.written);
        let is_sent = rings.all(|(ring, written)| ring.counts()[2] >= written);
        let is_told = self.outlet.knows(queue.counters.read().dropped, &queue.told);
        if !is_told {
            queue.tell_now.store(true, Ordering::Relaxed);
        }
        is_sent && is_told && queue.waiting.is_empty()
    }

    pub(super) fn begin_to_finish(&self) {
        if let Some(queue) = self.queue.known() {
            queue.begin_to_close(LAST_WORD);
            let _ = queue.bell.ring();
        }
    }

    pub(super) fn finish_at_exit(&self) -> Option<Undelivered<'_>> {
        let unfinished = self.outlet.unfinished.take();
        // A child that has neither closed a span nor has one open has nothing to say.
        let queue = if unfinished.is_empty() { self.queue.known()? } else { self.queue() };
        self.outlet.reporter.silence();
        let end = queue.begin_to_close(LAST_WORD);
        self.finish(queue, end, &unfinished);
        // An image that is unloaded must not have a thread that runs in it. It has the same time, and gets a
        // little more to be gone.
        if let Some(thread) = queue.thread.try_lock().ok().and_then(|mut thread| thread.take()) {
            process::join(thread, Instant::now() + left_until(end) + 2 * SLICE);
        }
        Some(self.outlet.undelivered(queue.counters.read(), &queue.told))
    }

    /// Sends what there is until `end`, and then what is `unfinished`; drops the rest, and tells what was lost.
    fn finish(&self, queue: &Queue, end: Option<Instant>, unfinished: &[UnfinishedSpan]) {
        let mut buffers = Buffers::default();
        let patience = until(end);
        self.outlet.socket.look_at_once();
        for ring in &queue.rings {
            let outcome = loop {
                match self.empty(queue, ring, &mut buffers, usize::MAX, &patience) {
                    Ended::Busy if !left_until(end).is_zero() => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ended::NoReceiver => break Some(Outcome::NoReceiver),
                    Ended::Full => break Some(Outcome::QueueFull),
                    Ended::Emptied | Ended::Busy => break None,
                }
            };
            if let (Some(outcome), Some(mut reading)) = (outcome, ring.try_read()) {
                let (mut at, end, mut spans) = (reading.start(), reading.end(), 0);
                while at < end {
                    at = reading.copy(at, &mut buffers.record);
                    spans += 1;
                }
                reading.release(at, spans);
                queue.counters.end(outcome, spans);
            }
        }
        // What other threads still wait to deliver.
        queue.waiting.serve(|_| {
            queue.counters.end(Outcome::QueueFull, 1);
            Some(Rung::Heard)
        });
        unfinished::send(unfinished, &self.outlet, &queue.counters, &queue.told, &patience);
        // Once: while other threads go on losing spans there is always more to tell. Nothing is told where
        // another thread is just at it, of less.
        let knows = || self.outlet.knows(queue.counters.read().dropped, &queue.told);
        while matches!(self.tell(queue, true), None | Some(Outcome::QueueFull))
            && !knows()
            && !left_until(end).is_zero()
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Starts the carrier's thread.
#[cold]
pub(super) fn start(carrier: &Arc<Carrier>) {
    let Carrier::Background(background) = &**carrier else { return };
    let queue = background.queue();
    let (now, failed) = (Monotonic::of_kernel().as_ns(), queue.thread_failed_ns.load(Ordering::Relaxed));
    if failed != 0 && now.saturating_sub(failed) < RETRY_NS {
        queue.bell.nobody_came();
        return;
    }
    let theirs = Arc::clone(carrier);
    let run = move || {
        if let Carrier::Background(background) = &*theirs {
            // Nothing in it panics; should it, the next span finds that a thread is needed.
            if catch_unwind(AssertUnwindSafe(|| background.run())).is_err() {
                background.queue().bell.nobody_came();
            }
            // It ends when the layer is taken out, or with the program.
            CLOSING.fetch_sub(1, Ordering::Relaxed);
        }
    };
    match process::spawn(run) {
        Ok(thread) => {
            if let Ok(mut ours) = queue.thread.try_lock() {
                *ours = Some(thread);
            }
        }
        Err(source) => {
            queue.thread_failed_ns.store(now.max(1), Ordering::Relaxed);
            queue.bell.nobody_came();
            background.outlet.reporter.report(Error::Thread { source });
        }
    }
}
