//! Background delivery: closed spans gather in rings, and the sender thread sends many in one datagram.
//!
//! The sender thread waits while the receiver's queue is full; the program's threads do not, unless a maximum
//! wait is set. A flush, the end of the program, and a closing thread that may wait do the sender thread's
//! work themselves.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::in_use::DeliveryInUse;
use super::long_open::Looks;
use super::outlet::{DATAGRAM_BYTES, Outlet, Undelivered};
use super::reported::ReportedLosses;
use super::ring::{BeforeExec, Full, MAX_RINGS, Offer, ReadGuard, Ring};
use super::ring_codec::{self, SpanRecord};
use super::stats::{Counters, Outcome, Stats};
use super::waiting::{UNORDERED_WAIT, Waiting};
use super::wake::{SenderWaker, WakeResult};
use super::{at_exec, unfinished};
use crate::clock::Monotonic;
use crate::error::{Error, FlushError};
use crate::process::{self, PerProcess};
use crate::span::{ClosedSpan, UnfinishedSpan};

/// How long spans gather before they are sent.
const GATHER_TIME: Duration = Duration::from_millis(20);

/// After this many rounds without a span, the sender thread sleeps until the next span wakes it.
const QUIET_ROUNDS: u32 = 25;

/// How often the sender thread looks for a receiver while there is none.
const RECEIVER_CHECK: Duration = Duration::from_millis(250);

/// The same while there is nothing to send but, maybe, a report of open spans.
const ABSENT_CHECK: Duration = Duration::from_secs(1);

/// The longest single wait for room. After it, the waiting thread checks whether the delivery closes.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// How long a waiting thread leaves the rings to other threads before it tries again to send from them.
const TURN_CHECK: Duration = Duration::from_millis(1);

/// How long after a failure the next attempt to start the sender thread is made.
const THREAD_RETRY_NS: u64 = 1_000_000_000;

/// How long the end of the program, or dropping the layer, may take to send what is queued.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// How many deliveries of layers that were taken out may use [`FINISH_TIMEOUT`] at the same time; others drop
/// what is queued.
const MAX_CLOSING: isize = 16;
static CLOSING: AtomicIsize = AtomicIsize::new(0);

pub(crate) struct Background {
    pub(super) outlet: Outlet,
    queue: PerProcess<Queue>,
}

/// What each process has of its own.
struct Queue {
    /// Makes the sender thread report losses at once, even if the last report is recent.
    report_now: AtomicBool,
    rings: Box<[Ring]>,
    waker: SenderWaker,
    /// The outcomes of all spans. The rings count those that were offered to them, see [`Background::stats`].
    counters: Counters,
    reported: ReportedLosses,
    /// Closing threads that found no room, each with its record.
    waiting: Waiting<Vec<u8>, WakeResult>,
    /// The largest datagram to send: less than `DATAGRAM_BYTES` if the socket refused one of that size.
    datagram_bytes: AtomicUsize,
    /// The deadline for sending what is queued, in monotonic nanoseconds; 0 while the delivery is not closing.
    end_ns: AtomicU64,
    /// Whether the delivery closes because its layer was taken out, and not because the program ends.
    is_taken_out: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_failed_ns: AtomicU64,
}

impl Queue {
    fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let rings = cores.next_power_of_two().min(MAX_RINGS);
        at_exec::watch();
        Self {
            report_now: AtomicBool::new(false),
            rings: (0..rings).map(|_| Ring::new()).collect(),
            waker: SenderWaker::new(),
            counters: Counters::new(),
            reported: ReportedLosses::new(),
            waiting: Waiting::new(),
            datagram_bytes: AtomicUsize::new(DATAGRAM_BYTES),
            end_ns: AtomicU64::new(0),
            is_taken_out: AtomicBool::new(false),
            thread: Mutex::new(None),
            thread_failed_ns: AtomicU64::new(0),
        }
    }

    fn is_closing(&self) -> bool {
        self.end_ns.load(Ordering::SeqCst) != 0
    }

    /// Sets the deadline for sending what is queued, unless it is set already, and returns it.
    fn begin_to_close(&self, at_most: Duration) -> Option<Instant> {
        let now = Monotonic::of_kernel().as_ns();
        let end = now + at_most.as_nanos() as u64;
        let known = self.end_ns.compare_exchange(0, end, Ordering::SeqCst, Ordering::SeqCst);
        let end = known.err().unwrap_or(end);
        deadline(Duration::from_nanos(end.saturating_sub(now)))
    }

    /// Writes any span to a ring. Not inlined, because only the path of a plain span is worth the code.
    #[inline(never)]
    fn write(&self, ring: &Ring, record: &SpanRecord<'_>, offer: Offer) -> Result<bool, Full> {
        ring.write(record, offer, &self.waker)
    }

    /// Writes the spans of waiting threads to the rings while there is room. Does nothing while closing: a
    /// ring that has been drained is not read again, and its lock may never be released.
    fn serve_waiting(&self) {
        if self.is_closing() {
            return;
        }
        for ring in &self.rings {
            self.waiting.serve(|record| {
                // It was counted as offered at the first attempt.
                let needs_wake = ring.write(&record[..], Offer::Again, &self.waker).ok()?;
                Some(if needs_wake { self.waker.wake() } else { WakeResult::Awake })
            });
        }
    }

    fn is_empty(&self) -> bool {
        self.rings.iter().all(Ring::is_empty)
    }

    /// All rings, from the calling thread's own on.
    #[inline]
    fn rings_from_own(&self) -> impl Iterator<Item = &Ring> {
        // The number of rings is a power of two.
        let (own, last) = (process::thread_number(), self.rings.len() - 1);
        (0..self.rings.len()).map(move |i| &self.rings[own.wrapping_add(i) & last])
    }
}

/// Whether the sender thread must be woken for a span that was queued.
pub(crate) struct NeedsWake(pub(super) bool);

/// The end of a wait of `timeout`; `None` if it is too far off to be a time.
fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

fn left_until(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
}

/// Waits until the deadline, for [`Outlet::send_patiently`].
fn patience_until(deadline: Option<Instant>) -> impl Fn() -> Option<Duration> {
    move || Some(left_until(deadline)).filter(|left| !left.is_zero())
}

/// How an attempt to empty a ring ended.
#[derive(PartialEq)]
enum DrainResult {
    Drained,
    /// Another thread is reading the ring.
    Busy,
    NoReceiver,
    /// The receiver's queue was still full when the wait ended.
    QueueFull,
}

thread_local! {
    /// Set while this thread keeps a ring from being read, and sends. If that calls the program's error callback, and the
    /// callback closes a span or flushes, neither may wait for the ring.
    static SENDING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `send` with [`SENDING`] set.
fn while_sending<T>(send: impl FnOnce() -> T) -> T {
    let before = SENDING.replace(true);
    let result = send();
    SENDING.set(before);
    result
}

/// Buffers that are used again from datagram to datagram.
#[derive(Default)]
struct Buffers {
    record: Vec<u8>,
    datagram: Vec<u8>,
}

/// Drops what is in a ring, and counts it.
fn discard(queue: &Queue, reading: &mut ReadGuard<'_>, record: &mut Vec<u8>, outcome: Outcome) {
    let (mut at, end, mut spans) = (reading.start(), reading.end(), 0);
    while at < end {
        at = reading.copy(at, record);
        spans += 1;
    }
    reading.release(at, spans);
    queue.counters.end(outcome, spans);
}

impl Background {
    pub(super) fn new(outlet: Outlet) -> Self {
        Self { outlet, queue: PerProcess::new(Queue::new()) }
    }

    #[inline]
    fn queue(&self) -> &Queue {
        self.queue.get(Queue::new)
    }

    /// Queues a closed span if the thread's own ring has room. Waits for nothing, and leaves it to the caller to call
    /// [`wake`](Self::wake) if the result says so. A span that was not queued does not count yet.
    #[inline(always)]
    pub(super) fn try_send(&self, span: &ClosedSpan<'_>) -> Option<NeedsWake> {
        // A forked child makes its queue in `send`, without a lock: it has megabytes.
        let queue = self.queue.own().or_else(|| self.queue.known())?;
        let own = queue.rings_from_own().next()?;
        own.write(&SpanRecord::new(span), Offer::IfWritten, &queue.waker).ok().map(NeedsWake)
    }

    #[cold]
    pub(super) fn wake(self: &Arc<Self>) {
        if self.queue().waker.wake() == WakeResult::NeedsThread {
            self.start();
        }
    }

    /// Queues a closed span. Takes an `Arc` because the sender thread, if this starts it, holds one too.
    #[inline]
    pub(super) fn send(self: &Arc<Self>, span: &ClosedSpan<'_>) {
        let queue = self.queue();
        let record = SpanRecord::new(span);
        let own = queue.rings_from_own().next();
        let wake_result = match own.map(|ring| queue.write(ring, &record, Offer::First)) {
            Some(Ok(false)) => return,
            Some(Ok(true)) => return self.wake(),
            _ => self.send_late(queue, &record),
        };
        if wake_result == WakeResult::NeedsThread {
            self.start();
        }
    }

    /// Queues a span for which the thread's own ring has no room: tries the other rings, and waits if it may.
    #[cold]
    fn send_late(&self, queue: &Queue, record: &SpanRecord<'_>) -> WakeResult {
        let end = deadline(self.outlet.max_wait);
        let unordered = deadline(self.outlet.max_wait.min(UNORDERED_WAIT));
        // This thread sends too: if all cores are busy closing spans, the sender thread gets no time to run.
        let patience = patience_until(end);
        let mut buffers = Buffers::default();
        let lost = loop {
            for ring in queue.rings_from_own() {
                match queue.write(ring, record, Offer::Again) {
                    Ok(true) => return queue.waker.wake(),
                    Ok(false) => return WakeResult::Awake,
                    Err(Full) => {}
                }
            }
            let own = queue.rings_from_own().next().filter(|_| !SENDING.get());
            let Some(own) = own.filter(|_| !left_until(end).is_zero()) else {
                let receiver = self.outlet.has_receiver();
                break if receiver { Outcome::QueueFull } else { Outcome::NoReceiver };
            };
            if left_until(unordered).is_zero() || !queue.waiting.is_empty() {
                match self.wait_in_turn(queue, own, &mut buffers, record.to_bytes(), end) {
                    Ok(wake_result) => return wake_result,
                    Err(outcome) => break outcome,
                }
            }
            match self.drain(queue, own, &mut buffers, 1, &patience) {
                DrainResult::Drained => {}
                DrainResult::NoReceiver => break Outcome::NoReceiver,
                DrainResult::Busy | DrainResult::QueueFull => {
                    std::thread::sleep(left_until(end).min(Duration::from_micros(200)));
                }
            }
        };
        queue.counters.end(lost, 1);
        WakeResult::Awake
    }

    /// Queues behind other waiting threads, and sends from its own ring, until the span is delivered or `end`
    /// is reached.
    fn wait_in_turn(
        &self,
        queue: &Queue,
        own: &Ring,
        buffers: &mut Buffers,
        record: Vec<u8>,
        end: Option<Instant>,
    ) -> Result<WakeResult, Outcome> {
        let waiter = queue.waiting.enter(record);
        // Stops when another thread has delivered the span.
        let patience = || {
            let is_waiting = waiter.outcome(Duration::ZERO).is_none() && !left_until(end).is_zero();
            is_waiting.then(|| WAIT_STEP.min(left_until(end)))
        };
        let lost = loop {
            queue.serve_waiting();
            let result = self.drain(queue, own, buffers, 1, &patience);
            if let Some(wake_result) = waiter.outcome(TURN_CHECK.min(left_until(end))) {
                return Ok(wake_result);
            }
            if result == DrainResult::NoReceiver {
                break Outcome::NoReceiver;
            }
            if left_until(end).is_zero() || queue.is_closing() {
                break Outcome::QueueFull;
            }
        };
        queue.waiting.leave(&waiter).ok_or(lost)
    }

    pub(super) fn count_sampled_out(&self) {
        self.queue().counters.count_sampled_out();
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

    /// Sends what is in `ring` at the time of the call, in at most `datagrams` datagrams. For `patience` see
    /// [`Outlet::send_patiently`].
    fn drain(
        &self,
        queue: &Queue,
        ring: &Ring,
        buffers: &mut Buffers,
        datagrams: usize,
        patience: &dyn Fn() -> Option<Duration>,
    ) -> DrainResult {
        let Some(reading) = ring.try_read() else { return DrainResult::Busy };
        while_sending(|| self.drain_guarded(reading, queue, buffers, datagrams, patience))
    }

    fn drain_guarded(
        &self,
        mut reading: ReadGuard<'_>,
        queue: &Queue,
        buffers: &mut Buffers,
        datagrams: usize,
        patience: &dyn Fn() -> Option<Duration>,
    ) -> DrainResult {
        let (end, mut left) = (reading.end(), datagrams);
        while reading.start() < end && left > 0 {
            left -= 1;
            if !self.outlet.has_receiver() {
                if self.outlet.way.keeps_for_later() {
                    return DrainResult::NoReceiver;
                }
                discard(queue, &mut reading, &mut buffers.record, Outcome::NoReceiver);
                break;
            }
            let Buffers { record, datagram } = buffers;
            let limit = queue.datagram_bytes.load(Ordering::Relaxed);
            let (mut at, mut spans) = (reading.start(), 0);
            datagram.clear();
            self.outlet.encoder.open(datagram);
            while at < end {
                let (next, before) = (reading.copy(at, record), datagram.len());
                let read = ring_codec::read(record, |span| self.outlet.encoder.span(datagram, span));
                debug_assert!(read.is_some(), "a record that was never written");
                if spans > 0 && datagram.len() > limit {
                    datagram.truncate(before);
                    break;
                }
                (at, spans) = (next, spans + 1);
            }
            self.outlet
                .encoder
                .close(datagram, Some(&queue.counters.sequence(spans, queue.reported.total())));
            let outcome = self.outlet.send_patiently(datagram, spans, patience);
            match outcome {
                Outcome::QueueFull => return DrainResult::QueueFull,
                Outcome::NoReceiver if self.outlet.way.keeps_for_later() => return DrainResult::NoReceiver,
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
                self.report_losses(queue, false);
            }
        }
        DrainResult::Drained
    }

    fn report_losses(&self, queue: &Queue, is_last: bool) -> Option<Outcome> {
        self.outlet.report_losses(&queue.counters, &queue.reported, is_last)
    }

    /// Reports spans that have been open for long, if somebody asks for it and it is time.
    fn report_long_open(&self, queue: &Queue, looks: &mut Looks) {
        let Some(spans) = self.outlet.long_open.as_ref().filter(|spans| looks.next_in(spans).is_zero())
        else {
            return;
        };
        if !self.outlet.has_receiver() {
            return;
        }
        let Some(found) = looks.look(spans) else { return };
        // No other thread may send until the report is sent. If one is sending, the next look comes soon.
        let readers: Option<Vec<ReadGuard<'_>>> = queue.rings.iter().map(Ring::try_read).collect();
        if readers.is_none() || queue.is_closing() {
            return;
        }
        let sequence = queue.counters.sequence(0, queue.reported.total());
        let limit = queue.datagram_bytes.load(Ordering::Relaxed);
        let Some(report) = looks.report(spans, &found, &self.outlet.encoder, &sequence, limit) else {
            return;
        };
        // Does not wait for room: the next report replaces this one.
        match while_sending(|| self.outlet.send(&report.datagram, 0, Duration::ZERO)) {
            Outcome::Sent => looks.sent(&report),
            Outcome::TooLarge => looks.refused(&report),
            _ => {}
        }
    }

    /// Reports that nothing is open any more: the layer was taken out, so its spans never close.
    fn report_none_open(&self, queue: &Queue, looks: &Looks, end: Option<Instant>) {
        let sequence = queue.counters.sequence(0, queue.reported.total());
        let spans = self.outlet.long_open.as_ref();
        if let Some(report) =
            spans.and_then(|spans| looks.last_report(spans, &self.outlet.encoder, &sequence))
        {
            self.outlet.send_patiently(&report.datagram, 0, &patience_until(end));
        }
    }

    /// How long the sender thread may rest until it has to look at the open spans; `None` if nobody may ask for that without
    /// waking it.
    fn rest_time(&self, looks: &Looks) -> Option<Duration> {
        let way = &self.outlet.way;
        let spans = self.outlet.long_open.as_ref().filter(|_| way.may_be_asked())?;
        Some(if way.has_known_receiver() { looks.next_in(spans).max(GATHER_TIME) } else { ABSENT_CHECK })
    }

    /// Whether the sender thread has to be woken or started to look at the open spans now and then.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.queue().waker.is_idle()
    }

    /// The loop of the sender thread.
    fn run(&self) {
        let queue = self.queue();
        queue.waker.register_current_thread();
        let mut buffers = Buffers::default();
        let mut looks = Looks::new();
        let patience = || (!queue.is_closing()).then_some(WAIT_STEP);
        let mut quiet_rounds = 0;
        while !queue.is_closing() {
            let before = queue.counters.read().sent;
            let mut receiver = true;
            for ring in &queue.rings {
                receiver &=
                    self.drain(queue, ring, &mut buffers, usize::MAX, &patience) != DrainResult::NoReceiver;
            }
            self.report_losses(queue, queue.report_now.swap(false, Ordering::Relaxed));
            self.report_long_open(queue, &mut looks);
            let all_reported = self.outlet.has_reported(queue.counters.read().dropped, &queue.reported);
            let sent = queue.counters.read().sent > before;
            quiet_rounds = if sent { 0 } else { quiet_rounds + 1 };
            if !receiver {
                queue.waker.pause(RECEIVER_CHECK, || queue.is_closing());
            } else if sent && queue.rings.iter().any(Ring::is_filling) {
                // Spans come as fast as they are sent: go on without a pause.
            } else if !all_reported || quiet_rounds < QUIET_ROUNDS {
                queue.waker.gather(GATHER_TIME, || queue.is_closing());
            } else {
                let stay_awake = || queue.is_closing() || !queue.is_empty();
                match self.rest_time(&looks) {
                    Some(time) if !queue.waker.rest(time, stay_awake) => continue,
                    Some(_) => {}
                    None => queue.waker.sleep(|| stay_awake() || self.rest_time(&looks).is_some()),
                }
                quiet_rounds = 0;
                queue.waker.gather(GATHER_TIME, || queue.is_closing());
            }
        }
        let end = queue.begin_to_close(FINISH_TIMEOUT);
        self.finish(queue, end, &[]);
        if queue.is_taken_out.load(Ordering::Relaxed) {
            self.report_none_open(queue, &looks, end);
        }
    }

    pub(super) fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        if SENDING.get() {
            return Err(FlushError { queued: self.stats().queued, timeout, in_callback: true });
        }
        let (queue, end) = (self.queue(), deadline(timeout));
        let targets: Vec<u64> = queue.rings.iter().map(|ring| ring.counts()[1]).collect();
        let mut buffers = Buffers::default();
        let patience = patience_until(end);
        loop {
            for ring in &queue.rings {
                self.drain(queue, ring, &mut buffers, usize::MAX, &patience);
            }
            let released = queue.rings.iter().map(|ring| ring.counts()[2]);
            if released.zip(&targets).all(|(released, target)| released >= *target) {
                return Ok(());
            }
            if left_until(end).is_zero() {
                return Err(FlushError { queued: self.stats().queued, timeout, in_callback: false });
            }
            std::thread::sleep(left_until(end).min(Duration::from_millis(1)));
        }
    }

    /// Makes the sender thread send what is queued and end.
    pub(super) fn close(&self) {
        let queue = self.queue();
        // Each closing layer keeps a thread and a socket, so only a few may take their time.
        let closing = CLOSING.fetch_add(1, Ordering::Relaxed);
        queue.is_taken_out.store(true, Ordering::Relaxed);
        queue.begin_to_close(if closing < MAX_CLOSING { FINISH_TIMEOUT } else { Duration::ZERO });
        if queue.waker.wake() == WakeResult::NeedsThread {
            // There is no sender thread: nothing was queued, or it could not be started.
            self.finish(queue, deadline(Duration::ZERO), &[]);
            CLOSING.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Sends what is queued until `end`, then the `unfinished` spans. Drops the rest, and reports the losses.
    fn finish(&self, queue: &Queue, end: Option<Instant>, unfinished: &[UnfinishedSpan]) {
        let mut buffers = Buffers::default();
        let patience = patience_until(end);
        self.outlet.way.retry_at_once();
        for ring in &queue.rings {
            let outcome = loop {
                match self.drain(queue, ring, &mut buffers, usize::MAX, &patience) {
                    DrainResult::Busy if !left_until(end).is_zero() => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    DrainResult::NoReceiver => break Some(Outcome::NoReceiver),
                    DrainResult::QueueFull => break Some(Outcome::QueueFull),
                    DrainResult::Drained | DrainResult::Busy => break None,
                }
            };
            if let (Some(outcome), Some(mut reading)) = (outcome, ring.try_read()) {
                discard(queue, &mut reading, &mut buffers.record, outcome);
            }
        }
        // Spans of threads that still wait for room.
        queue.waiting.serve(|_| {
            queue.counters.end(Outcome::QueueFull, 1);
            Some(WakeResult::Awake)
        });
        unfinished::send(unfinished, &self.outlet, &queue.counters, &queue.reported, &patience);
        // One report is enough: other threads may go on losing spans. Tries again if the queue was full, or
        // if another thread was reporting, which may have missed the latest losses.
        let has_reported = || self.outlet.has_reported(queue.counters.read().dropped, &queue.reported);
        while matches!(self.report_losses(queue, true), None | Some(Outcome::QueueFull))
            && !has_reported()
            && !left_until(end).is_zero()
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts the sender thread.
    #[cold]
    fn start(self: &Arc<Self>) {
        let queue = self.queue();
        let (now, failed) = (Monotonic::of_kernel().as_ns(), queue.thread_failed_ns.load(Ordering::Relaxed));
        if failed != 0 && now.saturating_sub(failed) < THREAD_RETRY_NS {
            queue.waker.set_absent();
            return;
        }
        let background = Arc::clone(self);
        let run = move || {
            // Nothing in it should panic. If it does, the next span starts a new thread.
            if catch_unwind(AssertUnwindSafe(|| background.run())).is_err() {
                background.queue().waker.set_absent();
            }
            // The thread ends after `close`, which counted it, or with the program, when the count no longer
            // matters.
            CLOSING.fetch_sub(1, Ordering::Relaxed);
        };
        match process::spawn(run) {
            Ok(thread) => {
                if let Ok(mut ours) = queue.thread.try_lock() {
                    *ours = Some(thread);
                }
            }
            Err(source) => {
                queue.thread_failed_ns.store(now.max(1), Ordering::Relaxed);
                queue.waker.set_absent();
                self.outlet.reporter.report(Error::Thread { source });
            }
        }
    }
}

impl DeliveryInUse for Background {
    /// `None` also if there is no receiver: `exec` then need not wait.
    fn before_exec(&self) -> Option<BeforeExec> {
        let queue = self.queue.known()?;
        let mut written = [0; MAX_RINGS];
        written.iter_mut().zip(&queue.rings).for_each(|(written, ring)| *written = ring.counts()[1]);
        self.outlet.way.has_known_receiver().then_some(BeforeExec { written })
    }

    /// Makes the sender thread report losses at once, and waits for that report too.
    fn is_done(&self, before: &BeforeExec) -> bool {
        let Some(queue) = self.queue.known() else { return true };
        let mut rings = queue.rings.iter().zip(before.written);
        let is_sent = rings.all(|(ring, written)| ring.counts()[2] >= written);
        let is_reported = self.outlet.has_reported(queue.counters.read().dropped, &queue.reported);
        if !is_reported {
            queue.report_now.store(true, Ordering::Relaxed);
        }
        is_sent && is_reported && queue.waiting.is_empty()
    }

    fn begin_to_finish(&self) {
        if let Some(queue) = self.queue.known() {
            queue.begin_to_close(FINISH_TIMEOUT);
            let _ = queue.waker.wake();
        }
    }

    fn finish_at_exit(&self) -> Option<Undelivered<'_>> {
        let unfinished = self.outlet.take_unfinished();
        // A forked child that has neither closed a span nor has one open has nothing to send.
        let queue = if unfinished.is_empty() { self.queue.known()? } else { self.queue() };
        self.outlet.reporter.silence();
        let end = queue.begin_to_close(FINISH_TIMEOUT);
        self.finish(queue, end, &unfinished);
        // If this code is in a library that is unloaded now, no thread may still run in it. The sender thread
        // has the same deadline, and gets a little more time to end.
        if let Some(thread) = queue.thread.try_lock().ok().and_then(|mut thread| thread.take()) {
            process::join(thread, Instant::now() + left_until(end) + 2 * WAIT_STEP);
        }
        self.outlet.undelivered(queue.counters.read(), &queue.reported)
    }
}
