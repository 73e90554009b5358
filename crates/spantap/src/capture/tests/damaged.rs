//! Files that are damaged, or made by someone who wants to harm the reader; and files that grow, which are neither.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

/// What the reader may take for a file of a few MiB, also in a debug build on a busy machine. Reading each header as long
/// as it says takes minutes.
const BOUNDED: Duration = Duration::from_secs(60);

fn read_in_time(path: &Path) -> (Vec<u64>, Damage) {
    let begin = Instant::now();
    let read = read(path);
    assert!(begin.elapsed() < BOUNDED, "{:?}", begin.elapsed());
    read
}

#[test]
fn a_file_that_grows_meanwhile_is_never_damaged() {
    let folder = Folder::new();
    let path = folder.write(b"");
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let ended = AtomicBool::new(false);
    const FRAMES: u64 = 3_000;
    let (found, damage) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=FRAMES {
                let whole = frame(number);
                whole.chunks(30).for_each(|part| file.write_all(part).unwrap());
            }
            ended.store(true, Ordering::Release);
        });
        let mut capture = Capture::open(&path).unwrap();
        let mut found = 0;
        loop {
            let is_last = ended.load(Ordering::Acquire);
            found += ids(&mut capture).len() as u64;
            if is_last {
                break (found, capture.damage().clone());
            }
        }
    });
    assert_eq!((found, damage), (2 * FRAMES, Damage::default()));
}

#[test]
fn an_end_that_cannot_be_the_beginning_of_a_frame_is_damage() {
    let folder = Folder::new();
    let whole = [frame(1), frame(2)].concat();
    let zeros = [&whole[..], &vec![0; whole.len()]].concat();
    let many_zeros = [&whole[..], &vec![0; 21 << 20]].concat();
    for (bytes, at) in [(zeros, whole.len()), (many_zeros, whole.len())] {
        let (found, damage) = read(&folder.write(&bytes));
        assert_eq!(found, [2, 3, 4, 5]);
        let expected = Damage {
            places: 1,
            bytes: (bytes.len() - at) as u64,
            first_at: Some(at as u64),
            ..Damage::default()
        };
        assert_eq!(damage, expected);
        // What is recorded afterwards is found, whole or not.
        let third = frame(3);
        for part in [third.len(), third.len() - 1, 70, 30, 3] {
            let (found, damage) = read(&folder.write(&[&bytes, &third[..part]].concat()));
            let is_whole = part == third.len();
            assert_eq!(found.len(), if is_whole { 6 } else { 4 });
            let tail_bytes = if is_whole { 0 } else { part as u64 };
            assert_eq!(damage, Damage { tail_bytes, ..expected.clone() }, "{part}");
        }
    }
    // The last frame has its whole length, but not its bytes.
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let (found, damage) = read(&folder.write(&flipped));
    let lost = frame(2).len() as u64;
    assert_eq!((found, damage.places, damage.bytes), (vec![2, 3], 1, lost));
    assert_eq!((damage.spans, damage.tail_bytes), (2, 0));
}

#[test]
fn headers_that_ask_for_much_are_not_read_again_and_again() {
    let folder = Folder::new();
    let length = 4_u32 << 20;
    let begin = |version: u32| [&frame::MAGIC[..], &version.to_le_bytes(), &length.to_le_bytes()].concat();
    for version in [1, 2] {
        let lies = begin(version).repeat((8 << 20) / 16);
        let (found, damage) = read_in_time(&folder.write(&[frame(1), lies.clone()].concat()));
        assert_eq!((found, damage.places > 0), (vec![2, 3], true));
        // A frame behind it is found.
        let (found, _) = read_in_time(&folder.write(&[frame(1), lies, frame(2)].concat()));
        assert_eq!(found, [2, 3, 4, 5]);
    }
    // Each search ends at once, because a frame follows.
    let whole = frame(1);
    let each = [&begin(2)[..], &whole].concat();
    let (found, _) = read_in_time(&folder.write(&each.repeat((8 << 20) / each.len())));
    assert!(found.len() > 10_000);
}

#[test]
fn bodies_that_are_damaged_are_not_read_again_and_again() {
    // Each header is valid, and says that the rest of the file is its body.
    let Found::Header(honest) = Header::read(&frame(1)) else { unreachable!() };
    let length = honest.length();
    let count = (8 << 20) / length;
    let mut bytes = Vec::new();
    for number in 1..=count {
        Header { body: (count - number) * length, ..honest.clone() }.put(&mut bytes);
    }
    let folder = Folder::new();
    let (found, damage) = read_in_time(&folder.write(&bytes));
    assert_eq!((found, damage.places > 0), (vec![], true));
}

#[test]
fn a_wrong_length_of_a_message_is_damage_and_loses_no_other_message() {
    type Encode = fn(u64) -> Vec<u8>;
    let encodings: [Encode; 3] = [
        |number| collector::protobuf(number).to_vec(),
        |number| compress::compress(&collector::protobuf(number)).unwrap(),
        |number| collector::line(number).into_bytes(),
    ];
    let folder = Folder::new();
    for encode in encodings {
        let messages: Vec<_> = (1..=4).map(|number| collector::message(&encode(number))).collect();
        let whole = messages.concat();
        for bit in 0..32 {
            let mut flipped = whole.clone();
            flipped[messages[0].len() + bit / 8] ^= 1 << (bit % 8);
            let (found, damage) = read(&folder.write(&flipped));
            assert_eq!(found, [2, 3, 6, 7, 8, 9], "{bit}: {damage}");
            let expected = (1, messages[1].len() as u64, 0);
            assert_eq!((damage.places, damage.bytes, damage.tail_bytes), expected, "{bit}");
        }
    }
}

#[test]
fn zeros_among_messages_are_damage() {
    let folder = Folder::new();
    let message = |number| collector::message(&collector::protobuf(number));
    let zeros = vec![0; 8 << 20];
    let (found, damage) = read_in_time(&folder.write(&[message(1), zeros.clone()].concat()));
    assert_eq!((found, damage.places, damage.bytes), (vec![2, 3], 1, zeros.len() as u64));
    assert_eq!(damage.tail_bytes, 0);
    let (found, damage) = read(&folder.write(&[message(1), zeros.clone(), message(2)].concat()));
    assert_eq!((found, damage.places, damage.bytes), (vec![2, 3, 4, 5], 1, zeros.len() as u64));
    // Neither is a length that no message has.
    let (found, damage) = read(&folder.write(&[message(1), vec![0xff; 100]].concat()));
    assert_eq!((found, damage.places, damage.bytes, damage.tail_bytes), (vec![2, 3], 1, 100, 0));
}

#[test]
fn messages_that_no_other_follows_are_not_searched_again_and_again() {
    let folder = Folder::new();
    let begin = [&collector::message(b"\n")[..], &collector::message(b"a")].concat();
    let bytes =
        [&collector::message(&collector::protobuf(1)), &begin.repeat((4 << 20) / begin.len())[..]].concat();
    let (found, damage) = read_in_time(&folder.write(&bytes));
    assert_eq!((found, damage.places > 0), (vec![2, 3], true));
}
