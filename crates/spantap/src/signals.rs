//! The signals that end us, from before there is anything to clear up to the very end.

use std::fs;

use anyhow::Result;
use nix::sys::signal::Signal;
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Those that have arrived. Whoever started us may have had us ignore some, as `nohup` does; these stay
/// ignored, by us and by what we start.
pub struct Signals {
    interrupt: Option<Stream>,
    terminate: Option<Stream>,
    hang_up: Option<Stream>,
    quit: Option<Stream>,
}

impl Signals {
    /// From here on they don't end the process.
    ///
    /// # Errors
    ///
    /// When the kernel doesn't let us.
    pub fn install() -> Result<Self> {
        let ignored = ignored();
        let stream = |of: Signal| -> Result<Option<Stream>> {
            let is_ignored = ignored >> (of as i32 - 1) & 1 == 1;
            Ok(if is_ignored { None } else { Some(signal(SignalKind::from_raw(of as i32))?) })
        };
        // A write beyond RLIMIT_FSIZE then fails, and does not end the process.
        stream(Signal::SIGXFSZ)?;
        Ok(Self {
            interrupt: stream(Signal::SIGINT)?,
            terminate: stream(Signal::SIGTERM)?,
            hang_up: stream(Signal::SIGHUP)?,
            quit: stream(Signal::SIGQUIT)?,
        })
    }

    /// Waits for one.
    pub async fn next(&mut self) -> Signal {
        async fn of(stream: &mut Option<Stream>) {
            match stream {
                Some(stream) => _ = stream.recv().await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = of(&mut self.interrupt) => Signal::SIGINT,
            () = of(&mut self.terminate) => Signal::SIGTERM,
            () = of(&mut self.hang_up) => Signal::SIGHUP,
            () = of(&mut self.quit) => Signal::SIGQUIT,
        }
    }
}

/// A bit for each, the lowest for signal 1.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether Ctrl-C reaches us from a terminal, and with us all of our process group.
pub fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal) == Ok(getpgrp()))
}
