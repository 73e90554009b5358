//! The files of a sink's folder: segments `NUMBER.segment` of records, oldest first by number, and the
//! file `position`, which says up to where they have been sent.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::record::{HEADER, Header};
use crate::chunk::Chunk;
use crate::sequence::Progress;
use crate::sink::queue::Load;
use crate::sink::tally::Tally;

/// One segment, as far as it is known without reading it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Up to where there are whole records.
    pub(super) length: u64,
    /// Up to where they have been answered for, and up to where they have been taken.
    pub(super) done: u64,
    pub(super) taken: u64,
    /// Of the records that have not been taken.
    pub(super) spans: Tally,
}

/// No spool ever gets there.
const MAX_NUMBER: u64 = u64::MAX / 2;

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    // 20 digits are those of the largest number, so that names sort as numbers do.
    folder.join(format!("{number:020}.segment"))
}

/// The numbers of the segments in `folder`, the oldest first.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".segment")?.parse().ok());
        // What else somebody may have put there: it could not be read, or be counted on from.
        let ours = |number: &u64| *number <= MAX_NUMBER && entry.file_type().is_ok_and(|kind| kind.is_file());
        numbers.extend(number.filter(ours));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Copies what is in `file` from `start` on.
pub(super) fn copy_tail(mut file: &File, start: u64, to: &Path) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    io::copy(&mut file, &mut File::create(to)?).map(drop)
}

/// What a segment of an earlier run holds.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Scan {
    /// Of the records after the position.
    pub(super) spans: Tally,
    /// Where the whole records end.
    pub(super) length: u64,
    /// Bytes after that, and the spans that their header tells of.
    pub(super) torn: u64,
    pub(super) torn_spans: Tally,
    /// The sender of these spans numbers them: its next datagram reveals that they are missing.
    pub(super) torn_are_numbered: bool,
    /// How far senders have come, in order, by all undamaged records.
    pub(super) progress: Vec<Progress>,
}

/// Walks the headers of the segment from the start. `done` is where it has been sent up to.
pub(super) fn scan(path: &Path, done: u64) -> io::Result<Scan> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut scan = Scan::default();
    while scan.length < size {
        let mut record = Vec::with_capacity(HEADER as usize);
        reader.by_ref().take(HEADER).read_to_end(&mut record)?;
        let Some(header) = Header::read(&record) else { break };
        let next = scan.length + header.record_length();
        if next > size {
            scan.torn_spans = Tally::of(header.sender, header.spans.into());
            scan.torn_are_numbered = header.has_progress;
            break;
        }
        if scan.length >= done {
            scan.spans.add(header.sender, header.spans.into());
        }
        if header.has_progress {
            reader.by_ref().take(header.record_length() - HEADER).read_to_end(&mut record)?;
            scan.progress.extend(header.chunk(&record.into()).into_iter().flat_map(|chunk| chunk.progress));
        } else {
            reader.seek_relative((header.record_length() - HEADER) as i64)?;
        }
        scan.length = next;
    }
    scan.torn = size - scan.length;
    Ok(scan)
}

/// Records that were read from a segment.
#[derive(Default, Debug)]
pub(super) struct Run {
    pub(super) chunks: Vec<Chunk>,
    /// Of the chunks.
    pub(super) spans: Tally,
    /// Of one record whose checksum is wrong. It is alone, so that it is counted once even if a batch is
    /// given back and read again.
    pub(super) damaged: Tally,
    /// Where the next run begins. At the start if not even a header could be read.
    pub(super) end: u64,
}

/// Reads records from `start` to `end`, within `limits` unless the first alone is more.
pub(super) fn read(file: &File, start: u64, end: u64, limits: Load) -> io::Result<Run> {
    let mut buffer = read_range(file, start, (start + limits.bytes + HEADER).min(end))?;
    let mut run = Run { end: start, ..Run::default() };
    let mut load = Load::default();
    while let Some(header) = Header::read(&buffer) {
        let length = header.record_length();
        if run.end + length > end {
            break;
        }
        let record = Load { spans: header.spans.into(), bytes: length - HEADER };
        let first = run.end == start;
        if load.and(record).exceeds(limits) && !first {
            break;
        }
        if length > buffer.len() as u64 {
            if !first {
                break;
            }
            buffer = read_range(file, start, start + length)?;
        }
        match header.chunk(&buffer.split_to(length as usize)) {
            Some(chunk) => run.chunks.push(chunk),
            None if first => {
                let damaged = Tally::of(header.sender, record.spans);
                return Ok(Run { damaged, end: run.end + length, ..run });
            }
            None => break,
        }
        run.spans.add(header.sender, record.spans);
        load = load.and(record);
        run.end += length;
    }
    Ok(run)
}

fn read_range(file: &File, start: u64, end: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; (end - start) as usize];
    file.read_exact_at(&mut buffer, start)?;
    Ok(buffer.into())
}

/// Up to where records have been answered for: in segment `number`, up to the byte `done`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Position {
    pub(super) number: u64,
    pub(super) done: u64,
}

/// The file of the position: 20 bytes that are always written at once and over each other.
#[derive(Debug)]
pub(super) struct PositionFile(File);

impl PositionFile {
    /// `current` is what [`read_position`] has found.
    pub(super) fn open(folder: &Path, current: Position) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(folder.join("position"))?;
        let file = Self(file);
        // So that the file has its block before the disk is full. If it is full now, a later write says so.
        let _ = file.write(current);
        Ok(file)
    }

    pub(super) fn write(&self, position: Position) -> io::Result<()> {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&position.number.to_le_bytes());
        bytes[8..16].copy_from_slice(&position.done.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&crc.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

/// The start if there is no position, or a damaged one: better twice than never.
pub(super) fn read_position(folder: &Path) -> Position {
    let read = || {
        let bytes: [u8; 20] = std::fs::read(folder.join("position")).ok()?.try_into().ok()?;
        let crc = u32::from_le_bytes(bytes[16..].try_into().ok()?);
        if crc32fast::hash(&bytes[..16]) != crc {
            return None;
        }
        let number = |range: std::ops::Range<usize>| Some(u64::from_le_bytes(bytes[range].try_into().ok()?));
        Some(Position { number: number(0..8)?, done: number(8..16)? })
    };
    read().filter(|position| position.number <= MAX_NUMBER).unwrap_or_default()
}
