//! Bounded memory between the threads that close spans and the sender thread.
//!
//! Each ring is a buffer of 64-bit words that wraps around. Writers share a lock, but there is a ring for
//! each core, so a writer seldom waits. A reader and a writer never share a lock. The words between `released` and
//! `written` are the reader's, and the others are the writer's. Each passes words to the other by a release store of its
//! number.

use std::cell::Cell;

use super::wake::SenderWaker;
use crate::bytes::take;
use crate::sync::{AtomicU64, Held, Lock, Mutex, MutexGuard, Ordering, SharedWords, try_lock};

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

    /// Stores it in `bytes`, which are as many words as [`size`](Self::size) says. Runs under the lock of the writers.
    fn store(&self, bytes: &mut [u8]);
}

pub(super) struct Ring<const WORDS: usize = RING_WORDS> {
    words: SharedWords<WORDS>,
    writer: Padded<Writer>,
    reader: Padded<Reader>,
}

/// Gives a value cache lines of its own, so that writers and reader do not contend for one.
#[repr(align(128))]
struct Padded<T>(T);

struct Writer {
    lock: Lock,
    /// Up to this position there is room, as of the last time that a writer checked. Used under the lock only.
    room_until: AtomicU64,
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
        let zero = || AtomicU64::new(0);
        Self {
            words: SharedWords::new(),
            writer: Padded(Writer {
                lock: Lock::new(),
                room_until: zero(),
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
        let held = writer.lock.lock();
        if offer == Offer::First {
            add_exclusive(&writer.offered, 1);
        }
        let mut written = writer.written.load(Ordering::Relaxed);
        let mut is_filling = false;
        if written + size as u64 > writer.room_until.load(Ordering::Relaxed) {
            (written, is_filling) = self.make_room(&held, written, size)?;
        }
        let store = |bytes: &mut [u8]| {
            if let Some((first, rest)) = bytes.split_first_chunk_mut() {
                *first = (size as u64).to_le_bytes();
                record.store(rest);
            }
        };
        // SAFETY: this thread holds the lock of the writers, and no reader accesses these words: there is room for them, so
        // they are behind what is written, and the reader has released what was there before.
        #[allow(unsafe_code)]
        unsafe {
            self.words.write(written as usize % WORDS, size, store);
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
    /// record that does not fit into the rest of the buffer, or into half of the ring as of the last look.
    #[cold]
    fn make_room(&self, _held: &Held<'_>, written: u64, size: usize) -> Result<(u64, bool), Full> {
        // A record is contiguous: if the rest of the buffer is too short for it, it goes to the beginning.
        let at = written as usize % WORDS;
        let skipped = if WORDS - at < size { WORDS - at } else { 0 };
        let released = self.reader.0.released.load(Ordering::Acquire);
        let used = written + (skipped + size) as u64 - released;
        if used > WORDS as u64 {
            return Err(Full);
        }
        if skipped > 0 {
            // SAFETY: as in `write`: `_held` is the lock of the writers, which it has taken.
            #[allow(unsafe_code)]
            unsafe {
                self.words.write(at, 1, |bytes| bytes.copy_from_slice(&SKIP.to_le_bytes()));
            }
        }
        let (written, half) = (written + skipped as u64, WORDS as u64 / 2);
        let end_of_buffer = written - written % WORDS as u64 + WORDS as u64;
        self.writer.0.room_until.store(end_of_buffer.min(released + half), Ordering::Relaxed);
        Ok((written, used > half))
    }

    /// Locks the ring for reading; `None` while another thread reads.
    pub(super) fn try_read(&self) -> Option<ReadGuard<'_, WORDS>> {
        let at = try_lock(&self.reader.0.at)?;
        Some(ReadGuard { ring: self, known_end: Cell::new(*at), at })
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

/// Stores so many words at the beginning of `rest`, and takes these from it. [`Record::size`] has counted them.
#[inline(always)]
pub(super) fn store_words<const N: usize>(rest: &mut &mut [u8], words: [u64; N]) {
    debug_assert!(8 * N <= rest.len(), "a record is larger than its size");
    if let Some((places, after)) = std::mem::take(rest).split_at_mut_checked(8 * N) {
        *rest = after;
        places
            .chunks_exact_mut(8)
            .zip(words)
            .for_each(|(place, word)| place.copy_from_slice(&word.to_le_bytes()));
    }
}

/// Stores bytes at the beginning of `rest`, and takes whole words from it. Their last bytes stay as they are.
#[inline(always)]
pub(super) fn store_bytes(rest: &mut &mut [u8], bytes: &[u8]) {
    debug_assert!(8 * words_of(bytes) <= rest.len(), "a record is larger than its size");
    if let Some((places, after)) = std::mem::take(rest).split_at_mut_checked(8 * words_of(bytes)) {
        *rest = after;
        places[..bytes.len()].copy_from_slice(bytes);
    }
}

/// How many words [`store_bytes`] takes.
#[inline]
pub(super) fn words_of(bytes: &[u8]) -> usize {
    // `div_ceil` takes three times as many instructions, to be right up to `usize::MAX`.
    (bytes.len() + 7) >> 3
}

/// A record that waits for room, of whole words.
impl Record for [u8] {
    fn size(&self) -> usize {
        words_of(self)
    }

    fn store(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(self);
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
    /// The end as of the last look. Writers change `written` for each record, so a look waits for its cache line.
    known_end: Cell<u64>,
    at: MutexGuard<'a, u64>,
}

impl<const WORDS: usize> ReadGuard<'_, WORDS> {
    /// The position of the next record.
    pub(super) fn start(&self) -> u64 {
        *self.at
    }

    /// The position behind the last record that is written by now.
    pub(super) fn end(&self) -> u64 {
        self.known_end.set(self.ring.writer.0.written.load(Ordering::Acquire));
        self.known_end.get()
    }

    /// Whether all words before this position have been written.
    fn is_written(&self, at: u64) -> bool {
        at <= self.known_end.get() || at <= self.end()
    }

    /// Copies the record at `at`, which must be before the end, and returns the position of the next one.
    pub(super) fn copy(&self, at: u64, record: &mut Vec<u8>) -> u64 {
        let size = |at| self.read(at, at + 1, |mut size| u64::from_le_bytes(take(&mut size)));
        let (mut at, mut words) = (at, size(at));
        if words == SKIP {
            at = at.next_multiple_of(WORDS as u64);
            words = size(at);
        }
        let next = at + words;
        record.clear();
        self.read(at + 1, next, |bytes| record.extend_from_slice(bytes));
        next
    }

    /// Calls `f` with the words from one position to another.
    fn read<T>(&self, from: u64, to: u64, f: impl FnOnce(&[u8]) -> T) -> T {
        assert!(self.start() <= from && from <= to && self.is_written(to), "words that are not the reader's");
        // SAFETY: this thread has the lock of the reader. These words have been written, and no writer changes them before
        // they are released.
        #[allow(unsafe_code)]
        unsafe {
            self.ring.words.read(from as usize % WORDS, (to - from) as usize, f)
        }
    }

    /// Releases `records` records, up to the position `at`, for writers to overwrite.
    pub(super) fn release(&mut self, at: u64, records: u64) {
        // Writers rely on this: they overwrite what is before.
        assert!(self.start() <= at && self.is_written(at), "words that are not the reader's");
        *self.at = at;
        self.ring.reader.0.released.store(at, Ordering::Release);
        add_exclusive(&self.ring.reader.0.records, records);
    }
}

#[cfg(test)]
fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
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
            let record = bytes_of(&(n..n + n % 6).collect::<Vec<_>>());
            ring.write(&*record, Offer::First, &waker).expect("it was emptied");
            assert_eq!(read_all(&ring), [record]);
        }
        assert_eq!(ring.counts(), [100, 100, 100]);
    }

    #[test]
    fn bytes_take_whole_words() {
        for length in 0..20 {
            let mut bytes: Vec<u8> = (1..=length).collect();
            let size = 8 * words_of(&bytes);
            assert_eq!(size, bytes.len().next_multiple_of(8));
            let mut stored = vec![77; size + 1];
            let mut rest = &mut stored[..];
            store_bytes(&mut rest, &bytes);
            assert_eq!(rest, [77], "only these are taken");
            bytes.resize(size + 1, 77);
            assert_eq!(stored, bytes);
        }
    }

    #[test]
    fn a_record_without_room_changes_nothing() {
        let (ring, waker) = (Ring::<8>::new(), SenderWaker::new());
        ring.write(&*bytes_of(&[1, 2, 3]), Offer::First, &waker).expect("four words of eight");
        ring.write(&*bytes_of(&[1, 2, 3, 4]), Offer::First, &waker).expect_err("five more");
        ring.write(&*bytes_of(&[4, 5, 6]), Offer::First, &waker).expect("four more");
        ring.write(&*bytes_of(&[]), Offer::First, &waker).expect_err("not even one");
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
                        while ring.write(&*bytes_of(&[writer, n, !n, !writer]), Offer::First, waker).is_err()
                        {
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
                    assert_eq!(rest, bytes_of(&[!n, !writer]));
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
    fn a_reader_releases_no_words_but_its_own() {
        let (ring, waker) = (Ring::<8>::new(), SenderWaker::new());
        ring.write(&*bytes_of(&[1, 2]), Offer::First, &waker).expect("an empty ring has room");
        assert_eq!(read_all(&ring).len(), 1);
        for at in [2, 4] {
            let mut reading = ring.try_read().expect("no other reader");
            let release = std::panic::AssertUnwindSafe(|| reading.release(at, 1));
            assert!(std::panic::catch_unwind(release).is_err(), "up to {at}");
        }
        assert_eq!(ring.counts(), [1; 3]);
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
        if ring.write(&*bytes_of(&[number]), Offer::First, waker)? {
            waker.wake();
        }
        Ok(())
    }

    /// Reads records, whose words are all the same number.
    fn read<const WORDS: usize>(ring: &Ring<WORDS>, numbers: &mut Vec<u64>) {
        let Some(mut reading) = ring.try_read() else { return };
        let (mut at, before, mut record) = (reading.start(), numbers.len(), Vec::new());
        while at < reading.end() {
            at = reading.copy(at, &mut record);
            let words: Vec<u64> =
                record.chunks(8).map(|mut word| u64::from_le_bytes(take(&mut word))).collect();
            assert!(
                !words.is_empty() && words.iter().all(|word| *word == words[0]),
                "half a record: {words:?}"
            );
            numbers.push(words[0]);
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
            let write = |n: u64| ring.write(&*bytes_of(&[n]), Offer::IfWritten, waker).is_ok();
            let written = (1..=3).filter(|n| write(*n)).count() as u64;
            let mut numbers = reader.join().unwrap();
            read(ring, &mut numbers);
            assert_eq!(shared.0.counts(), [written; 3]);
            assert_eq!(numbers.len() as u64, written);
        });
    }

    /// A writer comes to the beginning of the buffer again, while another thread reads what is at its end. In the second case,
    /// the writer skips the rest of the buffer, because a record is too long for it.
    #[test]
    fn memory_is_written_again_only_after_it_was_read() {
        for (read_before, unread, later) in [(&[1, 1, 1][..], 1, &[1, 1, 1, 1][..]), (&[1], 3, &[2, 2])] {
            loom::model(move || {
                let shared = Arc::new((Ring::<8>::new(), SenderWaker::new()));
                let write = move |shared: &(Ring<8>, SenderWaker), number: u64, words: usize| {
                    shared.0.write(&*bytes_of(&vec![number; words]), Offer::First, &shared.1).is_ok()
                };
                let mut numbers = Vec::new();
                for words in read_before {
                    assert!(write(&shared, 1, *words), "all before was read");
                    read(&shared.0, &mut numbers);
                }
                assert!(write(&shared, 2, unread), "there is room for one");
                let writer = {
                    let shared = Arc::clone(&shared);
                    let later = (3..).zip(later);
                    thread::spawn(move || {
                        later
                            .filter(|(n, words)| write(&shared, *n, **words))
                            .map(|(n, _)| n)
                            .collect::<Vec<_>>()
                    })
                };
                numbers.clear();
                read(&shared.0, &mut numbers);
                let written = writer.join().unwrap();
                read(&shared.0, &mut numbers);
                assert_eq!(numbers, [&[2][..], &written].concat());
            });
        }
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
