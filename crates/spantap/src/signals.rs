//! Signals, from before there is anything to clear up to the very end.
//!
//! They are blocked in all threads, and one thread reads them from a descriptor. So none of them ends or stops us at a moment that we
//! have not chosen, and each says who sent it. The program of `run` starts with the signal mask that we started with.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// They ask us to end.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// The default is to stop the process, until SIGCONT.
const STOPPING: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// They report a fault in the process that gets them, and SIGCHLD is of our own child. No supervisor sends them; but
/// it sends SIGABRT to a program that hangs, to get its core.
const OF_A_FAULT: [Signal; 7] = [
    Signal::SIGCHLD,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// Signals that are blocked, for now and for all threads that start later. Those that whoever started us had us
/// ignore, as `nohup` does, stay ignored, by us and by what we start.
#[derive(Clone, Debug)]
pub struct Blocked {
    set: SigSet,
    /// The mask before that.
    original: SigSet,
}

impl Blocked {
    /// Blocks the signals that ask us to end.
    ///
    /// # Errors
    ///
    /// The kernel does not let us.
    pub fn ending() -> Result<Self> {
        let mut set: SigSet = ENDING.into_iter().collect();
        // A write beyond RLIMIT_FSIZE then fails, and does not end the process.
        set.add(Signal::SIGXFSZ);
        Self::block(set)
    }

    /// Blocks all signals that can be passed on to a program.
    ///
    /// # Errors
    ///
    /// The kernel does not let us.
    pub fn all() -> Result<Self> {
        let mut set = SigSet::all();
        OF_A_FAULT.into_iter().for_each(|signal| set.remove(signal));
        Self::block(set)
    }

    fn block(mut set: SigSet) -> Result<Self> {
        let ignored = ignored();
        for signal in Signal::iterator() {
            // Rust ignores SIGPIPE in each program, and ends that in its children.
            if ignored >> (signal as i32 - 1) & 1 == 1 && signal != Signal::SIGPIPE {
                set.remove(signal);
            }
        }
        let original = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("can't block signals")?;
        Ok(Self { set, original })
    }

    /// Has the program of `command` start with the signal mask that we started with.
    #[allow(unsafe_code)]
    pub fn leave_to(&self, command: &mut Command) {
        let original = self.original;
        // SAFETY: after `fork`, this makes one system call and allocates nothing.
        unsafe { command.pre_exec(move || original.thread_set_mask().map_err(io::Error::from)) };
    }

    /// Reads them from now on, on a thread of its own.
    ///
    /// # Errors
    ///
    /// The kernel does not let us.
    pub fn read(&self) -> Result<Signals> {
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
                    is_of_kernel: info.ssi_code == libc::SI_KERNEL,
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
        Ok(Signals(signals))
    }
}

/// The blocked signals that arrive.
pub struct Signals(UnboundedReceiver<Received>);

impl Signals {
    /// Waits for one that asks us to end.
    pub async fn next(&mut self) -> Signal {
        loop {
            let received = self.receive().await;
            match received.signal() {
                Some(signal) if ENDING.contains(&signal) => return signal,
                Some(signal) if STOPPING.contains(&signal) => stop(signal),
                _ => {}
            }
        }
    }

    /// Waits for any.
    pub async fn receive(&mut self) -> Received {
        match self.0.recv().await {
            Some(received) => received,
            // The thread could not read.
            None => std::future::pending().await,
        }
    }
}

/// A signal and who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    number: i32,
    is_of_kernel: bool,
    is_ours: bool,
    sender: u32,
}

impl Received {
    /// Its number. Real-time signals have no name.
    pub fn number(self) -> i32 {
        self.number
    }

    /// The process that sent it; 0 for the kernel.
    pub fn sender(self) -> u32 {
        self.sender
    }

    fn signal(self) -> Option<Signal> {
        Signal::try_from(self.number).ok()
    }

    /// The signal, if its default is to stop the process.
    pub fn stops(self) -> Option<Signal> {
        self.signal().filter(|signal| STOPPING.contains(signal))
    }

    /// Whether it continues a process that is stopped.
    pub fn continues(self) -> bool {
        self.signal() == Some(Signal::SIGCONT)
    }

    /// Whether the terminal sent it (Ctrl-C, Ctrl-Z, a new size), and to our whole process group.
    pub fn is_of_terminal(self) -> bool {
        let of_terminal = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGWINCH];
        let can_be =
            self.signal().is_some_and(|signal| of_terminal.contains(&signal) || STOPPING.contains(&signal));
        self.is_of_kernel && can_be
    }

    /// Whether something that we did has caused it: a write to a pipe that nobody reads, or beyond `RLIMIT_FSIZE`, or
    /// processor time beyond `RLIMIT_CPU`.
    pub fn is_our_fault(self) -> bool {
        self.is_ours || (self.is_of_kernel && self.signal() == Some(Signal::SIGXCPU))
    }
}

/// Stops us as `signal` does by default, until somebody continues us.
pub fn stop(signal: Signal) {
    let set: SigSet = [signal].into_iter().collect();
    // In a process group without a shell that could continue it, the kernel does not stop anything.
    let _ = raise(signal);
    let _ = set.thread_unblock();
    let _ = set.thread_block();
}

/// A bit for each, the lowest for signal 1.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
