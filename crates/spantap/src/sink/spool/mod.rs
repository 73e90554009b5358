//! The queue with `--spool DIR`: every chunk is in a file before `push` returns.
//!
//! # Files
//!
//! ```text
//! DIR/lock                  held by the process that uses DIR (flock); its pid
//! DIR/TARGET/target         the target, as the user names it
//! DIR/TARGET/N.segment      records of chunks, see `segment` and `record`
//! DIR/TARGET/position       up to where the backend has answered for the records, see `segment`
//! DIR/TARGET/senders        the progress of each sender, see `senders`
//! DIR/TARGET/N.damaged      the end of a segment that could not be read
//! ```
//!
//! Segments, position and senders begin with a head that has their version, see `format`. `directory` makes DIR and
//! holds its lock.
//!
//! # Invariants
//!
//! * Only the last segment is written, at its end, and only by the run that made it. A start begins a new segment.
//! * A record is one write. A kill can leave a part of one record, at the end of the last segment.
//! * The backend has answered for each record before the position, or its spans are counted as lost or missing. The
//!   position may lag behind; then the last batch is sent a second time.
//! * A segment is removed when its records are answered for, or when the spool is full; `senders` is written before.
//! * Files are not synced to the disk at each push, so a power cut or a crash of the kernel can lose the last seconds.
//!
//! # Damage
//!
//! * The end of a segment is not a whole record: the start copies the rest to `N.damaged` and cuts it off.
//! * A record's checksum is wrong: the record is left out. Its spans are counted as unreadable, or by their sender's
//!   next datagram as missing; see `Spool::open`.
//! * A header is damaged while its record waits: the rest of the segment is left out and counted.
//! * The position is damaged: all segments are sent, some records for the second time.
//! * `senders` is damaged: no sender is known, and no span is reported missing.
//!
//! # Versions
//!
//! Each file has a version of its own, so a folder may hold files of several. This build writes version 2. It reads
//! version 1, which had no heads; position and senders become version 2 with the next write, segments stay as they
//! are until they are delivered. If any file of a target is of a later version, the target's folder stays as it is,
//! and the start fails with a message that names the file, see [`directory::check`]. A change of any layout needs a
//! new version.
//!
//! # Lack of room
//!
//! A write can fail because the disk is full, a quota is used up, or the file has reached `RLIMIT_FSIZE`. The spool
//! then ends the segment, removes the segments that are delivered, and tries once more in a new segment. What still
//! does not fit is counted as dropped, and the next push tries again.
//!
//! # Locking
//!
//! The lock is held for short work and for writing, never while the worker reads, so [`Store::push`] does not wait
//! for the worker's reads.

pub(super) mod directory;
mod format;
mod record;
mod segment;
mod senders;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use format::{FILE_HEAD_BYTES, Kind};
use nix::sys::statvfs::statvfs;
use segment::{Position, PositionFile, Segment};

use super::queue::{Load, Store};
use super::stats::{Counters, Loss};
use super::tally::Tally;
use crate::encode::Chunk;
use crate::process::{Progress, Senders};
use crate::text::Notices;

/// A delivered segment is freed as a whole, so it should not be large; each is a file to open, so it should not be
/// small.
const SEGMENT_BYTES: u64 = 8 << 20;
/// At least this many segments fit, so that dropping the oldest one drops at most a quarter of what waits.
const MIN_SEGMENTS: u64 = 4;
/// If room is scarce, a segment gets an eighth of it, because the delivered part of a segment also takes up room
/// until all of it is delivered.
const SHARE_OF_ROOM: u64 = 8;
/// The least size of a segment then: a file for only a few records would be a waste.
const SMALL_SEGMENT_BYTES: u64 = 64 << 10;

/// A [`Store`] on disk, for one sink.
pub(super) struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    segment_bytes: u64,
    counters: Arc<Counters>,
    notices: Notices,
    position: PositionFile,
    state: Mutex<State>,
}

struct State {
    /// The oldest first.
    segments: VecDeque<Segment>,
    next_number: u64,
    /// The last segment's file, if this run made it and it is not full; and the size at which it is full.
    writer: Option<File>,
    writer_bytes: u64,
    /// The size of the spool when a write last failed for lack of room.
    room: Option<u64>,
    /// The record being written.
    record: Vec<u8>,
    taken: Option<Taken>,
    write_fails: bool,
    read_fails: bool,
    position_fails: bool,
    full: bool,
    /// The segment whose damage was reported last.
    damage_reported: Option<u64>,
    /// The progress of each sender, by the pushed chunks.
    senders: Senders,
    /// Whether the file `senders` lacks a part of `senders`.
    senders_changed: bool,
    /// Whether a notice has said that they can't be written, since they last were.
    is_senders_failure_said: bool,
}

/// A batch that the worker also has in memory: it is sent even if its segment is dropped in the meantime.
struct Taken {
    number: u64,
    start: u64,
    end: u64,
    spans: Tally,
}

impl Spool {
    /// Takes over what an earlier run left in `folder`. Its files must have passed [`directory::check`].
    ///
    /// A damaged record with sequence numbers is left for its sender's next datagram, if that will show its spans
    /// as missing: if the sender is known, and no undamaged record has progress beyond it. Otherwise no datagram
    /// will show them, and they are counted here as unreadable.
    pub(super) fn open(
        folder: PathBuf,
        max_bytes: u64,
        counters: Arc<Counters>,
        notices: Notices,
    ) -> io::Result<Self> {
        counters.is_spooled();
        let position = segment::read_position(&folder);
        let mut segments = VecDeque::new();
        let mut senders = Senders::default();
        senders.restore(senders::read(&folder));
        let mut delivered = Vec::new();
        let mut last = position.number;
        let mut damaged = Vec::new();
        let mut torn = Tally::default();
        for number in segment::numbers(&folder)? {
            last = last.max(number);
            let path = segment::path(&folder, number);
            let done = if number == position.number { position.done } else { 0 };
            let scan = segment::scan(&path, done)?;
            let done = done.max(segment::first_record(scan.version));
            scan.progress.iter().for_each(|progress| senders.set(*progress));
            if number < position.number || (done >= scan.length && scan.torn == 0) {
                delivered.push(path);
                continue;
            }
            if scan.torn > 0 {
                // Cuts it off, so that it is reported and counted once. A kill leaves the beginning of one record;
                // a copy of anything else may be worth a look.
                let file = OpenOptions::new().read(true).write(true).open(&path)?;
                let damaged = path.with_extension("damaged");
                let fate = match segment::copy_tail(&file, scan.length, &damaged) {
                    Ok(()) => format!("moved to {}", damaged.display()),
                    // A full disk must not keep spantap from delivering what is on it.
                    Err(cause) => {
                        let _ = std::fs::remove_file(&damaged);
                        format!("cut off, because they can't be kept in {}: {cause}", damaged.display())
                    }
                };
                file.set_len(scan.length)?;
                notices.say(format!(
                    "{}: the last {} bytes are not a whole record and were {fate}; {}",
                    path.display(),
                    scan.torn,
                    match scan.torn_spans.total() {
                        0 => lost(0),
                        // Only the first record's spans are known.
                        spans => format!("at least {}", lost(spans)),
                    }
                ));
            }
            // Numbered spans are counted as missing when their sender sends again.
            if !scan.torn_are_numbered {
                torn.add_all(&scan.torn_spans);
            }
            let done = done.min(scan.length);
            let segment = Segment {
                version: scan.version,
                length: scan.length,
                spans: scan.spans,
                ..Segment::new(number)
            };
            segments.push_back(Segment { done, taken: done, ..segment });
            damaged.extend(scan.damaged.into_iter().map(|of| (number, of)));
        }
        let known: HashMap<u64, u64> = senders.iter().map(|of| (of.sender, of.spans)).collect();
        for (number, record) in damaged {
            let will_show = |of: &Progress| known.get(&of.sender).is_some_and(|spans| *spans < of.spans);
            let segment = segments.iter_mut().find(|segment| segment.number == number);
            if let Some(segment) = segment.filter(|_| record.claimed.iter().any(will_show)) {
                segment.spans.take_away(&record.spans);
                segment.reported_missing.push(record.start);
            }
        }
        segments.iter().for_each(|segment| counters.recover(&segment.spans, &Tally::default()));
        counters.recover(&Tally::default(), &torn);
        if !delivered.is_empty() {
            // Before the records with this progress go. If the write fails, no old file is left, and senders are
            // unknown.
            let _ = senders::write(&folder, senders.iter());
        }
        delivered.iter().try_for_each(std::fs::remove_file)?;
        let state = State {
            segments,
            next_number: last + 1,
            writer: None,
            writer_bytes: 0,
            room: None,
            record: Vec::new(),
            taken: None,
            write_fails: false,
            read_fails: false,
            position_fails: false,
            full: false,
            damage_reported: None,
            senders,
            senders_changed: true,
            is_senders_failure_said: false,
        };
        let segment_bytes = SEGMENT_BYTES.min(max_bytes / MIN_SEGMENTS);
        let position = PositionFile::open(&folder, position)?;
        let state = Mutex::new(state);
        Ok(Self { folder, max_bytes, segment_bytes, counters, notices, position, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_room(&self, state: &mut State) {
        let head = if state.begins_segment() { FILE_HEAD_BYTES } else { 0 };
        let needed = (head + state.record.len()) as u64;
        while state.bytes() + needed > self.max_bytes {
            self.save_senders(state);
            let Some(oldest) = state.segments.pop_front() else { break };
            if state.segments.is_empty() {
                state.writer = None;
            }
            self.remove(oldest.number);
            self.counters.lose(&oldest.spans, Loss::SpoolFull);
            if oldest.spans.total() > 0 && !state.full {
                state.full = true;
                self.notices.say(format!(
                    "the spool {} has reached {} bytes; its oldest spans are dropped until the backend accepts \
                     spans faster",
                    self.folder.display(),
                    self.max_bytes
                ));
            }
        }
    }

    fn write_record(&self, state: &mut State) -> io::Result<()> {
        self.notice_removal(state)?;
        let cause = match self.append(state) {
            Err(cause) if lacks_room(&cause) => cause,
            written => return written,
        };
        // RLIMIT_FSIZE limits one file, not the spool.
        if cause.kind() != ErrorKind::FileTooLarge {
            state.room = Some(state.bytes());
        }
        if self.free_room(state) { self.append(state) } else { Err(cause) }
    }

    /// The size at which the next segment is full.
    fn next_segment_bytes(&self, state: &mut State) -> u64 {
        let bytes = state.bytes();
        // If the spool has outgrown the size at which a write failed, the limit is outdated.
        state.room = state.room.filter(|room| bytes <= *room);
        let on_disk =
            statvfs(&self.folder).map_or(u64::MAX, |disk| disk.blocks_available() * disk.fragment_size());
        let room = state.room.unwrap_or(u64::MAX).min(on_disk.saturating_add(bytes));
        (room / SHARE_OF_ROOM).max(SMALL_SEGMENT_BYTES).min(self.segment_bytes)
    }

    /// Frees room after a write failed for lack of it. Returns false if another attempt would fail the same way.
    fn free_room(&self, state: &mut State) -> bool {
        // An earlier attempt has begun an empty segment. Another one would be no better, and they would pile up.
        let begun = state.segments.back().is_some_and(|last| last.length == 0);
        if !begun {
            state.writer = None;
        }
        let before = state.segments.len();
        self.remove_done(state);
        !begun || state.segments.len() < before
    }

    /// Writes the record after the last one; in a new segment if the last is full.
    fn append(&self, state: &mut State) -> io::Result<()> {
        if state.needs_segment() {
            let number = state.next_number;
            let path = segment::path(&self.folder, number);
            state.writer_bytes = self.next_segment_bytes(state);
            state.writer = Some(OpenOptions::new().write(true).create_new(true).open(path)?);
            state.next_number += 1;
            state.segments.push_back(Segment::new(number));
            self.remove_done(state);
        }
        if let (Some(file), Some(last)) = (&state.writer, state.segments.back_mut()) {
            // The head and the first record are one write, too.
            let bytes = match last.length {
                0 => Cow::from([&Kind::Segment.head()[..], &state.record].concat()),
                _ => Cow::from(&state.record),
            };
            let written = file.write_all_at(&bytes, last.length);
            if written.is_err() {
                // The partial record lies after the end, and the next record overwrites it. If it can't be cut off
                // now, only a later start sees it.
                let _ = file.set_len(last.length);
            }
            written?;
            last.length += bytes.len() as u64;
        }
        Ok(())
    }

    /// Checks whether the current segment, or the whole folder, was removed; then a new segment begins.
    fn notice_removal(&self, state: &mut State) -> io::Result<()> {
        let removed = |file: &File| file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        if !state.writer.as_ref().is_some_and(removed) {
            return Ok(());
        }
        state.writer = None;
        self.count_removed(state);
        std::fs::create_dir_all(&self.folder)?;
        // The segments with this progress are gone.
        state.senders_changed = true;
        self.save_senders(state);
        Ok(())
    }

    /// Counts the spans of segments that were removed by someone else.
    fn count_removed(&self, state: &mut State) {
        let gone = |segment: &Segment| !segment::path(&self.folder, segment.number).exists();
        let mut spans = Tally::default();
        state
            .segments
            .iter()
            .filter(|segment| gone(segment))
            .for_each(|segment| spans.add_all(&segment.spans));
        state.segments.retain(|segment| !gone(segment));
        if spans.total() > 0 {
            self.counters.lose(&spans, Loss::Unreadable);
            self.notices.say(format!(
                "{}: files of the spool were removed; {}",
                self.folder.display(),
                lost(spans.total())
            ));
        }
    }

    /// Removes the segments at the front that are delivered, except one that is being written.
    fn remove_done(&self, state: &mut State) {
        while state.segments.len() > usize::from(state.writer.is_some())
            && state.segments.front().is_some_and(|first| first.done >= first.length)
        {
            self.save_senders(state);
            if let Some(first) = state.segments.pop_front() {
                self.remove(first.number);
            }
        }
    }

    /// Saves the progress of each sender, before records with it are removed. If there is no room for that, the old
    /// file is removed and a later removal tries again; a kill until then makes the senders unknown.
    fn save_senders(&self, state: &mut State) {
        if state.senders_changed {
            let written = senders::write(&self.folder, state.senders.iter());
            state.senders_changed = written.is_err();
            match written {
                Ok(()) => state.is_senders_failure_said = false,
                Err(cause) if !std::mem::replace(&mut state.is_senders_failure_said, true) => {
                    self.notices.say(format!(
                        "can't write {}: {cause}; if spantap is killed now, the next one does not count all that is missing",
                        self.folder.join("senders").display()
                    ));
                }
                Err(_) => {}
            }
        }
    }

    fn remove(&self, number: u64) {
        let path = segment::path(&self.folder, number);
        if let Err(cause) = std::fs::remove_file(&path) {
            self.notices.say(format!("can't remove the spool's segment {}: {cause}", path.display()));
        }
    }

    /// Moves the position: records of segment `number` up to `done` are delivered or lost.
    fn move_on(&self, state: &mut State, number: u64, done: u64) {
        if let Some(segment) = state.segment(number) {
            segment.done = done;
        }
        let position = Position { number, done };
        let mut written = self.position.write(position);
        if written.as_ref().is_err_and(lacks_room) && self.free_room(state) {
            written = self.position.write(position);
        }
        match written {
            Ok(()) => state.position_fails = false,
            Err(cause) if !state.position_fails => {
                state.position_fails = true;
                self.notices.say(format!(
                    "can't write {}/position: {cause}; a kill now makes the next start send spans a second time",
                    self.folder.display()
                ));
            }
            Err(_) => {}
        }
        self.remove_done(state);
    }

    /// Takes one run of records. `None` if nothing can be taken; no chunks if their records are damaged.
    fn take_run(&self, limits: Load) -> Option<Vec<Chunk>> {
        let (number, version, start, end) = {
            let mut state = self.state();
            let first = state.segments.iter_mut().find(|segment| segment.taken < segment.length)?;
            let start = first.taken.max(segment::first_record(first.version));
            (first.number, first.version, start, first.length)
        };
        let path = segment::path(&self.folder, number);
        let read = File::open(&path).and_then(|file| segment::read(&file, version, start, end, limits));
        let mut state = self.state();
        match &read {
            // Errors such as too many open files may be temporary.
            Err(cause) if !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
                if !std::mem::replace(&mut state.read_fails, true) {
                    self.notices
                        .say(format!("can't read {}: {cause}; it will be tried again", path.display()));
                }
                return None;
            }
            _ => state.read_fails = false,
        }
        // The segment was dropped in the meantime, and counted then.
        let Some(segment) = state.segment(number) else { return Some(Vec::new()) };
        let damaged = segment.spans.clone();
        let rest = segment::Run { end: segment.length, damaged, ..Default::default() };
        let (run, why, is_reported) = match read {
            Ok(run) if run.end > start => {
                (run, "a checksum is wrong".to_owned(), segment.reported_missing.contains(&start))
            }
            // The start of the next record is unknown.
            Ok(_) => (rest, "a header is damaged".to_owned(), false),
            Err(cause) => (rest, cause.to_string(), false),
        };
        segment.taken = run.end;
        segment.spans.take_away(&run.spans);
        if run.damaged.total() > 0 {
            let damaged = run.damaged.total();
            let fate = if is_reported {
                format!("{damaged} spans are lost, and are counted as missing when their sender sends again")
            } else {
                segment.spans.take_away(&run.damaged);
                self.counters.lose(&run.damaged, Loss::Unreadable);
                lost(damaged)
            };
            if state.damage_reported.replace(number) != Some(number) {
                self.notices.say(format!("{}: {why}; {fate}", path.display()));
            }
        }
        match run.chunks.is_empty() {
            true => self.move_on(&mut state, number, run.end),
            false => {
                state.taken = Some(Taken { number, start, end: run.end, spans: run.spans });
            }
        }
        Some(run.chunks)
    }
}

/// Whether the disk or a quota is full, or the file has reached `RLIMIT_FSIZE`.
fn lacks_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn lost(spans: u64) -> String {
    match spans {
        0 => "the number of lost spans is not known".to_owned(),
        spans => format!("{spans} spans are lost"),
    }
}

impl State {
    /// Whether the last segment is full or belongs to an earlier run.
    fn needs_segment(&self) -> bool {
        self.writer.is_none() || self.segments.back().is_none_or(|last| last.length >= self.writer_bytes)
    }

    /// Whether the next record is the first of its segment.
    fn begins_segment(&self) -> bool {
        self.needs_segment() || self.segments.back().is_some_and(|last| last.length == 0)
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    fn waiting(&self) -> Load {
        let add = |load: Load, segment: &Segment| {
            load.and(Load { spans: segment.spans.total(), bytes: segment.length - segment.taken })
        };
        self.segments.iter().fold(Load::default(), add)
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|segment| segment.number == number)
    }
}

impl Store for Spool {
    fn push(&self, chunk: &Chunk) -> Load {
        let spans = u64::from(chunk.spans);
        let mut state = self.state();
        let state = &mut *state;
        record::write(chunk, &mut state.record);
        if state.record.is_empty() || (FILE_HEAD_BYTES + state.record.len()) as u64 > self.max_bytes {
            self.counters.push(chunk.sender, spans);
            self.counters.lose(&Tally::of(chunk.sender, spans), Loss::SpoolFull);
            return state.waiting();
        }
        self.make_room(state);
        chunk.progress.iter().for_each(|progress| state.senders.set(*progress));
        state.senders_changed |= !chunk.progress.is_empty();
        match self.write_record(state) {
            Ok(()) => {
                if let Some(last) = state.segments.back_mut() {
                    last.spans.add(chunk.sender, spans);
                }
                self.counters.push(chunk.sender, spans);
                if std::mem::take(&mut state.write_fails) {
                    self.notices.say(format!("the spool {} can be written again", self.folder.display()));
                }
            }
            Err(cause) => {
                self.counters.push_unwritten(chunk.sender, spans);
                if !std::mem::replace(&mut state.write_fails, true) {
                    self.notices.say(format!(
                        "can't write to the spool {}: {cause}; new spans are dropped until it can be written",
                        self.folder.display()
                    ));
                }
            }
        }
        state.waiting()
    }

    fn waiting(&self) -> Load {
        self.state().waiting()
    }

    fn take(&self, limits: Load) -> Vec<Chunk> {
        loop {
            match self.take_run(limits) {
                None => return Vec::new(),
                Some(chunks) if !chunks.is_empty() => return chunks,
                Some(_) => {}
            }
        }
    }

    fn acknowledge(&self, rejected: u64) {
        let mut state = self.state();
        let Some(taken) = state.taken.take() else { return };
        self.counters.answer(&taken.spans, rejected);
        self.move_on(&mut state, taken.number, taken.end);
        // Only at half the limit: a backend that is slightly too slow is reported once.
        state.full &= state.bytes() > self.max_bytes / 2;
    }

    fn give_back(&self) {
        let mut state = self.state();
        let Some(taken) = state.taken.take() else { return };
        match state.segment(taken.number) {
            Some(segment) => {
                segment.taken = taken.start;
                segment.spans.add_all(&taken.spans);
            }
            None => self.counters.lose(&taken.spans, Loss::SpoolFull),
        }
    }

    fn advance(&self, progress: &[Progress]) {
        let mut state = self.state();
        progress.iter().for_each(|progress| state.senders.set(*progress));
        state.senders_changed = true;
        self.save_senders(&mut state);
    }

    fn senders(&self) -> Senders {
        self.state().senders.clone()
    }

    fn close(&self) {
        self.give_back();
        let mut state = self.state();
        self.save_senders(&mut state);
        self.count_removed(&mut state);
        let queued = self.counters.queued();
        if queued > 0 {
            let folder = self.folder.display();
            self.notices.say(format!("{queued} spans wait in {folder} for the next start"));
        } else {
            state.writer = None;
            state.segments.drain(..).for_each(|segment| self.remove(segment.number));
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
