//! Files that are read while they are written.

use std::fs::OpenOptions;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::*;

/// The ids of the spans that are there now.
fn ids(follow: &mut Follow) -> Vec<u64> {
    let mut ids = Vec::new();
    while let Some(spans) = follow.next().unwrap() {
        ids.extend(spans.iter().map(|(span, _)| span.span_id));
    }
    ids
}

/// Ids are not 0, so the first frame is that of the trace 1.
fn frame(number: u64) -> Vec<u8> {
    super::frame(number + 1)
}

fn of_frames(numbers: Range<u64>) -> Vec<u64> {
    (2 * numbers.start + 2..2 * numbers.end + 2).collect()
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

fn follow(path: &Path) -> Follow {
    Follow::open(path, Filter::default()).unwrap()
}

#[test]
fn a_frame_that_is_being_written_is_read_once_it_is_whole() {
    let folder = Folder::new();
    let path = folder.write(&[]);
    let mut follow = follow(&path);
    let mut found = Vec::new();
    for number in 0..3 {
        let frame = frame(number);
        for byte in &frame {
            found.extend(ids(&mut follow));
            assert_eq!(found, of_frames(0..number), "before the frame is whole");
            append(&path, &[*byte]);
        }
    }
    found.extend(ids(&mut follow));
    assert_eq!((found, follow.damage()), (of_frames(0..3), Damage::default()));
}

#[test]
fn a_write_that_failed_and_is_undone_is_no_damage() {
    let folder = Folder::new();
    let path = folder.write(&frame(0));
    let whole = path.metadata().unwrap().len();
    let mut follow = follow(&path);
    assert_eq!(ids(&mut follow), of_frames(0..1));
    append(&path, &frame(1)[..70]);
    assert_eq!(ids(&mut follow), of_frames(0..0));
    OpenOptions::new().write(true).open(&path).unwrap().set_len(whole).unwrap();
    assert_eq!(ids(&mut follow), of_frames(0..0));
    append(&path, &frame(2));
    assert_eq!((ids(&mut follow), follow.damage()), (of_frames(2..3), Damage::default()));
}

#[test]
fn no_frame_is_missed_when_files_are_renamed() {
    let folder = Folder::new();
    let path = folder.write(&frame(0));
    let older = |number: u32| folder.0.path().join(format!("capture.spans.{number}"));
    let mut follow = follow(&path);
    assert_eq!(ids(&mut follow), of_frames(0..1));
    // Written after the end was read, and renamed.
    append(&path, &frame(1));
    fs::rename(&path, older(1)).unwrap();
    assert_eq!(ids(&mut follow), of_frames(1..2), "the next file is not there yet");
    // Two new files since.
    append(&path, &frame(2));
    fs::rename(older(1), older(2)).unwrap();
    fs::rename(&path, older(1)).unwrap();
    append(&path, &frame(3));
    append(&path, &frame(4)[..9]);
    assert_eq!(ids(&mut follow), of_frames(2..4));
    append(&path, &frame(4)[9..]);
    assert_eq!(ids(&mut follow), of_frames(4..5));
    // No older file is kept.
    fs::remove_file(&path).unwrap();
    assert_eq!(ids(&mut follow), of_frames(0..0));
    append(&path, &frame(5));
    assert_eq!((ids(&mut follow), follow.damage()), (of_frames(5..6), Damage::default()));
}

#[test]
fn a_recorder_with_rotation_is_followed() {
    let folder = Folder::new();
    let path = folder.path();
    let rotation = Rotation { max_bytes: 2 * frame(0).len() as u64 + 20, max_age: None, keep: 3 };
    let (mut file, _) = CaptureFile::open(&path, rotation).unwrap();
    let mut follow = follow(&path);
    let mut found = Vec::new();
    for number in 0..40 {
        file.append(&frame(number)).unwrap();
        // Up to five frames, in up to three files, between two looks.
        if number % 5 == 0 {
            found.extend(ids(&mut follow));
        }
    }
    found.extend(ids(&mut follow));
    assert_eq!((found, follow.damage()), (of_frames(0..40), Damage::default()));
    assert!(folder.0.path().join("capture.spans.3").exists());
}

#[test]
fn a_file_that_was_truncated_is_read_from_its_beginning() {
    let folder = Folder::new();
    let path = folder.write(&[frame(0), frame(1)].concat());
    let mut follow = follow(&path);
    assert_eq!(ids(&mut follow), of_frames(0..2));
    folder.write(&frame(2));
    assert_eq!(ids(&mut follow), of_frames(2..3));
}

#[test]
fn damage_is_counted_over_all_files() {
    let folder = Folder::new();
    let mut damaged = [frame(0), frame(1)].concat();
    let at = frame(0).len() - 1;
    damaged[at] ^= 1;
    let path = folder.write(&damaged);
    let mut follow = follow(&path);
    assert_eq!(ids(&mut follow), of_frames(1..2));
    fs::rename(&path, folder.0.path().join("capture.spans.1")).unwrap();
    folder.write(&damaged);
    assert_eq!(ids(&mut follow), of_frames(1..2));
    assert_eq!((follow.damage().places, follow.damage().spans), (2, 4));
}

#[test]
fn what_is_no_file_of_spans_is_refused() {
    let folder = Folder::new();
    let path = folder.write(&b"text ".repeat(20));
    assert!(Follow::open(&path, Filter::default()).is_err());
    assert!(Follow::open(folder.0.path(), Filter::default()).is_err());
    assert!(Follow::open(&folder.0.path().join("missing"), Filter::default()).is_err());
}

/// Between two reads of the reader, the recorder may write to a file and rename it.
#[test]
fn no_frame_is_missed_while_a_recorder_begins_new_files_all_the_time() {
    const FRAMES: u64 = 3_000;
    let folder = Folder::new();
    let path = folder.path();
    let frames: Vec<Vec<u8>> = (0..FRAMES).map(frame).collect();
    let rotation = Rotation { max_bytes: 3 * frames[0].len() as u64, max_age: None, keep: 40 };
    let (mut file, _) = CaptureFile::open(&path, rotation).unwrap();
    let mut follow = follow(&path);
    let read = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for (number, frame) in frames.iter().enumerate() {
                // Files that the reader has not read yet must not be removed.
                while number as u64 > read.load(Ordering::Relaxed) + 20 {
                    thread::yield_now();
                }
                file.append(frame).unwrap();
            }
        });
        let mut found = Vec::new();
        let begin = Instant::now();
        while (found.len() as u64) < 2 * FRAMES && begin.elapsed() < Duration::from_secs(60) {
            found.extend(ids(&mut follow));
            // A missed frame does not keep the recorder waiting.
            let last = found.last().map_or(0, |id| id / 2);
            read.store(last, Ordering::Relaxed);
            if last == FRAMES {
                break;
            }
        }
        read.store(FRAMES, Ordering::Relaxed);
        let differs = found.iter().zip(of_frames(0..FRAMES)).position(|(one, other)| *one != other);
        let around = differs.map(|at| &found[at.saturating_sub(6)..found.len().min(at + 9)]);
        assert!(found == of_frames(0..FRAMES), "{} of {}, {around:?}", found.len(), 2 * FRAMES);
    });
    assert_eq!(follow.damage(), Damage::default());
}
