//! Bounded memory between the threads that close spans and the one that sends them.
//!
//! A ring of words. Writers take turns by a lock, and there is a ring for each core, so that mostly
//! a writer meets nobody; a reader and a writer don't meet at all. The words are atomics, which
//! costs nothing where they are as wide as the machine's, and leaves nothing to be unsafe about.

use std::time::Duration;

use super::sync::{
    AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, Thread, park, park_timeout, this_thread,
};
use crate::fields::take;

/// Of a mebibyte. Some 7000 spans with two fields.
pub(super) const RING_WORDS: usize = 1 << 17;

pub(super) struct Ring<const WORDS: usize = RING_WORDS> {
    words: Box<[AtomicU64; WORDS]>,
    writer: Padded<Writer>,
    reader: Padded<Reader>,
}

/// With cache lines of its own.
#[repr(align(128))]
struct Padded<T>(T);

struct Writer {
    /// How many words the reader had released when a writer last had to know.
    released: Mutex<u64>,
    /// How many words were ever written.
    written: AtomicU64,
    /// How many records those are.
    records: AtomicU64,
    /// How many records came, whether or not there was room.
    offered: AtomicU64,
}

struct Reader {
    /// Where the next record is; held while reading.
    at: Mutex<u64>,
    released: AtomicU64,
    records: AtomicU64,
}

/// A record found no room.
#[derive(Debug)]
pub(super) struct Full;

impl<const WORDS: usize> Ring<WORDS> {
    pub(super) fn new() -> Self {
        let words: Box<[AtomicU64]> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let Ok(words) = words.try_into() else { unreachable!("as many words as were made") };
        let zero = || AtomicU64::new(0);
        Self {
            words,
            writer: Padded(Writer {
                released: Mutex::new(0),
                written: zero(),
                records: zero(),
                offered: zero(),
            }),
            reader: Padded(Reader { at: Mutex::new(0), released: zero(), records: zero() }),
        }
    }

    /// Appends a record of a header and parts, and says whether the bell has to be rung for it. One
    /// that comes for the first time is counted.
    #[inline]
    pub(super) fn write(
        &self,
        header: &[u64],
        parts: &[&[u8]],
        first_time: bool,
        bell: &Bell,
    ) -> Result<bool, Full> {
        let writer = &self.writer.0;
        let size = 1 + header.len() + parts.iter().map(|part| part.len().div_ceil(8)).sum::<usize>();
        let mut released = lock(&writer.released);
        if first_time {
            add_alone(&writer.offered, 1);
        }
        let mut written = writer.written.load(Ordering::Relaxed);
        // A record lies in one piece: where there is no room for it before the end, it begins anew.
        let mut at = written as usize % WORDS;
        let left = WORDS - at;
        let skipped = if left < size { left } else { 0 };
        let mut used = written + (skipped + size) as u64 - *released;
        if used > WORDS as u64 / 2 {
            *released = self.reader.0.released.load(Ordering::Acquire);
            used = written + (skipped + size) as u64 - *released;
            if used > WORDS as u64 {
                return Err(Full);
            }
        }
        if skipped > 0 {
            self.words[at].store(SKIP, Ordering::Relaxed);
            written += skipped as u64;
            at = 0;
        }
        put(&self.words[at..at + size], header, parts);
        writer.written.store(written + size as u64, Ordering::Release);
        add_alone(&writer.records, 1);
        // Before the lock is let go: see `Bell::sleep`.
        Ok(bell.is_wanted(used > WORDS as u64 / 2))
    }

    /// For reading; `None` while another thread does.
    pub(super) fn try_read(&self) -> Option<Reading<'_, WORDS>> {
        let at = try_lock(&self.reader.0.at)?;
        Some(Reading { ring: self, at })
    }

    /// Whether all that was written has been released, looking closely: no writer is just about to
    /// be done.
    pub(super) fn is_empty(&self) -> bool {
        let _no_writer = lock(&self.writer.0.released);
        self.writer.0.written.load(Ordering::Relaxed) == self.reader.0.released.load(Ordering::Acquire)
    }

    /// Whether writers soon find no room.
    pub(super) fn is_filling(&self) -> bool {
        // Another thread may release records between the two loads.
        let written = self.writer.0.written.load(Ordering::Relaxed);
        let used = written.saturating_sub(self.reader.0.released.load(Ordering::Relaxed));
        used > WORDS as u64 / 2
    }

    /// How many records were offered, written and released so far.
    pub(super) fn counts(&self) -> [u64; 3] {
        let released = self.reader.0.records.load(Ordering::Acquire);
        let written = self.writer.0.records.load(Ordering::Acquire);
        [self.writer.0.offered.load(Ordering::Acquire), written, released]
    }
}

/// Stands where a record's size does: the next is at the ring's beginning.
const SKIP: u64 = 0;

/// Writes a record to its words.
#[inline]
fn put(words: &[AtomicU64], header: &[u64], parts: &[&[u8]]) {
    let store = |place: &AtomicU64, word: u64| place.store(word, Ordering::Relaxed);
    store(&words[0], words.len() as u64);
    let (places, mut rest) = words[1..].split_at(header.len());
    places.iter().zip(header).for_each(|(place, word)| store(place, *word));
    for part in parts {
        let (places, after) = rest.split_at(part.len().div_ceil(8));
        rest = after;
        let whole = part.chunks_exact(8);
        let last = whole.remainder();
        places
            .iter()
            .zip(whole)
            .for_each(|(place, mut bytes)| store(place, u64::from_le_bytes(take(&mut bytes))));
        if let (Some(place), false) = (places.last(), last.is_empty()) {
            store(place, short_word(last));
        }
    }
}

/// One to seven bytes as the lower ones of a word. By parts that may overlap, which takes no loop.
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

/// To a number that only the holder of a lock changes.
#[inline]
fn add_alone(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed) + more, Ordering::Release);
}

/// The right to read a ring.
pub(super) struct Reading<'a, const WORDS: usize = RING_WORDS> {
    ring: &'a Ring<WORDS>,
    at: MutexGuard<'a, u64>,
}

impl<const WORDS: usize> Reading<'_, WORDS> {
    /// Where the next record begins.
    pub(super) fn start(&self) -> u64 {
        *self.at
    }

    /// How far it is written by now.
    pub(super) fn end(&self) -> u64 {
        self.ring.writer.0.written.load(Ordering::Acquire)
    }

    /// Copies the record at `at`, which is before the end, and says where the next one is.
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

    /// Gives the room of `records` records, up to `at`, back to the writers.
    pub(super) fn release(&mut self, at: u64, records: u64) {
        *self.at = at;
        self.ring.reader.0.released.store(at, Ordering::Release);
        add_alone(&self.ring.reader.0.records, records);
    }
}

/// Wakes the thread that reads, when it is worth it.
pub(super) struct Bell {
    state: AtomicU32,
    sleeper: Mutex<Option<Thread>>,
}

/// Looks at the rings, or will soon.
const AWAKE: u32 = 0;
/// Lets some records gather; to be woken when a ring fills.
const DOZING: u32 = 1;
/// To be woken by the next record.
const ASLEEP: u32 = 2;
/// Waits for something else than records.
const DEAF: u32 = 3;
/// There is no thread yet.
const ABSENT: u32 = 4;

/// What ringing the bell has led to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Rung {
    Heard,
    /// The caller has to start the thread, and has to say so if it can't.
    NeedsThread,
}

impl Bell {
    pub(super) fn new() -> Self {
        Self { state: AtomicU32::new(ABSENT), sleeper: Mutex::new(None) }
    }

    #[inline]
    fn is_wanted(&self, urgent: bool) -> bool {
        match self.state.load(Ordering::Relaxed) {
            AWAKE | DEAF => false,
            DOZING => urgent,
            _ => true,
        }
    }

    #[cold]
    pub(super) fn ring(&self) -> Rung {
        match self.state.swap(AWAKE, Ordering::SeqCst) {
            ABSENT => return Rung::NeedsThread,
            AWAKE => {}
            _ => {
                if let Some(sleeper) = &*lock(&self.sleeper) {
                    sleeper.unpark();
                }
            }
        }
        Rung::Heard
    }

    /// The thread could not be started, or is gone.
    pub(super) fn nobody_came(&self) {
        self.state.store(ABSENT, Ordering::SeqCst);
    }

    /// The calling thread is the one to wake.
    pub(super) fn attend(&self) {
        *lock(&self.sleeper) = Some(this_thread());
    }

    /// Returns after a while, or when a ring fills; at once, where there is a reason to `stay` awake.
    pub(super) fn doze(&self, at_most: Duration, stay: impl Fn() -> bool) {
        self.rest(DOZING, at_most, stay);
    }

    /// The same, however many records there are.
    pub(super) fn wait(&self, at_most: Duration, stay: impl Fn() -> bool) {
        self.rest(DEAF, at_most, stay);
    }

    fn rest(&self, state: u32, at_most: Duration, stay: impl Fn() -> bool) {
        self.state.store(state, Ordering::SeqCst);
        if !stay() {
            park_timeout(at_most);
        }
        self.state.store(AWAKE, Ordering::SeqCst);
    }

    /// Returns when the bell is rung; at once, where there is a reason to `stay` awake. That has to look
    /// at the rings with [`Ring::is_empty`], whose lock puts each record on one side: it is seen
    /// there, or its writer sees that it has to ring.
    pub(super) fn sleep(&self, stay: impl Fn() -> bool) {
        self.state.store(ASLEEP, Ordering::SeqCst);
        if !stay() {
            while self.state.load(Ordering::SeqCst) == ASLEEP {
                park();
            }
        }
        self.state.store(AWAKE, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn read_all<const WORDS: usize>(ring: &Ring<WORDS>) -> Vec<Vec<u8>> {
        let mut reading = ring.try_read().expect("nobody else reads");
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
    fn records_come_out_as_they_went_in_however_often_it_wraps() {
        let (ring, bell) = (Ring::<16>::new(), Bell::new());
        for n in 0..100u64 {
            let bytes: Vec<u8> = (0..n as u8 % 20).collect();
            ring.write(&[n, !n], &[&bytes, b"x"], true, &bell).expect("it was emptied");
            let mut expected = [n.to_le_bytes(), (!n).to_le_bytes()].concat();
            for part in [&bytes[..], b"x"] {
                expected.extend(part);
                expected.resize(expected.len().next_multiple_of(8), 0);
            }
            assert_eq!(read_all(&ring), [expected]);
        }
        assert_eq!(ring.counts(), [100, 100, 100]);
    }

    #[test]
    fn short_words_have_each_byte_once() {
        for length in 1..8 {
            let mut bytes: Vec<u8> = (1..=length).collect();
            let word = short_word(&bytes);
            bytes.resize(8, 0);
            assert_eq!(word.to_le_bytes(), bytes[..]);
        }
    }

    #[test]
    fn what_finds_no_room_changes_nothing() {
        let (ring, bell) = (Ring::<8>::new(), Bell::new());
        ring.write(&[1, 2, 3], &[], true, &bell).expect("four words of eight");
        ring.write(&[1, 2, 3, 4], &[], true, &bell).expect_err("five more");
        ring.write(&[4, 5], &[b"6"], true, &bell).expect("four more");
        ring.write(&[], &[], true, &bell).expect_err("not even one");
        let records: Vec<_> = read_all(&ring).into_iter().map(|record| record[0]).collect();
        assert_eq!((records, ring.counts()), (vec![1, 4], [4, 2, 2]));
        assert!(ring.is_empty());
    }

    /// For what watches the program as it runs: Miri, ThreadSanitizer.
    #[test]
    fn writers_and_a_reader_at_once() {
        const EACH: u64 = if cfg!(miri) { 50 } else { 20_000 };
        let (ring, bell) = (Ring::<64>::new(), Bell::new());
        let read = std::thread::scope(|scope| {
            for writer in 0..3 {
                let (ring, bell) = (&ring, &bell);
                scope.spawn(move || {
                    for n in 0..EACH {
                        while ring.write(&[writer, n], &[&[writer as u8; 13]], true, bell).is_err() {
                            std::thread::yield_now();
                        }
                        if n % 3 == 0 {
                            bell.ring();
                        }
                    }
                });
            }
            bell.attend();
            let mut read = [0; 3];
            while read != [EACH; 3] {
                for record in read_all(&ring) {
                    let mut rest = &record[..];
                    let [writer, n] = [(); 2].map(|()| u64::from_le_bytes(take(&mut rest)));
                    assert_eq!(rest[..13], [writer as u8; 13]);
                    assert_eq!(n, read[writer as usize], "in order, and each once");
                    read[writer as usize] += 1;
                }
                bell.doze(Duration::from_micros(50), || false);
            }
            read
        });
        assert_eq!(read, [EACH; 3]);
    }

    #[test]
    fn one_reads_at_a_time() {
        let ring = Ring::<8>::new();
        let _reading = ring.try_read().expect("nobody else reads");
        assert!(ring.try_read().is_none());
    }
}

/// Every order in which threads can meet: `RUSTFLAGS="--cfg loom" cargo test --release --lib model`.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    type Shared = Arc<(Ring<4>, Bell)>;

    fn shared() -> Shared {
        Arc::new((Ring::new(), Bell::new()))
    }

    /// What a writer does. A record's words belong together.
    fn write(shared: &Shared, number: u64) -> Result<(), Full> {
        let (ring, bell) = &**shared;
        if ring.write(&[number], &[], true, bell)? {
            bell.ring();
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

    /// Two writers, and a ring that has no room for both until one is read.
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

    /// Two that want to read at once, as a flush and the thread do.
    #[test]
    fn two_readers_share_what_there_is() {
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

    /// A thread that sleeps for good when it should not is a deadlock, which the model finds.
    #[test]
    fn a_sleeping_reader_is_woken() {
        loom::model(|| {
            let shared = shared();
            let reader = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (ring, bell) = &*shared;
                    bell.attend();
                    let mut numbers = Vec::new();
                    while numbers.is_empty() {
                        bell.sleep(|| !ring.is_empty());
                        read(ring, &mut numbers);
                    }
                })
            };
            write(&shared, 1).expect("an empty ring has room");
            reader.join().unwrap();
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}
