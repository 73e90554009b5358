//! `record <path> <file>` keeps the first datagrams that come, and says how many came. An empty one ends it.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

use bench_collector::{print, receive, recording, words};
use serde_json::json;

/// More than the caches hold.
const ENOUGH: usize = 16 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let words = words();
    let [path, file] = &words[..] else {
        return Err("usage: record <path> <file>".into());
    };
    let mut file = BufWriter::new(File::create(file)?);
    let (mut datagrams, mut bytes) = (0, 0);
    receive(path, |datagram| {
        datagrams += 1;
        bytes += datagram.len();
        if bytes <= ENOUGH {
            recording::write(&mut file, datagram)?;
        }
        Ok(())
    })?;
    file.flush()?;
    print(&json!({ "datagrams": datagrams, "bytes": bytes }))
}
