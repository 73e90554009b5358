//! Inline delivery: one `send` on a connected socket before the span's close returns. What is
//! closed has left the process, even if the next instruction is `abort()`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::socket::Socket;
use super::stats::{Counters, Dropped, Outcome, Stats};
use crate::clock::{Monotonic, wall_offset};
use crate::context::{SpanContext, SpanId, TraceId};
use crate::encode::{Format, Losses};
use crate::error::Reporter;
use crate::resource::Resource;
use crate::thread;

/// Losses are told at most this often.
const TELL_NS: u64 = 1_000_000_000;

/// How long the end of the program may take for the last of them.
const LAST_WORD: Duration = Duration::from_millis(200);

pub(crate) struct Inline {
    socket: Socket,
    format: Format,
    resource: Arc<Resource>,
    counters: Counters,
    told: Mutex<Told>,
    /// The sum of what was told: the one thing to look at while nothing is lost.
    told_total: AtomicU64,
    /// The fork generation that the counters belong to.
    forks: AtomicU32,
    /// Held by the thread that notices a fork, so that nothing is counted before it is done.
    noticing: Mutex<()>,
    reporter: Arc<Reporter>,
}

impl Inline {
    pub(super) fn new(
        socket: Socket,
        format: Format,
        resource: Arc<Resource>,
        reporter: Arc<Reporter>,
    ) -> Self {
        Self {
            socket,
            format,
            resource,
            counters: Counters::default(),
            told: Mutex::new(Told::nothing()),
            told_total: AtomicU64::new(0),
            forks: AtomicU32::new(thread::forks()),
            noticing: Mutex::new(()),
            reporter,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.notice_fork();
        self.counters.read()
    }

    /// Sends the datagram of one span.
    pub(crate) fn send(&self, datagram: &[u8]) {
        self.notice_fork();
        let outcome = self.socket.send(datagram, true, &self.reporter);
        self.counters.count(outcome);
        if outcome == Outcome::Sent {
            self.tell_losses(TELL_NS);
        }
    }

    /// Counts a span of a trace that is not sampled.
    pub(crate) fn leave_out(&self) {
        self.notice_fork();
        self.counters.count(Outcome::SampledOut);
    }

    /// Sends the losses that the receiver doesn't know of, unless it was told within `every` ns.
    /// What became of it, if there was something to tell.
    fn tell_losses(&self, every: u64) -> Option<Outcome> {
        if self.counters.read().dropped.lost() == self.told_total.load(Ordering::Relaxed) {
            return None;
        }
        // A thread that is telling tells for all.
        let mut told = self.told.try_lock().ok()?;
        let now = Monotonic::now();
        if now.since(told.until) < every {
            return None;
        }
        let losses = self.counters.read().dropped;
        let new: Vec<(&'static str, u64)> = losses
            .losses()
            .into_iter()
            .zip(told.losses.losses())
            .map(|((reason, all), (_, known))| (reason, all.saturating_sub(known)))
            .filter(|(_, spans)| *spans > 0)
            .collect();
        if new.is_empty() {
            return None;
        }
        let wall = wall_offset(now);
        let context = SpanContext { trace_id: TraceId::random(), span_id: SpanId::random(), sampled: true };
        let (start_ns, end_ns) = (wall.nanos(told.until), wall.nanos(now));
        let untold = Losses { context, start_ns, end_ns, reasons: &new };
        let datagram = self.format.losses(&untold, &self.resource);
        // Without waiting: where there is no room it is told later, with what is lost until then.
        let outcome = self.socket.send(&datagram, false, &self.reporter);
        if outcome == Outcome::Sent {
            *told = Told { losses, until: now };
            self.told_total.store(losses.lost(), Ordering::Relaxed);
        }
        Some(outcome)
    }

    /// Tells what has not been told yet, without regard to the interval, and waits a little for room:
    /// where spans were lost for want of it, there is none at first.
    fn finish(&self) {
        self.notice_fork();
        let begin = Instant::now();
        while self.tell_losses(0) == Some(Outcome::QueueFull) && begin.elapsed() < LAST_WORD {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The same when the program ends, and nobody is there any more to hear of problems.
    pub(super) fn finish_at_exit(&self) {
        self.reporter.silence();
        self.finish();
    }

    /// A forked child answers for its own spans; its parent's account is the parent's.
    fn notice_fork(&self) {
        let forks = thread::forks();
        if self.forks.load(Ordering::Acquire) == forks {
            return;
        }
        let _one = self.noticing.lock();
        if self.forks.load(Ordering::Acquire) == forks {
            return;
        }
        self.counters.reset();
        self.told_total.store(0, Ordering::Relaxed);
        // Not `lock`: a thread of the parent that held it is not here to let go.
        if let Ok(mut told) = self.told.try_lock() {
            *told = Told::nothing();
        }
        self.forks.store(forks, Ordering::Release);
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the receiver knows of the losses.
struct Told {
    losses: Dropped,
    until: Monotonic,
}

impl Told {
    fn nothing() -> Self {
        Self { losses: Dropped::default(), until: Monotonic::now() }
    }
}
