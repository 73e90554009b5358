//! Any sequence of operations on a queue keeps the counts and the order right.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::queue::Load;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    /// Takes a batch, unless one is taken already.
    Take(Load),
    /// Acknowledges the batch, with this many spans rejected.
    Acknowledge(u64),
    GiveBack,
    /// Kills and restarts the program. Does nothing for a queue in memory.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..40_u64).prop_map(Step::Push),
        3 => (1..100_u64, 100..4_000_u64).prop_map(|(spans, bytes)| Step::Take(Load { spans, bytes })),
        3 => (0..4_u64).prop_map(Step::Acknowledge),
        1 => Just(Step::GiveBack),
        1 => Just(Step::Restart),
    ]
}

/// Small, so that the limit is reached.
const MAX_BYTES: u64 = 20_000;

struct Model {
    folder: Option<tempfile::TempDir>,
    notices: Notices,
    lines: Receiver<String>,
    counters: Arc<Counters>,
    store: Box<dyn Store>,
    /// What may still be taken: a subsequence of these, in this order.
    waiting: VecDeque<u64>,
    taken: Vec<u64>,
    next: u64,
}

impl Model {
    fn new(spool: bool) -> Self {
        let folder = spool.then(|| tempfile::tempdir().unwrap());
        let (notices, lines) = Notices::new();
        let (counters, store) = open(folder.as_ref(), &notices);
        Self { folder, notices, lines, counters, store, waiting: VecDeque::new(), taken: Vec::new(), next: 0 }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Push(spans) => {
                self.store.push(&chunk(self.next..self.next + spans));
                self.waiting.extend(self.next..self.next + spans);
                self.next += spans;
            }
            Step::Take(limits) if self.taken.is_empty() => self.take(limits),
            Step::Take(_) => {}
            Step::Acknowledge(rejected) => {
                let before = self.counters.snapshot();
                self.store.acknowledge(rejected);
                let answered = std::mem::take(&mut self.taken).len() as u64;
                let after = self.counters.snapshot();
                assert_eq!(after.rejected - before.rejected, rejected.min(answered));
                let forwarded = answered - rejected.min(answered);
                assert_eq!(after.forwarded - before.forwarded, forwarded);
            }
            Step::GiveBack => self.give_back(),
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn take(&mut self, limits: Load) {
        let chunks = self.store.take(limits);
        let spans: Vec<ResourceSpans> = chunks.iter().map(|chunk| chunk.decode().unwrap()).collect();
        self.taken = numbers(&spans);
        let spans: u64 = chunks.iter().map(|chunk| chunk.spans as u64).sum();
        assert_eq!(self.taken.len() as u64, spans);
        assert!(chunks.len() <= 1 || self.taken.len() as u64 <= limits.spans);
        // Each was pushed and has not been taken before, in order. Numbers that are skipped were dropped.
        for number in &self.taken {
            while self.waiting.pop_front().unwrap() != *number {}
        }
    }

    fn give_back(&mut self) {
        self.store.give_back();
        std::mem::take(&mut self.taken).into_iter().rev().for_each(|number| self.waiting.push_front(number));
    }

    fn restart(&mut self) {
        if self.folder.is_none() {
            return;
        }
        let before = self.counters.snapshot();
        let taken = self.taken.len() as u64;
        (self.counters, self.store) = open(self.folder.as_ref(), &self.notices);
        let recovered = self.counters.snapshot().recovered;
        // The segment of this batch was dropped while it was being sent, so it was only in memory.
        assert!(recovered == before.queued || recovered == before.queued - taken, "{before:?} {recovered}");
        std::mem::take(&mut self.taken).into_iter().rev().for_each(|number| self.waiting.push_front(number));
    }

    fn check(&self) {
        let stats = self.counters.snapshot();
        stats.check();
        assert_eq!(stats.queued, self.store.waiting().spans + self.taken.len() as u64);
    }

    /// Takes everything that waits.
    fn drain(&mut self) {
        self.give_back();
        loop {
            self.take(Load { spans: 1_000, bytes: 10_000 });
            if self.taken.is_empty() {
                break;
            }
            self.store.acknowledge(0);
            self.taken.clear();
            self.check();
        }
        assert_eq!(self.counters.queued(), 0);
    }
}

fn open(folder: Option<&tempfile::TempDir>, notices: &Notices) -> (Arc<Counters>, Box<dyn Store>) {
    let counters = Arc::new(Counters::new(&"test"));
    let store: Box<dyn Store> = match folder {
        None => Box::new(Memory::new(MAX_BYTES, counters.clone(), notices.clone())),
        Some(folder) => {
            let path = folder.path().to_owned();
            Box::new(spool::Spool::open(path, MAX_BYTES, counters.clone(), notices.clone()).unwrap())
        }
    };
    (counters, store)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_counts_and_order(
        spool: bool,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new(spool);
        steps.iter().for_each(|step| model.run(step));
        model.drain();
    }
}

#[test]
fn without_loss_everything_is_taken_once() {
    for spool in [false, true] {
        let mut model = Model::new(spool);
        for _ in 0..10 {
            model.run(&Step::Push(5));
            model.run(&Step::Take(Load { spans: 8, bytes: 10_000 }));
            model.run(&Step::GiveBack);
            model.run(&Step::Restart);
        }
        assert_eq!(model.counters.snapshot().dropped.total(), 0);
        assert_eq!(model.waiting, (0..50).collect::<Vec<_>>());
        model.drain();
        assert!(model.waiting.is_empty());
    }
}

#[test]
fn a_full_queue_drops_the_oldest_and_counts_them() {
    for spool in [false, true] {
        let mut model = Model::new(spool);
        while model.counters.snapshot().dropped.total() == 0 {
            model.run(&Step::Push(5));
        }
        let dropped = model.counters.snapshot().dropped;
        let by_reason = if spool { dropped.spool_full } else { dropped.queue_full };
        assert_eq!(by_reason, dropped.total());
        (0..50).for_each(|_| model.run(&Step::Push(5)));
        let lines: Vec<String> = model.lines.try_iter().collect();
        assert!(lines.len() == 1 && lines[0].contains("20000 bytes"), "{lines:?}");
    }
}

#[test]
fn drops_no_more_than_needed() {
    for spool in [false, true] {
        let mut model = Model::new(spool);
        while model.counters.snapshot().dropped.total() == 0 {
            model.run(&Step::Push(5));
        }
        let by_reason = model.counters.snapshot().dropped.total();
        // A segment is a quarter of the limit.
        assert!(by_reason <= model.next / 3, "{by_reason} of {}", model.next);
        let held = model.store.waiting();
        assert!(held.bytes <= MAX_BYTES && held.bytes > MAX_BYTES * 2 / 3, "{held:?}");
        model.run(&Step::Take(Load { spans: 1, bytes: 1 }));
        assert_eq!(model.taken[0], by_reason);
    }
}
