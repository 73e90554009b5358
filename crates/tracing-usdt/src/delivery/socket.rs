//! One datagram socket, connected to its receiver, and again when the receiver went away.
//!
//! Connected, because a send by path resolves it each time and costs 2.3 times as much. It is the same
//! socket for good: a datagram socket may be connected anew, so there is nothing to exchange and no
//! lock, which a forked child could find held by a thread that it doesn't have.
//!
//! The program may close our descriptor, as daemons do with all they have. A number that is a file's
//! by then takes no `send`; whether it is another socket's is looked at a hundred times a second.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, UnixAddr, connect, send};

use super::stats::Outcome;
use crate::clock::Monotonic;
use crate::error::{Error, Reporter};

/// How often a missing receiver is looked for, and whether a new one has taken the place of one
/// that doesn't read. A closing span pays for the look.
const RETRY_NS: u64 = 250_000_000;

/// `send`, not `write`: should the descriptor no longer be ours, a file must not get our text.
/// std has turned SIGPIPE off for the socket where there is no flag for it.
const FLAGS: MsgFlags = {
    #[cfg(target_vendor = "apple")]
    const NO_SIGNAL: MsgFlags = MsgFlags::empty();
    #[cfg(not(target_vendor = "apple"))]
    const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
    NO_SIGNAL.union(MsgFlags::MSG_DONTWAIT)
};

/// How long the descriptor is trusted to be ours still.
const TRUST_NS: u64 = 10_000_000;

/// A descriptor, and which socket it is to be: the lower bits of its inode. In one word, so that
/// they belong together whoever reads them.
#[derive(Clone, Copy, PartialEq)]
struct Descriptor(u64);

impl Descriptor {
    const NONE: Self = Self(u64::MAX);

    fn of(fd: RawFd) -> Self {
        Self(inode_of(fd) << 32 | u64::from(fd as u32))
    }

    fn fd(self) -> RawFd {
        self.0 as RawFd
    }

    /// Whether the number is still this socket's.
    fn is_ours(self) -> bool {
        Self::of(self.fd()) == self
    }
}

pub(super) struct Socket {
    /// Absolute, so that it leads to the same place whatever folder the program goes to.
    path: PathBuf,
    /// As it was given, if it was relative, and the folder where that was. It may be short enough for a socket's address
    /// where the absolute path is not.
    relative: Option<(PathBuf, PathBuf)>,
    /// A [`Descriptor`].
    descriptor: AtomicU64,
    /// When it was last seen to be ours, in monotonic nanoseconds.
    seen_ns: AtomicU64,
    connected: AtomicBool,
    /// When the last look for a receiver failed, in monotonic nanoseconds; 0 for never.
    failed_ns: AtomicU64,
    /// Since when the receiver's queue has been full at every send; 0 for not.
    full_ns: AtomicU64,
}

impl Socket {
    /// Connects if it can, so that the program's owner hears at start what is wrong.
    pub(super) fn open(path: PathBuf, reporter: &Reporter) -> Option<Self> {
        let folder = std::env::current_dir().ok().filter(|_| path.is_relative());
        let socket = Self {
            path: std::path::absolute(&path).unwrap_or_else(|_| path.clone()),
            relative: folder.map(|folder| (path, folder)),
            descriptor: AtomicU64::new(Descriptor::NONE.0),
            seen_ns: AtomicU64::new(0),
            connected: AtomicBool::new(false),
            failed_ns: AtomicU64::new(0),
            full_ns: AtomicU64::new(0),
        };
        socket.is_connected(reporter);
        Some(socket)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends, waiting for room in the receiver's queue up to `max_wait`.
    pub(super) fn send(&self, datagram: &[u8], max_wait: Duration, reporter: &Reporter) -> Outcome {
        let mut began: Option<Instant> = None;
        let mut gone = None;
        while self.is_connected(reporter) {
            let descriptor = self.known();
            if !self.is_still_ours(descriptor) {
                self.forget(descriptor);
                continue;
            }
            let fd = descriptor.fd();
            let errno = match send(fd, datagram, FLAGS) {
                // A datagram goes whole or not at all.
                Ok(_) => {
                    if self.full_ns.load(Ordering::Relaxed) != 0 {
                        self.full_ns.store(0, Ordering::Relaxed);
                    }
                    return Outcome::Sent;
                }
                Err(errno) => errno,
            };
            match errno {
                // A full queue is EAGAIN on Linux and ENOBUFS elsewhere.
                Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR => {
                    gone = None;
                    if errno != Errno::EINTR && self.is_full_for_long() {
                        // If there is nobody else at the path, it stays connected as it is.
                        let _ = self.connect();
                    }
                    if max_wait.is_zero() {
                        return Outcome::QueueFull;
                    }
                    let waited = began.get_or_insert_with(Instant::now).elapsed();
                    let Some(left) = max_wait.checked_sub(waited).filter(|left| !left.is_zero()) else {
                        return Outcome::QueueFull;
                    };
                    wait_for_room(fd, left.min(Duration::from_nanos(RETRY_NS)));
                    if errno == Errno::ENOBUFS {
                        // Which is not waited for.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                Errno::EMSGSIZE => return Outcome::TooLarge,
                // The second is for a receiver that is itself connected, to another sender.
                Errno::ECONNREFUSED
                | Errno::EPERM
                | Errno::ECONNRESET
                | Errno::ENOTCONN
                | Errno::EDESTADDRREQ
                | Errno::EPIPE => {
                    self.connected.store(false, Ordering::Release);
                    // The first time, the receiver may have come back since the last send.
                    if gone.replace(errno).is_some() {
                        self.failed(errno.into(), reporter);
                    }
                }
                Errno::EBADF | Errno::ENOTSOCK => self.forget(descriptor),
                _ => {
                    self.report_refused(datagram.len(), errno, reporter);
                    return Outcome::Other;
                }
            }
        }
        Outcome::NoReceiver
    }

    /// Has the next look for a receiver happen at once: there may be no other.
    pub(super) fn look_at_once(&self) {
        self.failed_ns.store(0, Ordering::Relaxed);
    }

    /// Whether there was a receiver at the last look.
    pub(super) fn was_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Whether there is a receiver, after a look for one if the last is long enough ago.
    pub(super) fn is_connected(&self, reporter: &Reporter) -> bool {
        if self.connected.load(Ordering::Acquire) {
            return true;
        }
        let failed = self.failed_ns.load(Ordering::Relaxed);
        if failed != 0 && now_ns().saturating_sub(failed) < RETRY_NS {
            return false;
        }
        match self.connect() {
            Ok(()) => {
                self.failed_ns.store(0, Ordering::Relaxed);
                self.connected.store(true, Ordering::Release);
                true
            }
            Err(error) => {
                self.failed(error, reporter);
                false
            }
        }
    }

    /// Several threads may do this at once: the same socket is connected to the same path.
    fn connect(&self) -> io::Result<()> {
        let address = self.address()?;
        let mut descriptor = self.descriptor()?;
        if !descriptor.is_ours() {
            self.forget(descriptor);
            descriptor = self.descriptor()?;
        }
        Ok(connect(descriptor.fd(), &address)?)
    }

    fn address(&self) -> io::Result<UnixAddr> {
        let address = UnixAddr::new(&self.path);
        match &self.relative {
            Some((relative, folder))
                if address.is_err() && std::env::current_dir().is_ok_and(|now| now == *folder) =>
            {
                Ok(UnixAddr::new(relative)?)
            }
            _ => Ok(address?),
        }
    }

    fn known(&self) -> Descriptor {
        Descriptor(self.descriptor.load(Ordering::Acquire))
    }

    /// Whether the program has not closed it meanwhile, and made another socket that has its number: what
    /// we have to say is not for whoever is at the other end of that.
    fn is_still_ours(&self, descriptor: Descriptor) -> bool {
        let now = now_ns();
        if now.saturating_sub(self.seen_ns.load(Ordering::Relaxed)) < TRUST_NS {
            return true;
        }
        self.seen_ns.store(now, Ordering::Relaxed);
        descriptor.is_ours()
    }

    /// The program closed our descriptor, and the number may be somebody else's by now: it is left
    /// alone.
    fn forget(&self, descriptor: Descriptor) {
        let none = Descriptor::NONE.0;
        if self.descriptor.compare_exchange(descriptor.0, none, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.connected.store(false, Ordering::Release);
        }
    }

    fn failed(&self, source: io::Error, reporter: &Reporter) {
        self.failed_ns.store(now_ns(), Ordering::Relaxed);
        reporter.report(Error::Connect { path: self.path.clone(), source });
    }

    pub(super) fn report_too_large(&self, bytes: usize, reporter: &Reporter) {
        self.report_refused(bytes, Errno::EMSGSIZE, reporter);
    }

    fn report_refused(&self, bytes: usize, errno: Errno, reporter: &Reporter) {
        reporter.report(Error::Send { path: self.path.clone(), bytes, source: errno.into() });
    }

    /// Whether it is time to look if somebody else has bound the path: the old receiver may hang,
    /// or be kept alive by a descriptor that its child inherited.
    fn is_full_for_long(&self) -> bool {
        let (now, since) = (now_ns(), self.full_ns.load(Ordering::Relaxed));
        if since == 0 || now.saturating_sub(since) >= RETRY_NS {
            self.full_ns.store(now, Ordering::Relaxed);
        }
        since != 0 && now.saturating_sub(since) >= RETRY_NS
    }

    fn descriptor(&self) -> io::Result<Descriptor> {
        let known = self.known();
        if known != Descriptor::NONE {
            return Ok(known);
        }
        let fd = self.new_descriptor()?;
        let new = Descriptor::of(fd.as_raw_fd());
        let none = Descriptor::NONE.0;
        Ok(match self.descriptor.compare_exchange(none, new.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                let _ = fd.into_raw_fd();
                new
            }
            // Another thread was faster; `fd` is closed again.
            Err(other) => Descriptor(other),
        })
    }

    /// A socket that is close-on-exec (std sees to it) and not one of the standard streams, even if
    /// the program has closed those: what it prints is not ours to send.
    fn new_descriptor(&self) -> io::Result<OwnedFd> {
        let fd = OwnedFd::from(UnixDatagram::unbound()?);
        if fd.as_raw_fd() > 2 {
            return Ok(fd);
        }
        let above = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
        // SAFETY: `fcntl` has just made it, and nobody else knows of it.
        #[allow(unsafe_code)]
        Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(above) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let descriptor = self.known();
        if descriptor != Descriptor::NONE && descriptor.is_ours() {
            let _ = nix::unistd::close(descriptor.fd());
        }
    }
}

/// The number that the kernel knows a socket by; 0 for what is not open.
fn inode_of(fd: RawFd) -> u64 {
    // SAFETY: it is borrowed for this call, which does nothing to it, whoever's it is.
    #[allow(unsafe_code)]
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    #[allow(clippy::unnecessary_cast)] // elsewhere it has another type
    nix::sys::stat::fstat(fd).map_or(0, |stat| stat.st_ino as u64)
}

/// Waits until the receiver's queue has room, up to `at_most`, give or take a millisecond. The
/// descriptor may be anything by now; then the wait may be too short.
fn wait_for_room(fd: RawFd, at_most: Duration) {
    let milliseconds = at_most.as_micros().div_ceil(1000);
    let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    // SAFETY: it is borrowed for this call, which does nothing to it, whoever's it is.
    #[allow(unsafe_code)]
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], timeout);
}

/// Never 0, which stands for "not".
fn now_ns() -> u64 {
    Monotonic::now().as_ns().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn reporting() -> (Reporter, Arc<Mutex<Vec<String>>>) {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&errors);
        let report = move |error: &Error| sink.lock().expect("no panic").push(error.to_string());
        (Reporter::new(Some(Box::new(report))), errors)
    }

    /// A receiver, and where it is.
    fn bound() -> (tempfile::TempDir, PathBuf, UnixDatagram) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("trace.sock");
        let receiver = UnixDatagram::bind(&path).expect("a socket in a folder of our own");
        (folder, path, receiver)
    }

    #[test]
    fn a_datagram_beyond_the_sockets_buffer_is_too_large_and_reported() {
        let (_folder, path, _receiver) = bound();
        let (reporter, errors) = reporting();
        let socket = Socket::open(path, &reporter).expect("unix has sockets");
        let huge = vec![b' '; 64 << 20];
        for _ in 0..2 {
            assert_eq!(socket.send(&huge, Duration::ZERO, &reporter), Outcome::TooLarge);
            socket.report_too_large(huge.len(), &reporter);
        }
        assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::Sent);
        let errors = errors.lock().expect("no panic");
        assert!(errors.len() == 1 && errors[0].contains("67108864 bytes"), "{errors:?}");
    }

    #[test]
    fn a_receiver_that_refuses_to_read_is_gone_and_reported() {
        let (_folder, path, receiver) = bound();
        receiver.shutdown(std::net::Shutdown::Read).expect("a bound socket");
        let (reporter, errors) = reporting();
        let socket = Socket::open(path, &reporter).expect("unix has sockets");
        for _ in 0..10 {
            assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::NoReceiver);
        }
        assert_eq!(errors.lock().expect("no panic").len(), 1);
    }

    /// It refuses those whom it is not connected to; that is no reason to stay with it.
    #[test]
    fn a_new_receiver_takes_over_from_one_that_is_connected_to_another() {
        let (folder, path, receiver) = bound();
        let (reporter, _) = reporting();
        let socket = Socket::open(path.clone(), &reporter).expect("unix has sockets");
        let other = folder.path().join("other.sock");
        let _other = UnixDatagram::bind(&other).expect("a socket in a folder of our own");
        receiver.connect(&other).expect("a bound socket");
        assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::NoReceiver);
        std::fs::remove_file(&path).expect("the socket's file");
        let _new = UnixDatagram::bind(&path).expect("a free path");
        let begin = Instant::now();
        while socket.send(b"[]", Duration::ZERO, &reporter) != Outcome::Sent {
            assert!(begin.elapsed() < Duration::from_secs(20), "it never looked again");
        }
    }

    #[test]
    fn a_wait_without_end_waits() {
        let (_folder, path, receiver) = bound();
        let (reporter, _) = reporting();
        let socket = Socket::open(path, &reporter).expect("unix has sockets");
        while socket.send(b"[]", Duration::ZERO, &reporter) == Outcome::Sent {}
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| socket.send(b"[]", Duration::MAX, &reporter));
            std::thread::sleep(Duration::from_millis(600));
            receiver.recv(&mut [0; 16]).expect("a full queue");
            sender.join().expect("no panic")
        });
        assert_eq!(sent, Outcome::Sent);
    }

    /// Which a hung collector has bound, or one whose child inherited its socket.
    #[test]
    fn a_new_receiver_takes_over_from_one_that_does_not_read() {
        let (_folder, path, _hung) = bound();
        let (reporter, _) = reporting();
        let socket = Socket::open(path.clone(), &reporter).expect("unix has sockets");
        while socket.send(b"[]", Duration::ZERO, &reporter) == Outcome::Sent {}
        std::fs::remove_file(&path).expect("the socket's file");
        let _new = UnixDatagram::bind(&path).expect("a free path");
        let begin = Instant::now();
        while socket.send(b"[]", Duration::ZERO, &reporter) != Outcome::Sent {
            assert!(begin.elapsed() < Duration::from_secs(20), "it never looked again");
        }
    }

    #[test]
    fn a_full_queue_is_no_reason_to_give_up_a_connection() {
        let (_folder, path, receiver) = bound();
        let (reporter, errors) = reporting();
        let socket = Socket::open(path.clone(), &reporter).expect("unix has sockets");
        std::fs::remove_file(&path).expect("the socket's file");
        let begin = Instant::now();
        // Long enough for a look at the path, where there is nothing.
        while begin.elapsed() < Duration::from_nanos(2 * RETRY_NS) {
            let outcome = socket.send(b"[]", Duration::ZERO, &reporter);
            assert!(matches!(outcome, Outcome::Sent | Outcome::QueueFull), "{outcome:?}");
        }
        receiver.recv(&mut [0; 16]).expect("a full queue");
        assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::Sent);
        assert_eq!(*errors.lock().expect("no panic"), [""; 0]);
    }

    /// Closed while there is no receiver, and taken by another socket of the program.
    #[test]
    fn another_socket_in_our_place_is_not_connected() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("trace.sock");
        let (reporter, _) = reporting();
        let socket = Socket::open(path.clone(), &reporter).expect("unix has sockets");
        let fd = socket.known().fd();
        let other = UnixDatagram::unbound().expect("a socket");
        // SAFETY: nobody else uses the socket's descriptor, and `dup2` makes a new one of it.
        #[allow(unsafe_code)]
        let mut target = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        nix::unistd::dup2(&other, &mut target).expect("two open descriptors");
        let _receiver = UnixDatagram::bind(&path).expect("a free path");
        std::thread::sleep(Duration::from_nanos(RETRY_NS));
        assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::Sent);
        assert!(other.peer_addr().is_err(), "it was connected to our receiver");
    }

    /// The same while there is a receiver, so that nothing but the number tells.
    #[test]
    fn another_socket_in_our_place_gets_nothing() {
        let (_folder, path, receiver) = bound();
        let (reporter, _) = reporting();
        let socket = Socket::open(path, &reporter).expect("unix has sockets");
        assert_eq!(socket.send(b"[1]", Duration::ZERO, &reporter), Outcome::Sent);
        let (other, end) = UnixDatagram::pair().expect("two sockets");
        // SAFETY: nobody else uses the socket's descriptor, and `dup2` makes a new one of it.
        #[allow(unsafe_code)]
        let mut target = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket.known().fd()) };
        nix::unistd::dup2(&other, &mut target).expect("two open descriptors");
        std::thread::sleep(Duration::from_nanos(2 * TRUST_NS));
        assert_eq!(socket.send(b"[2]", Duration::ZERO, &reporter), Outcome::Sent);
        end.set_nonblocking(true).expect("an open socket");
        assert!(end.recv(&mut [0; 16]).is_err(), "somebody else was sent our spans");
        let mut buffer = [0; 16];
        let received = [(); 2].map(|()| {
            let bytes = receiver.recv(&mut buffer).expect("a datagram");
            buffer[..bytes].to_vec()
        });
        assert_eq!(received, [b"[1]", b"[2]"]);
    }

    #[test]
    fn a_descriptor_that_was_closed_is_left_alone() {
        let (folder, path, _receiver) = bound();
        let (reporter, _) = reporting();
        let socket = Socket::open(path, &reporter).expect("unix has sockets");
        // Its number now belongs to a file of the program.
        let fd = socket.known().fd();
        let file = folder.path().join("file");
        let open = std::fs::File::create(&file).expect("a file in a folder of our own");
        // SAFETY: nobody else uses the socket's descriptor, and `dup2` makes a new one of it.
        #[allow(unsafe_code)]
        let mut target = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        nix::unistd::dup2(&open, &mut target).expect("two open descriptors");
        assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::Sent, "through a new descriptor");
        assert_ne!(socket.known().fd(), fd);
        assert_eq!(std::fs::read(&file).expect("the file"), b"", "the file got the datagram");
    }
}
