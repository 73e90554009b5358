//! Inline delivery: one `send` on a connected socket before the span's close returns.

use std::time::{Duration, Instant};

use super::outlet::{Outlet, Told, Undelivered};
use super::stats::{Counters, Outcome, Stats};
use super::unfinished;
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
}

impl Account {
    fn new() -> Self {
        Self { counters: Counters::default(), told: Told::nothing() }
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
        let outcome = thread::with_text(|datagram| {
            self.outlet.encoder.open(datagram);
            self.outlet.encoder.span(datagram, span);
            self.outlet.encoder.close(datagram);
            let outcome = self.outlet.send(datagram, self.outlet.max_wait);
            if outcome == Outcome::TooLarge {
                self.outlet.report_too_large(datagram.len());
            }
            outcome
        });
        let account = self.account();
        account.counters.close(outcome, 1);
        if outcome == Outcome::Sent {
            self.outlet.tell(account.counters.read().dropped, &account.told, false);
        }
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
        let tell = || self.outlet.tell(account.counters.read().dropped, &account.told, true);
        while tell() == Some(Outcome::QueueFull) && begin.elapsed() < LAST_WORD {
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
        unfinished::send(&unfinished, &self.outlet, &account.counters, &patience);
        self.finish();
        Some(self.outlet.undelivered(account.counters.read(), &account.told))
    }
}
