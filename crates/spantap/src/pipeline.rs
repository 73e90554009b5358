//! The threads in the middle: one takes in what a source has and decodes it, the other encodes the spans for
//! the sinks and passes them on to the view.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

use crate::chunk::Chunk;
use crate::decode::LOSSES;
use crate::exec::Programs;
use crate::figures::Figures;
use crate::intake::Intake;
use crate::notices::Notices;
use crate::process::Process;
use crate::sequence::Progress;
use crate::sink::Sinks;
use crate::terminal::Feeder;
use crate::trace::EncodedSpan;

/// So many batches may be decoded and not passed on yet.
const AHEAD: usize = 2;

/// Where spans go.
pub struct Pipeline {
    /// What is counted.
    pub figures: Arc<Figures>,
    /// For the first fault of a kind.
    pub notices: Notices,
    /// All of them.
    pub sinks: Arc<Sinks>,
    /// What the senders run.
    pub(crate) programs: Arc<Programs>,
    /// Where the traces are shown, if they are. It may fall behind, and then misses spans.
    pub view: Option<Feeder>,
}

/// Spans of a process that were decoded.
pub(crate) struct Pending {
    pub(crate) process: Arc<Process>,
    pub(crate) scopes: Vec<ScopeSpans>,
    /// See [`Chunk::progress`].
    pub(crate) progress: Vec<Progress>,
}

/// What came in so many bytes.
pub(crate) struct Batch {
    pub(crate) pending: Vec<Pending>,
    pub(crate) bytes: usize,
}

impl Pipeline {
    /// Runs until `source` ends, and all that it took in is passed on.
    ///
    /// # Errors
    ///
    /// When there can be no more threads, and those of `source`.
    pub fn run(&self, source: impl FnOnce(&mut Intake<'_>) -> Result<()>) -> Result<()> {
        thread::scope(|scope| {
            let (to_pass_on, decoded) = sync_channel::<Batch>(AHEAD);
            let pass_on = move || decoded.into_iter().for_each(|batch| self.pass_on(batch));
            let thread = thread::Builder::new().name("encode".into()).spawn_scoped(scope, pass_on);
            thread.context("can't start the thread `encode`")?;
            source(&mut Intake::new(self, to_pass_on))
        })
    }

    fn pass_on(&self, Batch { pending, bytes }: Batch) {
        if self.sinks.is_empty() && self.view.is_none() {
            return;
        }
        let mut to_view = Vec::new();
        for Pending { process, scopes, progress } in pending {
            let mut chunk = Chunk::encode_each(&process, &scopes, |span, bytes| {
                if self.view.is_some() && span.name != LOSSES {
                    to_view.extend(EncodedSpan::new(&process, span, bytes));
                }
            });
            chunk.progress = progress;
            if !self.sinks.is_empty() {
                self.sinks.push(&chunk);
            }
        }
        let Some(view) = self.view.as_ref().filter(|_| !to_view.is_empty()) else { return };
        let spans = to_view.len() as u64;
        if !view.offer(to_view, bytes) {
            self.figures.spans_not_shown.fetch_add(spans, Ordering::Relaxed);
        }
    }
}
