//! Inline delivery: one `send` on a connected socket before the span's close returns.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::in_use::DeliveryInUse;
use super::outlet::{Outlet, Undelivered};
use super::reported::ReportedLosses;
use super::stats::{Counters, Outcome, Stats};
use super::unfinished;
use super::waiting::{UNORDERED_WAIT, Waiting};
use crate::process::PerProcess;
use crate::span::{ClosedSpan, reuse};

/// How long finishing may take, to report the last losses.
const FINISH_TIMEOUT: Duration = Duration::from_millis(200);

pub(crate) struct Inline {
    pub(super) outlet: Outlet,
    state: PerProcess<State>,
}

/// What each process has of its own.
struct State {
    counters: Counters,
    reported: ReportedLosses,
    /// Closing threads that found no room. Each sends its own span when it is the first. No thread sends for
    /// another, because sending may call the program's error callback.
    waiting: Waiting<(), ()>,
}

thread_local! {
    /// Set while this thread is the first waiter and sends. If the program's error callback closes a span
    /// then, that span must not queue behind this thread.
    static IS_FIRST: Cell<bool> = const { Cell::new(false) };
}

impl State {
    fn new() -> Self {
        Self { counters: Counters::new(), reported: ReportedLosses::new(), waiting: Waiting::new() }
    }
}

impl Inline {
    pub(super) fn new(outlet: Outlet) -> Self {
        Self { outlet, state: PerProcess::new(State::new()) }
    }

    fn state(&self) -> &State {
        self.state.get(State::new)
    }

    pub(super) fn stats(&self) -> Stats {
        self.state().counters.read()
    }

    pub(super) fn send(&self, span: &ClosedSpan<'_>) {
        let state = self.state();
        let outcome = reuse::with_text(|datagram| {
            self.outlet.encoder.open(datagram);
            self.outlet.encoder.span(datagram, span);
            self.outlet.encoder.close(datagram, Some(&state.counters.sequence(1, state.reported.total())));
            let outcome = self.send_in_turn(state, datagram);
            if outcome == Outcome::TooLarge {
                self.outlet.report_too_large(datagram.len());
            }
            outcome
        });
        state.counters.close(outcome, 1);
        if outcome == Outcome::Sent {
            self.report_losses(state, false);
        }
    }

    /// Sends, and waits for room up to the maximum wait. After [`UNORDERED_WAIT`] the thread queues behind
    /// those that have waited longer.
    fn send_in_turn(&self, state: &State, datagram: &[u8]) -> Outcome {
        let max_wait = if IS_FIRST.get() { Duration::ZERO } else { self.outlet.max_wait };
        if state.waiting.is_empty() || max_wait.is_zero() {
            let outcome = self.outlet.send(datagram, 1, max_wait.min(UNORDERED_WAIT));
            if outcome != Outcome::QueueFull || max_wait <= UNORDERED_WAIT {
                return outcome;
            }
        }
        self.wait_in_turn(state, datagram, max_wait.saturating_sub(UNORDERED_WAIT))
    }

    #[cold]
    fn wait_in_turn(&self, state: &State, datagram: &[u8], max_wait: Duration) -> Outcome {
        let begin = Instant::now();
        let left = || max_wait.saturating_sub(begin.elapsed());
        let waiter = state.waiting.enter(());
        let mut outcome = Outcome::QueueFull;
        if waiter.is_first(left()) {
            IS_FIRST.set(true);
            outcome = self.outlet.send(datagram, 1, left());
            IS_FIRST.set(false);
        }
        state.waiting.leave(&waiter);
        outcome
    }

    fn report_losses(&self, state: &State, is_last: bool) -> Option<Outcome> {
        self.outlet.report_losses(&state.counters, &state.reported, is_last)
    }

    pub(super) fn count_sampled_out(&self) {
        self.state().counters.count_sampled_out();
    }

    pub(super) fn abandon(&self, spans: u64) {
        self.state().counters.close(Outcome::Abandoned, spans);
    }

    /// Reports the last losses. Waits a little for room: if spans were lost because the receiver's queue was
    /// full, it is probably still full.
    pub(super) fn finish(&self) {
        let state = self.state();
        let begin = Instant::now();
        self.outlet.way.retry_at_once();
        while self.report_losses(state, true) == Some(Outcome::QueueFull) && begin.elapsed() < FINISH_TIMEOUT
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl DeliveryInUse for Inline {
    fn finish_at_exit(&self) -> Option<Undelivered<'_>> {
        let unfinished = self.outlet.take_unfinished();
        let state = if unfinished.is_empty() { self.state.known()? } else { self.state() };
        self.outlet.reporter.silence();
        self.outlet.way.retry_at_once();
        let begin = Instant::now();
        let patience = || FINISH_TIMEOUT.checked_sub(begin.elapsed()).filter(|left| !left.is_zero());
        unfinished::send(&unfinished, &self.outlet, &state.counters, &state.reported, &patience);
        self.finish();
        self.outlet.undelivered(state.counters.read(), &state.reported)
    }
}
