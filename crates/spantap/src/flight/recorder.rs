//! Takes in frames and triggers from any thread, and writes files.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::describe::{because, content, words};
use super::schedule::Schedule;
use super::trigger::{Kind, SPACING, Trigger};
use super::window::Window;
use super::write::Names;
use crate::capture::spans_of;
use crate::process::Process;
use crate::query::{Query, Subject};
use crate::span::{Summary, name_of_field};
use crate::text::{Notices, bytes, counted};

/// When a file that could not be written is tried again.
const RETRY: Duration = SPACING;

/// The user's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The first file; later ones have a time in their name.
    pub path: PathBuf,
    /// How long spans are kept.
    pub time: Duration,
    /// The most bytes of spans that are kept, compressed.
    pub max_bytes: usize,
    /// The most files with a time in their name.
    pub keep: usize,
    /// Each may trigger.
    pub queries: Vec<Query>,
}

/// A flight recorder.
///
/// The memory is that of the kept frames. While a file is being written, frames that leave the window meanwhile are freed
/// after that.
#[derive(Debug)]
pub struct FlightRecorder {
    names: Names,
    settings: Settings,
    notices: OnceLock<Notices>,
    state: Mutex<State>,
    /// Held while a file is written.
    writer: Mutex<()>,
    changed: Notify,
    files: AtomicU64,
    was_triggered: AtomicBool,
    has_failed: AtomicBool,
}

struct State {
    window: Window,
    schedule: Schedule,
    is_ending: bool,
    /// Whether it was said that the memory is full.
    said_full: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("schedule", &self.schedule).finish_non_exhaustive()
    }
}

impl FlightRecorder {
    /// A recorder that keeps nothing yet.
    ///
    /// # Errors
    ///
    /// When no file can be made at the path.
    pub fn new(settings: Settings) -> Result<Self> {
        let names = Names::new(&settings.path);
        let names = names.with_context(|| format!("can't record to {}", settings.path.display()))?;
        let window = Window::new(settings.time, settings.max_bytes);
        let schedule = Schedule::new(settings.time);
        Ok(Self {
            names,
            settings,
            notices: OnceLock::new(),
            state: Mutex::new(State { window, schedule, is_ending: false, said_full: false }),
            writer: Mutex::new(()),
            changed: Notify::new(),
            files: AtomicU64::new(0),
            was_triggered: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        })
    }

    /// Says from now on what is written, and what does not fit.
    pub fn report_to(&self, notices: Notices) {
        // The first one stays.
        let _ = self.notices.set(notices);
    }

    fn say(&self, line: String) {
        if let Some(notices) = self.notices.get() {
            notices.say(line);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a frame.
    pub fn keep(&self, frame: Bytes) {
        let (spans, now) = (spans_of(&frame), Instant::now());
        let mut state = self.state();
        let is_full = state.window.push(frame, spans, now);
        let held = state.window.held(now);
        state.schedule.set_kept(held);
        if is_full && !std::mem::replace(&mut state.said_full, true) {
            let (most, time) = (self.settings.max_bytes as u64, self.settings.time);
            let age = state.window.age(now);
            self.say(format!(
                "the memory for the last {} is full: only the last {} fit into {}; --keep-memory has room for more",
                words(time),
                words(age),
                bytes(most)
            ));
        }
    }

    /// Triggers if a query chooses the span. `field` is the span as the field `spans` of a `ScopeSpans`.
    pub fn look(&self, process: &Process, span: &Summary, field: &[u8]) {
        let subject = Subject::encoded(span, field, process);
        let Some(query) = self.settings.queries.iter().find(|query| query.matches(&subject)) else { return };
        let mut state = self.state();
        let now = Instant::now();
        if state.schedule.count(Kind::Span, now) {
            self.changed.notify_one();
            return;
        }
        let (name, service) = (name_of_field(field).to_owned(), process.service.clone());
        let (duration_ns, trace_id) = (span.duration_ns(), span.trace_id);
        let trigger = Trigger::Span { query: query.to_string(), name, service, duration_ns, trace_id };
        state.schedule.add(trigger, now);
        self.changed.notify_one();
    }

    /// Whether no frame is kept.
    pub fn is_empty(&self) -> bool {
        self.state().window.bytes() == 0
    }

    /// Whether [`look`](Self::look) can find anything.
    pub fn has_queries(&self) -> bool {
        !self.settings.queries.is_empty()
    }

    /// Writes a file soon. After a death, by [`finish`](Self::finish).
    pub fn trigger(&self, trigger: Trigger) {
        let mut state = self.state();
        state.is_ending |= matches!(trigger, Trigger::Death(_));
        state.schedule.add(trigger, Instant::now());
        self.changed.notify_one();
    }

    /// Writes files when they are due. Never ends.
    pub async fn run(self: Arc<Self>) {
        loop {
            let due = {
                let state = self.state();
                state.schedule.due().filter(|_| !state.is_ending)
            };
            let changed = pin!(self.changed.notified());
            let Some(due) = due else {
                changed.await;
                continue;
            };
            tokio::select! {
                () = changed => continue,
                () = sleep(due.saturating_duration_since(Instant::now())) => {}
            }
            let recorder = Arc::clone(&self);
            // The notices say how it went.
            let _ = spawn_blocking(move || recorder.write_due(Some(Instant::now()))).await;
        }
    }

    /// Writes a last file if something has happened since the one before, and says what was written.
    ///
    /// Call it once, when no more spans come. Returns false if a file could not be written.
    pub fn finish(&self) -> bool {
        self.state().is_ending = true;
        self.write_due(None);
        let files = self.files.load(Ordering::Relaxed);
        let was_triggered = self.was_triggered.load(Ordering::Relaxed);
        let (kept, in_bytes) = {
            let mut state = self.state();
            (state.window.content(Instant::now()).spans, state.window.bytes() as u64)
        };
        match files {
            0 if was_triggered => {}
            0 => self.say(format!(
                "flight recorder: nothing has triggered it, so nothing was written; at the end it kept {} in {}",
                counted(kept, "span", "spans"),
                bytes(in_bytes)
            )),
            _ => self.say(format!("flight recorder: wrote {}", counted(files, "file", "files"))),
        }
        !self.has_failed.load(Ordering::Relaxed)
    }

    /// Writes a file if one is due at `now`; with `None`, if anything has happened.
    fn write_due(&self, now: Option<Instant>) {
        let _one_at_a_time = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (pending, kept) = {
            let mut state = self.state();
            // A death may have come while this thread was being started: then the last spans are still to come.
            if now.is_some() && state.is_ending {
                return;
            }
            let Some(pending) = state.schedule.take(now) else { return };
            (pending, state.window.content(Instant::now()))
        };
        self.was_triggered.store(true, Ordering::Relaxed);
        let why = because(&pending);
        if kept.frames.is_empty() {
            let lost = if self.has_failed.load(Ordering::Relaxed) {
                ": the spans that could not be written are lost"
            } else {
                ""
            };
            self.say(format!("a file was due {why}; no span is kept, so it was not written{lost}"));
            return;
        }
        match self.names.write(&kept.frames, Timestamp::now()) {
            Ok(written) => {
                self.has_failed.store(false, Ordering::Relaxed);
                self.files.fetch_add(1, Ordering::Relaxed);
                let path = written.display();
                self.say(format!("wrote {path}: {}, {why}", content(&kept, self.settings.time)));
                if let Err(cause) = self.names.prune(self.settings.keep, &written) {
                    self.say(format!("can't remove files that are older than {path}: {cause}"));
                }
            }
            Err(cause) => {
                let was_failing = self.has_failed.swap(true, Ordering::Relaxed);
                let path = self.settings.path.display();
                let again = match now {
                    Some(_) => format!("; tries again every {} s, with what is kept then", RETRY.as_secs()),
                    None => String::new(),
                };
                if !was_failing || now.is_none() {
                    self.say(format!(
                        "can't write the last spans to {path}: {cause}{again}; a file was due {why}"
                    ));
                }
                let now = Instant::now();
                self.state().schedule.give_back(pending, now, RETRY);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn spans_that_could_not_be_written_in_time_are_said_to_be_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (path, time) = (folder.path().join("crash.spans"), Duration::from_secs(1));
        let settings = Settings { path, time, max_bytes: 1 << 20, keep: 1, queries: Vec::new() };
        let recorder = FlightRecorder::new(settings).unwrap();
        let (notices, lines) = Notices::new();
        recorder.report_to(notices);
        recorder.trigger(Trigger::Signal);
        recorder.write_due(None);
        let said = lines.recv().unwrap();
        assert!(said.ends_with("no span is kept, so it was not written"), "{said}");
        folder.close().unwrap();
        recorder.keep(crate::capture::encode(Bytes::new()).unwrap().into());
        recorder.trigger(Trigger::Signal);
        recorder.write_due(None);
        let said = lines.recv().unwrap();
        assert!(said.starts_with("can't write the last spans"), "{said}");
        while !recorder.state().window.content(Instant::now()).frames.is_empty() {
            std::thread::yield_now();
        }
        recorder.write_due(None);
        let said = lines.recv().unwrap();
        assert!(said.ends_with("it was not written: the spans that could not be written are lost"), "{said}");
    }
}
