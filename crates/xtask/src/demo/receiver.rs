//! The receiving end of the socket: a thread that does nothing but take what is there, because the
//! kernel queues no more than ten datagrams.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

pub(crate) struct Receiver {
    senders_are_gone: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Vec<u8>>>>,
}

impl Receiver {
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path)
            .with_context(|| format!("can't bind a datagram socket at {}", path.display()))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let senders_are_gone = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&senders_are_gone);
        let thread = thread::spawn(move || receive(&socket, &gone));
        Ok(Self { senders_are_gone, thread })
    }

    /// All that arrived. To be called when the sender has ended: what it sent is in the queue then.
    pub(crate) fn finish(self) -> Result<Vec<Vec<u8>>> {
        self.senders_are_gone.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the receiving thread panicked"))?
    }
}

fn receive(socket: &UnixDatagram, senders_are_gone: &AtomicBool) -> Result<Vec<Vec<u8>>> {
    let mut datagrams = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let last_look = senders_are_gone.load(Ordering::Acquire);
        match socket.recv(&mut buffer) {
            Ok(length) => datagrams.push(buffer[..length].to_vec()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if last_look {
                    return Ok(datagrams);
                }
            }
            Err(error) => return Err(error).context("can't receive datagrams"),
        }
    }
}
