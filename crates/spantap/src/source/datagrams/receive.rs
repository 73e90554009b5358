//! The thread that reads the socket, and does nothing else. The kernel's queue of a datagram socket holds ten
//! datagrams on many systems (`net.unix.max_dgram_qlen`; `SO_RCVBUF` has no effect on it), so a slow reader makes
//! senders wait or lose spans.
//!
//! The thread may run ahead of the decoder only up to a bound. Then it stops reading, and senders find the socket
//! full and wait, or count what they drop. Everything that was read is decoded.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, shutdown};

use super::batch::Datagrams;
use super::messages::{self, Slots};
use super::queue::{BatchReceiver, BatchSender, queue};
use super::socket::Socket;
use crate::pipeline::Intake;

/// The received batches.
#[derive(Debug)]
pub struct Receiver {
    queue: BatchReceiver,
    thread: JoinHandle<Result<()>>,
}

/// Ends the receiving, from any thread.
#[derive(Clone, Debug)]
pub struct Stop {
    socket: Arc<Socket>,
    stopped: Arc<AtomicBool>,
}

/// Starts the thread that receives.
///
/// # Errors
///
/// The thread can't be started.
pub fn receive(socket: Socket) -> Result<(Receiver, Stop)> {
    let stop = Stop { socket: Arc::new(socket), stopped: Arc::default() };
    let (to_decoder, queue) = queue();
    let stopped = stop.clone();
    let run = move || {
        let Stop { socket, stopped } = stopped;
        read(&socket, &stopped, &to_decoder)
            .with_context(|| format!("can't read from {}", socket.path().display()))
    };
    let thread = thread::Builder::new().name("receive".into()).spawn(run).context("can't start a thread")?;
    Ok((Receiver { queue, thread }, stop))
}

impl Stop {
    /// Whether programs that start now still find the socket at its path.
    pub fn is_reachable(&self) -> bool {
        self.socket.is_there()
    }

    /// Accepts nothing more. What the kernel has already queued is still read.
    pub fn stop(&self) {
        self.socket.unlink();
        // Wakes the reader. From now on senders get EPIPE. Closing the socket instead would drop its queue.
        let _ = shutdown(self.socket.as_fd().as_raw_fd(), Shutdown::Read);
        // Set after the shutdown: the reader ends when the queue is empty, and nothing more can enter it by now.
        self.stopped.store(true, Ordering::Release);
    }
}

impl Receiver {
    /// Waits for the next batch; `None` at the end.
    pub fn next(&self) -> Option<Datagrams> {
        self.queue.next()
    }

    /// The next batch, if there is one already.
    pub fn next_if_there(&self) -> Option<Datagrams> {
        self.queue.next_if_there()
    }

    /// Gives back the memory of a batch.
    pub fn recycle(&self, batch: Datagrams) {
        self.queue.recycle(batch);
    }

    /// Decodes all batches until the end.
    pub(in crate::source) fn take_in(&self, intake: &mut Intake<'_>, allowed_uids: &[u32]) {
        while let Some(mut batch) = self.next() {
            loop {
                batch.iter().for_each(|datagram| intake.take(&datagram, allowed_uids));
                self.recycle(batch);
                batch = match self.next_if_there() {
                    Some(next) => next,
                    None => break,
                };
            }
            if !intake.pass_on() {
                return;
            }
        }
    }

    /// Waits for the thread's end.
    ///
    /// # Errors
    ///
    /// The socket could no longer be read.
    pub fn end(self) -> Result<()> {
        drop(self.queue);
        self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the receiving thread panicked")))
    }
}

fn read(socket: &Socket, stopped: &AtomicBool, queue: &BatchSender) -> Result<()> {
    let mut slots = Slots::new();
    loop {
        // Read before the socket is: whatever came before the stop is then received below.
        let stopped = stopped.load(Ordering::Acquire);
        let flags = if stopped { MsgFlags::MSG_DONTWAIT } else { MsgFlags::MSG_WAITFORONE };
        let received = match messages::receive(socket.as_fd(), &mut slots, queue.spare(), flags) {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return Ok(()),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if !queue.push(received) {
            // The decoder is gone.
            return Ok(());
        }
    }
}
