//! The two threads in the middle: one takes in what a source has and decodes it, the other encodes the spans and
//! passes them on to the sinks and the view.
//!
//! A source puts each `datagram` into the `intake`. A `batch` of decoded spans goes from one thread to the other. OTLP
//! requests have an intake and a thread of their own, and each `request` is answered.

mod batch;
mod datagram;
mod intake;
mod request;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::{Context, Result};

pub use datagram::Datagram;
pub use intake::Intake;
pub(crate) use request::{Request, Taken};

use crate::decode::LOSSES;
use crate::encode::Chunk;
use crate::flight::FlightRecorder;
use crate::metrics::SpanMetrics;
use crate::open::OpenSpans;
use crate::process::{Programs, Senders};
use crate::sink::Sinks;
use crate::span::Summary;
use crate::stats::Stats;
use crate::terminal::Feeder;
use crate::text::Notices;
use crate::trace::EncodedSpan;
use batch::{Batch, Pending};

/// The most decoded batches that wait to be passed on.
const MAX_QUEUED_BATCHES: usize = 2;

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
            let pass_on = move || {
                for mut batch in decoded {
                    let replies = std::mem::take(&mut batch.replies);
                    self.pass_on(batch);
                    replies.into_iter().for_each(|reply| reply());
                }
            };
            let thread = thread::Builder::new().name("encode".into()).spawn_scoped(scope, pass_on);
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

    fn pass_on(&self, Batch { pending, bytes, .. }: Batch) {
        if let Some(metrics) = &self.span_metrics {
            pending.iter().for_each(|pending| metrics.count(&pending.process.service, pending.counted()));
        }
        if self.sinks.is_empty() && self.view.is_none() {
            return;
        }
        let mut to_view = Vec::new();
        for Pending { process, scopes, encoded, progress } in pending {
            if self.view.is_some() {
                to_view.extend(encoded.iter().map(|(span, bytes)| EncodedSpan::new(&process, span, bytes)));
            }
            if let Some(flight) = &self.flight {
                encoded.iter().for_each(|(span, bytes)| flight.look(&process, span, bytes));
            }
            let mut chunk = Chunk::encode_each(&process, &scopes, |scope, span, bytes| {
                if (self.view.is_none() && self.flight.is_none()) || span.name == LOSSES {
                    return;
                }
                let Some(span) = Summary::in_scope(span, scope) else { return };
                if let Some(flight) = &self.flight {
                    flight.look(&process, &span, bytes);
                }
                if self.view.is_some() {
                    to_view.push(EncodedSpan::new(&process, &span, bytes));
                }
            });
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
