//! `record <path> <file>` writes the first datagrams to a file, and prints how many it has received. An empty
//! datagram ends it.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

use bench_collector::{arguments, print, receive, recording};
use serde_json::json;

/// The size of a recording: more bytes than the processor's caches hold.
const RECORDED_BYTES: usize = 16 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments();
    let [path, file] = &arguments[..] else {
        return Err("usage: record <path> <file>".into());
    };
    let mut file = BufWriter::new(File::create(file)?);
    let (mut datagrams, mut bytes) = (0, 0);
    receive(path, |datagram| {
        datagrams += 1;
        bytes += datagram.len();
        if bytes <= RECORDED_BYTES {
            recording::write(&mut file, datagram)?;
        }
        Ok(())
    })?;
    file.flush()?;
    print(&json!({ "datagrams": datagrams, "bytes": bytes }))
}
