//! One connected datagram socket, connected again when its receiver went away.
//!
//! Connected, because a `send` by path resolves it each time and costs 2.3 times as much. std opens
//! it close-on-exec. Non-blocking, so that a receiver that stopped reading can't stop the program.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::stats::Outcome;
use crate::clock::Monotonic;
use crate::error::{Error, Reporter};

/// How often a missing receiver is looked for. A closing span pays for the look.
const RETRY_NS: u64 = 250_000_000;

pub(super) struct Socket {
    path: PathBuf,
    connected: RwLock<Option<Arc<UnixDatagram>>>,
    /// When the last look for a receiver failed, in monotonic nanoseconds; 0 for never.
    failed_ns: AtomicU64,
}

impl Socket {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, connected: RwLock::new(None), failed_ns: AtomicU64::new(0) }
    }

    /// Connects now if it can, so that the program's owner hears at start what is wrong.
    pub(super) fn try_connect(&self, reporter: &Reporter) {
        self.connection(reporter);
    }

    /// Sends, waiting up to `max_wait` for room in the receiver's queue.
    pub(super) fn send(&self, datagram: &[u8], max_wait: Duration, reporter: &Reporter) -> Outcome {
        // The second round is for a receiver that came back since the last send.
        for _ in 0..2 {
            let Some(socket) = self.connection(reporter) else {
                return Outcome::NoReceiver;
            };
            let error = match send_within(&socket, datagram, max_wait) {
                Ok(()) => return Outcome::Sent,
                Err(error) => error,
            };
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN) => return Outcome::QueueFull,
                Some(
                    Errno::ECONNREFUSED
                    | Errno::ECONNRESET
                    | Errno::ENOTCONN
                    | Errno::EDESTADDRREQ
                    | Errno::EPIPE
                    | Errno::ENOENT,
                ) => self.disconnect(&socket),
                errno => {
                    let (path, bytes) = (self.path.clone(), datagram.len());
                    reporter.report(Error::Send { path, bytes, source: error });
                    return if errno == Some(Errno::EMSGSIZE) { Outcome::TooLarge } else { Outcome::Other };
                }
            }
        }
        Outcome::NoReceiver
    }

    /// The connection, made anew where there is none and the last try is long enough ago.
    fn connection(&self, reporter: &Reporter) -> Option<Arc<UnixDatagram>> {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = &*connected {
            return Some(Arc::clone(socket));
        }
        drop(connected);

        let now = Monotonic::now().as_ns().max(1);
        let failed = self.failed_ns.load(Ordering::Relaxed);
        if failed != 0 && now.saturating_sub(failed) < RETRY_NS {
            return None;
        }
        // One thread tries; the others need not queue up behind it.
        let mut connected = self.connected.try_write().ok()?;
        if connected.is_none() {
            match connect(&self.path) {
                Ok(socket) => *connected = Some(Arc::new(socket)),
                Err(source) => {
                    self.failed_ns.store(now, Ordering::Relaxed);
                    drop(connected);
                    reporter.report(Error::Connect { path: self.path.clone(), source });
                    return None;
                }
            }
            self.failed_ns.store(0, Ordering::Relaxed);
        }
        connected.clone()
    }

    /// Forgets `socket`, unless another thread has replaced it already.
    fn disconnect(&self, socket: &Arc<UnixDatagram>) {
        let mut connected = self.connected.write().unwrap_or_else(PoisonError::into_inner);
        if connected.as_ref().is_some_and(|current| Arc::ptr_eq(current, socket)) {
            *connected = None;
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

fn send_within(socket: &UnixDatagram, datagram: &[u8], max_wait: Duration) -> io::Result<()> {
    let mut deadline = None;
    loop {
        match socket.send(datagram) {
            // A datagram goes whole or not at all.
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !max_wait.is_zero() => {
                let until = *deadline.get_or_insert_with(|| Instant::now() + max_wait);
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(error);
                }
                let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                // At least a millisecond, poll's unit; an interrupted wait starts over.
                let ms = i32::try_from(left.as_millis().max(1)).unwrap_or(i32::MAX);
                let _ = poll(&mut fds, PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));
            }
            Err(error) => return Err(error),
        }
    }
}
