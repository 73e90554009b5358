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
    // What a client announces is not allocated before it comes.
    let announced = body.size_hint().lower();
    if announced > most as u64 {
        return Err(too_large(announced));
    }
    let mut received = Received { bytes: Vec::new(), held: None };
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok(received),
            Ok(Some(Err(_))) => return Err(Denial::new(Refusal::TooSlow, "it did not arrive to its end")),
            Err(_) => return Err(Denial::new(Refusal::TooSlow, "it did not arrive in time")),
        };
        let Ok(data) = frame.into_data() else { continue };
        let length = received.bytes.len() + data.len();
        if length > most {
            return Err(too_large(length as u64));
        }
        let Ok(length) = u32::try_from(data.len()) else { return Err(too_large(data.len() as u64)) };
        let Ok(permit) = Arc::clone(memory).try_acquire_many_owned(length) else {
            return Err(Denial::busy());
        };
        match &mut received.held {
            Some(held) => held.merge(permit),
            None => received.held = Some(permit),
        }
        received.bytes.extend_from_slice(&data);
    }
}

/// Reads the rest of a body that is not wanted, so that the client, which writes first and reads then, gets its answer.
pub(super) async fn discard<B: Body<Data = Bytes> + Unpin>(body: &mut B, deadline: Instant) {
    while let Ok(Some(Ok(_))) = timeout_at(deadline, body.frame()).await {}
}
