//! The two threads in the middle: one takes in what a source has and decodes it, the other encodes the spans and
//! passes them on to the sinks and the view.
//!
//! A source puts each `datagram` into the `intake`. A `batch` of decoded spans goes from one thread to the other. OTLP
//! requests have an intake and a thread of their own, and each `request` is answered. With `--keep`, the second thread also
//! lets spans wait until their trace is decided, and the sinks get what is kept.

mod batch;
mod datagram;
mod intake;
mod request;

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

pub use datagram::Datagram;
pub use intake::Intake;
pub(crate) use request::{Request, Taken};

use crate::decode::LOSSES;
use crate::encode::{Chunk, encode_scope};
use crate::flight::FlightRecorder;
use crate::metrics::SpanMetrics;
use crate::open::OpenSpans;
use crate::process::{Programs, Senders};
use crate::sampling::{Limits, Rules, Sampler, Wait};
use crate::sink::Sinks;
use crate::span::Summary;
use crate::stats::Stats;
use crate::terminal::Feeder;
use crate::text::Notices;
use crate::trace::EncodedSpan;
use batch::{Batch, Pending};

/// The most decoded batches that wait to be passed on.
const MAX_QUEUED_BATCHES: usize = 2;

/// Which traces are forwarded.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// The rules that keep traces.
    pub rules: Rules,
    /// How long traces wait for a decision.
    pub wait: Wait,
}

/// The way from a source to the sinks and the view.
pub struct Pipeline {
    /// The stats of the receiving side.
    pub stats: Arc<Stats>,
    /// Receives the first fault of each kind, and other lines for the user.
    pub notices: Notices,
    /// The sinks.
    pub sinks: Arc<Sinks>,
    /// The programs that the senders run.
    pub(crate) programs: Arc<Programs>,
    /// Counts the spans by service and name, if somebody may ask for it.
    pub span_metrics: Option<Arc<SpanMetrics>>,
    /// Which traces the sinks get, if not all.
    pub sampling: Option<Sampling>,
    /// The flight recorder, if a span may trigger it.
    pub flight: Option<Arc<FlightRecorder>>,
    /// The spans that are open for long.
    pub open: Arc<OpenSpans>,
    /// The view, if traces are shown. It may fall behind, and then misses spans.
    pub view: Option<Feeder>,
}

impl Pipeline {
    /// Runs until `source` ends, and `requests`, which takes OTLP requests beside it, and everything that they took in is
    /// passed on.
    ///
    /// # Errors
    ///
    /// A thread can't be started, or `source` fails.
    pub fn run(
        &self,
        source: impl FnOnce(&mut Intake<'_>) -> Result<()>,
        requests: Option<impl FnOnce(&mut Intake<'_>) + Send>,
    ) -> Result<()> {
        thread::scope(|scope| {
            let (to_pass_on, decoded) = sync_channel::<Batch>(MAX_QUEUED_BATCHES);
            let thread = thread::Builder::new().name("encode".into());
            let thread = thread.spawn_scoped(scope, move || self.pass_all_on(&decoded));
            thread.context("can't start the thread `encode`")?;
            let senders = self.sinks.senders();
            let (stats, notices, programs, open) = (&self.stats, &self.notices, &self.programs, &self.open);
            let intake = |senders| Intake::new(stats, notices, programs, open, senders, to_pass_on.clone());
            if let Some(requests) = requests {
                let mut intake = intake(Senders::default()).of_requests();
                let thread = thread::Builder::new().name("requests".into());
                let thread = thread.spawn_scoped(scope, move || requests(&mut intake));
                thread.context("can't start the thread `requests`")?;
            }
            let mut intake = intake(senders);
            drop(to_pass_on);
            source(&mut intake)
        })
    }

    fn pass_all_on(&self, decoded: &Receiver<Batch>) {
        let sampler = |Sampling { rules, wait }: &Sampling| {
            Sampler::new(rules, *wait, Limits::default(), Arc::clone(&self.stats.sampling))
        };
        let Some(mut sampler) = self.sampling.as_ref().map(sampler) else {
            return decoded.iter().for_each(|batch| self.take(batch, None));
        };
        loop {
            let now = Instant::now();
            sampler.due(now);
            self.push_kept(&mut sampler, now);
            let next = match sampler.next_due() {
                Some(due) => decoded.recv_timeout(due.saturating_duration_since(now)),
                None => decoded.recv().map_err(RecvTimeoutError::from),
            };
            match next {
                Ok(batch) => self.take(batch, Some(&mut sampler)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let now = Instant::now();
        let mut has_more = true;
        while has_more {
            has_more = sampler.finish(now);
            self.push_kept(&mut sampler, now);
        }
    }

    fn push_kept(&self, sampler: &mut Sampler, now: Instant) {
        let (chunks, progress) = sampler.kept(now);
        chunks.iter().for_each(|chunk| self.sinks.push(chunk));
        self.sinks.advance(&progress);
    }

    /// Passes a batch on, and then answers the requests that its spans came with.
    fn take(&self, mut batch: Batch, mut sampler: Option<&mut Sampler>) {
        let replies = std::mem::take(&mut batch.replies);
        self.pass_on(batch, sampler.as_deref_mut());
        if let Some(sampler) = sampler.filter(|_| !replies.is_empty()) {
            self.push_kept(sampler, Instant::now());
        }
        replies.into_iter().for_each(|reply| reply());
    }

    fn pass_on(&self, Batch { pending, bytes, .. }: Batch, mut sampler: Option<&mut Sampler>) {
        if let Some(metrics) = &self.span_metrics {
            pending.iter().for_each(|pending| metrics.count(&pending.process.service, pending.counted()));
        }
        if self.sinks.is_empty() && self.view.is_none() {
            return;
        }
        let now = Instant::now();
        let mut to_view = Vec::new();
        for Pending { process, scopes, encoded, progress } in pending {
            if self.view.is_some() {
                to_view.extend(encoded.iter().map(|(span, bytes)| EncodedSpan::new(&process, span, bytes)));
            }
            if let Some(flight) = &self.flight {
                encoded.iter().for_each(|(span, bytes)| flight.look(&process, span, bytes));
            }
            if let Some(sampler) = &mut sampler {
                sampler.begin(&process, &progress);
                encoded.each_scope(|scope, spans| {
                    sampler.scope(scope);
                    spans.for_each(|(span, bytes)| sampler.take(span, bytes, now));
                });
            }
            // By its address: all of them are in `scopes`.
            let mut last_scope = None;
            let mut chunk = Chunk::encode_each(&process, &scopes, |scope, span, bytes| {
                if let Some(sampler) = &mut sampler
                    && last_scope.replace(ptr::from_ref(scope).addr()) != Some(ptr::from_ref(scope).addr())
                {
                    sampler.scope(&encode_scope(scope));
                }
                if self.view.is_none() && self.flight.is_none() && sampler.is_none() {
                    return;
                }
                let summary = Summary::in_scope(span, scope).filter(|_| span.name != LOSSES);
                let Some(span) = summary else {
                    if let Some(sampler) = &mut sampler {
                        sampler.pass(bytes);
                    }
                    return;
                };
                if let Some(sampler) = &mut sampler {
                    sampler.take(&span, bytes, now);
                }
                if let Some(flight) = &self.flight {
                    flight.look(&process, &span, bytes);
                }
                if self.view.is_some() {
                    to_view.push(EncodedSpan::new(&process, &span, bytes));
                }
            });
            if let Some(sampler) = &mut sampler {
                sampler.end(&progress, now);
                continue;
            }
            if !encoded.spans.is_empty() {
                chunk.add_encoded(encoded);
            }
            chunk.progress = progress;
            if !self.sinks.is_empty() {
                self.sinks.push(&chunk);
            }
        }
        let Some(view) = self.view.as_ref().filter(|_| !to_view.is_empty()) else { return };
        let spans = to_view.len() as u64;
        if !view.offer(to_view, bytes) {
            self.stats.spans_not_shown.fetch_add(spans, Ordering::Relaxed);
        }
    }
}
