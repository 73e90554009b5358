//! The loop of one sink: takes a batch, sends it until the backend answers, acknowledges it.
//!
//! It sends one request at a time, so that spans arrive in order. A worker may be aborted at any `await`: the queue
//! still has the batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::export::{Exporter, Outcome};
use super::limit::Limit;
use super::pace::Pace;
use super::queue::{Load, Queue};
use super::reports::Reports;
use super::tally::Tally;
use crate::encode::Chunk;

/// A request costs a backend far more than a span does, but beyond some thousand spans the difference vanishes. 512
/// KiB is well below the 4 MiB that gRPC servers accept by default, and is quickly sent again.
pub(super) const BATCH: Load = Load { spans: 2_048, bytes: 512 << 10 };

/// Some servers close the connection when a request is too large, and their answer is lost. After this many broken
/// connections in a row, a request without spans is sent. If that is answered and the next request with spans breaks
/// again, this is not an outage, and the spans are sent in smaller requests.
const MAX_BREAKS: u32 = 5;

/// Delays; shorter in tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// How long the first span of a batch waits for others. Nobody who looks at a backend notices it, and a program
    /// with a thousand spans a second causes only ten requests.
    pub(super) linger: Duration,
    pub(super) pace: Pace,
    /// How long batches stay small after a backend refused one as too large.
    pub(super) remember: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let pace = Pace { first: Duration::from_millis(500), longest: Duration::from_secs(5) };
        Self { linger: Duration::from_millis(100), pace, remember: Duration::from_secs(600) }
    }
}

/// The backend's final answer to a request.
enum Answer {
    /// It accepted the spans, except for `rejected`.
    Taken { rejected: u64 },
    /// It accepts none of them in a request of this size.
    TooLarge { why: String },
    /// It breaks the connection each time, though it answers other requests.
    Breaks { why: String },
}

/// Sends the batches of one sink.
pub(super) struct Worker {
    pub(super) queue: Arc<Queue>,
    pub(super) exporter: Exporter,
    /// For one request; `None` for no limit.
    pub(super) timeout: Option<Duration>,
    pub(super) timing: Timing,
    pub(super) limit: Limit,
    pub(super) reports: Reports,
    /// Becomes true when nothing more is pushed.
    pub(super) ending: watch::Receiver<bool>,
}

impl Worker {
    /// Runs until the queue is empty after `ending`.
    pub(super) async fn run(mut self) {
        loop {
            self.queue.limit_batch(self.limit.bytes(Instant::now()));
            if !self.wait_for_batch().await {
                return;
            }
            let queue = self.queue.clone();
            let Ok(chunks) = tokio::task::spawn_blocking(move || queue.take()).await else {
                return;
            };
            match chunks.is_empty() {
                // Nothing could be read: a read error, or damaged records.
                true => sleep(self.timing.linger).await,
                false => self.deliver(chunks).await,
            }
        }
    }

    /// Returns false if there is no batch and none will come.
    async fn wait_for_batch(&mut self) -> bool {
        let mut ending = self.ending.clone();
        tokio::select! {
            () = self.queue.arrival() => {}
            // An error means that `Sinks` was dropped, which is also an end.
            _ = ending.wait_for(|ending| *ending) => return self.queue.store.waiting().spans > 0,
        }
        tokio::select! {
            () = self.queue.whole_batch() => {}
            () = sleep(self.timing.linger) => {}
            _ = ending.wait_for(|ending| *ending) => {}
        }
        true
    }

    /// Returns when the backend has answered for the whole `batch`, or when the batch is back in the queue because
    /// it must be smaller. A chunk that is too large by itself is sent in parts, down to one span.
    async fn deliver(&mut self, batch: Vec<Chunk>) {
        let mut rejected = 0;
        // A stack: the last part is sent next.
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let bytes = part.iter().map(Chunk::bytes).sum::<usize>() as u64;
            let halves = match &*part {
                [chunk] if bytes > self.limit.bytes(Instant::now()) => chunk.halves(),
                _ => None,
            };
            if let Some([first, rest]) = halves {
                parts.extend([vec![rest], vec![first]]);
                continue;
            }
            let refused = match self.send(&part).await {
                Answer::Taken { rejected: of_part } => {
                    rejected += of_part;
                    continue;
                }
                // Proxies with a limit may only break the connection.
                Answer::TooLarge { why } | Answer::Breaks { why } => why,
            };
            match &*part {
                [chunk] if chunk.halves().is_none() => {
                    let spans = u64::from(chunk.spans);
                    rejected += spans;
                    self.reports.works(self.queue.counters.queued());
                    self.reports.rejection(spans, Some(&refused));
                }
                more => {
                    self.limit.lower(bytes, Instant::now());
                    self.reports.too_large(&refused);
                    if more.len() > 1 {
                        // Only the whole batch has several chunks, so no other parts are left.
                        return self.queue.store.give_back();
                    }
                    parts.push(part);
                }
            }
        }
        self.queue.store.acknowledge(rejected);
    }

    /// Sends `chunks` in one request, until the backend has answered or a smaller request is worth trying.
    async fn send(&mut self, chunks: &[Chunk]) -> Answer {
        let tally = Tally::of_all(chunks);
        let spans = tally.total();
        let (body, unreadable) = self.exporter.encode(chunks);
        let mut delays = self.timing.pace.delays();
        // How many connections broke in a row, and whether an empty request was answered after that.
        let (mut breaks, mut is_suspect) = (0, false);
        let (rejected, message) = loop {
            self.queue.counters.request();
            let (why, after) = match self.attempt(body.clone()).await {
                // A server may report any number.
                Outcome::Done { rejected, message } => break (rejected.min(spans), message),
                Outcome::Refused { why } => break (spans, Some(why)),
                Outcome::TooLarge { why } => {
                    self.queue.counters.retry(&tally, &why);
                    return Answer::TooLarge { why };
                }
                Outcome::Broken { why } if is_suspect => {
                    self.queue.counters.retry(&tally, &why);
                    return Answer::Breaks { why };
                }
                Outcome::Broken { why } => {
                    breaks += 1;
                    (why, None)
                }
                Outcome::Failed { why, after } => {
                    (breaks, is_suspect) = (0, false);
                    (why, after)
                }
            };
            self.queue.counters.retry(&tally, &why);
            self.reports.fails(&why, Instant::now());
            match after {
                Some(after) => self.back_off(after).await,
                None => self.back_off(delays.next().unwrap_or(self.timing.pace.longest)).await,
            }
            if breaks >= MAX_BREAKS {
                breaks = 0;
                is_suspect = self.answers_empty_request().await;
            }
        };
        self.queue.counters.wrote(body.len() as u64);
        self.reports.works(self.queue.counters.queued());
        self.reports.rejection(rejected, message.as_deref());
        if unreadable > 0 {
            self.reports.rejection(unreadable, Some("they can't be decoded for this format"));
        }
        Answer::Taken { rejected: rejected.saturating_add(unreadable).min(spans) }
    }

    /// Whether the backend answers a request without spans.
    async fn answers_empty_request(&mut self) -> bool {
        self.queue.counters.request();
        let (empty, _) = self.exporter.encode(&[]);
        !matches!(self.attempt(empty).await, Outcome::Broken { .. } | Outcome::Failed { .. })
    }

    async fn attempt(&mut self, body: Bytes) -> Outcome {
        let Some(limit) = self.timeout else { return self.exporter.send(body).await };
        match timeout(limit, self.exporter.send(body)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.exporter.leave_connection();
                Outcome::Failed { why: format!("no answer within {limit:?}"), after: None }
            }
        }
    }

    /// Sleeps, but only until `ending` becomes true: there may be no time for another attempt later.
    async fn back_off(&mut self, delay: Duration) {
        let ended_before = *self.ending.borrow();
        tokio::select! {
            () = sleep(delay) => {}
            _ = self.ending.wait_for(|ending| *ending), if !ended_before => {}
        }
    }
}
