//! Measures the throughput of spantap with recorded datagrams, sent again and again as fast as it takes them.
//!
//! `record` records what the layer sends, and `generate` makes a recording of spans with many names. `blast` sends the
//! recording to spantap, or to `count`, the least that a receiver can do. `http_sink` is a backend that accepts
//! everything. `stages` runs the parts of spantap without a socket. `large_capture` makes a file of a recording. This is
//! a package of its own, because cargo unifies features: the programs that make spans would be built with features that
//! spantap's dependencies need.

pub mod recording;

use std::error::Error;
use std::io::{ErrorKind, Write, stdout};
use std::os::unix::net::UnixDatagram;

/// The arguments of the command line.
pub fn arguments() -> Vec<String> {
    std::env::args().skip(1).collect()
}

/// Prints `value` as one line of JSON.
pub fn print(value: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    Ok(writeln!(stdout(), "{}", serde_json::to_string(value)?)?)
}

/// Binds `path`, prints `ready`, and passes each datagram to `take`, until an empty one comes.
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
