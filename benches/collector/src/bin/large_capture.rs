//! Makes a large capture: `large_capture <recording> <file> <bytes>` writes recorded datagrams in protobuf again and
//! again, until the file has that size. Each pass has other trace ids, so that all traces are different; times and
//! attributes are those of the recording. Prints the numbers of spans and bytes, and the id of a trace in the middle.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::mem::take;
use std::path::Path;

use bench_collector::recording::Recording;
use bench_collector::{arguments, print};
use serde_json::json;

/// The bytes of a frame without compression, about as many as `spantap record` puts into one.
const FRAME: usize = 512 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments();
    let [recording, path, size] = &arguments[..] else {
        return Err("usage: large_capture <recording> <file> <bytes>".into());
    };
    let size: usize = size.parse()?;
    let mut recording = Recording::read(Path::new(recording))?;
    let mut file = BufWriter::new(File::create(path)?);
    let (mut bytes, mut spans, mut waiting, mut trace_id) = (0, 0, 0, None);
    let mut request = Vec::new();
    'writing: for pass in 0.. {
        for index in 0..recording.datagrams() {
            let (datagram, of_datagram) = recording.datagram(index, pass);
            // The concatenation of two requests is one with the spans of both.
            request.extend_from_slice(datagram);
            waiting += of_datagram;
            if request.len() < FRAME {
                continue;
            }
            let frame = spantap::capture::encode(take(&mut request).into())?;
            file.write_all(&frame)?;
            bytes += frame.len();
            spans += take(&mut waiting);
            if bytes >= size / 2 && trace_id.is_none() {
                trace_id = recording.trace_id(index);
            }
            if bytes >= size {
                break 'writing;
            }
        }
    }
    file.flush()?;
    print(&json!({ "spans": spans, "bytes": bytes, "trace_id": trace_id.ok_or("no span is in protobuf")? }))
}
