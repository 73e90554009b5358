//! The thread that reads the socket, and does nothing else: the queue of a datagram socket holds ten
//! on many systems (`net.unix.max_dgram_qlen`; `SO_RCVBUF` has no say in it), so whoever is slow to
//! read makes senders wait, or lose.
//!
//! Where it may run ahead of the decoder is bounded: then it stops reading, senders find the socket
//! full, and wait or count what they drop. Nothing that was read is thrown away.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, shutdown};

use super::datagrams::Datagrams;
use super::messages::Slots;
use super::queue::{In, Out, queue};
use super::{Socket, messages};
use crate::intake::Intake;

/// Where the batches come out.
#[derive(Debug)]
pub struct Receiver {
    queue: Out,
    thread: JoinHandle<Result<()>>,
}

/// Ends the receiving, from any thread.
#[derive(Clone, Debug)]
pub struct Stop {
    socket: Arc<Socket>,
    stopped: Arc<AtomicBool>,
}

/// Starts the thread.
///
/// # Errors
///
/// When there can be no more threads.
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

    /// No more is taken from anybody; what the kernel has taken is still read.
    pub fn stop(&self) {
        self.socket.unlink();
        // Wakes the reader. A sender gets EPIPE from now on, where a closed socket would have swallowed
        // what is in its queue.
        let _ = shutdown(self.socket.as_fd().as_raw_fd(), Shutdown::Read);
        // Last: the reader ends at an empty queue, and by now nothing more can come into it.
        self.stopped.store(true, Ordering::Release);
    }
}

impl Receiver {
    /// The next batch; none at the end.
    pub fn next(&self) -> Option<Datagrams> {
        self.queue.next()
    }

    /// The next, if it is there already.
    pub fn next_if_there(&self) -> Option<Datagrams> {
        self.queue.next_if_there()
    }

    /// Gives the memory of a batch back.
    pub fn recycle(&self, batch: Datagrams) {
        self.queue.recycle(batch);
    }

    /// Takes in all that comes until the end.
    pub(super) fn take_in(&self, intake: &mut Intake<'_>, allowed_uids: &[u32]) {
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

    /// Whether it ended well.
    ///
    /// # Errors
    ///
    /// When the socket could not be read any more.
    pub fn end(self) -> Result<()> {
        drop(self.queue);
        self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the receiving thread panicked")))
    }
}

fn read(socket: &Socket, stopped: &AtomicBool, queue: &In) -> Result<()> {
    let mut slots = Slots::new();
    loop {
        // Asked before the look: what came before the stop is found by the look after it.
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
