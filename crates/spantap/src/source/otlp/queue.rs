//! The requests between the tasks that read them and the thread that decodes them.

use std::io::Read;
use std::net::IpAddr;

use flate2::read::MultiGzDecoder;
use tokio::sync::{mpsc, oneshot};

use super::body::Received;
use super::denial::Denial;
use crate::decode::Encoding;
use crate::pipeline::{Intake, Request, Taken};
use crate::stats::Refusal;

/// How many bytes of requests are taken before they are passed on and answered.
const BYTES_AT_ONCE: usize = 512 << 10;

/// The memory that stays for the next message that has to be uncompressed.
const KEPT_MEMORY: usize = 1 << 20;

/// A request that is to be decoded.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) message: Received,
    pub(super) is_gzip: bool,
    pub(super) encoding: Encoding,
    pub(super) from: IpAddr,
    /// The most bytes of the uncompressed message.
    pub(super) most: usize,
    /// Gets the outcome once the spans are with the sinks. Dropped if that can't be.
    pub(super) reply: oneshot::Sender<Result<Taken, Denial>>,
}

/// The end where requests come out.
#[derive(Debug)]
pub(crate) struct Requests(pub(super) mpsc::Receiver<Job>);

impl Requests {
    /// Takes in all requests, until there can be no more.
    pub(crate) fn take_in(mut self, intake: &mut Intake<'_>) {
        let mut memory = Vec::new();
        while let Some(job) = self.0.blocking_recv() {
            let mut bytes = 0;
            let mut next = Some(job);
            while let Some(job) = next {
                bytes += job.take(intake, &mut memory);
                next = if bytes < BYTES_AT_ONCE { self.0.try_recv().ok() } else { None };
            }
            if !intake.flush() {
                return;
            }
        }
    }
}

impl Job {
    /// Returns how many bytes were decoded.
    fn take(self, intake: &mut Intake<'_>, memory: &mut Vec<u8>) -> usize {
        let Self { message, is_gzip, encoding, from, most, reply } = self;
        // Its client has left, and sends the spans again.
        if reply.is_closed() {
            return 0;
        }
        let bytes = match is_gzip {
            true => uncompress(&message.bytes, most, memory),
            false => Ok(&*message.bytes),
        };
        let length = bytes.as_ref().map_or(0, |bytes| bytes.len());
        let outcome = bytes.and_then(|bytes| {
            let taken = intake.take_request(Request { bytes, encoding, from });
            taken.map_err(|found| Denial::undecodable(format!("{}: {}", found.fault, found.detail)))
        });
        memory.clear();
        memory.shrink_to(KEPT_MEMORY);
        // The memory counts as used until then, so that clients wait when the sinks are slow.
        let held = message.held;
        intake.reply(move || {
            // A client that left meanwhile sends the spans again: it can't know that they were taken.
            let _ = reply.send(outcome);
            drop(held);
        });
        length
    }
}

/// Uncompresses a message into `memory`. Stops at one byte more than `most`, however large the message would become.
fn uncompress<'a>(bytes: &[u8], most: usize, memory: &'a mut Vec<u8>) -> Result<&'a [u8], Denial> {
    // A body without a byte is no message of gzip, but an empty one is common among clients that compress everything.
    if bytes.is_empty() {
        return Ok(&[]);
    }
    let mut message = MultiGzDecoder::new(bytes).take(most as u64 + 1);
    if let Err(error) = message.read_to_end(memory) {
        return Err(Denial::new(Refusal::Malformed, format!("it is no whole gzip: {error}")));
    }
    if memory.len() > most {
        let why =
            format!("it has more than {most} bytes when it is uncompressed; spantap takes as many at once");
        return Err(Denial::new(Refusal::TooLarge, why));
    }
    Ok(memory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn refusal(bytes: &[u8], memory: &mut Vec<u8>) -> Option<Refusal> {
        uncompress(bytes, 1000, memory).unwrap_err().refusal
    }

    #[test]
    fn uncompressing_stops_at_the_limit() {
        let mut memory = Vec::new();
        assert_eq!(uncompress(&gzip(&[7; 1000]), 1000, &mut memory).unwrap(), [7; 1000]);
        memory.clear();
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(refusal(&bomb, &mut memory), Some(Refusal::TooLarge));
        assert!(memory.capacity() < 10_000, "{}", memory.capacity());
        memory.clear();
        // Each member is small.
        assert_eq!(refusal(&gzip(&[0; 600]).repeat(2), &mut memory), Some(Refusal::TooLarge));
    }

    #[test]
    fn half_a_message_is_no_message() {
        let whole = gzip(&[1, 2, 3]);
        for bytes in [&whole[..whole.len() - 1], &whole[..5], b"{}"] {
            assert_eq!(refusal(bytes, &mut Vec::new()), Some(Refusal::Malformed));
        }
        assert!(uncompress(&[], 1000, &mut Vec::new()).unwrap().is_empty());
    }
}
