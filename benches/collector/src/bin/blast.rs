//! Sends recorded datagrams as fast as the receiver takes them: `blast <socket> <recording> <milliseconds>`; or, with the
//! argument `<spans a second>`, no faster than that. It does little besides `send`, so that the receiver is measured.

use std::error::Error;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bench_collector::recording::Recording;
use bench_collector::{arguments, print};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments();
    let (socket, recording, milliseconds, rate) = match &arguments[..] {
        [socket, recording, milliseconds] => (socket, recording, milliseconds, f64::INFINITY),
        [socket, recording, milliseconds, rate] => (socket, recording, milliseconds, rate.parse()?),
        _ => return Err("usage: blast <socket> <recording> <milliseconds> [<spans a second>]".into()),
    };
    if rate.is_nan() || rate < 1.0 {
        return Err(format!("can't send {rate} spans a second").into());
    }
    let time = Duration::from_millis(milliseconds.parse()?);
    let mut recording = Recording::read(Path::new(recording))?;
    let sender = UnixDatagram::unbound()?;
    sender.connect(socket).map_err(|error| format!("can't send to {socket}: {error}"))?;

    let (mut datagrams, mut spans, mut bytes) = (0u64, 0u64, 0u64);
    let begin = Instant::now();
    'sending: for pass in 0.. {
        for index in 0..recording.datagrams() {
            let elapsed = begin.elapsed();
            if elapsed >= time {
                break 'sending;
            }
            let due = Duration::from_secs_f64(spans as f64 / rate);
            if let Some(early) = due.checked_sub(elapsed) {
                sleep(early);
            }
            let (datagram, of_datagram) = recording.datagram(index, pass);
            sender.send(datagram)?;
            datagrams += 1;
            spans += of_datagram as u64;
            bytes += datagram.len() as u64;
        }
    }
    let sending_s = begin.elapsed().as_secs_f64();
    print(&json!({ "datagrams": datagrams, "spans": spans, "bytes": bytes, "sending_s": sending_s }))
}
