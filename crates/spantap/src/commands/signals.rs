//! Receives signals, from before there is anything to clean up until the very end.
//!
//! All threads block the signals, and one thread reads them from a signalfd. So no signal ends or stops spantap in the
//! middle of its work, and each signal comes with its sender. The program of `run` starts with the signal mask that
//! spantap was started with.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::flight::{FlightRecorder, Trigger};

/// Signals that ask spantap to end.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Signals that by default stop the process until SIGCONT.
const STOPPING: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Signals that are not passed on to a program: they report a fault in the process that gets them, and SIGCHLD is about
/// spantap's own child. SIGABRT is not among them, because supervisors send it to a hanging program to get a core dump.
const NOT_PASSED_ON: [Signal; 7] = [
    Signal::SIGCHLD,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// How long the end of the process waits for its clean-up.
const LONGEST_CLEAN_UP: Duration = Duration::from_secs(5);

/// Signals that are blocked in this thread and in all threads that start later. A signal that was ignored when spantap
/// started, as `nohup` does, stays ignored, also in the programs that spantap starts.
#[derive(Clone, Debug)]
pub(super) struct Blocked {
    set: SigSet,
    /// The signal mask before.
    original: SigSet,
}

impl Blocked {
    /// Blocks the signals that ask spantap to end.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(super) fn ending() -> Result<Self> {
        let mut set: SigSet = ENDING.into_iter().collect();
        // With SIGXFSZ blocked, a write beyond RLIMIT_FSIZE fails instead of ending the process.
        set.add(Signal::SIGXFSZ);
        Self::block(set)
    }

    /// Blocks these, and SIGUSR1.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(super) fn ending_and_usr1() -> Result<Self> {
        let mut set: SigSet = ENDING.into_iter().collect();
        [Signal::SIGXFSZ, Signal::SIGUSR1].into_iter().for_each(|signal| set.add(signal));
        Self::block(set)
    }

    /// Blocks all signals that can be passed on to a program.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(super) fn all() -> Result<Self> {
        let mut set = SigSet::all();
        NOT_PASSED_ON.into_iter().for_each(|signal| set.remove(signal));
        Self::block(set)
    }

    fn block(mut set: SigSet) -> Result<Self> {
        let ignored = ignored();
        for signal in Signal::iterator() {
            // Rust's runtime ignores SIGPIPE in every program, and restores the default in its children.
            if ignored >> (signal as i32 - 1) & 1 == 1 && signal != Signal::SIGPIPE {
                set.remove(signal);
            }
        }
        let original = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("can't block signals")?;
        Ok(Self { set, original })
    }

    /// Makes the program of `command` start with the signal mask that spantap was started with.
    #[allow(unsafe_code)]
    pub(super) fn leave_to(&self, command: &mut Command) {
        let original = self.original;
        // SAFETY: after `fork`, this makes one system call and allocates nothing.
        unsafe { command.pre_exec(move || original.thread_set_mask().map_err(io::Error::from)) };
    }

    /// Starts a thread that reads the blocked signals.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(super) fn read(&self) -> Result<Signals> {
        let descriptor =
            SignalFd::with_flags(&self.set, SfdFlags::SFD_CLOEXEC).context("can't read signals")?;
        let (arrived, signals) = unbounded_channel();
        let read = move || {
            loop {
                let info = match descriptor.read_signal() {
                    Ok(Some(info)) => info,
                    Ok(None) | Err(Errno::EINTR) => continue,
                    Err(_) => return,
                };
                let received = Received {
                    number: info.ssi_signo as i32,
                    is_from_kernel: info.ssi_code == libc::SI_KERNEL,
                    is_ours: info.ssi_pid == std::process::id(),
                    sender: info.ssi_pid,
                };
                if arrived.send(received).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(read)
            .context("can't start the thread `signals`")?;
        Ok(Signals { arrived: signals, flight: None })
    }
}

/// The blocked signals, as they arrive.
pub(super) struct Signals {
    arrived: UnboundedReceiver<Received>,
    flight: Option<Arc<FlightRecorder>>,
}

impl Signals {
    /// Takes SIGUSR1 for a request to this flight recorder, and does not return it any more.
    pub(super) fn trigger(&mut self, flight: Option<Arc<FlightRecorder>>) {
        self.flight = flight;
    }

    /// Waits for a signal that asks spantap to end.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            let received = self.receive().await;
            match received.signal() {
                Some(signal) if ENDING.contains(&signal) => return signal,
                Some(signal) if STOPPING.contains(&signal) => stop(signal),
                _ => {}
            }
        }
    }

    /// Calls `end` at the first signal that asks spantap to end, from another thread. The next one ends the process.
    ///
    /// # Errors
    ///
    /// When the thread can't be started.
    pub(super) fn on_first(mut self, end: impl FnOnce() + Send + 'static) -> Result<()> {
        let wait = move || {
            self.wait_for_end();
            end();
            // No other thread of the process takes them.
            let _ = ENDING.into_iter().collect::<SigSet>().thread_unblock();
            std::thread::park();
        };
        thread::Builder::new().name("end".into()).spawn(wait).context("can't start the thread `end`")?;
        Ok(())
    }

    /// Calls `clean_up` at the first signal that asks spantap to end, from another thread, and then ends the process by this signal. A
    /// clean-up that hangs, such as on a file system whose server is away, is not waited for any longer than [`LONGEST_CLEAN_UP`].
    ///
    /// # Errors
    ///
    /// When the thread can't be started.
    pub(super) fn end_after(mut self, clean_up: impl FnOnce() + Send + 'static) -> Result<()> {
        let wait = move || {
            let Some(signal) = self.wait_for_end() else { return };
            run_for(LONGEST_CLEAN_UP, clean_up);
            // Its default ends the process: a signal that was ignored is not blocked, and so does not come here.
            let _ = ENDING.into_iter().collect::<SigSet>().thread_unblock();
            let _ = raise(signal);
            // The first process of a container is not ended by the default of a signal. Shells give this code for one that was.
            std::process::exit(128 + signal as i32);
        };
        thread::Builder::new().name("end".into()).spawn(wait).context("can't start the thread `end`")?;
        Ok(())
    }

    /// Blocks this thread until a signal asks spantap to end. `None` if signals can't be read any more.
    fn wait_for_end(&mut self) -> Option<Signal> {
        loop {
            let signal = self.arrived.blocking_recv()?.signal();
            if let Some(signal) = signal.filter(|signal| ENDING.contains(signal)) {
                return Some(signal);
            }
        }
    }

    /// Waits for any signal.
    pub(super) async fn receive(&mut self) -> Received {
        loop {
            let received = match self.arrived.recv().await {
                Some(received) => received,
                // The thread has ended, because it could not read.
                None => std::future::pending().await,
            };
            match &self.flight {
                Some(flight) if received.signal() == Some(Signal::SIGUSR1) => flight.trigger(Trigger::Signal),
                _ => return received,
            }
        }
    }
}

/// A signal and who sent it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    number: i32,
    is_from_kernel: bool,
    is_ours: bool,
    sender: u32,
}

impl Received {
    /// The signal's number: real-time signals are not in [`Signal`].
    pub(super) fn number(self) -> i32 {
        self.number
    }

    /// The process that sent it; 0 for the kernel.
    pub(super) fn sender(self) -> u32 {
        self.sender
    }

    fn signal(self) -> Option<Signal> {
        Signal::try_from(self.number).ok()
    }

    /// The signal, if it asks a program to end. SIGQUIT asks for a core dump, as after an error.
    pub(super) fn asks_to_end(self) -> Option<Signal> {
        self.signal().filter(|signal| ENDING.contains(signal) && *signal != Signal::SIGQUIT)
    }

    /// The signal, if its default is to stop the process.
    pub(super) fn stops(self) -> Option<Signal> {
        self.signal().filter(|signal| STOPPING.contains(signal))
    }

    /// Whether it continues a process that is stopped.
    pub(super) fn continues(self) -> bool {
        self.signal() == Some(Signal::SIGCONT)
    }

    /// Whether the terminal sent it (Ctrl-C, Ctrl-Z, a new size) to spantap's whole process group.
    pub(super) fn is_from_terminal(self) -> bool {
        let from_terminal = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGWINCH];
        let can_be =
            self.signal().is_some_and(|signal| from_terminal.contains(&signal) || STOPPING.contains(&signal));
        self.is_from_kernel && can_be
    }

    /// Whether spantap caused it: by a write to a closed pipe or beyond `RLIMIT_FSIZE`, or by CPU time beyond
    /// `RLIMIT_CPU`.
    pub(super) fn is_our_fault(self) -> bool {
        self.is_ours || (self.is_from_kernel && self.signal() == Some(Signal::SIGXCPU))
    }
}

/// Stops this process as `signal` does by default, until it gets SIGCONT.
pub(super) fn stop(signal: Signal) {
    let set: SigSet = [signal].into_iter().collect();
    // The kernel ignores these signals in an orphaned process group, where no shell could continue the process.
    let _ = raise(signal);
    let _ = set.thread_unblock();
    let _ = set.thread_block();
}

/// Runs `work` in another thread, and waits for it for `limit` at most.
fn run_for(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let work = move || {
        work();
        let _ = done.send(());
    };
    // Without the thread, nobody sends, and so there is nothing to wait for.
    let _ = thread::Builder::new().name("clean-up".into()).spawn(work);
    let _ = is_done.recv_timeout(limit);
}

/// The ignored signals as a bit mask; the lowest bit is signal 1.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_up_that_hangs_does_not_hold_up_the_end() {
        run_for(Duration::from_millis(1), || {
            loop {
                thread::park();
            }
        });
    }

    #[test]
    fn the_end_waits_for_the_clean_up() {
        let (cleaned, is_clean) = mpsc::channel();
        run_for(Duration::from_secs(60), move || {
            thread::yield_now();
            let _ = cleaned.send(());
        });
        assert_eq!(is_clean.try_recv(), Ok(()));
    }
}
