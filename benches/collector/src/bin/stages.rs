//! Times the stages of spantap without a socket: `stages <recording> <milliseconds>` decodes recorded datagrams
//! in one thread, encodes the spans for OTLP in another, like the pipeline, and assembles traces in a third,
//! like the view.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bench_collector::recording::Recording;
use bench_collector::{arguments, print};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use serde_json::json;
use spantap::decode::Decoder;
use spantap::encode::Chunk;
use spantap::process::{Process, Sender};
use spantap::span::{EncodedScopes, Summary};
use spantap::trace::{Assembly, EncodedSpan, Limits, Trace};

/// The same allocator as spantap's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of datagrams that may be queued between two threads.
const QUEUED: usize = 64;

/// The spans of a datagram, by process: decoded, and as they were sent.
type Spans = (Vec<(Arc<Process>, Vec<ScopeSpans>)>, Vec<(Arc<Process>, EncodedScopes)>);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments();
    let [path, milliseconds] = &arguments[..] else {
        return Err("usage: stages <recording> <milliseconds>".into());
    };
    let time = Duration::from_millis(milliseconds.parse()?);
    let mut recording = Recording::read(Path::new(path))?;
    let sender = Sender { pid: std::process::id(), uid: 0, gid: 0 };
    let now_ns = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let mut decoder = Decoder::default();
    let (to_encode, decoded) = mpsc::sync_channel(QUEUED);
    let (to_view, encoded) = mpsc::sync_channel(QUEUED);
    let encode = thread::spawn(move || encode(&decoded, &to_view));
    let view = thread::spawn(move || assemble(&encoded));

    let mut decode = Duration::ZERO;
    // The time for new ids in a datagram, which belongs to no stage.
    let mut rewrite = Duration::ZERO;
    let mut sent = 0;
    let begin = Instant::now();
    'running: for pass in 0.. {
        for index in 0..recording.datagrams() {
            let before = Instant::now();
            let (datagram, of_datagram) = recording.datagram(index, pass);
            sent += of_datagram;
            let start = Instant::now();
            rewrite += start - before;
            let decoded = decoder.decode(datagram, sender, now_ns);
            decode += start.elapsed();
            if to_encode.send((decoded.processes, decoded.encoded)).is_err() || begin.elapsed() >= time {
                break 'running;
            }
        }
    }
    drop(to_encode);
    let (encode, spans) = encode.join().map_err(|_| "the encoder panicked")?;
    let (assemble, assembled) = view.join().map_err(|_| "the view panicked")?;
    // Until the last span is in its trace.
    let all = begin.elapsed().saturating_sub(rewrite);
    let each = |stage: Duration| stage.as_nanos() as f64 / spans as f64;
    print(&json!({
        "sent": sent,
        "spans": spans.min(assembled),
        "decode_ns": each(decode),
        "encode_ns": each(encode),
        "assemble_ns": each(assemble),
        "spans_per_s": spans as f64 / all.as_secs_f64(),
    }))
}

/// Returns the time that it took, and the number of spans.
fn encode(
    decoded: &mpsc::Receiver<Spans>,
    to_view: &mpsc::SyncSender<Vec<EncodedSpan>>,
) -> (Duration, usize) {
    let (mut took, mut spans) = (Duration::ZERO, 0);
    for (typed, as_sent) in decoded {
        let start = Instant::now();
        let mut encoded = Vec::new();
        for (process, scopes) in typed {
            let each = |_: &ScopeSpans, span: &Span, bytes: &[u8]| {
                encoded.extend(Summary::of(span).map(|span| EncodedSpan::new(&process, &span, bytes)));
            };
            spans += black_box(Chunk::encode_each(&process, &scopes, each)).spans as usize;
        }
        for (process, scopes) in as_sent {
            encoded.extend(scopes.iter().map(|(span, bytes)| EncodedSpan::new(&process, span, bytes)));
            let mut chunk = Chunk::encode(&process, &[]);
            chunk.add_encoded(scopes);
            spans += black_box(chunk).spans as usize;
        }
        took += start.elapsed();
        if to_view.send(encoded).is_err() {
            break;
        }
    }
    (took, spans)
}

/// Returns the time that it took, and the number of spans.
fn assemble(encoded: &mpsc::Receiver<Vec<EncodedSpan>>) -> (Duration, usize) {
    let mut assembly = Assembly::new(Limits::default());
    let mut show = |trace: &Trace<EncodedSpan>| {
        let _ = black_box(trace.spans.len());
    };
    let (mut took, mut spans) = (Duration::ZERO, 0);
    for batch in encoded {
        let start = Instant::now();
        spans += batch.len();
        batch.into_iter().for_each(|span| assembly.add(span, start, &mut show));
        assembly.due(start, &mut show);
        took += start.elapsed();
    }
    (took, spans)
}
