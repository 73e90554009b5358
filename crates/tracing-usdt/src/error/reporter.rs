//! Reports each kind of error once, to the application's callback or on stderr.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Error, print};
use crate::process;

pub(crate) type Callback = Box<dyn Fn(&Error) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Reporter {
    callback: Option<Callback>,
    /// The kinds that have been reported.
    seen: Mutex<Vec<Kind>>,
    silent: AtomicBool,
    /// The fork generation in which the reporter was created.
    forks: u32,
}

/// What makes two errors the same kind. `Option<i32>` is the operating system's error code.
#[derive(PartialEq)]
enum Kind {
    Variable(&'static str),
    ResourceTooLarge,
    SecondLayer,
    LayerOrder,
    Connect(Option<i32>),
    Thread,
    ThreadContext,
    OpenSpans,
    Undelivered,
    Send(Option<i32>),
}

impl Reporter {
    pub(crate) fn new(callback: Option<Callback>) -> Self {
        Self { callback, seen: Mutex::default(), silent: AtomicBool::new(false), forks: process::forks() }
    }

    /// Whether errors are printed on stderr, because there is no callback.
    pub(crate) fn prints(&self) -> bool {
        self.callback.is_none()
    }

    /// Whether [`Error::Connect`] has been reported in this process. The report includes that spans are
    /// dropped.
    pub(crate) fn has_reported_connect_here(&self) -> bool {
        let is_connect = |kind: &Kind| matches!(kind, Kind::Connect(_));
        self.forks == process::forks() && self.seen.try_lock().is_ok_and(|seen| seen.iter().any(is_connect))
    }

    /// Stops all reports. Called when the program ends, because a callback may use what no longer exists.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Reports `error`, unless an error of the same kind has been reported.
    pub(crate) fn report(&self, error: Error) {
        if self.silent.load(Ordering::Relaxed) {
            return;
        }
        let kind = match &error {
            Error::Environment { variable, .. } => Kind::Variable(variable),
            Error::ResourceTooLarge { .. } => Kind::ResourceTooLarge,
            Error::SecondLayer => Kind::SecondLayer,
            Error::LayerOrder => Kind::LayerOrder,
            Error::Connect { source, .. } => Kind::Connect(source.raw_os_error()),
            Error::Thread { .. } => Kind::Thread,
            Error::ThreadContext { .. } => Kind::ThreadContext,
            Error::OpenSpans { .. } => Kind::OpenSpans,
            Error::Undelivered { .. } => Kind::Undelivered,
            Error::Send { source, .. } => Kind::Send(source.raw_os_error()),
        };
        {
            // Not `lock`: in a forked child, a thread that exists only in the parent may hold the lock. An
            // error skipped because another thread is reporting occurs again if it lasts.
            let Ok(mut seen) = self.seen.try_lock() else { return };
            if seen.contains(&kind) {
                return;
            }
            seen.push(kind);
        }
        // The lock is released first: a callback that logs may cause another report on this thread.
        match &self.callback {
            // A panic of the callback must not reach the code that happens to close a span.
            Some(callback) => drop(catch_unwind(AssertUnwindSafe(|| callback(&error)))),
            None => print(&error),
        }
    }
}
