//! The errors of the layer. `reporter` reports each kind of error once, to a callback or on `stderr`. `flush` has
//! the error that a flush returns.

mod flush;
mod reporter;
mod stderr;

pub use flush::FlushError;
pub(crate) use reporter::{Callback, Reporter};
pub(crate) use stderr::print;

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::bounds::MAX_RESOURCE_BYTES;

/// Something that the layer could not do. The program continues without it.
///
/// Each kind of error is reported once: to the callback of [`Builder::on_error`](crate::Builder::on_error) if
/// there is one, and on stderr otherwise.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An environment variable has an invalid value, which is not used. The [crate
    /// documentation](crate#environment) lists what applies in its place.
    #[non_exhaustive]
    Environment {
        /// The name of the variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// A description of the valid values.
        expected: &'static str,
    },
    /// The layer can't connect to the socket. It tries again up to four times a second. Until it succeeds,
    /// spans are queued while there is room, and then dropped and counted. Inline delivery has no queue.
    #[non_exhaustive]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The resource attributes exceed their share of a datagram.
    #[non_exhaustive]
    ResourceTooLarge {
        /// The key of the first dropped attribute. All attributes after it are dropped too.
        left_out: String,
    },
    /// The subscriber already has a layer of this crate. The second one does nothing.
    SecondLayer,
    /// The layer of tracing-opentelemetry was added before this one, and closed a span before this layer
    /// could ask for the span's ids. The span got other ids here.
    LayerOrder,
    /// The sender thread can't be started. The layer tries again once a second. Until it succeeds, spans are
    /// queued while there is room.
    #[non_exhaustive]
    Thread {
        /// The operating system's error.
        source: io::Error,
    },
    /// Profilers can't find out which spans the threads are in. See
    /// [`Builder::with_thread_context`](crate::Builder::with_thread_context).
    #[non_exhaustive]
    ThreadContext {
        /// The reason.
        source: io::Error,
    },
    /// Spans that are open for long can't be reported. See [`Builder::with_open_spans`](crate::Builder::with_open_spans).
    #[non_exhaustive]
    OpenSpans {
        /// The reason.
        reason: &'static str,
    },
    /// The program ends, spans were lost, and not all of these losses could be reported to the receiver. Only
    /// printed on stderr, and only if there is no callback: no callback is called at the end of the program.
    #[non_exhaustive]
    Undelivered {
        /// The socket's path.
        path: PathBuf,
        /// How many spans this process lost in total.
        spans: u64,
    },
    /// The socket rejected a datagram. Its spans were dropped and counted.
    #[non_exhaustive]
    Send {
        /// The socket's path.
        path: PathBuf,
        /// The size of the datagram in bytes.
        bytes: usize,
        /// The operating system's error.
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
            | Self::OpenSpans { .. }
            | Self::Undelivered { .. } => None,
            Self::Connect { source, .. }
            | Self::Send { source, .. }
            | Self::Thread { source }
            | Self::ThreadContext { source } => Some(source),
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
                write!(f, "can't send spans to the socket {}: {source}; ", path.display())?;
                let hint = connect_hint(path, source);
                write!(f, "{hint}. Until it works, spans are kept while there is room, then dropped")
            }
            Self::ResourceTooLarge { left_out } => write!(
                f,
                "the resource attribute {left_out:?} and all after it are dropped: the attributes would take more than \
                 {MAX_RESOURCE_BYTES} bytes of JSON"
            ),
            Self::ThreadContext { source } => {
                write!(f, "profilers can't see which spans the threads are in: {source}")
            }
            Self::SecondLayer => f.write_str(
                "the subscriber has a tracing-usdt layer already, and a second one does nothing: remove it",
            ),
            Self::LayerOrder => f.write_str(
                "a span that was never entered has other ids here than in tracing-opentelemetry's export: add its \
                 layer after this one, `.with(tracing_usdt::layer()).with(tracing_opentelemetry::layer())`",
            ),
            Self::Thread { source } => write!(
                f,
                "can't start the thread that sends spans: {source}. Spans are kept while there is room; \
                 TRACING_USDT_DELIVERY=inline needs no thread"
            ),
            Self::OpenSpans { reason } => write!(
                f,
                "spans that are open for long are not reported: {reason}. Use background delivery and \
                 TRACING_USDT_FORMAT=otlp-protobuf, or leave TRACING_USDT_OPEN_SPANS unset"
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

/// Explains why connecting failed, or what to do about it.
fn connect_hint(path: &std::path::Path, source: &io::Error) -> String {
    match &*errno(source) {
        "ENOENT" => "start a collector that binds it".into(),
        "EACCES" => "this user needs write permission on it and search permission on its folders".into(),
        "EPERM" => "its receiver is connected to another sender".into(),
        "EPROTOTYPE" => "it is a stream socket: the collector must bind SOCK_DGRAM".into(),
        "EPIPE" => "its receiver has shut down reading".into(),
        "ENAMETOOLONG" => {
            let path_len = path.as_os_str().len();
            format!("its path has {path_len} bytes, but a socket's path has at most 107 on Linux")
        }
        "ECONNREFUSED" => match std::fs::metadata(path) {
            Ok(file) if !is_socket(&file) => "it is not a socket".into(),
            _ => "no program receives from it any more: start a collector that binds it again".into(),
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

/// The name of the operating system's error. `io::ErrorKind` lacks some of them.
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
