#![allow(clippy::unwrap_used)] // a failing test is a panic

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::Receiver;

use super::*;
use crate::sequence::Progress;
use crate::sink::figures::SinkFigures;
use crate::sink::tests::{chunk, numbers};

const MANY: Load = Load { spans: 1_000, bytes: 1 << 20 };

struct Opened {
    spool: Spool,
    figures: Arc<Figures>,
    told: Receiver<String>,
}

impl Opened {
    fn open(folder: &Path) -> Self {
        Self::with(folder, 1 << 30)
    }

    fn with(folder: &Path, max_bytes: u64) -> Self {
        let figures = Arc::new(Figures::new(&"test"));
        let (notices, told) = Notices::new();
        let spool = Spool::open(folder.to_owned(), max_bytes, figures.clone(), notices).unwrap();
        Self { spool, figures, told }
    }

    fn figures(&self) -> SinkFigures {
        let figures = self.figures.snapshot();
        figures.check();
        figures
    }

    fn push(&self, numbers: Range<u64>) {
        self.spool.push(&chunk(numbers));
    }

    fn take(&self) -> Vec<u64> {
        let chunks = self.spool.take(MANY);
        numbers(&chunks.iter().map(|chunk| chunk.decode().unwrap()).collect::<Vec<_>>())
    }

    fn told(&self) -> Vec<String> {
        self.told.try_iter().collect()
    }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    segment::numbers(folder).unwrap().into_iter().map(|number| segment::path(folder, number)).collect()
}

/// A folder with one segment of three records, of 2, 2 and 3 spans; where the last begins and ends.
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
fn a_torn_record_is_cut_off_at_any_length() {
    let (folder, path, start, end) = three_records();
    let whole = std::fs::read(&path).unwrap();
    for length in start..=end {
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        let opened = Opened::open(folder.path());
        let figures = opened.figures();
        // The header knows how many they were.
        let known = if length < start + record::HEADER { 0 } else { 3 };
        let told = opened.told();
        if length == end {
            assert_eq!((figures.recovered, told.len()), (7, 0));
        } else {
            assert_eq!((figures.recovered, figures.dropped.unreadable), (4 + known, known), "{length}");
            assert_eq!(told.len(), usize::from(length > start), "{length}: {told:?}");
            assert!(told.iter().all(|line| line.contains("no whole record")), "{told:?}");
        }
        // It is counted once, also if nothing is done about it.
        drop(opened);
        let opened = Opened::open(folder.path());
        assert_eq!((opened.figures().dropped.unreadable, opened.told().len()), (0, 0), "{length}");
        // What comes after it is read.
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
fn zeros_at_the_end_are_no_records() {
    let (folder, path, _, end) = three_records();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(end + 4_096).unwrap();
    let opened = Opened::open(folder.path());
    assert_eq!(opened.take(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!((opened.figures().dropped.unreadable, opened.told().len()), (0, 1));
}

#[test]
fn a_damaged_record_is_left_out_and_counted() {
    let (folder, path, start, end) = three_records();
    let whole = std::fs::read(&path).unwrap();
    // In the payload of the second record of three.
    let mut damaged = whole.clone();
    damaged[start as usize - 3] ^= 0x10;
    std::fs::write(&path, &damaged).unwrap();
    let opened = Opened::open(folder.path());
    assert_eq!(opened.figures().recovered, 7);
    assert_eq!(opened.take(), [0, 1]);
    // Not even when it is read twice.
    opened.spool.give_back();
    assert_eq!(opened.take(), [0, 1]);
    opened.spool.acknowledge(0);
    assert_eq!(opened.take(), [4, 5, 6]);
    opened.spool.acknowledge(0);
    let figures = opened.figures();
    assert_eq!((figures.forwarded, figures.dropped.unreadable, figures.queued), (5, 2, 0));
    let told = opened.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("a checksum is wrong; 2 spans are lost"), "{told:?}");
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
        let figures = opened.figures();
        assert_eq!((figures.forwarded, figures.queued), (4, 0), "{byte}");
        // A length that is too short has it told of the record and of what is left behind it.
        let told = opened.told();
        assert!(!told.is_empty() && told.len() <= 2, "{byte}: {told:?}");
    }
}

#[test]
fn a_header_that_breaks_while_it_waits_costs_the_rest_of_its_segment() {
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
    let figures = opened.figures();
    assert_eq!((figures.forwarded, figures.dropped.unreadable, figures.queued), (5, 3, 0));
}

#[test]
fn the_position_survives_and_consumed_segments_go() {
    let folder = tempfile::tempdir().unwrap();
    let first = Opened::open(folder.path());
    (0..10).for_each(|number| first.push(number..number + 1));
    let four = Load { spans: 4, ..MANY };
    assert_eq!(first.spool.take(four).len(), 4);
    first.spool.acknowledge(0);
    assert_eq!(first.spool.take(four).len(), 4); // and no answer
    drop(first);
    let second = Opened::open(folder.path());
    assert_eq!(second.figures().recovered, 6);
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
    // Killed before it could remove the segment.
    std::fs::write(&consumed, copy).unwrap();
    let third = Opened::open(folder.path());
    assert_eq!(third.take(), [11]);
    drop(third);
    // A damaged position costs a second sending, not a span.
    std::fs::write(folder.path().join("position"), [7; 20]).unwrap();
    let fourth = Opened::open(folder.path());
    assert_eq!(fourth.take(), [10, 11]);
    fourth.spool.acknowledge(0);
    drop(fourth);
    let fifth = Opened::open(folder.path());
    assert_eq!((fifth.figures().recovered, segments(folder.path()).len()), (0, 0));
}

#[test]
fn segments_are_dropped_whole_and_a_batch_under_way_is_still_sent() {
    let folder = tempfile::tempdir().unwrap();
    let size = chunk(100..101).bytes() as u64 + record::HEADER;
    // Four segments of four records each.
    let opened = Opened::with(folder.path(), 16 * size);
    (100..116).for_each(|number| opened.push(number..number + 1));
    assert_eq!(segments(folder.path()).len(), 4);
    assert_eq!(opened.spool.take(Load { spans: 1, ..MANY }).len(), 1);
    opened.push(116..117);
    let figures = opened.figures();
    // The one that is being sent is not lost yet.
    assert_eq!((figures.dropped.spool_full, figures.queued), (3, 14));
    opened.spool.acknowledge(0);
    assert_eq!(opened.figures().forwarded, 1);
    assert_eq!(opened.take(), [104, 105, 106, 107]);
    assert_eq!(opened.told().len(), 1);
    // The same, but no answer comes.
    (117..121).for_each(|number| opened.push(number..number + 1));
    opened.spool.give_back();
    assert_eq!(opened.figures().dropped.spool_full, 3 + 4);
    assert_eq!(opened.take(), [108, 109, 110, 111]);
}

#[test]
fn a_spool_that_can_not_be_written_is_told_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sink");
    std::fs::create_dir(&path).unwrap();
    let opened = Opened::open(&path);
    std::fs::remove_dir_all(&path).unwrap();
    opened.push(0..2);
    opened.push(2..4);
    let figures = opened.figures();
    assert_eq!((figures.pushed, figures.dropped.spool_write, figures.queued), (4, 4, 0));
    std::fs::create_dir(&path).unwrap();
    opened.push(4..6);
    assert_eq!(opened.take(), [4, 5]);
    let told = opened.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("can't write to the spool") && told[1].contains("again"), "{told:?}");
}

/// Full disks themselves are tested in `tests/disk.rs`.
#[test]
fn a_segment_that_takes_no_more_is_followed_by_another() {
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
    assert_eq!((opened.figures().forwarded, opened.figures().dropped.total()), (6, 0));
    assert_eq!(opened.told(), [""; 0]);
}

#[test]
fn a_lack_of_room_is_known_by_its_error_numbers() {
    let lacks = |number| lacks_room(&io::Error::from_raw_os_error(number));
    assert!([libc::ENOSPC, libc::EDQUOT, libc::EFBIG].into_iter().all(lacks));
    assert!(![libc::EIO, libc::EACCES, libc::ENOENT].into_iter().any(lacks));
}

/// Each attempt could leave an empty segment.
#[test]
fn writes_that_fail_leave_one_empty_segment_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    let fill = || {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        opened.spool.state().writer = Some(full);
    };
    opened.push(0..2);
    let mut state = opened.spool.state();
    state.segments.push_back(Segment { number: 2, length: 0, done: 0, taken: 0, spans: Tally::default() });
    state.next_number = 3;
    drop(state);
    File::create(segment::path(folder.path(), 2)).unwrap();
    for number in 2..5 {
        fill();
        opened.push(number..number + 1);
    }
    assert_eq!(opened.figures().dropped.spool_write, 3);
    assert_eq!(segments(folder.path()).len(), 2);
    assert_eq!(opened.take(), [0, 1]);
    opened.spool.acknowledge(0);
    // The delivered segment is gone now, so another attempt is worth it.
    fill();
    opened.push(5..6);
    assert_eq!(opened.take(), [5; 0], "the empty segment is still the one that is full");
    opened.spool.state().writer = None;
    opened.push(6..7);
    assert_eq!(opened.take(), [6]);
    let told = opened.told();
    assert!(told.len() == 2 && told[0].contains("No space left") && told[1].contains("again"), "{told:?}");
}

#[test]
fn what_can_not_be_read_now_is_read_later() {
    let (folder, path, ..) = three_records();
    let opened = Opened::open(folder.path());
    // A directory in its place, which opens, but does not read.
    let aside = folder.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(opened.take(), [0; 0]);
    assert_eq!(opened.take(), [0; 0]);
    assert_eq!((opened.figures().queued, opened.told().len()), (7, 1));
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(opened.take(), [0, 1, 2, 3, 4, 5, 6]);
    opened.spool.acknowledge(0);
    // A file that is gone stays gone.
    opened.push(7..9);
    std::fs::remove_file(segments(folder.path()).remove(0)).unwrap();
    assert_eq!(opened.take(), [0; 0]);
    assert_eq!((opened.figures().dropped.unreadable, opened.figures().queued), (2, 0));
}

/// What was in it is counted, and what comes after that is kept.
#[test]
fn a_spool_that_is_removed_is_begun_anew() {
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
        assert!(spool.told().iter().any(|line| line.contains("somebody removed")));
        assert_eq!(spool.figures().dropped.unreadable, 3);
        assert_eq!(spool.take(), [3, 4]);
        spool.figures();
        std::fs::remove_dir_all(&path).unwrap();
        spool.spool.close();
        assert!(!spool.told().iter().any(|line| line.contains("wait")), "they do not");
        spool.figures();
    }
}

#[test]
fn what_somebody_put_into_the_folder_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("18446744073709551615.segment"), "").unwrap();
    std::fs::create_dir(folder.path().join("00000000000000000007.segment")).unwrap();
    let spool = Opened::open(folder.path());
    spool.push(0..3);
    assert_eq!(spool.take(), [0, 1, 2]);
}

/// A chunk with which a sender has come so far.
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
fn how_far_senders_have_come_outlives_a_kill() {
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

/// Delivered segments are removed one by one, and a kill may come behind any of them.
#[test]
fn how_far_senders_have_come_outlives_the_segments_that_say_so() {
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

/// Records of the version before this one have no senders in them.
#[test]
fn a_record_without_senders_is_as_it_was() {
    let mut record = Vec::new();
    record::write(&chunk(0..2), &mut record);
    let lengths = [0, 12].map(|at| u32::from_le_bytes(record[at..at + 4].try_into().unwrap()) as usize);
    assert_eq!(record.len(), record::HEADER as usize + lengths[0]);
    assert!(lengths[1] < lengths[0], "the length of the resource has no flag");
}

/// The next start removes the delivered segment, and a second kill may come before any sender speaks again.
#[test]
fn how_far_senders_have_come_outlives_a_kill_behind_the_start() {
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

/// A segment of three records with progress, of 2, 2 and 3 spans of three senders, and where each ends.
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
fn a_damaged_progress_costs_its_record_alone() {
    let (folder, path, [start, end, _]) = three_numbered_records();
    let whole = std::fs::read(&path).unwrap();
    for byte in start + record::HEADER..end {
        let mut damaged = whole.clone();
        damaged[byte as usize] ^= 0x01;
        std::fs::write(&path, &damaged).unwrap();
        let _ = std::fs::remove_file(folder.path().join("position"));
        let opened = Opened::open(folder.path());
        assert_eq!(opened.figures().recovered, 7, "{byte}");
        assert_eq!(senders(&opened), [(7, 2), (9, 7)], "{byte}: a damaged record says nothing");
        assert_eq!(opened.take(), [0, 1], "{byte}");
        opened.spool.acknowledge(0);
        assert_eq!(opened.take(), [4, 5, 6], "{byte}");
        assert_eq!(opened.figures().dropped.unreadable, 2, "{byte}");
    }
}

/// Its payload has no room for the number of senders that it should begin with.
#[test]
fn a_progress_that_is_cut_off_keeps_no_spool_from_starting() {
    let (folder, path, ends) = three_numbered_records();
    let mut bytes = std::fs::read(&path).unwrap();
    for word in [2_u32, 0, 1, 1 << 31, 1, 0, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&[0, 0]);
    assert_eq!(bytes.len() as u64, ends[2] + record::HEADER + 2);
    std::fs::write(&path, &bytes).unwrap();
    let opened = Opened::open(folder.path());
    assert_eq!(opened.take(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(senders(&opened), [(7, 2), (8, 4), (9, 7)]);
}

/// Its sender's next datagram reveals that they are missing, as the record's progress goes with it.
#[test]
fn numbered_spans_of_a_torn_record_are_not_counted_here() {
    let (folder, path, [_, start, end]) = three_numbered_records();
    let whole = std::fs::read(&path).unwrap();
    for length in start + 1..end {
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        let opened = Opened::open(folder.path());
        let figures = opened.figures();
        assert_eq!((figures.recovered, figures.dropped.unreadable), (4, 0), "{length}");
        assert_eq!(senders(&opened), [(7, 2), (8, 4)], "{length}");
        assert_eq!(opened.told().len(), 1, "{length}");
    }
}

#[test]
fn the_senders_that_were_silent_longest_are_forgotten_first_after_any_start() {
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

/// Spans that could not be written are counted as dropped, and need no second count.
#[test]
fn an_older_record_takes_no_sender_back() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    opened.spool.push(&chunk_up_to(0..4, 7));
    drop(opened);
    let later = Progress { sender: 7, spans: 5, ..Progress::default() };
    senders::write(folder.path(), [later].into_iter()).unwrap();
    assert_eq!(senders(&Opened::open(folder.path())), [(7, 5)]);
}

#[test]
fn how_far_senders_have_come_outlives_segments_that_somebody_removes() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(folder.path());
    opened.spool.push(&chunk_up_to(0..4, 7));
    segments(folder.path()).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    opened.spool.push(&chunk_up_to(0..2, 8));
    drop(opened);
    assert_eq!(senders(&Opened::open(folder.path())), [(7, 4), (8, 2)]);
}
