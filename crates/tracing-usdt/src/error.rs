//! What can go wrong, and how the program's owner hears of it: each problem once.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fields::floor_char_boundary;
use crate::process;
use crate::resource::MAX_RESOURCE_BYTES;

/// Something the layer could not do. The program runs on without it.
///
/// Printed on stderr, once for each kind of problem, or given to
/// [`Builder::on_error`](crate::Builder::on_error).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An environment variable has a value that can't be used; it counts as unset.
    #[non_exhaustive]
    Environment {
        /// The variable.
        variable: &'static str,
        /// What it was set to.
        value: String,
        /// What would have been understood.
        expected: &'static str,
    },
    /// The socket can't be connected to. It is tried again up to four times a second; until then spans are
    /// kept as far as there is room (inline there is none), and then dropped and counted.
    #[non_exhaustive]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The resource attributes take more than a datagram has room for.
    #[non_exhaustive]
    ResourceTooLarge {
        /// The first that is left out; all after it are, too.
        left_out: String,
    },
    /// The subscriber has such a layer already; this one does nothing.
    SecondLayer,
    /// The layer of tracing-opentelemetry was added before this one, and a span had ended there before it
    /// could be asked for its ids: it has ids of our own.
    LayerOrder,
    /// There is no thread to be had for sending in the background. Spans stay in memory as far as
    /// there is room; it is tried again once a second.
    #[non_exhaustive]
    Thread {
        /// What the operating system said.
        source: io::Error,
    },
    /// Not everything could be sent in time.
    #[non_exhaustive]
    Flush {
        /// How many spans are still in memory.
        queued: u64,
        /// How long it was tried.
        timeout: Duration,
    },
    /// The program has ended, and the receiver could not be told of all spans that it did not get. Only printed, and
    /// only without a callback: at the end of the program none is called any more.
    #[non_exhaustive]
    Undelivered {
        /// The socket's path.
        path: PathBuf,
        /// How many spans this process lost, all in all.
        spans: u64,
    },
    /// The socket refused a datagram, which was dropped and counted.
    #[non_exhaustive]
    Send {
        /// The socket's path.
        path: PathBuf,
        /// How many bytes the datagram had.
        bytes: usize,
        /// What the operating system said.
        source: io::Error,
    },
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Environment { .. }
            | Self::ResourceTooLarge { .. }
            | Self::SecondLayer
            | Self::LayerOrder
            | Self::Flush { .. }
            | Self::Undelivered { .. } => None,
            Self::Connect { source, .. } | Self::Send { source, .. } | Self::Thread { source } => {
                Some(source)
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { variable, value, expected } => {
                write!(f, "{variable}={value:?} can't be used: expected {expected}")
            }
            Self::Connect { path, source } => {
                let path_len = path.as_os_str().len();
                write!(f, "can't send spans to the socket {}: {source}; ", path.display())?;
                let socket_type = connect_hint(path, source, path_len);
                write!(f, "{socket_type}. Until it works, spans are kept while there is room, then dropped")
            }
            Self::ResourceTooLarge { left_out } => write!(
                f,
                "the resource attributes from {left_out:?} on are left out: in JSON they would take more than \
                 {MAX_RESOURCE_BYTES} bytes"
            ),
            Self::SecondLayer => f.write_str(
                "the subscriber has a tracing-usdt layer already, and a second one does nothing: remove it",
            ),
            Self::LayerOrder => f.write_str(
                "a span that was never entered is not known by the ids that tracing-opentelemetry exports: add \
                 its layer after this one, `.with(tracing_usdt::layer()).with(tracing_opentelemetry::layer())`",
            ),
            Self::Thread { source } => write!(
                f,
                "can't start the thread that sends spans: {source}. Spans are kept while there is room; \
                 TRACING_USDT_DELIVERY=inline needs no thread"
            ),
            Self::Flush { queued, timeout } => write!(
                f,
                "{queued} spans are still to be sent after {timeout:?}: the receiver is away, or doesn't keep up"
            ),
            Self::Undelivered { path, spans } => write!(
                f,
                "{spans} spans were not delivered: the receiver at {} was away, or did not keep up",
                path.display()
            ),
            Self::Send { path, bytes, source } => write!(
                f,
                "a datagram of {bytes} bytes to the socket {} was dropped: {source}",
                path.display()
            ),
        }
    }
}

/// What to do about it.
fn connect_hint(path: &std::path::Path, source: &io::Error, path_len: usize) -> String {
    match &*errno(source) {
        "ENOENT" => "start a collector that binds it".into(),
        "EACCES" => "this user needs write permission on it and search permission on its folders".into(),
        "EPERM" => "its receiver is itself connected, to another sender".into(),
        "EPROTOTYPE" => "it is a stream socket: the collector must bind SOCK_DGRAM".into(),
        "EPIPE" => "its receiver has shut down reading".into(),
        "ENAMETOOLONG" => format!("its path has {path_len} bytes, a socket's has at most 107 on Linux"),
        "ECONNREFUSED" => match std::fs::metadata(path) {
            Ok(file) if !is_socket(&file) => "it is not a socket".into(),
            _ => "nobody listens on it any more: start a collector that binds it anew".into(),
        },
        _ if source.kind() == io::ErrorKind::Unsupported => {
            "this platform has no Unix datagram sockets".into()
        }
        _ => "see unix(7)".into(),
    }
}

#[cfg(unix)]
fn is_socket(file: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&file.file_type())
}

/// The name of the operating system's error: std has no kind for some of them.
#[cfg(unix)]
fn errno(source: &io::Error) -> String {
    source.raw_os_error().map_or_else(String::new, |code| format!("{:?}", nix::errno::Errno::from_raw(code)))
}

#[cfg(not(unix))]
fn errno(_: &io::Error) -> String {
    String::new()
}

#[cfg(not(unix))]
fn is_socket(_: &std::fs::Metadata) -> bool {
    false
}

/// One line on stderr, if there is room for it: the program may have a pipe there that nobody reads,
/// or one that is broken, which by `SIGPIPE` would end a program that is not written in Rust.
pub(crate) fn print(error: &Error) {
    let mut line = format!("tracing-usdt: {error}").replace(char::is_control, "\u{fffd}");
    line.truncate(floor_char_boundary(&line, MAX_LINE_BYTES));
    line.push('\n');
    if stderr_has_room() {
        write_to_stderr(line.as_bytes());
    }
}

/// Less than `PIPE_BUF`, up to which a pipe takes a write whole.
const MAX_LINE_BYTES: usize = 1024;

#[cfg(unix)]
fn stderr_has_room() -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let stderr = io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(1) && fds[0].revents() == Some(PollFlags::POLLOUT)
}

/// Whole, so that lines of several processes don't mix; and past std, whose lock a forked child may
/// find held, and whose `eprintln!` panics where stderr is closed.
#[cfg(unix)]
fn write_to_stderr(line: &[u8]) {
    let _ = nix::unistd::write(io::stderr(), line);
}

#[cfg(not(unix))]
fn stderr_has_room() -> bool {
    true
}

#[cfg(not(unix))]
fn write_to_stderr(line: &[u8]) {
    let _ = io::Write::write_all(&mut io::stderr(), line);
}

pub(crate) type Callback = Box<dyn Fn(&Error) + Send + Sync>;

/// Passes every kind of problem on once.
#[derive(Default)]
pub(crate) struct Reporter {
    callback: Option<Callback>,
    seen: Mutex<Vec<Kind>>,
    silent: AtomicBool,
    /// The fork generation in which it was made.
    forks: u32,
}

#[derive(PartialEq)]
enum Kind {
    Variable(&'static str),
    ResourceTooLarge,
    SecondLayer,
    LayerOrder,
    Connect(Option<i32>),
    Thread,
    Flush,
    Undelivered,
    Send(Option<i32>),
}

impl Reporter {
    pub(crate) fn new(callback: Option<Callback>) -> Self {
        Self { callback, seen: Mutex::default(), silent: AtomicBool::new(false), forks: process::forks() }
    }

    /// Whether problems are printed, and not given to a callback.
    pub(crate) fn prints(&self) -> bool {
        self.callback.is_none()
    }

    /// Whether it has reported, in this process, that the socket can't be connected to, and with it that spans are
    /// dropped.
    pub(crate) fn has_reported_connect_here(&self) -> bool {
        let is_connect = |kind: &Kind| matches!(kind, Kind::Connect(_));
        self.forks == process::forks() && self.seen.try_lock().is_ok_and(|seen| seen.iter().any(is_connect))
    }

    /// Reports nothing from now on: the program is ending, and a callback may rely on what is gone.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

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
            Error::Flush { .. } => Kind::Flush,
            Error::Undelivered { .. } => Kind::Undelivered,
            Error::Send { source, .. } => Kind::Send(source.raw_os_error()),
        };
        {
            // Not `lock`: in a forked child a thread that isn't there may hold it. What is passed
            // over here, while another thread reports, comes again if it lasts.
            let Ok(mut seen) = self.seen.try_lock() else { return };
            if seen.contains(&kind) {
                return;
            }
            seen.push(kind);
        }
        // The lock is gone by now: what the callback logs may lead back here.
        match &self.callback {
            // A panic in it is not the fault of the span that happens to close.
            Some(callback) => drop(catch_unwind(AssertUnwindSafe(|| callback(&error)))),
            None => print(&error),
        }
    }
}
