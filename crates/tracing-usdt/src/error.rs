//! What can go wrong, and how the program's owner hears of it: each problem once.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

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
    /// The socket can't be connected to. Spans are dropped and counted; it is tried again four
    /// times a second.
    #[non_exhaustive]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
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
            Self::Environment { .. } => None,
            Self::Connect { source, .. } | Self::Send { source, .. } => Some(source),
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
                write!(f, "{socket_type}. Spans are dropped until it works")
            }
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
    match source.kind() {
        io::ErrorKind::NotFound => "start a collector that binds it".into(),
        io::ErrorKind::PermissionDenied => {
            "this user needs write permission on it and search permission on its folders".into()
        }
        io::ErrorKind::ConnectionRefused => match std::fs::metadata(path) {
            Ok(file) if !is_socket(&file) => "it is not a socket".into(),
            _ => "nobody listens on it any more: start a collector that binds it anew".into(),
        },
        io::ErrorKind::InvalidInput => {
            format!("its path has {path_len} bytes, a socket's has at most 107 and no NUL")
        }
        io::ErrorKind::Unsupported => "this platform has no Unix datagram sockets".into(),
        _ if is_wrong_type(source) => "it is a stream socket: the collector must bind SOCK_DGRAM".into(),
        _ => "see unix(7)".into(),
    }
}

#[cfg(unix)]
fn is_socket(file: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&file.file_type())
}

#[cfg(unix)]
fn is_wrong_type(source: &io::Error) -> bool {
    source.raw_os_error() == Some(nix::libc::EPROTOTYPE)
}

#[cfg(not(unix))]
fn is_socket(_: &std::fs::Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn is_wrong_type(_: &io::Error) -> bool {
    false
}

pub(crate) type Callback = Box<dyn Fn(&Error) + Send + Sync>;

/// Passes every kind of problem on once.
#[derive(Default)]
pub(crate) struct Reporter {
    callback: Option<Callback>,
    seen: Mutex<Vec<Kind>>,
}

#[derive(PartialEq)]
enum Kind {
    Variable(&'static str),
    Connect(Option<i32>),
    Send(Option<i32>),
}

impl Reporter {
    pub(crate) fn new(callback: Option<Callback>) -> Self {
        Self { callback, seen: Mutex::default() }
    }

    pub(crate) fn report(&self, error: Error) {
        let kind = match &error {
            Error::Environment { variable, .. } => Kind::Variable(variable),
            Error::Connect { source, .. } => Kind::Connect(source.raw_os_error()),
            Error::Send { source, .. } => Kind::Send(source.raw_os_error()),
        };
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.contains(&kind) {
                return;
            }
            seen.push(kind);
        }
        // The lock is gone by now: the callback may make spans, whose sending may report.
        match &self.callback {
            Some(callback) => callback(&error),
            // Not `eprintln!`, which panics where stderr is closed.
            None => {
                let _ = writeln!(io::stderr(), "tracing-usdt: {error}");
            }
        }
    }
}
