//! Forwards chunks to backends. Each `--to` is a sink with its own queue and worker, so a slow or unreachable
//! backend does not delay the others.
//!
//! ```text
//! push --> queue (memory | spool) --> worker --> export (otlp_http | otlp_grpc | zipkin | jsonl | capture | flight)
//!              \_______ stats _______/    \____ pace, limit, reports
//! ```
//!
//! `target` and `environment` describe the backend; `Sinks` connects the parts. `tally` counts spans by sender, for
//! `stats` and the queues.

mod environment;
mod export;
mod limit;
mod memory;
mod pace;
mod queue;
mod reports;
mod spool;
mod stats;
mod tally;
mod target;
mod worker;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub use environment::Lookup;
pub use stats::{Dropped, SenderStats, SinkStats, State};
pub use tally::OTHERS;
pub use target::{Target, TargetError};

use crate::capture::Rotation;
use crate::encode::Chunk;
use crate::flight::FlightRecorder;
use crate::process::{Progress, Senders};
use crate::text::Notices;
use environment::resolve;
use export::Exporter;
use limit::Limit;
use memory::Memory;
use queue::{Queue, Store};
use reports::Reports;
use spool::directory::Directory;
use stats::Counters;
use worker::{BATCH, Timing, Worker};

/// The most bytes of chunks that wait in memory for one sink: a minute or more of a busy program, and little
/// compared to the memory of such a program.
pub const MEMORY_BYTES: u64 = 64 << 20;
/// The default limit for one sink in the spool.
pub const SPOOL_BYTES: u64 = 1 << 30;

/// The user's settings.
#[derive(Clone, Default, Debug)]
pub struct Settings {
    /// The sinks, each once.
    pub targets: Vec<Target>,
    /// If set, chunks wait on disk instead of in memory.
    pub spool: Option<SpoolSettings>,
    /// When a capture is followed by another.
    pub rotation: Rotation,
    /// The flight recorder, if it is among the targets.
    pub flight: Option<Arc<FlightRecorder>>,
}

/// The settings of `--spool`.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// The folder; it is made if it doesn't exist.
    pub dir: PathBuf,
    /// For each sink, for example [`SPOOL_BYTES`]. At the limit, the oldest spans are dropped.
    pub max_bytes: u64,
}

/// All sinks.
///
/// With a spool, pushed chunks survive the end of the program, even a kill: the next start with the same target sends
/// them. It may send the last batch a second time, if the program ended between the backend's answer and the write of
/// the position.
pub struct Sinks {
    sinks: Vec<Sink>,
    ending: watch::Sender<bool>,
    /// Keeps the lock.
    _directory: Option<Directory>,
}

struct Sink {
    queue: Arc<Queue>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Sinks {
    /// Opens all sinks, and starts to send what an earlier run left in the spool. Must be called within a tokio
    /// runtime, which runs the workers. The backends need not be reachable.
    ///
    /// # Errors
    ///
    /// A variable has an unusable value, a target is given twice, a file can't be opened, or another process uses the
    /// spool.
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
        // Compares the names that the user sees in notices, stats and metrics.
        let names: Vec<String> = resolved.iter().map(ToString::to_string).collect();
        for (index, name) in names.iter().enumerate() {
            ensure!(!names[..index].contains(name), "--to {name} is given twice: leave one out");
        }
        let exporters = resolved.iter().map(|target| Exporter::open(target, settings, environment, notices));
        let exporters = exporters.collect::<Result<Vec<_>>>()?;
        let directory = settings.spool.as_ref().map(|spool| Directory::open(&spool.dir)).transpose()?;
        let (ending, ended) = watch::channel(false);
        let mut workers = Vec::new();
        for ((target, resolved), (exporter, timeout)) in targets.iter().zip(&resolved).zip(exporters) {
            let counters = Arc::new(Counters::new(resolved));
            match target {
                Target::Capture(_) => counters.is_capture(),
                Target::FlightRecorder => counters.is_flight_recorder(),
                _ => {}
            }
            let timing = Timing { linger: exporter.linger(timing.linger), ..timing };
            let store: Box<dyn Store> = match (&directory, &settings.spool) {
                (Some(directory), Some(spool)) => {
                    Box::new(directory.spool(target, spool.max_bytes, counters.clone(), notices.clone())?)
                }
                _ => Box::new(Memory::new(memory_bytes, counters.clone(), notices.clone())),
            };
            let queue = Arc::new(Queue::new(store, counters, BATCH));
            let reports = Reports::new(resolved.to_string(), notices.clone());
            let limit = Limit::new(BATCH.bytes, timing.remember);
            workers.push(Worker { queue, exporter, timeout, timing, limit, reports, ending: ended.clone() });
        }
        if let Some(directory) = &directory {
            directory.report_other_targets(targets, notices)?;
        }
        // Starts the workers only when nothing can fail any more.
        let start = |worker: Worker| {
            let queue = worker.queue.clone();
            Sink { queue, worker: Mutex::new(Some(tokio::spawn(worker.run()))) }
        };
        Ok(Self { sinks: workers.into_iter().map(start).collect(), ending, _directory: directory })
    }

    /// Whether there are no sinks, so that nothing needs to be encoded.
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// The progress of each sender, as all spools have it; empty without a spool.
    pub fn senders(&self) -> Senders {
        Senders::common(self.sinks.iter().map(|sink| sink.queue.store.senders()))
    }

    /// Queues a chunk for all sinks. Never waits for a backend. With a spool, the chunk has been written to its
    /// file when this returns.
    pub fn push(&self, chunk: &Chunk) {
        if chunk.spans > 0 {
            self.sinks.iter().for_each(|sink| sink.queue.push(chunk));
        }
    }

    /// Notes that the senders have come this far with spans that are not pushed, because they are not to be forwarded. A spool
    /// has written it to its file when this returns, unless there is no room on the disk, which a notice says.
    pub fn advance(&self, progress: &[Progress]) {
        if !progress.is_empty() {
            self.sinks.iter().for_each(|sink| sink.queue.store.advance(progress));
        }
    }

    /// The stats of each sink, in the order of the targets.
    pub fn stats(&self) -> Vec<SinkStats> {
        self.sinks.iter().map(|sink| sink.queue.counters.snapshot()).collect()
    }

    /// Sends until all queues are empty, but not longer than `timeout`. Then drops what waits in memory; what waits
    /// in the spool stays there. Spans of an unanswered batch count as not sent, though the backend may receive
    /// them.
    ///
    /// Call it once, after the last [`Sinks::push`].
    pub async fn finish(&self, timeout: Duration) {
        self.finish_until(sleep(timeout)).await;
    }

    /// Like [`Sinks::finish`], until `time_is_over`.
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
                // The result is only whether it was aborted or had ended.
                let _ = worker.await;
            }
            sink.queue.store.close();
        }
    }
}

/// Without [`Sinks::finish`], dropping has the effect of a kill.
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

#[cfg(test)]
mod tests;
