//! Forwards chunks to backends: each `--to` is a sink with a queue and a worker of its own, so one that
//! is slow or away holds up no other.
//!
//! ```text
//! push --> queue (memory | spool) --> worker --> otlp_http | otlp_grpc | zipkin | jsonl
//!              \______ figures ______/    \____ retry, reports
//! ```
//!
//! `target` and `environment` say where to, `Sinks` puts the parts together.

mod environment;
mod figures;
mod http;
mod jsonl;
mod limit;
mod memory;
mod otlp_grpc;
mod otlp_http;
mod queue;
mod reports;
mod retry;
mod spool;
mod tally;
mod target;
mod worker;
mod zipkin;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub use environment::Lookup;
pub use figures::{Dropped, OfSender, SinkFigures, State};
pub use tally::OTHERS;
pub use target::{Target, TargetError};

use crate::chunk::Chunk;
use crate::notices::Notices;
use crate::sequence::Senders;
use environment::DEFAULT_TIMEOUT;
use figures::Figures;
use jsonl::Jsonl;
use limit::Limit;
use memory::Memory;
use otlp_grpc::OtlpGrpc;
use otlp_http::OtlpHttp;
use queue::{Queue, Store};
use reports::Reports;
use spool::Directory;
use worker::{BATCH, Exporter, Timing, Worker};
use zipkin::Zipkin;

/// Chunks that wait in memory for one sink. A minute or more of a busy program, and little beside what
/// such a program needs itself.
pub const MEMORY_BYTES: u64 = 64 << 20;
/// What waits in the spool for one sink, if nothing else is said.
pub const SPOOL_BYTES: u64 = 1 << 30;

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The sinks, each once.
    pub targets: Vec<Target>,
    /// Keeps what waits on disk instead of in memory.
    pub spool: Option<SpoolSettings>,
}

/// Of `--spool`.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// Made if there is none.
    pub dir: PathBuf,
    /// For each sink; [`SPOOL_BYTES`] for example. When it is reached the oldest spans are dropped.
    pub max_bytes: u64,
}

/// All sinks.
///
/// With a spool, what was pushed outlives the program, even if it is killed: the next start with the
/// same target sends it. It then may send the last batch again, if the end came between the backend's
/// answer and the writing down of it.
pub struct Sinks {
    sinks: Vec<Sink>,
    ending: watch::Sender<bool>,
    /// Held until the end.
    _directory: Option<Directory>,
}

struct Sink {
    queue: Arc<Queue>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Sinks {
    /// Opens all sinks, and starts to send what an earlier run left in the spool. Must be called within a
    /// tokio runtime, on which the workers run. No backend needs to be there.
    ///
    /// # Errors
    ///
    /// A variable has a value that can't be used, a target is given twice, a file can't be opened, the
    /// spool is in use by another process.
    pub fn open(settings: &Settings, environment: Lookup<'_>, notices: &Notices) -> Result<Self> {
        Self::open_with(settings, environment, notices, Timing::default(), MEMORY_BYTES)
    }

    fn open_with(
        settings: &Settings,
        environment: Lookup<'_>,
        notices: &Notices,
        timing: Timing,
        memory_bytes: u64,
    ) -> Result<Self> {
        let targets = &settings.targets;
        let resolved =
            targets.iter().map(|target| resolve(target, environment)).collect::<Result<Vec<_>>>()?;
        // By their names, under which the user sees them: in notices, figures and metrics.
        let names: Vec<String> = resolved.iter().map(ToString::to_string).collect();
        for (index, name) in names.iter().enumerate() {
            ensure!(!names[..index].contains(name), "--to {name} is given twice: leave one out");
        }
        let exporters =
            resolved.iter().map(|target| exporter(target, environment)).collect::<Result<Vec<_>>>()?;
        let directory = settings.spool.as_ref().map(|spool| Directory::open(&spool.dir)).transpose()?;
        let (ending, ended) = watch::channel(false);
        let mut workers = Vec::new();
        for ((target, resolved), (exporter, timeout)) in targets.iter().zip(&resolved).zip(exporters) {
            let figures = Arc::new(Figures::new(resolved));
            let store: Box<dyn Store> = match (&directory, &settings.spool) {
                (Some(directory), Some(spool)) => {
                    Box::new(directory.spool(target, spool.max_bytes, figures.clone(), notices.clone())?)
                }
                _ => Box::new(Memory::new(memory_bytes, figures.clone(), notices.clone())),
            };
            let queue = Arc::new(Queue::new(store, figures, BATCH));
            let reports = Reports::new(resolved.to_string(), notices.clone());
            let limit = Limit::new(BATCH.bytes, timing.remember);
            workers.push(Worker { queue, exporter, timeout, timing, limit, reports, ending: ended.clone() });
        }
        if let Some(directory) = &directory {
            directory.tell_of_others(targets, notices)?;
        }
        // Only when nothing can fail any more.
        let start = |worker: Worker| {
            let queue = worker.queue.clone();
            Sink { queue, worker: Mutex::new(Some(tokio::spawn(worker.run()))) }
        };
        Ok(Self { sinks: workers.into_iter().map(start).collect(), ending, _directory: directory })
    }

    /// There are none, so there is nothing to encode for them.
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// How far each sender has come, by what the spools have of it; nothing without a spool.
    pub fn senders(&self) -> Senders {
        Senders::common(self.sinks.iter().map(|sink| sink.queue.store.senders()))
    }

    /// Takes a chunk for all sinks. Never waits for a backend; with a spool, the chunk has been written to
    /// its file when this returns.
    pub fn push(&self, chunk: &Chunk) {
        if chunk.spans > 0 {
            self.sinks.iter().for_each(|sink| sink.queue.push(chunk));
        }
    }

    /// Of each sink, in the order of the targets.
    pub fn figures(&self) -> Vec<SinkFigures> {
        self.sinks.iter().map(|sink| sink.queue.figures.snapshot()).collect()
    }

    /// Goes on sending until all queues are empty, but not for longer than `timeout`. What then waits in
    /// memory is dropped, what waits in the spool stays there. Spans of a batch under way at that
    /// moment count as not sent, though the backend may have some of them, or get them.
    ///
    /// To be called once, after the last [`Sinks::push`].
    pub async fn finish(&self, timeout: Duration) {
        self.finish_until(sleep(timeout)).await;
    }

    /// The same, until `time_is_over`.
    pub async fn finish_until(&self, time_is_over: impl Future<Output = ()>) {
        self.ending.send_replace(true);
        tokio::pin!(time_is_over);
        let mut is_over = false;
        for sink in &self.sinks {
            let worker = sink.worker().take();
            let Some(mut worker) = worker else { continue };
            if !is_over {
                tokio::select! {
                    _ = &mut worker => {}
                    () = &mut time_is_over => is_over = true,
                }
            }
            if is_over {
                worker.abort();
                // Its answer is that it was aborted, or had ended.
                let _ = worker.await;
            }
            sink.queue.store.close();
        }
    }
}

/// Without [`Sinks::finish`] this is as if the program were killed.
impl Drop for Sinks {
    fn drop(&mut self) {
        for sink in &self.sinks {
            if let Some(worker) = sink.worker().take() {
                worker.abort();
            }
        }
    }
}

impl Sink {
    fn worker(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plain `otlp` is where the environment says, by which it is also named to the user.
fn resolve(target: &Target, environment: Lookup<'_>) -> Result<Target> {
    match target {
        Target::Otlp => environment::endpoint(environment),
        target => Ok(target.clone()),
    }
}

/// Where a target's batches go, and how long a request may take.
fn exporter(target: &Target, environment: Lookup<'_>) -> Result<(Exporter, Option<Duration>)> {
    // Not for the others: a variable that they don't use may be as it likes.
    let options = || environment::options(environment);
    Ok(match target {
        Target::Otlp => exporter(&resolve(target, environment)?, environment)?,
        Target::OtlpHttp(url) => {
            let options = options()?;
            (Exporter::OtlpHttp(OtlpHttp::new(url, &options)?), options.timeout)
        }
        Target::OtlpGrpc(url) => {
            let options = options()?;
            (Exporter::OtlpGrpc(Box::new(OtlpGrpc::new(url, &options)?)), options.timeout)
        }
        Target::Zipkin(url) => (Exporter::Zipkin(Zipkin::new(url)?), Some(DEFAULT_TIMEOUT)),
        // A disk that is slow is not made faster by asking twice.
        Target::Jsonl(path) => (Exporter::Jsonl(Jsonl::open(path)?), None),
    })
}

#[cfg(test)]
mod tests;
