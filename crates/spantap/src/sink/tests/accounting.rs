//! Any sequence of what may happen to a queue keeps the account and the order.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::queue::Load;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    /// Takes, if nothing is taken.
    Take(Load),
    /// So many are rejected.
    Acknowledge(u64),
    GiveBack,
    /// The program is killed, and started again. Nothing for a queue in memory.
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
    told: Receiver<String>,
    figures: Arc<Figures>,
    store: Box<dyn Store>,
    /// What may still come out: a subsequence of these, in this order.
    waiting: VecDeque<u64>,
    taken: Vec<u64>,
    next: u64,
}

impl Model {
    fn new(spool: bool) -> Self {
        let folder = spool.then(|| tempfile::tempdir().unwrap());
        let (notices, told) = Notices::new();
        let (figures, store) = open(folder.as_ref(), &notices);
        Self { folder, notices, told, figures, store, waiting: VecDeque::new(), taken: Vec::new(), next: 0 }
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
                let before = self.figures.snapshot();
                self.store.acknowledge(rejected);
                let answered = std::mem::take(&mut self.taken).len() as u64;
                let after = self.figures.snapshot();
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
        // In order, and nothing that was not pushed or has been taken before. What is left out was dropped.
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
        let before = self.figures.snapshot();
        let taken = self.taken.len() as u64;
        (self.figures, self.store) = open(self.folder.as_ref(), &self.notices);
        let recovered = self.figures.snapshot().recovered;
        // A batch whose segment was dropped while it was being sent was in memory alone.
        assert!(recovered == before.queued || recovered == before.queued - taken, "{before:?} {recovered}");
        std::mem::take(&mut self.taken).into_iter().rev().for_each(|number| self.waiting.push_front(number));
    }

    fn check(&self) {
        let figures = self.figures.snapshot();
        figures.check();
        assert_eq!(figures.queued, self.store.waiting().spans + self.taken.len() as u64);
    }

    /// Everything that waits comes out.
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
        assert_eq!(self.figures.queued(), 0);
    }
}

fn open(folder: Option<&tempfile::TempDir>, notices: &Notices) -> (Arc<Figures>, Box<dyn Store>) {
    let figures = Arc::new(Figures::new(&"test"));
    let store: Box<dyn Store> = match folder {
        None => Box::new(Memory::new(MAX_BYTES, figures.clone(), notices.clone())),
        Some(folder) => {
            let path = folder.path().to_owned();
            Box::new(spool::Spool::open(path, MAX_BYTES, figures.clone(), notices.clone()).unwrap())
        }
    };
    (figures, store)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_the_account_and_the_order(
        spool: bool,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new(spool);
        steps.iter().for_each(|step| model.run(step));
        model.drain();
    }
}

#[test]
fn without_loss_everything_comes_out_once() {
    for spool in [false, true] {
        let mut model = Model::new(spool);
        for _ in 0..10 {
            model.run(&Step::Push(5));
            model.run(&Step::Take(Load { spans: 8, bytes: 10_000 }));
            model.run(&Step::GiveBack);
            model.run(&Step::Restart);
        }
        assert_eq!(model.figures.snapshot().dropped.total(), 0);
        assert_eq!(model.waiting, (0..50).collect::<Vec<_>>());
        model.drain();
        assert!(model.waiting.is_empty());
    }
}

#[test]
fn a_full_queue_drops_the_oldest_and_counts_them() {
    for spool in [false, true] {
        let mut model = Model::new(spool);
        while model.figures.snapshot().dropped.total() == 0 {
            model.run(&Step::Push(5));
        }
        let dropped = model.figures.snapshot().dropped;
        let by_reason = if spool { dropped.spool_full } else { dropped.queue_full };
        assert_eq!(by_reason, dropped.total());
        (0..50).for_each(|_| model.run(&Step::Push(5)));
        let told: Vec<String> = model.told.try_iter().collect();
        assert!(told.len() == 1 && told[0].contains("20000 bytes"), "{told:?}");
    }
}

#[test]
fn no_more_is_dropped_than_there_must_be() {
    for spool in [false, true] {
        let mut model = Model::new(spool);
        while model.figures.snapshot().dropped.total() == 0 {
            model.run(&Step::Push(5));
        }
        let by_reason = model.figures.snapshot().dropped.total();
        // A segment is a quarter of what there may be.
        assert!(by_reason <= model.next / 3, "{by_reason} of {}", model.next);
        let held = model.store.waiting();
        assert!(held.bytes <= MAX_BYTES && held.bytes > MAX_BYTES * 2 / 3, "{held:?}");
        model.run(&Step::Take(Load { spans: 1, bytes: 1 }));
        assert_eq!(model.taken[0], by_reason);
    }
}
