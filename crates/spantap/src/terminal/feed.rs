//! A bounded queue of spans for the view: a paused terminal must neither delay forwarding nor fill the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::trace::EncodedSpan;

/// The most bytes that wait, counted as received. Encoded for the view, spans take about as much.
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// The receiving end.
pub struct Feed {
    batches: mpsc::Receiver<Batch>,
    queued_bytes: Arc<AtomicUsize>,
}

/// The sending end.
pub struct Feeder {
    batches: mpsc::Sender<Batch>,
    queued_bytes: Arc<AtomicUsize>,
}

struct Batch {
    spans: Vec<EncodedSpan>,
    bytes: usize,
}

/// Creates a queue.
pub fn feed() -> (Feeder, Feed) {
    let (sender, receiver) = mpsc::channel();
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let feeder = Feeder { batches: sender, queued_bytes: Arc::clone(&queued_bytes) };
    (feeder, Feed { batches: receiver, queued_bytes })
}

impl Feeder {
    /// Queues spans that were received in `bytes` bytes. Returns whether there was room for them.
    pub fn offer(&self, spans: Vec<EncodedSpan>, bytes: usize) -> bool {
        // Only one thread adds, so the check and the addition need not be atomic together.
        if self.queued_bytes.load(Ordering::Relaxed) > MAX_QUEUED_BYTES {
            return false;
        }
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.batches.send(Batch { spans, bytes }).is_ok()
    }
}

impl Feed {
    /// Waits for the next spans, at most for a while.
    pub(crate) fn next(&self, at_most: Duration) -> Result<Vec<EncodedSpan>, RecvTimeoutError> {
        let batch = self.batches.recv_timeout(at_most)?;
        self.queued_bytes.fetch_sub(batch.bytes, Ordering::Relaxed);
        Ok(batch.spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_reading_makes_room() {
        let (feeder, feed) = feed();
        let offered = (0..1000).take_while(|_| feeder.offer(Vec::new(), 1 << 20)).count();
        assert_eq!(offered, 17);
        assert!(feed.next(Duration::ZERO).is_ok());
        assert!(feeder.offer(Vec::new(), 1 << 20) && !feeder.offer(Vec::new(), 1));
    }
}
