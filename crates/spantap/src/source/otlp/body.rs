//! Reads the body of a request, within a time, a size and a limit of memory that all requests share.
//!
//! The memory is taken as the bytes arrive, so a client that sends slowly holds no more than it has sent.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::denial::Denial;
use crate::stats::Refusal;

/// A whole body, with its part of the memory.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) held: Option<OwnedSemaphorePermit>,
}

/// Reads at most `most` bytes until `deadline`.
pub(super) async fn read<B>(
    body: &mut B,
    most: usize,
    memory: &Arc<Semaphore>,
    deadline: Instant,
) -> Result<Received, Denial>
where
    B: Body<Data = Bytes> + Unpin,
{
    let too_large = |bytes: u64| {
        Denial::new(Refusal::TooLarge, format!("it has {bytes} bytes or more; spantap takes {most} at once"))
    };
    let announced = body.size_hint().exact();
    if let Some(announced) = announced.filter(|announced| *announced > most as u64) {
        return Err(too_large(announced));
    }
    let (mut blocks, mut length, mut held) = (Blocks::default(), 0, None::<OwnedSemaphorePermit>);
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok(Received { bytes: blocks.join(), held }),
            Ok(Some(Err(_))) => return Err(Denial::new(Refusal::TooSlow, "it did not arrive to its end")),
            Err(_) => return Err(Denial::new(Refusal::TooSlow, "it did not arrive in time")),
        };
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > most {
            return Err(too_large(length as u64));
        }
        let Ok(bytes) = u32::try_from(data.len()) else { return Err(too_large(data.len() as u64)) };
        let Ok(permit) = Arc::clone(memory).try_acquire_many_owned(bytes) else {
            return Err(Denial::busy());
        };
        match &mut held {
            Some(held) => held.merge(permit),
            None => held = Some(permit),
        }
        blocks.push(&data);
    }
}

/// Reads the rest of a body that is not wanted, so that the client, which writes first and reads then, gets its answer.
pub(super) async fn discard<B: Body<Data = Bytes> + Unpin>(body: &mut B, deadline: Instant) {
    while let Ok(Some(Ok(_))) = timeout_at(deadline, body.frame()).await {}
}

/// A body while it arrives. One vector that grows would be copied again and again, and take up to twice the memory.
#[derive(Debug, Default)]
struct Blocks(Vec<Vec<u8>>);

/// The most bytes of a block, but for a larger frame.
const BLOCK: usize = 64 << 10;

impl Blocks {
    fn push(&mut self, mut data: &[u8]) {
        if let Some(last) = self.0.last_mut() {
            let (now, rest) = data.split_at(data.len().min(last.capacity() - last.len()));
            last.extend_from_slice(now);
            data = rest;
        }
        if !data.is_empty() {
            // A small body is often a single frame.
            let room = if self.0.is_empty() { data.len() } else { data.len().max(BLOCK) };
            let mut block = Vec::with_capacity(room);
            block.extend_from_slice(data);
            self.0.push(block);
        }
    }

    fn join(mut self) -> Vec<u8> {
        match self.0.len() {
            0 | 1 => self.0.pop().unwrap_or_default(),
            _ => self.0.concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_blocks_is_whole_and_takes_little_more_than_its_bytes() {
        for (frames, length) in [(0, 0), (1, 7), (3, 1), (1000, 1000), (5, 200_000), (70, BLOCK)] {
            let (mut blocks, mut whole) = (Blocks::default(), Vec::new());
            for frame in 0..frames {
                let data = vec![frame as u8; length];
                blocks.push(&data);
                whole.extend(data);
            }
            let capacity: usize = blocks.0.iter().map(Vec::capacity).sum();
            assert!(capacity <= whole.len() + BLOCK, "{capacity} for {}", whole.len());
            assert!(blocks.join() == whole, "{frames} frames of {length}");
        }
    }
}
