//! Makes the second subscriber, and keeps it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use once_cell::race::OnceBox;
use tracing_core::Dispatch;
use tracing_core::callsite::rebuild_interest_cache;
use tracing_core::dispatcher::{self, WeakDispatch};
use tracing_core::subscriber::NoSubscriber;
use tracing_subscriber::Registry;

use super::subscriber::beside;
use crate::process::{forks, lock_for_a_moment, spawn};

/// That of the global default, and the address of its registry. Both exist until the process ends.
static OF_GLOBAL: OnceBox<(usize, Dispatch)> = OnceBox::new();

/// Those of other subscribers, by the addresses of their registries. Weak, because a strong one would keep the program's
/// subscriber, which may have to send something when it is dropped.
static OF_OTHERS: Mutex<Vec<(usize, WeakDispatch)>> = Mutex::new(Vec::new());

/// The one while there is no subscriber.
static OF_NONE: Mutex<Option<Dispatch>> = Mutex::new(None);

/// Whether there is one in `OF_NONE`.
static HAS_NONE: AtomicBool = AtomicBool::new(false);

/// One more than the forks of the process in which a thread makes one; 0 if there is none.
static MAKING: AtomicU64 = AtomicU64::new(0);

/// How long a thread waits for it. The first spans after an attach have no ids if that is not enough.
const PATIENCE: Duration = Duration::from_millis(100);

/// The second subscriber over the registry of `subscriber`. None if `subscriber` is not made of layers over a registry, or
/// if the second one is just being made. Without a subscriber, a span has no id, so only its exit needs one.
pub(super) fn of(subscriber: &Dispatch, has_exit: bool) -> Option<Dispatch> {
    let Some(registry) = subscriber.downcast_ref::<Registry>() else {
        return if has_exit && subscriber.is::<NoSubscriber>() { of_none(subscriber) } else { None };
    };
    forget_none();
    let address = std::ptr::from_ref(registry).addr();
    if let Some((_, dispatch)) = OF_GLOBAL.get().filter(|(of, _)| *of == address) {
        return Some(dispatch.clone());
    }
    if is_global(subscriber) {
        make(subscriber, move |dispatch| _ = OF_GLOBAL.set(Box::new((address, dispatch))));
        return OF_GLOBAL.get().filter(|(of, _)| *of == address).map(|(_, dispatch)| dispatch.clone());
    }
    let known = |others: &Vec<(usize, WeakDispatch)>| {
        others.iter().find(|(of, _)| *of == address).and_then(|(_, dispatch)| dispatch.upgrade())
    };
    if let Some(dispatch) = known(&*lock_for_a_moment(&OF_OTHERS)?) {
        return Some(dispatch);
    }
    let (sender, receiver) = sync_channel(1);
    make(subscriber, move |dispatch| _ = sender.send(dispatch));
    let dispatch = receiver.try_recv().ok()?;
    let mut others = lock_for_a_moment(&OF_OTHERS)?;
    others.retain(|(of, dispatch)| *of != address && dispatch.upgrade().is_some());
    others.push((address, dispatch.downgrade()));
    Some(dispatch)
}

fn of_none(subscriber: &Dispatch) -> Option<Dispatch> {
    if let Some(dispatch) = &*lock_for_a_moment(&OF_NONE)? {
        return Some(dispatch.clone());
    }
    make(subscriber, |dispatch| {
        HAS_NONE.store(true, Ordering::Relaxed);
        *OF_NONE.lock().unwrap_or_else(PoisonError::into_inner) = Some(dispatch);
    });
    lock_for_a_moment(&OF_NONE)?.clone()
}

/// Forgets the one without a subscriber if there is a subscriber now: since it wants no callsite, `tracing` asks the
/// subscriber about each span and event anew.
#[inline]
pub(super) fn forget_none_if_subscribed() {
    if HAS_NONE.load(Ordering::Relaxed) && !dispatcher::get_default(|default| default.is::<NoSubscriber>()) {
        forget_none();
    }
}

#[cold]
fn forget_none() {
    if !HAS_NONE.load(Ordering::Relaxed) {
        return;
    }
    HAS_NONE.store(false, Ordering::Relaxed);
    // Dropped after the lock.
    let forgotten = lock_for_a_moment(&OF_NONE).and_then(|mut none| none.take());
    drop(forgotten);
    // Asks subscribers, so not on this thread, which may hold a lock of theirs.
    let _ = spawn(rebuild_interest_cache);
}

/// Whether it is the global default, which is never dropped. Only its `Debug` says so; if that changes, it counts as
/// another one.
fn is_global(subscriber: &Dispatch) -> bool {
    format!("{subscriber:?}").starts_with("Dispatch::Global")
}

/// Makes a second subscriber and gives it to `keep`, on a thread of its own: `tracing` asks the layers about all callsites
/// then, and the calling thread may hold a lock that they need. Returns when it is done, but waits only briefly.
fn make(subscriber: &Dispatch, keep: impl FnOnce(Dispatch) + Send + 'static) {
    let generation = u64::from(forks()) + 1;
    let making = MAKING.load(Ordering::Acquire);
    // In a forked child, the thread that is making one does not exist.
    if making == generation
        || MAKING.compare_exchange(making, generation, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        return;
    }
    let (subscriber, (sender, receiver)) = (subscriber.clone(), sync_channel(1));
    let thread = spawn(move || {
        struct Made;
        impl Drop for Made {
            fn drop(&mut self) {
                MAKING.store(0, Ordering::Release);
            }
        }
        let made = Made;
        keep(beside(subscriber));
        drop(made);
        let _ = sender.send(());
    });
    match thread {
        Ok(_) => _ = receiver.recv_timeout(PATIENCE),
        Err(_) => MAKING.store(0, Ordering::Release),
    }
}
