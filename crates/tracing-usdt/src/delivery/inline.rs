//! Inline delivery: one `send` on a connected socket before the span's close returns.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::outlet::{Outlet, Told, Undelivered};
use super::stats::{Counters, Outcome, Stats};
use super::unfinished;
use super::waiting::{UNORDERED, Waiting};
use crate::process::PerProcess;
use crate::span::ClosedSpan;
use crate::thread;

/// How long the end may take for the last losses to be told.
const LAST_WORD: Duration = Duration::from_millis(200);

pub(crate) struct Inline {
    outlet: Outlet,
    account: PerProcess<Account>,
}

struct Account {
    counters: Counters,
    told: Told,
    /// Closing threads that found no room. Each sends its own span when it is the first: nobody serves another, since
    /// sending may report a problem to the program's callback.
    waiting: Waiting<(), ()>,
}

thread_local! {
    /// The thread is the first of those that wait. Spans that a callback of the program's closes meanwhile can't wait
    /// behind it.
    static IN_TURN: Cell<bool> = const { Cell::new(false) };
}

impl Account {
    fn new() -> Self {
        Self { counters: Counters::new(), told: Told::nothing(), waiting: Waiting::new() }
    }
}

impl Inline {
    pub(super) fn new(outlet: Outlet) -> Self {
        Self { outlet, account: PerProcess::new(Account::new()) }
    }

    fn account(&self) -> &Account {
        self.account.get(Account::new)
    }

    pub(super) fn stats(&self) -> Stats {
        self.account().counters.read()
    }

    pub(super) fn send(&self, span: &ClosedSpan<'_>) {
        let account = self.account();
        let outcome = thread::with_text(|datagram| {
            self.outlet.encoder.open(datagram);
            self.outlet.encoder.span(datagram, span);
            self.outlet.encoder.close(datagram, Some(&account.counters.sequence(1, &account.told)));
            let outcome = self.send_in_turn(account, datagram);
            if outcome == Outcome::TooLarge {
                self.outlet.report_too_large(datagram.len());
            }
            outcome
        });
        account.counters.close(outcome, 1);
        if outcome == Outcome::Sent {
            self.tell(account, false);
        }
    }

    /// Waits for room, if it may; where it takes long, behind the threads that have waited longer.
    fn send_in_turn(&self, account: &Account, datagram: &[u8]) -> Outcome {
        let max_wait = if IN_TURN.get() { Duration::ZERO } else { self.outlet.max_wait };
        if account.waiting.is_empty() || max_wait.is_zero() {
            let outcome = self.outlet.send(datagram, max_wait.min(UNORDERED));
            if outcome != Outcome::QueueFull || max_wait <= UNORDERED {
                return outcome;
            }
        }
        self.wait_in_turn(account, datagram, max_wait.saturating_sub(UNORDERED))
    }

    #[cold]
    fn wait_in_turn(&self, account: &Account, datagram: &[u8], max_wait: Duration) -> Outcome {
        let begin = Instant::now();
        let left = || max_wait.saturating_sub(begin.elapsed());
        let waiter = account.waiting.enter(());
        let mut outcome = Outcome::QueueFull;
        if waiter.is_first(left()) {
            IN_TURN.set(true);
            outcome = self.outlet.send(datagram, left());
            IN_TURN.set(false);
        }
        account.waiting.leave(&waiter);
        outcome
    }

    fn tell(&self, account: &Account, last: bool) -> Option<Outcome> {
        self.outlet.tell(&account.counters, &account.told, last)
    }

    pub(super) fn leave_out(&self) {
        self.account().counters.leave_out();
    }

    pub(super) fn abandon(&self, spans: u64) {
        self.account().counters.close(Outcome::Abandoned, spans);
    }

    /// Tells what has not been told yet, and waits a little for room: where spans were lost for want
    /// of it, there is none at first.
    pub(super) fn finish(&self) {
        let account = self.account();
        let begin = Instant::now();
        self.outlet.socket.look_at_once();
        while self.tell(account, true) == Some(Outcome::QueueFull) && begin.elapsed() < LAST_WORD {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(super) fn finish_at_exit(&self) -> Option<Undelivered<'_>> {
        let unfinished = self.outlet.unfinished.take();
        let account = if unfinished.is_empty() { self.account.known()? } else { self.account() };
        self.outlet.reporter.silence();
        self.outlet.socket.look_at_once();
        let begin = Instant::now();
        let patience = || LAST_WORD.checked_sub(begin.elapsed()).filter(|left| !left.is_zero());
        unfinished::send(&unfinished, &self.outlet, &account.counters, &account.told, &patience);
        self.finish();
        Some(self.outlet.undelivered(account.counters.read(), &account.told))
    }
}
