//! The segments and the position in a sink's folder. `NUMBER.segment` has a head and then records; the oldest segment
//! has the smallest number. `position` is the place up to which records are done: the backend has answered for them,
//! or they are lost:
//!
//! ```text
//! head      24 bytes, see `format`
//! number    u64   of a segment; those with smaller numbers are done
//! done      u64   how many bytes of that segment are done
//! CRC-32    u32   of number and done
//! ```
//!
//! Version 1 is the same without heads.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::{FILE_HEAD_BYTES, Kind, VERSION};
use super::record::{Header, RECORD_HEADER_BYTES};
use crate::encode::Chunk;
use crate::process::Progress;
use crate::sink::queue::Load;
use crate::sink::tally::Tally;

/// What is known of a segment without reading it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// The version of its format.
    pub(super) version: u32,
    /// The end of its last whole record.
    pub(super) length: u64,
    /// Up to here records are done; and up to `taken` they have been taken.
    pub(super) done: u64,
    pub(super) taken: u64,
    /// The spans of the records that have not been taken.
    pub(super) spans: Tally,
    /// Starts of damaged records. Their spans are counted as missing by sequence number; `spans` excludes them.
    pub(super) reported_missing: Vec<u64>,
}

impl Segment {
    /// An empty segment that this run writes.
    pub(super) fn new(number: u64) -> Self {
        let spans = Tally::default();
        Self { number, version: VERSION, length: 0, done: 0, taken: 0, spans, reported_missing: Vec::new() }
    }
}

/// Where the first record of a segment begins.
pub(super) fn first_record(version: u32) -> u64 {
    if version == 1 { 0 } else { FILE_HEAD_BYTES as u64 }
}

/// Larger numbers are not ours: no spool gets this far.
const MAX_NUMBER: u64 = u64::MAX / 2;

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    // 20 digits hold the largest number, so that names sort like numbers.
    folder.join(format!("{number:020}.segment"))
}

/// The numbers of the segments in `folder`, the oldest first.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".segment")?.parse().ok());
        // Other files may be in the folder. They can't be read, and must not change the next number.
        let ours = |number: &u64| *number <= MAX_NUMBER && entry.file_type().is_ok_and(|kind| kind.is_file());
        numbers.extend(number.filter(ours));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Copies `file` from `start` to its end.
pub(super) fn copy_tail(mut file: &File, start: u64, to: &Path) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    io::copy(&mut file, &mut File::create(to)?).map(drop)
}

/// The content of an earlier run's segment.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Scan {
    pub(super) version: u32,
    /// The spans of the records after the position.
    pub(super) spans: Tally,
    /// The end of the whole records.
    pub(super) length: u64,
    /// The bytes after that, and the spans in the header there, if there is one.
    pub(super) torn: u64,
    pub(super) torn_spans: Tally,
    /// Whether the sender numbers these spans: then its next datagram shows them as missing.
    pub(super) torn_are_numbered: bool,
    /// The progress in all undamaged records, in order.
    pub(super) progress: Vec<Progress>,
    /// Damaged records after the position with numbered spans.
    pub(super) damaged: Vec<Damaged>,
}

/// A record with a wrong checksum.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Damaged {
    /// Where the record begins.
    pub(super) start: u64,
    pub(super) spans: Tally,
    /// The progress in it, which may be damaged, too.
    pub(super) claimed: Vec<Progress>,
}

/// Reads all headers of the segment. `done` is the position in it.
pub(super) fn scan(path: &Path, done: u64) -> io::Result<Scan> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut head = Vec::with_capacity(FILE_HEAD_BYTES);
    reader.by_ref().take(FILE_HEAD_BYTES as u64).read_to_end(&mut head)?;
    let version = Kind::Segment.version(&head);
    let first = first_record(version);
    reader.seek(SeekFrom::Start(first))?;
    let mut scan = Scan { version, length: first, ..Scan::default() };
    while scan.length < size {
        let mut record = Vec::with_capacity(RECORD_HEADER_BYTES as usize);
        reader.by_ref().take(RECORD_HEADER_BYTES).read_to_end(&mut record)?;
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
            reader.by_ref().take(header.record_length() - RECORD_HEADER_BYTES).read_to_end(&mut record)?;
            let record = record.into();
            match header.chunk(&record, version) {
                Some(chunk) => scan.progress.extend(chunk.progress),
                None if scan.length >= done => scan.damaged.push(Damaged {
                    start: scan.length,
                    spans: Tally::of(header.sender, header.spans.into()),
                    claimed: header.claimed_progress(&record, version),
                }),
                None => {}
            }
        } else {
            reader.seek_relative((header.record_length() - RECORD_HEADER_BYTES) as i64)?;
        }
        scan.length = next;
    }
    scan.torn = size - scan.length;
    Ok(scan)
}

/// A run of records read from a segment.
#[derive(Default, Debug)]
pub(super) struct Run {
    pub(super) chunks: Vec<Chunk>,
    /// The spans of the chunks.
    pub(super) spans: Tally,
    /// The spans of one record with a wrong checksum. Such a record is a run of its own, so that it is counted once
    /// even if a batch is given back and read again.
    pub(super) damaged: Tally,
    /// Where the next run begins; the start of this one if not even a header could be read.
    pub(super) end: u64,
}

/// Reads records from `start` to `end`, within `limits` unless the first record alone exceeds them.
pub(super) fn read(file: &File, version: u32, start: u64, end: u64, limits: Load) -> io::Result<Run> {
    let mut buffer = read_range(file, start, (start + limits.bytes + RECORD_HEADER_BYTES).min(end))?;
    let mut run = Run { end: start, ..Run::default() };
    let mut load = Load::default();
    while let Some(header) = Header::read(&buffer) {
        let length = header.record_length();
        if run.end + length > end {
            break;
        }
        let record = Load { spans: header.spans.into(), bytes: length - RECORD_HEADER_BYTES };
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
        match header.chunk(&buffer.split_to(length as usize), version) {
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

/// Records are done up to the byte `done` of segment `number`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Position {
    pub(super) number: u64,
    pub(super) done: u64,
}

/// The file of the position. Each write overwrites all of it.
#[derive(Debug)]
pub(super) struct PositionFile(File);

impl PositionFile {
    /// `current` is the result of [`read_position`].
    pub(super) fn open(folder: &Path, current: Position) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(folder.join("position"))?;
        let file = Self(file);
        // Allocates the file's block before the disk is full. If it is full now, a later write reports it.
        let _ = file.write(current);
        Ok(file)
    }

    pub(super) fn write(&self, position: Position) -> io::Result<()> {
        let mut bytes = Kind::Position.head().to_vec();
        bytes.extend_from_slice(&position.number.to_le_bytes());
        bytes.extend_from_slice(&position.done.to_le_bytes());
        let crc = crc32fast::hash(&bytes[FILE_HEAD_BYTES..]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

/// Returns the start if there is no position or it is damaged: sending twice is better than never.
pub(super) fn read_position(folder: &Path) -> Position {
    let read = || {
        let bytes = std::fs::read(folder.join("position")).ok()?;
        let start = if Kind::Position.version(&bytes) == 1 { 0 } else { FILE_HEAD_BYTES };
        let bytes: &[u8; 20] = bytes.get(start..)?.first_chunk()?;
        let crc = u32::from_le_bytes(bytes[16..].try_into().ok()?);
        if crc32fast::hash(&bytes[..16]) != crc {
            return None;
        }
        let number = |range: std::ops::Range<usize>| Some(u64::from_le_bytes(bytes[range].try_into().ok()?));
        Some(Position { number: number(0..8)?, done: number(8..16)? })
    };
    read().filter(|position| position.number <= MAX_NUMBER).unwrap_or_default()
}
