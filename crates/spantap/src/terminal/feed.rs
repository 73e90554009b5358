//! Spans on their way to the view, of which only so many may wait: a terminal that is paused must not
//! hold up the forwarding, nor fill our memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::trace::EncodedSpan;

/// As much as came in so many bytes of datagrams; encoded anew, it takes about as much.
const WAITING: usize = 16 << 20;

/// Where spans come out.
pub struct Feed {
    batches: mpsc::Receiver<Batch>,
    waiting: Arc<AtomicUsize>,
}

/// Where they go in.
pub struct Feeder {
    batches: mpsc::Sender<Batch>,
    waiting: Arc<AtomicUsize>,
}

struct Batch {
    spans: Vec<EncodedSpan>,
    bytes: usize,
}

/// Both ends.
pub fn feed() -> (Feeder, Feed) {
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Feeder { batches: sender, waiting: Arc::clone(&waiting) }, Feed { batches: receiver, waiting })
}

impl Feeder {
    /// Passes on spans that came in so many bytes. Whether there was room for them.
    pub fn offer(&self, spans: Vec<EncodedSpan>, bytes: usize) -> bool {
        // The only one that adds, so no other can come in between.
        if self.waiting.load(Ordering::Relaxed) > WAITING {
            return false;
        }
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.batches.send(Batch { spans, bytes }).is_ok()
    }
}

impl Feed {
    pub(super) fn next(&self, at_most: Duration) -> Result<Vec<EncodedSpan>, RecvTimeoutError> {
        let batch = self.batches.recv_timeout(at_most)?;
        self.waiting.fetch_sub(batch.bytes, Ordering::Relaxed);
        Ok(batch.spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_room_comes_back() {
        let (feeder, feed) = feed();
        let offered = (0..1000).take_while(|_| feeder.offer(Vec::new(), 1 << 20)).count();
        assert_eq!(offered, 17);
        assert!(feed.next(Duration::ZERO).is_ok());
        assert!(feeder.offer(Vec::new(), 1 << 20) && !feeder.offer(Vec::new(), 1));
    }
}
