//! Reads a file on several threads: this one reads the bytes, and others decode them.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Error, Result, anyhow};

use super::contents::{Contents, Document};
use super::{Capture, Spans};
use crate::capture::filter::Filter;
use crate::decode::Decoder;

/// With more, reading the bytes would take longer than decoding them.
const MAX_THREADS: usize = 8;
/// The most documents for each thread that are read ahead.
const AHEAD: usize = 2;

/// A [`Capture`] whose spans are decoded, and passed to a function, on other threads.
pub struct InParallel<T> {
    capture: Capture,
    jobs: Sender<Job<T>>,
    most: usize,
    /// In the order of the file.
    waiting: VecDeque<Receiver<Done<T>>>,
    ready: VecDeque<T>,
    failed: Option<Error>,
}

struct Job<T> {
    document: Document,
    done: SyncSender<Done<T>>,
}

/// What is left of a document, without its spans, and the results for these.
type Done<T> = (Contents, Vec<T>);

impl Capture {
    /// Passes spans to `each` on as many threads as there are cores, up to eight. Returns the results in the order of
    /// the file.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn in_parallel<T: Send + 'static>(
        self,
        each: impl Fn(Spans) -> T + Send + Sync + 'static,
    ) -> Result<InParallel<T>> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(MAX_THREADS);
        let (jobs, received) = channel();
        let (each, received) = (Arc::new(each), Arc::new(Mutex::new(received)));
        for _ in 0..threads {
            let (each, received, filter) = (Arc::clone(&each), Arc::clone(&received), self.filter.clone());
            let decoder = self.format.decoder();
            thread::Builder::new()
                .name("capture".into())
                .spawn(move || work(&received, &filter, decoder, &*each))
                .context("can't start the thread `capture`")?;
        }
        let most = AHEAD * threads;
        Ok(InParallel {
            capture: self,
            jobs,
            most,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            failed: None,
        })
    }
}

/// Decodes until there is nothing more to do.
fn work<T>(
    jobs: &Mutex<Receiver<Job<T>>>,
    filter: &Filter,
    mut decoder: Decoder,
    each: &impl Fn(Spans) -> T,
) {
    loop {
        // The lock is released before the work.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { document, done }) = job else { return };
        let mut contents = Contents::of(&document, filter, &mut decoder);
        let results = contents.spans.drain(..).map(each).collect();
        // If nobody waits for it, the reader is gone.
        let _ = done.send((contents, results));
    }
}

impl<T> InParallel<T> {
    /// The file, for [`Capture::damage`] and [`Capture::lost_by_senders`].
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    fn read_ahead(&mut self) {
        while self.waiting.len() < self.most && self.failed.is_none() {
            match self.capture.document() {
                Ok(Some(document)) => {
                    let (done, waiting) = sync_channel(1);
                    // If all threads have panicked, nothing comes back.
                    let _ = self.jobs.send(Job { document, done });
                    self.waiting.push_back(waiting);
                }
                Ok(None) => return,
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

/// As that of [`Capture`].
impl<T> Iterator for InParallel<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            self.read_ahead();
            let Some(first) = self.waiting.pop_front() else { return self.failed.take().map(Err) };
            match first.recv() {
                Ok((contents, results)) => {
                    self.capture.note(&contents);
                    self.ready.extend(results);
                }
                Err(_) => return Some(Err(anyhow!("a thread that reads the file panicked"))),
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
