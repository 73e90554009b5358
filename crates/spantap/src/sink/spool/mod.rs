//! The queue with `--spool DIR`: every chunk is in a file before `push` returns.
//!
//! A killed program loses nothing that was pushed: the next start sends what is there. It may send the
//! last batch a second time, if it was killed between the backend's answer and the writing down of the
//! position; never is one left out. Files are not synced to the disk at each push, so a power cut or a
//! crash of the kernel can cost what was pushed in the last seconds.
//!
//! A write can fail for want of room: the disk is full, a quota is used up, or the file has reached
//! `RLIMIT_FSIZE`. The spool then ends the segment, removes the segments that are delivered, and tries
//! once more in a new segment. What still does not fit is counted as dropped, and the next push tries again.
//!
//! The lock is held for small things and for writing, never while the worker reads: [`Store::push`]
//! does not wait for it.

mod directory;
mod record;
mod segment;
mod senders;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) use directory::Directory;
use nix::sys::statvfs::statvfs;
use segment::{Position, PositionFile, Segment};

use super::figures::{Figures, Loss};
use super::queue::{Load, Store};
use super::tally::Tally;
use crate::chunk::Chunk;
use crate::notices::Notices;
use crate::sequence::Senders;

/// A consumed segment gives its room back as a whole, so it should not be large; each is a file to
/// open, so it should not be small.
const SEGMENT_BYTES: u64 = 8 << 20;
/// So that dropping the oldest segment never drops more than a quarter of what waits.
const MIN_SEGMENTS: u64 = 4;
/// Where there is little room, a segment has an eighth of it: the delivered part of a segment takes room, too, until
/// all of it is delivered. But a file for a few records alone would be a waste.
const SHARE_OF_ROOM: u64 = 8;
const SMALL_SEGMENT_BYTES: u64 = 64 << 10;

/// See [`Store`]. One for each sink.
pub(super) struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    segment_bytes: u64,
    figures: Arc<Figures>,
    notices: Notices,
    position: PositionFile,
    state: Mutex<State>,
}

struct State {
    /// The oldest first.
    segments: VecDeque<Segment>,
    next_number: u64,
    /// Of the last segment, if that is of this run and not full; and when it is full.
    writer: Option<File>,
    writer_bytes: u64,
    /// What the spool had when there was no more room, on the disk or in a quota.
    room: Option<u64>,
    /// The record being written.
    record: Vec<u8>,
    taken: Option<Taken>,
    write_fails: bool,
    read_fails: bool,
    position_fails: bool,
    full: bool,
    /// The segment of which it was last told that it is damaged.
    damage_told: Option<u64>,
    /// How far each sender has come, by what was pushed.
    senders: Senders,
    /// The file of the same name does not say all of it.
    senders_changed: bool,
}

/// A batch that the worker has, in memory too: it is sent even if its segment is dropped meanwhile.
struct Taken {
    number: u64,
    start: u64,
    end: u64,
    spans: Tally,
}

impl Spool {
    /// Takes over what an earlier run left in `folder`.
    pub(super) fn open(
        folder: PathBuf,
        max_bytes: u64,
        figures: Arc<Figures>,
        notices: Notices,
    ) -> io::Result<Self> {
        figures.is_spooled();
        let position = segment::read_position(&folder);
        let mut segments = VecDeque::new();
        let mut senders = Senders::default();
        senders.restore(senders::read(&folder));
        let mut delivered = Vec::new();
        let mut last = position.number;
        for number in segment::numbers(&folder)? {
            last = last.max(number);
            let path = segment::path(&folder, number);
            let done = if number == position.number { position.done } else { 0 };
            let scan = segment::scan(&path, done)?;
            scan.progress.iter().for_each(|progress| senders.set(*progress));
            if number < position.number || (done >= scan.length && scan.torn == 0) {
                delivered.push(path);
                continue;
            }
            if scan.torn > 0 {
                // So that it is told and counted once. What a kill leaves is the begin of one record;
                // anything more may be worth looking at, or be of another version.
                let file = OpenOptions::new().read(true).write(true).open(&path)?;
                let damaged = path.with_extension("damaged");
                let fate = match segment::copy_tail(&file, scan.length, &damaged) {
                    Ok(()) => format!("moved to {}", damaged.display()),
                    // A full disk must not keep us from delivering what is on it.
                    Err(cause) => {
                        let _ = std::fs::remove_file(&damaged);
                        format!("cut off, because they can't be kept in {}: {cause}", damaged.display())
                    }
                };
                file.set_len(scan.length)?;
                notices.say(format!(
                    "{}: the last {} bytes are no whole record and were {fate}; {}",
                    path.display(),
                    scan.torn,
                    match scan.torn_spans.total() {
                        0 => lost(0),
                        // Of the first record of them alone.
                        spans => format!("at least {}", lost(spans)),
                    }
                ));
            }
            // The others are counted as missing when their sender is heard of again.
            let lost = if scan.torn_are_numbered { Tally::default() } else { scan.torn_spans };
            figures.recover(&scan.spans, &lost);
            let done = done.min(scan.length);
            segments.push_back(Segment { number, length: scan.length, done, taken: done, spans: scan.spans });
        }
        if !delivered.is_empty() {
            // Before the records that say so go. Where it fails, no old file is left, and senders are unknown.
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
            damage_told: None,
            senders,
            senders_changed: true,
        };
        let segment_bytes = SEGMENT_BYTES.min(max_bytes / MIN_SEGMENTS);
        let position = PositionFile::open(&folder, position)?;
        let state = Mutex::new(state);
        Ok(Self { folder, max_bytes, segment_bytes, figures, notices, position, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_room(&self, state: &mut State) {
        while state.bytes() + state.record.len() as u64 > self.max_bytes {
            self.remember_senders(state);
            let Some(oldest) = state.segments.pop_front() else { break };
            if state.segments.is_empty() {
                state.writer = None;
            }
            self.remove(oldest.number);
            self.figures.lose(&oldest.spans, Loss::SpoolFull);
            if oldest.spans.total() > 0 && !state.full {
                state.full = true;
                self.notices.say(format!(
                    "the spool {} has reached {} bytes: its oldest spans are dropped until they are taken \
                     off faster",
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
        // RLIMIT_FSIZE is about one file.
        if cause.kind() != ErrorKind::FileTooLarge {
            state.room = Some(state.bytes());
        }
        if self.free_room(state) { self.append(state) } else { Err(cause) }
    }

    /// How large the next segment may become.
    fn next_segment_bytes(&self, state: &mut State) -> u64 {
        let bytes = state.bytes();
        // More than there was room for once: it has become more.
        state.room = state.room.filter(|room| bytes <= *room);
        let on_disk =
            statvfs(&self.folder).map_or(u64::MAX, |disk| disk.blocks_available() * disk.fragment_size());
        let room = state.room.unwrap_or(u64::MAX).min(on_disk.saturating_add(bytes));
        (room / SHARE_OF_ROOM).max(SMALL_SEGMENT_BYTES).min(self.segment_bytes)
    }

    /// After a write that failed for want of room. False if another attempt would be the same again.
    fn free_room(&self, state: &mut State) -> bool {
        // An empty segment is one that an earlier attempt has begun. Another one would be no better, and
        // empty segments would pile up.
        let begun = state.segments.back().is_some_and(|last| last.length == 0);
        if !begun {
            state.writer = None;
        }
        let before = state.segments.len();
        self.remove_done(state);
        !begun || state.segments.len() < before
    }

    /// Puts the record behind the last one, in a new segment if that is full.
    fn append(&self, state: &mut State) -> io::Result<()> {
        let full = state.segments.back().is_none_or(|last| last.length >= state.writer_bytes);
        if full || state.writer.is_none() {
            let number = state.next_number;
            let path = segment::path(&self.folder, number);
            state.writer_bytes = self.next_segment_bytes(state);
            state.writer = Some(OpenOptions::new().write(true).create_new(true).open(path)?);
            state.next_number += 1;
            state.segments.push_back(Segment {
                number,
                length: 0,
                done: 0,
                taken: 0,
                spans: Tally::default(),
            });
            self.remove_done(state);
        }
        if let (Some(file), Some(last)) = (&state.writer, state.segments.back_mut()) {
            let written = file.write_all_at(&state.record, last.length);
            if written.is_err() {
                // What was written of it is behind the end, and the next record is put over it. Only
                // a start after this one sees it, if it can't be cut off now.
                let _ = file.set_len(last.length);
            }
            written?;
            last.length += state.record.len() as u64;
        }
        Ok(())
    }

    /// Somebody may have removed the segment that is being written, or the whole folder: it is begun anew.
    fn notice_removal(&self, state: &mut State) -> io::Result<()> {
        let removed = |file: &File| file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        if !state.writer.as_ref().is_some_and(removed) {
            return Ok(());
        }
        state.writer = None;
        self.count_removed(state);
        std::fs::create_dir_all(&self.folder)?;
        // The segments that said so are gone.
        state.senders_changed = true;
        self.remember_senders(state);
        Ok(())
    }

    /// Counts what was in segments that are not there any more.
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
            self.figures.lose(&spans, Loss::Unreadable);
            self.notices.say(format!(
                "{}: somebody removed files of the spool; {}",
                self.folder.display(),
                lost(spans.total())
            ));
        }
    }

    /// Removes the segments at the front that have been answered for, but for one that is being written.
    fn remove_done(&self, state: &mut State) {
        while state.segments.len() > usize::from(state.writer.is_some())
            && state.segments.front().is_some_and(|first| first.done >= first.length)
        {
            self.remember_senders(state);
            if let Some(first) = state.segments.pop_front() {
                self.remove(first.number);
            }
        }
    }

    /// Writes down how far each sender has come, before records that say so are removed. If there is no room for
    /// that, the old file goes, and a later removal tries again: a kill until then makes senders unknown.
    fn remember_senders(&self, state: &mut State) {
        if state.senders_changed {
            state.senders_changed = senders::write(&self.folder, state.senders.iter()).is_err();
        }
    }

    fn remove(&self, number: u64) {
        let path = segment::path(&self.folder, number);
        if let Err(cause) = std::fs::remove_file(&path) {
            self.notices.say(format!("can't remove the spool's segment {}: {cause}", path.display()));
        }
    }

    /// The worker is through with records of segment `number` up to `done`.
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
                    "can't write {}/position: {cause}; spans are sent a second time if spantap is killed now",
                    self.folder.display()
                ));
            }
            Err(_) => {}
        }
        self.remove_done(state);
    }

    /// One run of records, as taken. Nothing if there is none to be taken; none of the chunks if their
    /// records are damaged.
    fn take_run(&self, limits: Load) -> Option<Vec<Chunk>> {
        let (number, start, end) = {
            let mut state = self.state();
            let first = state.segments.iter_mut().find(|segment| segment.taken < segment.length)?;
            (first.number, first.taken, first.length)
        };
        let path = segment::path(&self.folder, number);
        let read = File::open(&path).and_then(|file| segment::read(&file, start, end, limits));
        let mut state = self.state();
        match &read {
            // Such as too many open files. Later it may be better.
            Err(cause) if !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
                if !std::mem::replace(&mut state.read_fails, true) {
                    self.notices.say(format!("can't read {}: {cause}; it is tried again", path.display()));
                }
                return None;
            }
            _ => state.read_fails = false,
        }
        // Dropped in the meantime, and counted there.
        let Some(segment) = state.segment(number) else { return Some(Vec::new()) };
        let damaged = segment.spans.clone();
        let rest = segment::Run { end: segment.length, damaged, ..Default::default() };
        let (run, why) = match read {
            Ok(run) if run.end > start => (run, "a checksum is wrong".to_owned()),
            // Where the next record begins is not known.
            Ok(_) => (rest, "a header is damaged".to_owned()),
            Err(cause) => (rest, cause.to_string()),
        };
        segment.taken = run.end;
        segment.spans.take_away(&run.spans);
        segment.spans.take_away(&run.damaged);
        if run.damaged.total() > 0 {
            self.figures.lose(&run.damaged, Loss::Unreadable);
            if state.damage_told.replace(number) != Some(number) {
                self.notices.say(format!("{}: {why}; {}", path.display(), lost(run.damaged.total())));
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

/// On the disk, in a quota, or in a file as large as `RLIMIT_FSIZE` allows.
fn lacks_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn lost(spans: u64) -> String {
    match spans {
        0 => "how many spans they held is not known".to_owned(),
        spans => format!("{spans} spans are lost"),
    }
}

impl State {
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
        if state.record.is_empty() || state.record.len() as u64 > self.max_bytes {
            self.figures.push(chunk.sender, spans);
            self.figures.lose(&Tally::of(chunk.sender, spans), Loss::SpoolFull);
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
                self.figures.push(chunk.sender, spans);
                if std::mem::take(&mut state.write_fails) {
                    self.notices.say(format!("the spool {} can be written again", self.folder.display()));
                }
            }
            Err(cause) => {
                self.figures.push_unwritten(chunk.sender, spans);
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
        self.figures.answer(&taken.spans, rejected);
        self.move_on(&mut state, taken.number, taken.end);
        // Not at once: a backend that is a little too slow is told of once.
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
            None => self.figures.lose(&taken.spans, Loss::SpoolFull),
        }
    }

    fn senders(&self) -> Senders {
        self.state().senders.clone()
    }

    fn close(&self) {
        self.give_back();
        let mut state = self.state();
        self.remember_senders(&mut state);
        self.count_removed(&mut state);
        let queued = self.figures.queued();
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
