//! One datagram socket, which connects to the receiver, and connects again after the receiver has gone.
//!
//! It is connected because `sendto` resolves the path for each datagram, which makes a send 2.3 times as
//! expensive. A datagram socket can be connected again, so the socket is never replaced and needs no lock. A
//! forked child could find a lock held by a thread that it does not have.
//!
//! The program may close our descriptor, as daemons close all descriptors. If the number then belongs to a
//! file, `send` fails. Whether it belongs to another socket is checked a hundred times a second.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::socket::{MsgFlags, UnixAddr, connect, send};

use super::stats::Outcome;
use crate::clock::Monotonic;
use crate::error::{Error, Reporter};

/// The least time between two attempts to connect: to a receiver that is missing, or to a new one in place of
/// one that does not read. With inline delivery a closing span pays for the attempt.
const RETRY_NS: u64 = 250_000_000;

/// For `send`, which unlike `write` fails if the descriptor has become a file's. On Apple's systems, which lack
/// `MSG_NOSIGNAL`, std has turned SIGPIPE off for the socket.
const FLAGS: MsgFlags = {
    #[cfg(target_vendor = "apple")]
    const NO_SIGNAL: MsgFlags = MsgFlags::empty();
    #[cfg(not(target_vendor = "apple"))]
    const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
    NO_SIGNAL.union(MsgFlags::MSG_DONTWAIT)
};

/// How long the socket goes without checking that the descriptor is still its own.
const TRUST_NS: u64 = 10_000_000;

/// A descriptor and, to recognize its socket, the lower bits of the inode. Both are in one word, so that they
/// are read and written together.
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

    /// Whether the descriptor still refers to this socket.
    fn is_ours(self) -> bool {
        Self::of(self.fd()) == self
    }
}

pub(super) struct Socket {
    /// Absolute, so that it does not depend on the working directory.
    path: PathBuf,
    /// The relative path as it was given, with the working directory at that time. It may fit into a socket's
    /// address where the absolute path is too long.
    relative: Option<(PathBuf, PathBuf)>,
    /// A [`Descriptor`].
    descriptor: AtomicU64,
    /// When the descriptor was last checked, in monotonic nanoseconds.
    checked_ns: AtomicU64,
    connected: AtomicBool,
    /// When an attempt to connect last failed, in monotonic nanoseconds; 0 for never.
    failed_ns: AtomicU64,
    /// Since when the receiver's queue has been full at each send, in monotonic nanoseconds; 0 if the last
    /// send had room.
    full_ns: AtomicU64,
}

impl Socket {
    /// Tries to connect, so that a mistake in the path is reported at the start.
    pub(super) fn open(path: PathBuf, reporter: &Reporter) -> Option<Self> {
        let folder = std::env::current_dir().ok().filter(|_| path.is_relative());
        let socket = Self {
            path: std::path::absolute(&path).unwrap_or_else(|_| path.clone()),
            relative: folder.map(|folder| (path, folder)),
            descriptor: AtomicU64::new(Descriptor::NONE.0),
            checked_ns: AtomicU64::new(0),
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

    /// Sends. Waits up to `max_wait` for room in the receiver's queue.
    pub(super) fn send(&self, datagram: &[u8], max_wait: Duration, reporter: &Reporter) -> Outcome {
        let mut began: Option<Instant> = None;
        let mut gone = None;
        while self.is_connected(reporter) {
            let descriptor = self.current_descriptor();
            if !self.is_still_ours(descriptor) {
                self.forget(descriptor);
                continue;
            }
            let fd = descriptor.fd();
            let errno = match send(fd, datagram, FLAGS) {
                // A datagram is sent whole or not at all.
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
                    if errno != Errno::EINTR && self.has_been_full_for_long() {
                        // If this fails, the socket stays connected to the old receiver.
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
                        // `poll` does not wait for this condition to end.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                Errno::EMSGSIZE => return Outcome::TooLarge,
                // EPERM: the receiver is itself connected, to another sender.
                Errno::ECONNREFUSED
                | Errno::EPERM
                | Errno::ECONNRESET
                | Errno::ENOTCONN
                | Errno::EDESTADDRREQ
                | Errno::EPIPE => {
                    self.connected.store(false, Ordering::Release);
                    // The first failure may be of an old receiver; a new one may be bound by now.
                    if gone.replace(errno).is_some() {
                        self.connect_failed(errno.into(), reporter);
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

    /// Makes the next send try to connect at once, because it may be the last.
    pub(super) fn retry_at_once(&self) {
        self.failed_ns.store(0, Ordering::Relaxed);
    }

    /// Whether the socket is connected as far as is known; makes no attempt to connect.
    pub(super) fn was_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Whether the socket is connected. If it is not, tries to connect, unless it last did so a moment ago.
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
                self.connect_failed(error, reporter);
                false
            }
        }
    }

    /// Several threads may do this at once: all connect the same socket to the same path.
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

    fn current_descriptor(&self) -> Descriptor {
        Descriptor(self.descriptor.load(Ordering::Acquire))
    }

    /// Whether the descriptor still refers to this socket. If the program closed it and the number now
    /// belongs to another socket, spans must not be sent to the other end of that one.
    fn is_still_ours(&self, descriptor: Descriptor) -> bool {
        let now = now_ns();
        if now.saturating_sub(self.checked_ns.load(Ordering::Relaxed)) < TRUST_NS {
            return true;
        }
        self.checked_ns.store(now, Ordering::Relaxed);
        descriptor.is_ours()
    }

    /// Gives up a descriptor that the program has closed. It is not closed again: the number may belong to
    /// something else.
    fn forget(&self, descriptor: Descriptor) {
        let none = Descriptor::NONE.0;
        if self.descriptor.compare_exchange(descriptor.0, none, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.connected.store(false, Ordering::Release);
        }
    }

    fn connect_failed(&self, source: io::Error, reporter: &Reporter) {
        self.failed_ns.store(now_ns(), Ordering::Relaxed);
        reporter.report(Error::Connect { path: self.path.clone(), source });
    }

    pub(super) fn report_too_large(&self, bytes: usize, reporter: &Reporter) {
        self.report_refused(bytes, Errno::EMSGSIZE, reporter);
    }

    fn report_refused(&self, bytes: usize, errno: Errno, reporter: &Reporter) {
        reporter.report(Error::Send { path: self.path.clone(), bytes, source: errno.into() });
    }

    /// Whether to look for a new receiver at the path. The old one may hang, or its socket may only be open
    /// in a child that inherited the descriptor.
    fn has_been_full_for_long(&self) -> bool {
        let (now, since) = (now_ns(), self.full_ns.load(Ordering::Relaxed));
        if since == 0 || now.saturating_sub(since) >= RETRY_NS {
            self.full_ns.store(now, Ordering::Relaxed);
        }
        since != 0 && now.saturating_sub(since) >= RETRY_NS
    }

    fn descriptor(&self) -> io::Result<Descriptor> {
        let known = self.current_descriptor();
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

    /// A new socket, close-on-exec as std makes it. Its number is above those of the standard streams, even
    /// if the program has closed them: otherwise the program would print to our socket.
    fn new_descriptor(&self) -> io::Result<OwnedFd> {
        let fd = OwnedFd::from(UnixDatagram::unbound()?);
        if fd.as_raw_fd() > 2 {
            return Ok(fd);
        }
        let above = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
        // SAFETY: `fcntl` has just made this descriptor, and nothing else owns it.
        #[allow(unsafe_code)]
        Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(above) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let descriptor = self.current_descriptor();
        if descriptor != Descriptor::NONE && descriptor.is_ours() {
            let _ = nix::unistd::close(descriptor.fd());
        }
    }
}

/// The inode of what is open as `fd`; 0 if nothing is. Does not use `BorrowedFd`, which promises an open
/// descriptor: the program may have closed this one.
fn inode_of(fd: RawFd) -> u64 {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the call accepts any number as a descriptor, and writes at most one `stat` to the pointer.
    #[allow(unsafe_code)]
    let result = unsafe { libc::fstat(fd, stat.as_mut_ptr()) };
    if result != 0 {
        return 0;
    }
    // SAFETY: the call succeeded, so it has filled the whole `stat`.
    #[allow(unsafe_code)]
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast)] // the field's type differs between platforms
    let inode = stat.st_ino as u64;
    inode
}

/// Waits until the receiver's queue has room, at most `at_most`, to the millisecond. If the descriptor no
/// longer refers to our socket, the wait may be too short.
fn wait_for_room(fd: RawFd, at_most: Duration) {
    let milliseconds = at_most.as_micros().div_ceil(1000).try_into().unwrap_or(libc::c_int::MAX);
    let mut room = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: the call accepts any number as a descriptor, and writes only to this one `pollfd`.
    #[allow(unsafe_code)]
    let _ = unsafe { libc::poll(&raw mut room, 1, milliseconds) };
}

/// The monotonic time. Never 0, which the fields above use for "never".
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

    /// A receiver, its path and its temporary folder.
    fn bound() -> (tempfile::TempDir, PathBuf, UnixDatagram) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("trace.sock");
        let receiver = UnixDatagram::bind(&path).expect("a socket in a folder of our own");
        (folder, path, receiver)
    }

    #[test]
    fn a_datagram_larger_than_the_sockets_buffer_is_reported_as_too_large() {
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
    fn a_receiver_that_shut_down_reading_is_reported_as_missing() {
        let (_folder, path, receiver) = bound();
        receiver.shutdown(std::net::Shutdown::Read).expect("a bound socket");
        let (reporter, errors) = reporting();
        let socket = Socket::open(path, &reporter).expect("unix has sockets");
        for _ in 0..10 {
            assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::NoReceiver);
        }
        assert_eq!(errors.lock().expect("no panic").len(), 1);
    }

    /// A connected receiver refuses other senders, which must then look for another receiver.
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
    fn a_send_with_no_time_limit_waits_for_room() {
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

    /// The old receiver hangs, or its socket is only open in a child that inherited it.
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
    fn a_full_queue_keeps_its_connection() {
        let (_folder, path, receiver) = bound();
        let (reporter, errors) = reporting();
        let socket = Socket::open(path.clone(), &reporter).expect("unix has sockets");
        std::fs::remove_file(&path).expect("the socket's file");
        let begin = Instant::now();
        // Long enough for an attempt to connect to the path, where nothing is bound.
        while begin.elapsed() < Duration::from_nanos(2 * RETRY_NS) {
            let outcome = socket.send(b"[]", Duration::ZERO, &reporter);
            assert!(matches!(outcome, Outcome::Sent | Outcome::QueueFull), "{outcome:?}");
        }
        receiver.recv(&mut [0; 16]).expect("a full queue");
        assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::Sent);
        assert_eq!(*errors.lock().expect("no panic"), [""; 0]);
    }

    /// The program closes our descriptor while there is no receiver, and another socket of it gets the number.
    #[test]
    fn another_socket_with_our_number_is_not_connected() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("trace.sock");
        let (reporter, _) = reporting();
        let socket = Socket::open(path.clone(), &reporter).expect("unix has sockets");
        let fd = socket.current_descriptor().fd();
        let other = UnixDatagram::unbound().expect("a socket");
        // SAFETY: no other thread uses the socket's descriptor, and `dup2` opens it again as another file.
        #[allow(unsafe_code)]
        let mut target = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        nix::unistd::dup2(&other, &mut target).expect("two open descriptors");
        let _receiver = UnixDatagram::bind(&path).expect("a free path");
        std::thread::sleep(Duration::from_nanos(RETRY_NS));
        assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::Sent);
        assert!(other.peer_addr().is_err(), "it was connected to our receiver");
    }

    /// The same while there is a receiver: only the inode shows that the socket is another one.
    #[test]
    fn another_socket_with_our_number_gets_nothing() {
        let (_folder, path, receiver) = bound();
        let (reporter, _) = reporting();
        let socket = Socket::open(path, &reporter).expect("unix has sockets");
        assert_eq!(socket.send(b"[1]", Duration::ZERO, &reporter), Outcome::Sent);
        let (other, end) = UnixDatagram::pair().expect("two sockets");
        // SAFETY: no other thread uses the socket's descriptor, and `dup2` opens it again as another file.
        #[allow(unsafe_code)]
        let mut target =
            unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket.current_descriptor().fd()) };
        nix::unistd::dup2(&other, &mut target).expect("two open descriptors");
        std::thread::sleep(Duration::from_nanos(2 * TRUST_NS));
        assert_eq!(socket.send(b"[2]", Duration::ZERO, &reporter), Outcome::Sent);
        end.set_nonblocking(true).expect("an open socket");
        assert!(end.recv(&mut [0; 16]).is_err(), "the other socket got our spans");
        let mut buffer = [0; 16];
        let received = [(); 2].map(|()| {
            let bytes = receiver.recv(&mut buffer).expect("a datagram");
            buffer[..bytes].to_vec()
        });
        assert_eq!(received, [b"[1]", b"[2]"]);
    }

    #[test]
    fn a_file_with_our_number_gets_nothing() {
        let (folder, path, _receiver) = bound();
        let (reporter, _) = reporting();
        let socket = Socket::open(path, &reporter).expect("unix has sockets");
        // Its number goes to a file of the program.
        let fd = socket.current_descriptor().fd();
        let file = folder.path().join("file");
        let open = std::fs::File::create(&file).expect("a file in a folder of our own");
        // SAFETY: no other thread uses the socket's descriptor, and `dup2` opens it again as another file.
        #[allow(unsafe_code)]
        let mut target = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        nix::unistd::dup2(&open, &mut target).expect("two open descriptors");
        assert_eq!(socket.send(b"[]", Duration::ZERO, &reporter), Outcome::Sent, "through a new descriptor");
        assert_ne!(socket.current_descriptor().fd(), fd);
        assert_eq!(std::fs::read(&file).expect("the file"), b"", "the file got the datagram");
    }
}
