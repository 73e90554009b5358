//! Bounded memory between the threads that close spans and the sender thread.
//!
//! Each ring is a buffer of 64-bit words that wraps around. Writers share a lock, but there is a ring for
//! each core, so a writer seldom waits. A reader and a writer never share a lock. The words are atomics:
//! relaxed accesses cost the same as plain ones on 64-bit machines, and no unsafe code is needed.

use super::wake::SenderWaker;
use crate::bytes::take;
use crate::sync::{AtomicU64, Lock, Mutex, MutexGuard, Ordering, try_lock};

/// One mebibyte, which holds about 7000 spans with two fields.
pub(super) const RING_WORDS: usize = 1 << 17;

/// There is one ring for each core, up to this number, which bounds the memory.
pub(super) const MAX_RINGS: usize = 16;

/// How many records each ring had when `exec` was called.
#[derive(Clone, Copy)]
pub(super) struct BeforeExec {
    pub(super) written: [u64; MAX_RINGS],
}

/// What is stored in a ring.
pub(super) trait Record {
    /// How many words it takes.
    fn size(&self) -> usize;

    /// Stores it in the first words, as many as [`size`](Self::size) says. Runs under the lock of the writers.
    fn store(&self, words: &[AtomicU64]);
}

pub(super) struct Ring<const WORDS: usize = RING_WORDS> {
    words: Box<[AtomicU64; WORDS]>,
    writer: Padded<Writer>,
    reader: Padded<Reader>,
}

/// Gives a value cache lines of its own, so that writers and reader do not contend for one.
#[repr(align(128))]
struct Padded<T>(T);

struct Writer {
    lock: Lock,
    /// How many words the reader had released when a writer last checked. Used under the lock only.
    released: AtomicU64,
    /// How many words have been written since the start.
    written: AtomicU64,
    /// How many records have been written.
    records: AtomicU64,
    /// How many records were offered, whether or not there was room.
    offered: AtomicU64,
}

struct Reader {
    /// The position of the next record. The lock is held while reading.
    at: Mutex<u64>,
    released: AtomicU64,
    records: AtomicU64,
}

/// The ring has no room for the record.
#[derive(Debug)]
pub(super) struct Full;

/// When a record counts as offered: once, whatever becomes of it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Offer {
    /// Now.
    First,
    /// Now if it is written; else the caller offers it again.
    IfWritten,
    /// It has counted already.
    Again,
}

impl<const WORDS: usize> Ring<WORDS> {
    pub(super) fn new() -> Self {
        let words: Box<[AtomicU64]> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let Ok(words) = words.try_into() else { unreachable!("as many words as were made") };
        let zero = || AtomicU64::new(0);
        Self {
            words,
            writer: Padded(Writer {
                lock: Lock::new(),
                released: zero(),
                written: zero(),
                records: zero(),
                offered: zero(),
            }),
            reader: Padded(Reader { at: Mutex::new(0), released: zero(), records: zero() }),
        }
    }

    /// Appends a record. Returns whether the caller must call [`SenderWaker::wake`].
    #[inline(always)]
    pub(super) fn write(
        &self,
        record: &(impl Record + ?Sized),
        offer: Offer,
        waker: &SenderWaker,
    ) -> Result<bool, Full> {
        let writer = &self.writer.0;
        let size = 1 + record.size();
        let _held = writer.lock.lock();
        if offer == Offer::First {
            add_exclusive(&writer.offered, 1);
        }
        let mut written = writer.written.load(Ordering::Relaxed);
        let (left, used) =
            (WORDS - written as usize % WORDS, written - writer.released.load(Ordering::Relaxed));
        let mut is_filling = false;
        if left < size || used + size as u64 > WORDS as u64 / 2 {
            (written, is_filling) = self.make_room(written, size)?;
        }
        let at = written as usize % WORDS;
        if let Some((first, rest)) = self.words[at..].split_first() {
            first.store(size as u64, Ordering::Relaxed);
            record.store(rest);
        }
        // Nothing can fail from here on. Before `written`, so that nobody can read and count a record before it counts as
        // offered; and before `records`, so that `counts` never finds more records than were offered.
        if offer == Offer::IfWritten {
            add_exclusive(&writer.offered, 1);
        }
        writer.written.store(written + size as u64, Ordering::Release);
        add_exclusive(&writer.records, 1);
        // While the lock is held: see `SenderWaker::sleep`.
        Ok(waker.needs_wake(is_filling))
    }

    /// Where a record of so many words goes, and whether it fills more than half of the ring. Called by a writer, for a
    /// record that does not fit into the rest of the buffer, or into half of what was free at the last look.
    #[cold]
    fn make_room(&self, written: u64, size: usize) -> Result<(u64, bool), Full> {
        // A record is contiguous: if the rest of the buffer is too short for it, it goes to the beginning.
        let at = written as usize % WORDS;
        let skipped = if WORDS - at < size { WORDS - at } else { 0 };
        let released = self.reader.0.released.load(Ordering::Acquire);
        self.writer.0.released.store(released, Ordering::Relaxed);
        let used = written + (skipped + size) as u64 - released;
        if used > WORDS as u64 {
            return Err(Full);
        }
        if skipped > 0 {
            self.words[at].store(SKIP, Ordering::Relaxed);
        }
        Ok((written + skipped as u64, used > WORDS as u64 / 2))
    }

    /// Locks the ring for reading; `None` while another thread reads.
    pub(super) fn try_read(&self) -> Option<ReadGuard<'_, WORDS>> {
        let at = try_lock(&self.reader.0.at)?;
        Some(ReadGuard { ring: self, at })
    }

    /// Whether all records have been released. Exact: takes the lock of the writers, so no record is half
    /// written.
    pub(super) fn is_empty(&self) -> bool {
        let _no_writer = self.writer.0.lock.lock();
        self.writer.0.written.load(Ordering::Relaxed) == self.reader.0.released.load(Ordering::Acquire)
    }

    /// Whether the ring is more than half full.
    pub(super) fn is_filling(&self) -> bool {
        // Another thread may release records between the two loads.
        let written = self.writer.0.written.load(Ordering::Relaxed);
        let used = written.saturating_sub(self.reader.0.released.load(Ordering::Relaxed));
        used > WORDS as u64 / 2
    }

    /// How many records have been offered, written and released.
    pub(super) fn counts(&self) -> [u64; 3] {
        let released = self.reader.0.records.load(Ordering::Acquire);
        let written = self.writer.0.records.load(Ordering::Acquire);
        [self.writer.0.offered.load(Ordering::Acquire), written, released]
    }
}

/// In place of a record's size: the next record is at the beginning of the buffer.
const SKIP: u64 = 0;

/// Stores so many words at the beginning of `rest`, and takes these from it.
#[inline(always)]
pub(super) fn store_words<const N: usize>(rest: &mut &[AtomicU64], words: [u64; N]) {
    if let Some((places, after)) = rest.split_first_chunk::<N>() {
        *rest = after;
        places.iter().zip(words).for_each(|(place, word)| place.store(word, Ordering::Relaxed));
    }
}

/// Stores bytes, padded to whole words, at the beginning of `rest`, and takes these from it.
#[inline(always)]
pub(super) fn store_bytes(rest: &mut &[AtomicU64], bytes: &[u8]) {
    let whole = bytes.chunks_exact(8);
    let rest_bytes = whole.remainder().len();
    let Some((places, after)) = rest.split_at_checked(whole.len()) else { return };
    *rest = after;
    // A loop, because the compiler does not always inline `for_each` here: 56 instructions of a span.
    for (place, mut word) in places.iter().zip(whole) {
        place.store(u64::from_le_bytes(take(&mut word)), Ordering::Relaxed);
    }
    if rest_bytes > 0 {
        let word = match bytes.last_chunk() {
            Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest_bytes),
            None => short_word(bytes),
        };
        if let Some((place, after)) = rest.split_first() {
            place.store(word, Ordering::Relaxed);
            *rest = after;
        }
    }
}

/// Stores words at the beginning of `rest`, and takes these from it.
#[inline(always)]
pub(super) fn store_slice(rest: &mut &[AtomicU64], words: &[u64]) {
    let Some((places, after)) = rest.split_at_checked(words.len()) else { return };
    *rest = after;
    places.iter().zip(words).for_each(|(place, word)| place.store(*word, Ordering::Relaxed));
}

/// How many words [`store_bytes`] takes.
#[inline]
pub(super) fn words_of(bytes: &[u8]) -> usize {
    // `div_ceil` takes three times as many instructions, to be right up to `usize::MAX`.
    (bytes.len() + 7) >> 3
}

/// A record that waits for room.
impl Record for [u64] {
    fn size(&self) -> usize {
        self.len()
    }

    fn store(&self, words: &[AtomicU64]) {
        words.iter().zip(self).for_each(|(place, word)| place.store(*word, Ordering::Relaxed));
    }
}

/// One to seven bytes as the lower bytes of a word. Combines pieces that may overlap, which needs no loop.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    let last = bytes.len() - 1;
    if let (Some(first), Some(end)) = (bytes.first_chunk(), bytes.last_chunk()) {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*end)) << (8 * (last - 3))
    } else {
        let byte = |at: usize| u64::from(bytes[at]) << (8 * at);
        byte(0) | byte(bytes.len() / 2) | byte(last)
    }
}

/// Adds to a number that only the holder of a lock changes.
#[inline]
fn add_exclusive(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed) + more, Ordering::Release);
}

/// Exclusive access to a ring for reading.
pub(super) struct ReadGuard<'a, const WORDS: usize = RING_WORDS> {
    ring: &'a Ring<WORDS>,
    at: MutexGuard<'a, u64>,
}

impl<const WORDS: usize> ReadGuard<'_, WORDS> {
    /// The position of the next record.
    pub(super) fn start(&self) -> u64 {
        *self.at
    }

    /// The position behind the last record that is written by now.
    pub(super) fn end(&self) -> u64 {
        self.ring.writer.0.written.load(Ordering::Acquire)
    }

    /// Copies the record at `at`, which must be before the end, and returns the position of the next one.
    pub(super) fn copy(&self, at: u64, record: &mut Vec<u8>) -> u64 {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let mut at = at;
        if load(&self.ring.words[at as usize % WORDS]) == SKIP {
            at = at.next_multiple_of(WORDS as u64);
        }
        let start = at as usize % WORDS;
        let size = load(&self.ring.words[start]);
        record.clear();
        let words = &self.ring.words[start + 1..start + size as usize];
        words.iter().for_each(|word| record.extend_from_slice(&load(word).to_le_bytes()));
        at + size
    }

    /// Releases `records` records, up to the position `at`, for writers to overwrite.
    pub(super) fn release(&mut self, at: u64, records: u64) {
        *self.at = at;
        self.ring.reader.0.released.store(at, Ordering::Release);
        add_exclusive(&self.ring.reader.0.records, records);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn read_all<const WORDS: usize>(ring: &Ring<WORDS>) -> Vec<Vec<u8>> {
        let mut reading = ring.try_read().expect("no other reader");
        let (mut at, mut records) = (reading.start(), Vec::new());
        while at < reading.end() {
            let mut record = Vec::new();
            at = reading.copy(at, &mut record);
            records.push(record);
        }
        reading.release(at, records.len() as u64);
        records
    }

    #[test]
    fn records_read_back_unchanged_after_many_wraps() {
        let (ring, waker) = (Ring::<16>::new(), SenderWaker::new());
        for n in 0..100u64 {
            let record: Vec<u64> = (n..n + n % 6).collect();
            ring.write(&record[..], Offer::First, &waker).expect("it was emptied");
            let expected: Vec<u8> = record.iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(read_all(&ring), [expected]);
        }
        assert_eq!(ring.counts(), [100, 100, 100]);
    }

    #[test]
    fn bytes_are_padded_to_whole_words() {
        for length in 0..20 {
            let mut bytes: Vec<u8> = (1..=length).collect();
            let words: Vec<AtomicU64> = (0..words_of(&bytes) + 1).map(|_| AtomicU64::new(7)).collect();
            let mut rest = &words[..];
            store_bytes(&mut rest, &bytes);
            assert_eq!(rest.len(), 1, "only these are taken");
            let stored: Vec<u8> =
                words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes.extend(7_u64.to_le_bytes());
            assert_eq!(stored, bytes);
        }
    }

    #[test]
    fn a_record_without_room_changes_nothing() {
        let (ring, waker) = (Ring::<8>::new(), SenderWaker::new());
        ring.write(&[1, 2, 3][..], Offer::First, &waker).expect("four words of eight");
        ring.write(&[1, 2, 3, 4][..], Offer::First, &waker).expect_err("five more");
        ring.write(&[4, 5, 6][..], Offer::First, &waker).expect("four more");
        ring.write(&[][..], Offer::First, &waker).expect_err("not even one");
        let records: Vec<_> = read_all(&ring).into_iter().map(|record| record[0]).collect();
        assert_eq!((records, ring.counts()), (vec![1, 4], [4, 2, 2]));
        assert!(ring.is_empty());
    }

    /// For Miri and ThreadSanitizer, which watch the threads as they run.
    #[test]
    fn concurrent_writers_and_a_reader_lose_no_record() {
        const EACH: u64 = if cfg!(miri) { 50 } else { 20_000 };
        let (ring, waker) = (Ring::<64>::new(), SenderWaker::new());
        let read = std::thread::scope(|scope| {
            for writer in 0..3 {
                let (ring, waker) = (&ring, &waker);
                scope.spawn(move || {
                    for n in 0..EACH {
                        while ring.write(&[writer, n, !n, !writer][..], Offer::First, waker).is_err() {
                            std::thread::yield_now();
                        }
                        if n % 3 == 0 {
                            waker.wake();
                        }
                    }
                });
            }
            waker.register_current_thread();
            let mut read = [0; 3];
            while read != [EACH; 3] {
                for record in read_all(&ring) {
                    let mut rest = &record[..];
                    let [writer, n] = [(); 2].map(|()| u64::from_le_bytes(take(&mut rest)));
                    assert_eq!(rest, [!n, !writer].map(u64::to_le_bytes).concat());
                    assert_eq!(n, read[writer as usize], "in order, and each once");
                    read[writer as usize] += 1;
                }
                waker.gather(Duration::from_micros(50), || false);
            }
            read
        });
        assert_eq!(read, [EACH; 3]);
    }

    #[test]
    fn only_one_thread_reads_at_a_time() {
        let ring = Ring::<8>::new();
        let _reading = ring.try_read().expect("no other reader");
        assert!(ring.try_read().is_none());
    }
}

/// Checks all interleavings of threads: `RUSTFLAGS="--cfg loom" cargo test --release --lib model`.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    type Shared = Arc<(Ring<4>, SenderWaker)>;

    fn shared() -> Shared {
        Arc::new((Ring::new(), SenderWaker::new()))
    }

    /// Writes a record, and wakes the reader if needed.
    fn write(shared: &Shared, number: u64) -> Result<(), Full> {
        let (ring, waker) = &**shared;
        if ring.write(&[number][..], Offer::First, waker)? {
            waker.wake();
        }
        Ok(())
    }

    fn read(ring: &Ring<4>, numbers: &mut Vec<u64>) {
        let Some(mut reading) = ring.try_read() else { return };
        let (mut at, before, mut record) = (reading.start(), numbers.len(), Vec::new());
        while at < reading.end() {
            at = reading.copy(at, &mut record);
            assert_eq!(record.len(), 8, "half a record");
            numbers.push(u64::from_le_bytes(take(&mut &record[..])));
        }
        reading.release(at, (numbers.len() - before) as u64);
    }

    /// Two writers, and a ring that has room for all their records only if the reader reads some in between.
    #[test]
    fn every_record_is_read_once_or_refused() {
        loom::model(|| {
            let shared = shared();
            let writers = [10, 20].map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    (number..number + 2).filter(|n| write(&shared, *n).is_ok()).collect::<Vec<_>>()
                })
            });
            let mut numbers = Vec::new();
            read(&shared.0, &mut numbers);
            let mut written: Vec<u64> =
                writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
            read(&shared.0, &mut numbers);
            numbers.sort_unstable();
            written.sort_unstable();
            assert_eq!(numbers, written);
            assert_eq!(shared.0.counts(), [4, written.len() as u64, written.len() as u64]);
        });
    }

    /// A record that is offered again if there is no room counts once, and not later than a reader finds it.
    #[test]
    fn a_record_that_is_read_has_been_offered() {
        loom::model(|| {
            let shared = shared();
            let reader = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let mut numbers = Vec::new();
                    read(&shared.0, &mut numbers);
                    let [offered, ..] = shared.0.counts();
                    assert!(offered >= numbers.len() as u64, "{offered} offered, but read: {numbers:?}");
                    numbers
                })
            };
            let (ring, waker) = &*shared;
            let write = |n: u64| ring.write(&[n][..], Offer::IfWritten, waker).is_ok();
            let written = (1..=3).filter(|n| write(*n)).count() as u64;
            let mut numbers = reader.join().unwrap();
            read(ring, &mut numbers);
            assert_eq!(shared.0.counts(), [written; 3]);
            assert_eq!(numbers.len() as u64, written);
        });
    }

    /// Two readers at once, like a flush and the sender thread.
    #[test]
    fn two_readers_get_each_record_once() {
        loom::model(|| {
            let shared = shared();
            let reader = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let mut numbers = Vec::new();
                    read(&shared.0, &mut numbers);
                    numbers
                })
            };
            write(&shared, 1).expect("an empty ring has room");
            let mut numbers = Vec::new();
            read(&shared.0, &mut numbers);
            numbers.extend(reader.join().unwrap());
            read(&shared.0, &mut numbers);
            assert_eq!(numbers, [1]);
        });
    }

    /// A reader that misses its wake would sleep for ever, which the model reports as a deadlock.
    #[test]
    fn a_record_wakes_a_sleeping_reader() {
        loom::model(|| {
            let shared = shared();
            let reader = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (ring, waker) = &*shared;
                    waker.register_current_thread();
                    let mut numbers = Vec::new();
                    while numbers.is_empty() {
                        waker.sleep(|| !ring.is_empty());
                        read(ring, &mut numbers);
                    }
                })
            };
            write(&shared, 1).expect("an empty ring has room");
            reader.join().unwrap();
        });
    }
}
