//! Prints errors on stderr.

#[cfg(unix)]
use nix::libc;

use super::Error;
use crate::bounds::floor_char_boundary;

/// Prints `error` as one line, if stderr has room for it. Stderr may be a full pipe, where a write would
/// block, or a closed one, where a write raises `SIGPIPE`: that ends a program unless it ignores the signal,
/// as Rust programs do.
pub(crate) fn print(error: &Error) {
    let mut line = format!("tracing-usdt: {error}").replace(char::is_control, "\u{fffd}");
    line.truncate(floor_char_boundary(&line, MAX_LINE_BYTES));
    line.push('\n');
    if stderr_has_room() {
        write_to_stderr(line.as_bytes());
    }
}

/// Less than `PIPE_BUF`, up to which a write to a pipe is atomic.
const MAX_LINE_BYTES: usize = 1024;

#[cfg(unix)]
fn stderr_has_room() -> bool {
    // Not a `BorrowedFd`, as safe functions take: the program may have closed its stderr.
    let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: the call accepts any number as a descriptor, and writes only to this one `pollfd`.
    #[allow(unsafe_code)]
    let found = unsafe { libc::poll(&raw mut stderr, 1, 0) };
    found == 1 && stderr.revents == libc::POLLOUT
}

/// Writes the line in one call, so that lines of several processes don't mix. Does not use `eprintln!`: it
/// takes a lock that may be held for ever in a forked child, and panics if stderr is closed.
#[cfg(unix)]
fn write_to_stderr(line: &[u8]) {
    // SAFETY: the call accepts any number as a descriptor, and reads only `line`.
    #[allow(unsafe_code)]
    let _ = unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}

#[cfg(not(unix))]
fn stderr_has_room() -> bool {
    true
}

#[cfg(not(unix))]
fn write_to_stderr(line: &[u8]) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line);
}
