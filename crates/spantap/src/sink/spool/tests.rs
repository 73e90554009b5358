#![allow(clippy::unwrap_used)] // a failing test is a panic

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::Receiver;

use super::*;
use crate::process::Progress;
use crate::sink::stats::SinkStats;
use crate::sink::tests::{chunk, numbers};

const MANY: Load = Load { spans: 1_000, bytes: 1 << 20 };

struct Opened {
    spool: Spool,
    counters: Arc<Counters>,
    notices: Receiver<String>,
}

impl Opened {
    fn open(folder: &Path) -> Self {
        Self::with(folder, 1 << 30)
    }

    fn with(folder: &Path, max_bytes: u64) -> Self {
        let counters = Arc::new(Counters::new(&"test"));
        let (notices, lines) = Notices::new();
        let spool = Spool::open(folder.to_owned(), max_bytes, counters.clone(), notices).unwrap();
        Self { spool, counters, notices: lines }
    }

    fn counters(&self) -> SinkStats {
        let counters = self.counters.snapshot();
        counters.check();
        counters
    }

    fn push(&self, numbers: Range<u64>) {
        self.spool.push(&chunk(numbers));
    }

    fn take(&self) -> Vec<u64> {
        let chunks = self.spool.take(MANY);
        numbers(&chunks.iter().map(|chunk| chunk.decode().unwrap()).collect::<Vec<_>>())
    }

    fn notices(&self) -> Vec<String> {
        self.notices.try_iter().collect()
    }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    segment::numbers(folder).unwrap().into_iter().map(|number| segment::path(folder, number)).collect()
}

/// A folder with one segment of three records, of 2, 2 and 3 spans. Also returns where the last record begins and
/// ends.
fn three_records() -> (tempfile::TempDir, PathBuf, u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    opened.push(0..2);
    opened.push(2..4);
    let path = segments(folder.path()).remove(0);
    let start = path.metadata().unwrap().len();
    opened.push(4..7);
    let end = path.metadata().unwrap().len();
    (folder, path, start, end)
}

#[test]
fn a_partial_record_of_any_length_is_cut_off() {
    let (folder, path, start, end) = three_records();
    let whole = std::fs::read(&path).unwrap();
    for length in start..=end {
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        let opened = Opened::open(folder.path());
        let counters = opened.counters();
        // The header has the number of its spans.
        let known = if length < start + record::RECORD_HEADER_BYTES { 0 } else { 3 };
        let lines = opened.notices();
        if length == end {
            assert_eq!((counters.recovered, lines.len()), (7, 0));
        } else {
            assert_eq!((counters.recovered, counters.dropped.unreadable), (4 + known, known), "{length}");
            assert_eq!(lines.len(), usize::from(length > start), "{length}: {lines:?}");
            assert!(lines.iter().all(|line| line.contains("not a whole record")), "{lines:?}");
        }
        // It is counted once, even if nothing is changed in between.
        drop(opened);
        let opened = Opened::open(folder.path());
        assert_eq!((opened.counters().dropped.unreadable, opened.notices().len()), (0, 0), "{length}");
        // Later records are read.
        opened.push(7..8);
        let mut taken = opened.take();
        opened.spool.acknowledge(0);
        taken.extend(opened.take());
        let expected: Vec<u64> = (0..if length == end { 7 } else { 4 }).chain([7]).collect();
        assert_eq!(taken, expected, "{length}");
        drop(opened);
        for file in segments(folder.path()) {
            std::fs::remove_file(file).unwrap();
        }
        std::fs::remove_file(folder.path().join("position")).unwrap();
    }
}

#[test]
fn zeros_at_the_end_are_not_records() {
    let (folder, path, _, end) = three_records();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(end + 4_096).unwrap();
    let opened = Opened::open(folder.path());
    assert_eq!(opened.take(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!((opened.counters().dropped.unreadable, opened.notices().len()), (0, 1));
}

#[test]
fn damaged_records_are_skipped_and_counted() {
    let (folder, path, start, end) = three_records();
    let whole = std::fs::read(&path).unwrap();
    // In the payload of the second record of three.
    let mut damaged = whole.clone();
    damaged[start as usize - 3] ^= 0x10;
    std::fs::write(&path, &damaged).unwrap();
    let opened = Opened::open(folder.path());
    assert_eq!(opened.counters().recovered, 7);
    assert_eq!(opened.take(), [0, 1]);
    // It is not counted a second time when it is read again.
    opened.spool.give_back();
    assert_eq!(opened.take(), [0, 1]);
    opened.spool.acknowledge(0);
    assert_eq!(opened.take(), [4, 5, 6]);
    opened.spool.acknowledge(0);
    let counters = opened.counters();
    assert_eq!((counters.forwarded, counters.dropped.unreadable, counters.queued), (5, 2, 0));
    let lines = opened.notices();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("a checksum is wrong; 2 spans are lost"), "{lines:?}");
    drop(opened);

    // Any one byte of the last record: its three spans are not sent, and nothing else is lost.
    for byte in start..end {
        let mut damaged = whole.clone();
        damaged[byte as usize] ^= 0x80;
        std::fs::write(&path, &damaged).unwrap();
        let _ = std::fs::remove_file(folder.path().join("position"));
        let opened = Opened::open(folder.path());
        assert_eq!(opened.take(), [0, 1, 2, 3], "{byte}");
        opened.spool.acknowledge(0);
        assert_eq!(opened.take(), [0; 0], "{byte}");
        let counters = opened.counters();
        assert_eq!((counters.forwarded, counters.queued), (4, 0), "{byte}");
        // If the length is too small, the record and the bytes behind it are each reported.
        let lines = opened.notices();
        assert!(!lines.is_empty() && lines.len() <= 2, "{byte}: {lines:?}");
    }
}

#[test]
fn a_damaged_header_costs_the_rest_of_its_segment() {
    let (folder, path, start, _) = three_records();
    let opened = Opened::open(folder.path());
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[start as usize..start as usize + 16].fill(0);
    std::fs::write(&path, &damaged).unwrap();
    assert_eq!(opened.take(), [0, 1, 2, 3]);
    opened.spool.acknowledge(0);
    opened.push(7..8);
    assert_eq!(opened.take(), [7]);
    opened.spool.acknowledge(0);
    let counters = opened.counters();
    assert_eq!((counters.forwarded, counters.dropped.unreadable, counters.queued), (5, 3, 0));
}

#[test]
fn the_position_survives_and_delivered_segments_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let first = Opened::open(folder.path());
    (0..10).for_each(|number| first.push(number..number + 1));
    let four = Load { spans: 4, ..MANY };
    assert_eq!(first.spool.take(four).len(), 4);
    first.spool.acknowledge(0);
    assert_eq!(first.spool.take(four).len(), 4); // and no answer
    drop(first);
    let second = Opened::open(folder.path());
    assert_eq!(second.counters().recovered, 6);
    assert_eq!(second.take(), [4, 5, 6, 7, 8, 9]);
    let consumed = segments(folder.path()).remove(0);
    let copy = std::fs::read(&consumed).unwrap();
    second.spool.acknowledge(0);
    second.push(10..11);
    assert_eq!(segments(folder.path()).len(), 1, "the one of the first run is consumed");
    assert_eq!(second.take(), [10]);
    second.spool.acknowledge(0);
    second.push(11..12);
    drop(second);
    // As after a kill before the segment was removed.
    std::fs::write(&consumed, copy).unwrap();
    let third = Opened::open(folder.path());
    assert_eq!(third.take(), [11]);
    drop(third);
    // A damaged position only has spans sent a second time.
    std::fs::write(folder.path().join("position"), [7; 20]).unwrap();
    let fourth = Opened::open(folder.path());
    assert_eq!(fourth.take(), [10, 11]);
    fourth.spool.acknowledge(0);
    drop(fourth);
    let fifth = Opened::open(folder.path());
    assert_eq!((fifth.counters().recovered, segments(folder.path()).len()), (0, 0));
}

#[test]
fn dropping_a_segment_does_not_lose_the_batch_being_sent() {
    let folder = tempfile::tempdir().unwrap();
    let size = chunk(100..101).bytes() as u64 + record::RECORD_HEADER_BYTES;
    // Four segments of a head and four records each.
    let opened = Opened::with(folder.path(), 16 * size + 4 * FILE_HEAD_BYTES as u64);
    (100..116).for_each(|number| opened.push(number..number + 1));
    assert_eq!(segments(folder.path()).len(), 4);
    assert_eq!(opened.spool.take(Load { spans: 1, ..MANY }).len(), 1);
    opened.push(116..117);
    let counters = opened.counters();
    // The spans being sent are not lost yet.
    assert_eq!((counters.dropped.spool_full, counters.queued), (3, 14));
    opened.spool.acknowledge(0);
    assert_eq!(opened.counters().forwarded, 1);
    assert_eq!(opened.take(), [104, 105, 106, 107]);
    assert_eq!(opened.notices().len(), 1);
    // The same without an answer.
    (117..121).for_each(|number| opened.push(number..number + 1));
    opened.spool.give_back();
    assert_eq!(opened.counters().dropped.spool_full, 3 + 4);
    assert_eq!(opened.take(), [108, 109, 110, 111]);
}

#[test]
fn an_unwritable_spool_is_reported_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sink");
    std::fs::create_dir(&path).unwrap();
    let opened = Opened::open(&path);
    std::fs::remove_dir_all(&path).unwrap();
    opened.push(0..2);
    opened.push(2..4);
    let counters = opened.counters();
    assert_eq!((counters.pushed, counters.dropped.spool_write, counters.queued), (4, 4, 0));
    std::fs::create_dir(&path).unwrap();
    opened.push(4..6);
    assert_eq!(opened.take(), [4, 5]);
    let lines = opened.notices();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("can't write to the spool") && lines[1].contains("again"), "{lines:?}");
}

/// Full disks are tested in `tests/disk.rs`.
#[test]
fn a_full_segment_file_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    opened.push(0..2);
    // Writes to /dev/full fail as on a full disk.
    opened.spool.state().writer = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    opened.push(2..4);
    opened.push(4..6);
    assert_eq!(opened.take(), [0, 1]);
    opened.spool.acknowledge(0);
    assert_eq!(opened.take(), [2, 3, 4, 5]);
    opened.spool.acknowledge(0);
    assert_eq!((opened.counters().forwarded, opened.counters().dropped.total()), (6, 0));
    assert_eq!(opened.notices(), [""; 0]);
}

#[test]
fn recognises_lack_of_room_by_error_number() {
    let lacks = |number| lacks_room(&io::Error::from_raw_os_error(number));
    assert!([libc::ENOSPC, libc::EDQUOT, libc::EFBIG].into_iter().all(lacks));
    assert!(![libc::EIO, libc::EACCES, libc::ENOENT].into_iter().any(lacks));
}

/// Each attempt could leave an empty segment.
#[test]
fn failing_writes_leave_at_most_one_empty_segment() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    let fill = || {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        opened.spool.state().writer = Some(full);
    };
    opened.push(0..2);
    let mut state = opened.spool.state();
    state.segments.push_back(Segment::new(2));
    state.next_number = 3;
    drop(state);
    File::create(segment::path(folder.path(), 2)).unwrap();
    for number in 2..5 {
        fill();
        opened.push(number..number + 1);
    }
    assert_eq!(opened.counters().dropped.spool_write, 3);
    assert_eq!(segments(folder.path()).len(), 2);
    assert_eq!(opened.take(), [0, 1]);
    opened.spool.acknowledge(0);
    // The delivered segment is removed now, so another attempt makes sense.
    fill();
    opened.push(5..6);
    assert_eq!(opened.take(), [5; 0], "the empty segment is still the one that is full");
    opened.spool.state().writer = None;
    opened.push(6..7);
    assert_eq!(opened.take(), [6]);
    let lines = opened.notices();
    assert!(
        lines.len() == 2 && lines[0].contains("No space left") && lines[1].contains("again"),
        "{lines:?}"
    );
}

#[test]
fn temporary_read_errors_are_tried_again() {
    let (folder, path, ..) = three_records();
    let opened = Opened::open(folder.path());
    // A directory can be opened, but not read.
    let aside = folder.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(opened.take(), [0; 0]);
    assert_eq!(opened.take(), [0; 0]);
    assert_eq!((opened.counters().queued, opened.notices().len()), (7, 1));
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(opened.take(), [0, 1, 2, 3, 4, 5, 6]);
    opened.spool.acknowledge(0);
    // A removed file stays removed.
    opened.push(7..9);
    std::fs::remove_file(segments(folder.path()).remove(0)).unwrap();
    assert_eq!(opened.take(), [0; 0]);
    assert_eq!((opened.counters().dropped.unreadable, opened.counters().queued), (2, 0));
}

/// The removed spans are counted, and later spans are kept.
#[test]
fn a_removed_spool_is_made_again() {
    for whole_folder in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sink");
        std::fs::create_dir(&path).unwrap();
        let spool = Opened::open(&path);
        spool.push(0..3);
        match whole_folder {
            true => std::fs::remove_dir_all(&path).unwrap(),
            false => segments(&path).iter().for_each(|path| std::fs::remove_file(path).unwrap()),
        }
        spool.push(3..5);
        assert!(spool.notices().iter().any(|line| line.contains("were removed")));
        assert_eq!(spool.counters().dropped.unreadable, 3);
        assert_eq!(spool.take(), [3, 4]);
        spool.counters();
        std::fs::remove_dir_all(&path).unwrap();
        spool.spool.close();
        assert!(!spool.notices().iter().any(|line| line.contains("wait")), "they do not");
        spool.counters();
    }
}

#[test]
fn foreign_files_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("18446744073709551615.segment"), "").unwrap();
    std::fs::create_dir(folder.path().join("00000000000000000007.segment")).unwrap();
    let spool = Opened::open(folder.path());
    spool.push(0..3);
    assert_eq!(spool.take(), [0, 1, 2]);
}

/// A chunk with the progress of a sender.
fn chunk_up_to(numbers: Range<u64>, sender: u64) -> Chunk {
    Chunk { progress: vec![Progress { sender, spans: numbers.end, ..Progress::default() }], ..chunk(numbers) }
}

fn senders(opened: &Opened) -> Vec<(u64, u64)> {
    let mut found: Vec<_> =
        opened.spool.senders().iter().map(|progress| (progress.sender, progress.spans)).collect();
    found.sort_unstable();
    found
}

#[test]
fn progress_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    assert_eq!(senders(&opened), []);
    opened.spool.push(&chunk_up_to(0..2, 7));
    opened.spool.push(&chunk(0..1));
    opened.spool.push(&chunk_up_to(2..5, 7));
    opened.spool.push(&chunk_up_to(0..4, 8));
    drop(opened);
    let opened = Opened::open(folder.path());
    assert_eq!(senders(&opened), [(7, 5), (8, 4)], "by the records");
    assert_eq!(opened.take(), [0, 1, 0, 2, 3, 4, 0, 1, 2, 3], "the spans are there as well");
    opened.spool.acknowledge(0);
    opened.spool.close();
    drop(opened);
    assert!(segments(folder.path()).is_empty());
    assert_eq!(senders(&Opened::open(folder.path())), [(7, 5), (8, 4)], "by the file");
}

/// Spans that a rule has dropped are not pushed, and are not missing.
#[test]
fn progress_without_spans_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    let progress = |sender, spans| Progress { sender, spans, ..Progress::default() };
    opened.spool.push(&chunk_up_to(0..3, 1));
    opened.spool.advance(&[progress(1, 10), progress(2, 4)]);
    // What is known already is not taken back.
    opened.spool.advance(&[progress(2, 1)]);
    drop(opened);
    assert_eq!(senders(&Opened::open(folder.path())), [(1, 10), (2, 4)]);
}

#[test]
fn a_notice_says_once_that_progress_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    // A folder is in the way of the new file.
    let new = folder.path().join("senders.new");
    std::fs::create_dir(&new).unwrap();
    let progress = |spans| Progress { sender: 1, spans, ..Progress::default() };
    opened.spool.advance(&[progress(10)]);
    opened.spool.advance(&[progress(11)]);
    let notices = opened.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("does not count all that is missing"), "{notices:?}");
    std::fs::remove_dir(new).unwrap();
    opened.spool.advance(&[progress(12)]);
    drop(opened);
    assert_eq!(senders(&Opened::open(folder.path())), [(1, 12)]);
}

/// Delivered segments are removed one by one, and a kill may follow each removal.
#[test]
fn progress_survives_the_removal_of_its_segments() {
    let folder = tempfile::tempdir().unwrap();
    // Small segments: each record begins a new one.
    let opened = Opened::with(folder.path(), 4 * 100);
    opened.spool.push(&chunk_up_to(0..2, 7));
    for _ in 0..8 {
        opened.push(0..2);
    }
    assert!(!segments(folder.path()).is_empty(), "the newest are there");
    let first = segment::path(folder.path(), 1);
    assert!(!first.exists(), "the oldest was dropped for want of room");
    drop(opened);
    assert_eq!(senders(&Opened::with(folder.path(), 4 * 100)), [(7, 2)]);
}

/// The next start removes the delivered segment, and a second kill may come before any sender sends again.
#[test]
fn progress_survives_a_second_kill_after_the_start() {
    for can_be_written in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let first = Opened::open(folder.path());
        first.spool.push(&chunk_up_to(0..100, 7));
        first.take();
        first.spool.acknowledge(0);
        first.spool.close();
        drop(first);
        let second = Opened::open(folder.path());
        second.spool.push(&chunk_up_to(100..500, 7));
        second.take();
        second.spool.acknowledge(0);
        drop(second);
        assert_eq!(segments(folder.path()).len(), 1, "the file of senders says 100, and the segment 500");
        if !can_be_written {
            std::fs::create_dir(folder.path().join("senders.new")).unwrap();
        }
        drop(Opened::open(folder.path()));
        assert_eq!(segments(folder.path()).len(), 0);
        let expected: &[_] = if can_be_written { &[(7, 500)] } else { &[] };
        assert_eq!(senders(&Opened::open(folder.path())), expected, "{can_be_written}");
    }
}

/// A segment of three records with progress, of 2, 2 and 3 spans of three senders. Also returns where each ends.
fn three_numbered_records() -> (tempfile::TempDir, PathBuf, [u64; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    let ends = [(0..2, 7), (2..4, 8), (4..7, 9)].map(|(numbers, sender)| {
        opened.spool.push(&chunk_up_to(numbers, sender));
        segments(folder.path())[0].metadata().unwrap().len()
    });
    let path = segments(folder.path()).remove(0);
    (folder, path, ends)
}

#[test]
fn damaged_progress_costs_only_its_record() {
    let (folder, path, [start, end, _]) = three_numbered_records();
    let whole = std::fs::read(&path).unwrap();
    for byte in start + record::RECORD_HEADER_BYTES..end {
        let mut damaged = whole.clone();
        damaged[byte as usize] ^= 0x01;
        std::fs::write(&path, &damaged).unwrap();
        let _ = std::fs::remove_file(folder.path().join("position"));
        let opened = Opened::open(folder.path());
        assert_eq!(opened.counters().recovered, 7, "{byte}");
        assert_eq!(senders(&opened), [(7, 2), (9, 7)], "{byte}: a damaged record says nothing");
        assert_eq!(opened.take(), [0, 1], "{byte}");
        opened.spool.acknowledge(0);
        assert_eq!(opened.take(), [4, 5, 6], "{byte}");
        assert_eq!(opened.counters().dropped.unreadable, 2, "{byte}");
    }
}

/// The payload is shorter than the number of senders at its beginning.
#[test]
fn truncated_progress_does_not_prevent_a_start() {
    let (folder, path, ends) = three_numbered_records();
    let mut bytes = std::fs::read(&path).unwrap();
    for word in [2_u32, 0, 1, 1 << 31, 1, 0, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&[0, 0]);
    assert_eq!(bytes.len() as u64, ends[2] + record::RECORD_HEADER_BYTES + 2);
    std::fs::write(&path, &bytes).unwrap();
    let opened = Opened::open(folder.path());
    assert_eq!(opened.take(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(senders(&opened), [(7, 2), (8, 4), (9, 7)]);
}

/// Their sender's next datagram shows them as missing, because the record's progress is lost, too.
#[test]
fn numbered_spans_of_a_partial_record_are_not_counted_here() {
    let (folder, path, [_, start, end]) = three_numbered_records();
    let whole = std::fs::read(&path).unwrap();
    for length in start + 1..end {
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        let opened = Opened::open(folder.path());
        let counters = opened.counters();
        assert_eq!((counters.recovered, counters.dropped.unreadable), (4, 0), "{length}");
        assert_eq!(senders(&opened), [(7, 2), (8, 4)], "{length}");
        assert_eq!(opened.notices().len(), 1, "{length}");
    }
}

#[test]
fn the_longest_silent_senders_are_forgotten_first() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    for sender in 0..1_000 {
        opened.spool.push(&chunk_up_to(0..1, sender));
    }
    opened.take();
    opened.spool.acknowledge(0);
    opened.spool.close();
    drop(opened);
    let opened = Opened::open(folder.path());
    for sender in 1_000..1_500 {
        opened.spool.push(&chunk_up_to(0..1, sender));
    }
    let kept: Vec<u64> = senders(&opened).iter().map(|(sender, _)| *sender).collect();
    assert_eq!(kept, (500..1_500).collect::<Vec<_>>());
}

/// Spans that could not be written are counted as dropped, and must not count as missing, too.
#[test]
fn an_older_record_does_not_move_a_sender_back() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    opened.spool.push(&chunk_up_to(0..4, 7));
    drop(opened);
    let later = Progress { sender: 7, spans: 5, ..Progress::default() };
    senders::write(folder.path(), [later].into_iter()).unwrap();
    assert_eq!(senders(&Opened::open(folder.path())), [(7, 5)]);
}

#[test]
fn progress_survives_the_removal_of_segments_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    opened.spool.push(&chunk_up_to(0..4, 7));
    segments(folder.path()).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    opened.spool.push(&chunk_up_to(0..2, 8));
    drop(opened);
    assert_eq!(senders(&Opened::open(folder.path())), [(7, 4), (8, 2)]);
}

/// A record in the form of version 1: a sender has the fields in `progress`.
fn record_of_version_1(chunk: &Chunk, progress: &[u64]) -> Vec<u8> {
    let mut payload = Vec::new();
    if !progress.is_empty() {
        payload.extend_from_slice(&1_u32.to_le_bytes());
        progress.iter().for_each(|field| payload.extend_from_slice(&field.to_le_bytes()));
    }
    payload.extend_from_slice(&chunk.resource);
    payload.extend_from_slice(&chunk.scope_spans);
    let flag = if progress.is_empty() { 0 } else { 1 << 31 };
    let fields = [chunk.spans, chunk.resource.len() as u32 | flag, 1, 0, 0];
    let checked = [fields.map(u32::to_le_bytes).concat(), payload.clone()].concat();
    let begin = [payload.len() as u32, crc32fast::hash(&checked)];
    [begin.map(u32::to_le_bytes).concat(), checked].concat()
}

fn with_crc(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc32fast::hash(bytes).to_le_bytes()].concat()
}

fn u64s(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The id of a sender is random.
const RANDOM: u64 = 0xb7ad_6b71_6920_3331;

/// A folder of version 1: one segment with spans 0 to 7, and a position after the first record.
fn folder_of_version_1() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let first = record_of_version_1(&chunk(0..2), &[]);
    let others = [
        record_of_version_1(&chunk(2..4), &[RANDOM, 5, 1, 3]),
        // Without `lost`.
        record_of_version_1(&chunk(4..7), &[RANDOM + 1, 3, 0]),
        record_of_version_1(&chunk(7..8), &[]),
    ];
    std::fs::write(folder.path().join("position"), with_crc(&u64s(&[1, first.len() as u64]))).unwrap();
    std::fs::write(segment::path(folder.path(), 1), [first, others.concat()].concat()).unwrap();
    folder
}

#[test]
fn version_1_is_read_from_its_position() {
    let folder = folder_of_version_1();
    directory::check(folder.path()).unwrap();
    let opened = Opened::open(folder.path());
    assert_eq!(opened.counters().recovered, 6);
    assert_eq!(opened.take(), [2, 3, 4, 5, 6, 7]);
    let known: Vec<Progress> = opened.spool.senders().iter().collect();
    assert_eq!(
        known,
        [Progress { sender: RANDOM, spans: 5, missing: 1, lost: 3 }],
        "not those without `lost`"
    );
    opened.spool.acknowledge(0);
    opened.push(8..9);
    assert!(!segment::path(folder.path(), 1).exists(), "all of it is delivered");
    assert_eq!(opened.counters().dropped.total(), 0);
    assert_eq!(opened.notices(), [""; 0]);
}

#[test]
fn damaged_records_of_version_1_are_moved_aside_or_skipped() {
    let folder = folder_of_version_1();
    let path = segment::path(folder.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let opened = Opened::open(folder.path());
    assert_eq!(opened.take(), [2, 3, 4, 5, 6]);
    assert!(path.with_extension("damaged").exists());
    assert_eq!((opened.counters().dropped.unreadable, opened.notices().len()), (1, 1));
}

#[test]
fn senders_of_version_1_without_lost_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let written = |fields: &[u64]| {
        let content = [b"spantap senders1", &*u64s(fields)].concat();
        std::fs::write(folder.path().join("senders"), with_crc(&content)).unwrap();
        Opened::open(folder.path()).spool.senders().iter().collect::<Vec<_>>()
    };
    let of = |sender, spans, missing, lost| Progress { sender, spans, missing, lost };
    let known = [of(RANDOM, 5, 1, 3), of(RANDOM + 1, 1 << 40, 0, 0), of(RANDOM + 2, 0, 0, 7)];
    let fields = known.map(|of| [of.sender, of.spans, of.missing, of.lost]).concat();
    assert_eq!(written(&fields), known);
    let short = |senders: u64| (0..senders).flat_map(|n| [RANDOM + n, 5, 1]).collect::<Vec<_>>();
    for senders in 1..=8 {
        assert_eq!(written(&short(senders)), [], "{senders}");
    }
    assert_eq!(written(&[]), []);
}

/// The names and contents of a folder.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_later_version_is_refused_and_left_unchanged() {
    let target: crate::sink::Target = "zipkin=http://localhost:9411".parse().unwrap();
    let other = "zipkin=http://localhost:9412".parse().unwrap();
    for (name, kind) in [
        ("00000000000000000002.segment", Kind::Segment),
        ("position", Kind::Position),
        ("senders", Kind::Senders),
    ] {
        let spool = tempfile::tempdir().unwrap();
        let directory = directory::Directory::open(spool.path()).unwrap();
        let (notices, lines) = Notices::new();
        let open = || directory.spool(&target, 1 << 30, Arc::new(Counters::new(&"test")), notices.clone());
        let opened = open().unwrap();
        opened.push(&chunk(0..2));
        drop(opened);
        let folder = spool.path().join(target.folder());
        std::fs::write(folder.join(name), [&kind.head_of(3)[..], b"what this build can't know"].concat())
            .unwrap();
        let before = contents(&folder);
        let refused = format!("{:#}", open().err().unwrap());
        assert!(refused.contains(name) && refused.contains("format 3"), "{refused}");
        assert!(refused.contains("formats up to 2") && !refused.contains("remove"), "{refused}");
        assert_eq!(contents(&folder), before);
        assert_eq!(lines.try_iter().count(), 0);

        // For another target the start does not fail.
        directory.report_other_targets(std::slice::from_ref(&other), &notices).unwrap();
        let lines: Vec<String> = lines.try_iter().collect();
        assert!(lines.len() == 1 && lines[0].contains(name) && lines[0].contains("format 3"), "{lines:?}");
        assert_eq!(contents(&folder), before);
    }
}

#[test]
fn a_segment_with_a_damaged_head_is_moved_aside() {
    let (folder, path, ..) = three_records();
    let whole = std::fs::read(&path).unwrap();
    for byte in 0..FILE_HEAD_BYTES {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << bit;
            std::fs::write(&path, &damaged).unwrap();
            directory::check(folder.path()).unwrap();
            let opened = Opened::open(folder.path());
            assert_eq!(opened.take(), [0; 0], "{byte}");
            assert_eq!(std::fs::read(path.with_extension("damaged")).unwrap(), damaged, "{byte}");
            let lines = opened.notices();
            assert!(lines.len() == 1 && lines[0].contains("not a whole record"), "{byte}: {lines:?}");
        }
    }
}

#[test]
fn a_folder_of_several_versions_is_read_in_order() {
    let folder = folder_of_version_1();
    let path = segment::path(folder.path(), 2);
    let mut record = Vec::new();
    record::write(&chunk_up_to(8..10, RANDOM), &mut record);
    std::fs::write(&path, [&Kind::Segment.head()[..], &record].concat()).unwrap();
    let third = record_of_version_1(&chunk(10..11), &[]);
    std::fs::write(segment::path(folder.path(), 3), third).unwrap();
    let opened = Opened::open(folder.path());
    opened.push(11..12);
    let mut taken = Vec::new();
    for number in [1, 2, 3, 4] {
        taken.extend(opened.take());
        opened.spool.acknowledge(0);
        assert_eq!(segment::read_position(folder.path()).number, number);
    }
    assert_eq!(taken, (2..12).collect::<Vec<_>>());
    assert_eq!(senders(&opened), [(RANDOM, 10)]);
    assert_eq!((opened.counters().queued, opened.counters().dropped.total()), (0, 0));
    for (path, bytes) in contents(folder.path()) {
        let kinds = [Kind::Segment, Kind::Position, Kind::Senders];
        assert!(kinds.iter().any(|kind| bytes.starts_with(&kind.head())), "{path:?} is of version 1");
    }
}

/// Either as unreadable, or as missing by their sender's next datagram.
#[test]
fn spans_of_a_damaged_record_are_counted_once() {
    for (sender_of_others, comes_last, unreadable, missing) in
        [(7, true, 0, 3), (7, false, 3, 0), (8, true, 3, 0), (8, false, 3, 0)]
    {
        let folder = tempfile::tempdir().unwrap();
        let opened = Opened::open(folder.path());
        let path = || segments(folder.path()).remove(0);
        let push = |numbers, sender| opened.spool.push(&chunk_up_to(numbers, sender));
        push(0..2, sender_of_others);
        if !comes_last {
            push(2..5, 7);
            let end = path().metadata().unwrap().len();
            push(5..6, sender_of_others);
            flip(&path(), end - 1);
        } else {
            push(2..5, 7);
            flip(&path(), path().metadata().unwrap().len() - 1);
        }
        let others = if comes_last { 2 } else { 3 };
        drop(opened);
        let opened = Opened::open(folder.path());
        while !opened.take().is_empty() {
            opened.spool.acknowledge(0);
        }
        let counters = opened.counters();
        assert_eq!(
            (counters.forwarded, counters.dropped.unreadable, counters.queued),
            (others, unreadable, 0)
        );
        let sent_before = if comes_last { 5 } else { 6 };
        let next = crate::process::Sequence { sender: 7, sent_before, spans: 1, lost_before: 0 };
        assert_eq!(
            opened.spool.senders().record(next, 0).0.missing,
            missing,
            "{sender_of_others} {comes_last}"
        );
        let lines = opened.notices();
        assert!(lines.len() == 1 && lines[0].contains("3 spans are lost"), "{lines:?}");
        assert_eq!(lines[0].contains("when their sender sends again"), missing > 0, "{lines:?}");
    }
}

/// Damages one byte of a file.
fn flip(path: &Path, byte: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[byte as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}
