//! The loop of one sink: take a batch, send it until the backend answers for it, acknowledge it.
//!
//! One request at a time, so that spans arrive in the order in which they came. A worker may be
//! aborted at any `await`: the batch is still in its queue's books.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::jsonl::Jsonl;
use super::limit::Limit;
use super::otlp_grpc::OtlpGrpc;
use super::otlp_http::OtlpHttp;
use super::queue::{Load, Queue};
use super::reports::Reports;
use super::retry::{Outcome, Pace};
use super::tally::Tally;
use super::zipkin::Zipkin;
use crate::chunk::{Chunk, request};

/// Requests cost a backend far more than spans do; beyond some thousand spans that makes no difference
/// any more. 1 MiB is well below the 4 MiB that gRPC servers take by default, and is soon sent again.
pub(super) const BATCH: Load = Load { spans: 2_048, bytes: 512 << 10 };

/// Some servers close the connection on a request that is too large, and their answer is lost with it. After so many
/// broken connections in a row a request without spans is sent. If that is answered and the next one breaks again, it is
/// no outage, and the spans are tried in smaller requests.
const MAX_BREAKS: u32 = 5;

/// How long things take. The tests have no time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For this long the first span of a batch waits for others: no one who looks at a backend sees the
    /// difference, and a program that makes a thousand spans a second causes ten requests.
    pub(super) linger: Duration,
    pub(super) pace: Pace,
    /// For this long batches stay small after a backend found one too large.
    pub(super) remember: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let pace = Pace { first: Duration::from_millis(500), longest: Duration::from_secs(5) };
        Self { linger: Duration::from_millis(100), pace, remember: Duration::from_secs(600) }
    }
}

/// Where batches go.
pub(super) enum Exporter {
    OtlpHttp(OtlpHttp),
    OtlpGrpc(Box<OtlpGrpc>),
    Zipkin(Zipkin),
    Jsonl(Jsonl),
}

impl Exporter {
    /// What is sent for `chunks`, and how many of their spans are not in it because they can't be read.
    fn encode(&self, chunks: &[Chunk]) -> (Bytes, u64) {
        match self {
            Self::OtlpHttp(sink) => (sink.encode(chunks), 0),
            Self::OtlpGrpc(_) => (request(chunks), 0),
            Self::Zipkin(sink) => sink.encode(chunks),
            Self::Jsonl(sink) => sink.encode(chunks),
        }
    }

    async fn send(&mut self, body: Bytes) -> Outcome {
        match self {
            Self::OtlpHttp(sink) => sink.send(body).await,
            Self::OtlpGrpc(sink) => sink.send(body).await,
            Self::Zipkin(sink) => sink.send(body).await,
            Self::Jsonl(sink) => sink.send(body).await,
        }
    }

    /// After a request that was given up. HTTP/1.1 closes its connection by itself.
    fn leave_connection(&mut self) {
        if let Self::OtlpGrpc(sink) = self {
            sink.leave_connection();
        }
    }
}

/// What a backend says to a request in the end.
enum Answer {
    /// It has taken the spans, but for so many that it refused.
    Taken { rejected: u64 },
    /// It takes none of them in a request of this size.
    TooLarge { why: String },
    /// It breaks the connection each time, though it answers to other requests.
    Breaks { why: String },
}

/// See the module.
pub(super) struct Worker {
    pub(super) queue: Arc<Queue>,
    pub(super) exporter: Exporter,
    /// For one request.
    pub(super) timeout: Option<Duration>,
    pub(super) timing: Timing,
    pub(super) limit: Limit,
    pub(super) reports: Reports,
    /// Becomes true when nothing is pushed any more.
    pub(super) ending: watch::Receiver<bool>,
}

impl Worker {
    /// Until the queue is empty after `ending`.
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
                // There was something that can't be read, now or ever.
                true => sleep(self.timing.linger).await,
                false => self.deliver(chunks).await,
            }
        }
    }

    /// False if there is none and will be none.
    async fn wait_for_batch(&mut self) -> bool {
        let mut ending = self.ending.clone();
        tokio::select! {
            () = self.queue.arrival() => {}
            // An error is that `Sinks` is gone, which is an end too.
            _ = ending.wait_for(|ending| *ending) => return self.queue.store.waiting().spans > 0,
        }
        tokio::select! {
            () = self.queue.whole_batch() => {}
            () = sleep(self.timing.linger) => {}
            _ = ending.wait_for(|ending| *ending) => {}
        }
        true
    }

    /// Returns when the backend has answered for all of `batch`, or when the batch waits again because it has to be
    /// smaller. A chunk that is too large by itself is sent in parts, down to one span.
    async fn deliver(&mut self, batch: Vec<Chunk>) {
        let mut rejected = 0;
        // The last is the next.
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
                // As proxies do that have a limit and no words for it.
                Answer::TooLarge { why } | Answer::Breaks { why } => why,
            };
            match &*part {
                [chunk] if chunk.halves().is_none() => {
                    let spans = u64::from(chunk.spans);
                    rejected += spans;
                    self.reports.works(self.queue.figures.queued());
                    self.reports.rejection(spans, Some(&refused));
                }
                more => {
                    self.limit.lower(bytes, Instant::now());
                    self.reports.too_large(&refused);
                    if more.len() > 1 {
                        // A batch of several chunks has no other parts.
                        return self.queue.store.give_back();
                    }
                    parts.push(part);
                }
            }
        }
        self.queue.store.acknowledge(rejected);
    }

    /// Sends `chunks` in one request, until the backend has answered, or until a smaller one is worth trying.
    async fn send(&mut self, chunks: &[Chunk]) -> Answer {
        let tally = Tally::of_all(chunks);
        let spans = tally.total();
        let (body, unreadable) = self.exporter.encode(chunks);
        let mut delays = self.timing.pace.delays();
        // How often the connection broke since something else was heard, and whether an empty request was answered after
        // that.
        let (mut breaks, mut is_suspect) = (0, false);
        let (rejected, message) = loop {
            self.queue.figures.request();
            let (why, after) = match self.attempt(body.clone()).await {
                // It may say any number.
                Outcome::Done { rejected, message } => break (rejected.min(spans), message),
                Outcome::Refused { why } => break (spans, Some(why)),
                Outcome::TooLarge { why } => {
                    self.queue.figures.retry(&tally, &why);
                    return Answer::TooLarge { why };
                }
                Outcome::Broken { why } if is_suspect => {
                    self.queue.figures.retry(&tally, &why);
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
            self.queue.figures.retry(&tally, &why);
            self.reports.fails(&why, Instant::now());
            match after {
                Some(after) => self.back_off(after).await,
                None => self.back_off(delays.next().unwrap_or(self.timing.pace.longest)).await,
            }
            if breaks >= MAX_BREAKS {
                breaks = 0;
                is_suspect = self.is_there().await;
            }
        };
        self.reports.works(self.queue.figures.queued());
        self.reports.rejection(rejected, message.as_deref());
        if unreadable > 0 {
            self.reports.rejection(unreadable, Some("they can't be decoded to be sent in this form"));
        }
        Answer::Taken { rejected: rejected.saturating_add(unreadable).min(spans) }
    }

    /// Whether the backend answers to a request without spans.
    async fn is_there(&mut self) -> bool {
        self.queue.figures.request();
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

    /// Sleeps, but not past the beginning of the end: there may be no time for another attempt then.
    async fn back_off(&mut self, delay: Duration) {
        let ended_before = *self.ending.borrow();
        tokio::select! {
            () = sleep(delay) => {}
            _ = self.ending.wait_for(|ending| *ending), if !ended_before => {}
        }
    }
}
