//! The thread context: which spans a thread is in, in its own memory, for programs in the kernel that read it without a
//! trap.
//!
//! Each thread writes its own `block`. The probe `thread_register` has the block's address. A thread hits it at its
//! first enter while the probe has a consumer, and then at most every 100 ms, because it can't know whether the
//! consumer is still the same. A block is used again when its thread has ended, and never freed: a consumer may
//! read it at any time.
//!
//! Profilers that have no such probe find the innermost span through a thread-local variable, the `slot`, if the user wants
//! that.

mod block;
mod slot;

use std::cell::Cell;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use block::Block;
pub(crate) use block::{Entered, Exited};
use once_cell::race::OnceBox;
use tracing_core::span::Id;

use crate::clock::Monotonic;
use crate::probes::{self, Probe};
use crate::process;
use crate::propagation::Ids;

/// The least time between two registrations of a thread.
const REGISTER_INTERVAL_NS: u64 = 100_000_000;

thread_local! {
    static OWN: Cell<Option<ThreadContext>> = const { Cell::new(None) };
    static RETURNS: Returns = const { Returns };
}

/// Blocks of threads that have ended.
static UNUSED: Mutex<Vec<&'static Block>> = Mutex::new(Vec::new());

/// Tells other programs about the process. Set once they shall find its threads' contexts.
static ANNOUNCE: OnceBox<Announce> = OnceBox::new();

type Announce = Box<dyn Fn() + Send + Sync>;

/// The memory of the calling thread.
#[derive(Clone, Copy)]
pub(crate) struct ThreadContext {
    block: &'static Block,
    slot: Option<&'static AtomicPtr<u8>>,
}

impl ThreadContext {
    /// The thread enters the span `key`.
    #[inline]
    pub(crate) fn enter(self, key: &Id, span: &Entered, now: Monotonic) {
        self.block.enter(key.into_u64(), span, now);
        self.show();
    }

    /// The thread exits the span `key`. `None` if it has entered it more often than exited, or it is not published.
    #[inline]
    pub(crate) fn exit(self, key: &Id) -> Option<Exited<'static>> {
        self.hide();
        let exited = self.block.exit(key.into_u64());
        self.show();
        exited
    }

    /// Tells consumers where the block is, if that may be new to them.
    #[inline]
    pub(crate) fn register(self, now: Monotonic) {
        if now.as_ns().saturating_sub(self.block.registered_ns()) >= REGISTER_INTERVAL_NS {
            self.register_now(now);
        }
    }

    #[cold]
    fn register_now(self, now: Monotonic) {
        self.block.set_registered_ns(now.as_ns());
        probes::thread_register(&probes::ThreadRegister {
            block: ptr::from_ref(self.block).cast(),
            layout: block::LAYOUT,
        });
        if ANNOUNCE.get().is_some() {
            announce();
            // It may have got its context before that was wanted.
            if self.slot.is_none() {
                OWN.set(Some(Self { slot: slot::own(), ..self }));
            }
        }
    }

    /// Begins the block anew, with an owner that no block has had. So a consumer that still reads it for another thread
    /// sees that it has changed hands.
    #[cold]
    fn begin(self) {
        static OWNERS: AtomicU64 = AtomicU64::new(1);
        self.hide();
        self.block.begin(OWNERS.fetch_add(1, Ordering::Relaxed), process::forks());
    }

    fn end(self) {
        self.hide();
        self.block.end();
    }

    /// Shows the innermost span in the slot. Its record is complete by then.
    #[inline]
    fn show(self) {
        if let Some(slot) = self.slot {
            slot.store(self.block.innermost(), Ordering::Release);
        }
    }

    #[inline]
    fn hide(self) {
        if let Some(slot) = self.slot {
            slot.store(ptr::null_mut(), Ordering::Release);
            block::in_order();
        }
    }
}

/// The calling thread's context, which it gets now if it has none. `None` if the thread is ending.
#[inline]
pub(crate) fn own() -> Option<ThreadContext> {
    current().or_else(claim)
}

/// Whether the calling thread has a context.
#[inline]
pub(crate) fn exists() -> bool {
    OWN.get().is_some()
}

/// The calling thread's context, if it has one.
#[inline]
pub(crate) fn current() -> Option<ThreadContext> {
    let context = OWN.get()?;
    if context.block.forks() != process::forks() {
        // The spans in this copy are those of the parent.
        context.begin();
    }
    Some(context)
}

/// The calling thread has entered the span `key`, whose ids have changed.
#[inline]
pub(crate) fn change(key: &Id, ids: Ids) {
    if let Some(context) = OWN.get() {
        context.hide();
        context.block.change(key.into_u64(), ids);
        context.show();
    }
}

/// From its next enter on, each thread says which spans it is in, though no consumer may ask; and also by OpenTelemetry's way,
/// for which `tell` tells other programs about the process, once in each process. Returns the reason if nobody would find
/// that. Only the first call has an effect.
pub(crate) fn publish_always(tell: impl Fn() + Send + Sync + 'static) -> Result<(), &'static str> {
    slot::check()?;
    let tell: Announce = Box::new(tell);
    if ANNOUNCE.set(Box::new(tell)).is_ok() {
        announce();
        probes::ask(Probe::ThreadRegister);
    }
    Ok(())
}

/// Tells about this process, if that is wanted and was not done.
fn announce() {
    /// The last process that was told about: one more than its fork generation.
    static ANNOUNCED: AtomicU32 = AtomicU32::new(0);
    if let Some(tell) = ANNOUNCE.get() {
        let this = process::forks() + 1;
        if ANNOUNCED.swap(this, Ordering::Relaxed) != this {
            tell();
        }
    }
}

#[cold]
fn claim() -> Option<ThreadContext> {
    // Fails when the thread's values are being dropped: nobody would take the block back.
    RETURNS.try_with(|_| ()).ok()?;
    let unused = process::lock_for_a_moment(&UNUSED).and_then(|mut unused| unused.pop());
    let block = unused.unwrap_or_else(|| Box::leak(Box::new(Block::new())));
    let context = ThreadContext { block, slot: ANNOUNCE.get().and_then(|_| slot::own()) };
    context.begin();
    OWN.set(Some(context));
    Some(context)
}

/// Takes the block back when its thread ends.
struct Returns;

impl Drop for Returns {
    fn drop(&mut self) {
        let Some(context) = OWN.take() else { return };
        context.end();
        // In a forked child, the lock may be held for good. Then each thread that ends loses its block, of 6 KiB.
        if let Some(mut unused) = process::lock_for_a_moment(&UNUSED) {
            unused.push(context.block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gets_another_owner_when_it_is_used_again() {
        let of_a_thread = || {
            let words = || own().map(|own| (ptr::from_ref(own.block) as usize, own.block.owner()));
            std::thread::spawn(words).join().expect("no panic").expect("the thread is not ending")
        };
        // Other tests may take the block in between.
        let owners: Vec<_> = (0..100).map(|_| of_a_thread()).collect();
        let same = owners.windows(2).find(|pair| pair[0].0 == pair[1].0).expect("a block is used again");
        assert_ne!(same[0].1, same[1].1);
        assert_ne!(same[0].1, 0);
    }

    #[test]
    fn a_thread_keeps_its_block() {
        let address = |context: Option<ThreadContext>| context.map(|context| ptr::from_ref(context.block));
        assert_eq!(address(own()), address(own()));
        assert_eq!(address(own()), address(current()));
    }

    /// The id in the record that the slot points to.
    fn seen(slot: &AtomicPtr<u8>) -> Option<u64> {
        let record = slot.load(Ordering::Relaxed).cast::<[u8; 28]>();
        // SAFETY: it is null, or points to a record of a block, which is never freed.
        #[allow(unsafe_code)]
        let record = unsafe { record.as_ref()? };
        record[16..24].try_into().ok().map(u64::from_be_bytes)
    }

    #[test]
    fn the_slot_has_the_record_of_the_innermost_span() {
        use crate::propagation::{SpanId, TraceId};
        let slot: &AtomicPtr<u8> = Box::leak(Box::default());
        let context = ThreadContext { block: Box::leak(Box::new(Block::new())), slot: Some(slot) };
        let ids = |id: u64| Ids {
            trace_id: TraceId::new(1).expect("not 0"),
            span_id: SpanId::new(id).expect("not 0"),
            sampled: true,
            random: true,
        };
        let key = Id::from_u64;
        let now = Monotonic::from_ns(1);
        context.begin();
        for id in 1..=70 {
            context.enter(&key(id), &Entered { ids: ids(id), began: now, name: None }, now);
            assert_eq!(seen(slot), Some(id.min(64)), "64 levels are listed");
        }
        for id in (65..=70).rev() {
            _ = context.exit(&key(id));
        }
        // Those in between are exited first.
        for id in (2..64).chain([64]) {
            _ = context.exit(&key(id));
            assert_eq!(seen(slot), Some(if id == 64 { 1 } else { 64 }));
        }
        OWN.set(Some(context));
        change(&key(1), ids(100));
        assert_eq!(seen(slot), Some(100));
        context.end();
        assert_eq!(seen(slot), None);
        OWN.set(None);
    }
}
