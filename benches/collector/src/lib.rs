//! How much spantap can take: recorded datagrams, sent over and over as fast as somebody takes them.
//!
//! `record` makes a recording of what the layer sends, `blast` sends it to spantap or to `count`, the
//! least that a receiver can do; `http_sink` is a backend that takes all, and `stages` runs the parts of
//! spantap without a socket. A package of its own: in one with the programs that make spans, cargo would
//! build these with the features that spantap's dependencies ask for.

pub mod recording;

use std::error::Error;
use std::io::{ErrorKind, Write, stdout};
use std::os::unix::net::UnixDatagram;

/// The words of the command line.
pub fn words() -> Vec<String> {
    std::env::args().skip(1).collect()
}

/// One line of JSON on stdout.
pub fn print(value: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    Ok(writeln!(stdout(), "{}", serde_json::to_string(value)?)?)
}

/// Binds `path`, says `ready`, and gives each datagram to `take`, until an empty one comes.
pub fn receive(
    path: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let socket = UnixDatagram::bind(path).map_err(|error| format!("can't bind {path}: {error}"))?;
    writeln!(stdout(), "ready")?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match socket.recv(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => take(&buffer[..length])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
