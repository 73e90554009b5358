//! A filter that disables all callsites while nobody listens, so that they cost nothing.
//!
//! `tracing` asks filters once for each callsite and caches the answer: a disabled callsite is a load and a
//! branch. When a consumer attaches or detaches, the cache must be rebuilt. The kernel only increments a
//! semaphore then, so a thread polls the semaphores.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing_core::dispatcher::{self, WeakDispatch};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, LevelFilter, Metadata, Subscriber, callsite};
use tracing_subscriber::layer::{Context, Filter, Layer};

use crate::probes;
use crate::process;

/// How often the thread checks whether a consumer has attached or detached.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How many layers send datagrams. While there is one, someone listens all the time.
static SENDING_LAYERS: AtomicUsize = AtomicUsize::new(0);

/// Whether someone listened at the last check.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// How many [`OnDemand`] filters exist.
static FILTERS: AtomicUsize = AtomicUsize::new(0);

/// Enables spans and events only while someone listens: while a consumer is attached to any of the probes, or a
/// [`UsdtLayer`](crate::UsdtLayer) sends datagrams or, for profilers that may look at any time, has
/// [`with_thread_context`](crate::Builder::with_thread_context). Made by [`on_demand`](crate::on_demand()).
///
/// Like [`LevelFilter`], it can be the [`Filter`] of one layer, or a layer that filters for the whole
/// subscriber:
///
/// * As the **layer's filter**, it does not affect other layers. Spans that the filters of all other layers
///   disable, such as debug spans under `info`, cost nothing until someone listens:
///
///   ```
///   use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};
///
///   tracing_subscriber::registry()
///       .with(tracing_usdt::layer().with_filter(tracing_usdt::on_demand()))
///       .with(fmt::layer().with_filter(LevelFilter::INFO))
///       .init();
///   ```
///
/// * As the **subscriber's filter**, it makes all callsites as cheap as without a subscriber while nobody
///   listens. Other layers see nothing then either, so this is for programs in which this layer is the only
///   one:
///
///   ```
///   use tracing_subscriber::prelude::*;
///
///   tracing_subscriber::registry()
///       .with(tracing_usdt::on_demand())
///       .with(tracing_usdt::layer())
///       .init();
///   ```
///
/// Both have a price. An attach is noticed within 100 milliseconds, and spans that were created before are
/// not seen. A thread wakes up twenty times a second. A filter of a layer, this or any other, costs each
/// enabled span about 30 nanoseconds. Threads do not survive `fork`: in a child that does not call `exec`,
/// the filter stays as it was at the fork, so a daemon should fork before it sets up its subscriber.
pub struct OnDemand {
    max_level: LevelFilter,
}

impl OnDemand {
    pub(crate) fn new() -> Self {
        FILTERS.fetch_add(1, Ordering::SeqCst);
        ENABLED.store(someone_listens(), Ordering::SeqCst);
        Self { max_level: LevelFilter::TRACE }
    }

    /// Disables spans and events that are more verbose than `level`, even while someone listens.
    #[must_use]
    pub fn with_max_level(mut self, level: LevelFilter) -> Self {
        self.max_level = level;
        self
    }

    fn level(&self) -> LevelFilter {
        if ENABLED.load(Ordering::Relaxed) { self.max_level } else { LevelFilter::OFF }
    }

    fn interest(&self, metadata: &Metadata<'_>) -> Interest {
        ensure_watcher();
        if *metadata.level() <= self.level() { Interest::always() } else { Interest::never() }
    }

    fn level_hint(&self) -> Option<LevelFilter> {
        ensure_watcher();
        Some(self.level())
    }
}

impl Drop for OnDemand {
    fn drop(&mut self) {
        FILTERS.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<S> Filter<S> for OnDemand {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        *metadata.level() <= self.level()
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.interest(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.level_hint()
    }
}

impl<S: Subscriber> Layer<S> for OnDemand {
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        register_subscriber(subscriber);
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level()
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.interest(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.level_hint()
    }
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand")
            .field("max_level", &self.max_level)
            .field("open", &ENABLED.load(Ordering::Relaxed))
            .finish()
    }
}

/// Notes that a layer sends datagrams from now on, or has stopped. Leaves it to the thread to rebuild the
/// interest cache: this may be called within a `reload`, which holds a lock that the rebuild needs.
pub(crate) fn set_sending(is_sending: bool) {
    if is_sending {
        SENDING_LAYERS.fetch_add(1, Ordering::SeqCst);
        ENABLED.store(true, Ordering::SeqCst);
    } else {
        SENDING_LAYERS.fetch_sub(1, Ordering::SeqCst);
    }
}

fn someone_listens() -> bool {
    probes::any_attached() || SENDING_LAYERS.load(Ordering::SeqCst) > 0
}

/// The subscribers that have a layer or a filter of this crate.
static SUBSCRIBERS: Mutex<Vec<WeakDispatch>> = Mutex::new(Vec::new());

/// Registers a subscriber. Layers register it too, because `reload` may put a filter into it later.
pub(crate) fn register_subscriber(subscriber: &Dispatch) {
    // Dropped after the lock is released: one may be the last reference to its subscriber, whose end takes a while.
    let mut alive = Vec::new();
    let Some(mut subscribers) = process::lock_for_a_moment(&SUBSCRIBERS) else { return };
    subscribers.retain(|known| {
        let known = known.upgrade();
        let is_alive = known.is_some();
        alive.extend(known);
        is_alive
    });
    subscribers.push(subscriber.downgrade());
    REGISTERED.fetch_add(1, Ordering::Release);
}

/// How many subscribers have been registered.
static REGISTERED: AtomicUsize = AtomicUsize::new(0);

#[cfg(feature = "fmt")]
pub(crate) fn registered_subscribers() -> usize {
    REGISTERED.load(Ordering::Acquire)
}

/// The subscribers that have a layer or a filter of this crate. `None` if the list can't be read now.
#[cfg(feature = "fmt")]
pub(crate) fn subscribers() -> Option<Vec<Dispatch>> {
    Some(process::lock_for_a_moment(&SUBSCRIBERS)?.iter().filter_map(WeakDispatch::upgrade).collect())
}

/// Makes `tracing` ask the filters of all callsites again.
///
/// If there is only one subscriber, `tracing` asks the default of the calling thread. This thread has none
/// unless the subscriber is the global default, so it sets one.
fn rebuild_interest() {
    let subscriber = process::lock_for_a_moment(&SUBSCRIBERS)
        .and_then(|subscribers| subscribers.iter().find_map(WeakDispatch::upgrade));
    if let Some(subscriber) = subscriber {
        dispatcher::with_default(&subscriber, callsite::rebuild_interest_cache);
    }
}

/// The thread that polls the semaphores, with the fork generation that it belongs to.
static WATCHER: Mutex<Option<(u32, JoinHandle<()>)>> = Mutex::new(None);

/// Set when the program ends.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Starts the thread if it is not running.
fn ensure_watcher() {
    // If another thread is starting it, there is nothing to do.
    let Ok(mut watcher) = WATCHER.try_lock() else { return };
    let is_running =
        |(forks, thread): &(u32, JoinHandle<()>)| *forks == process::forks() && !thread.is_finished();
    if watcher.as_ref().is_some_and(is_running) || ENDING.load(Ordering::SeqCst) {
        return;
    }
    let thread = process::spawn(watch_listeners);
    // If the thread can't be started, the filter stays as it is, and the next callsite tries again.
    let parents = std::mem::replace(&mut *watcher, thread.ok().map(|thread| (process::forks(), thread)));
    forget_parents_thread(parents);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| process::at_exit(stop_watcher));
}

fn watch_listeners() {
    let (mut known, mut again) = (None, false);
    while FILTERS.load(Ordering::SeqCst) > 0 && !ENDING.load(Ordering::SeqCst) {
        let open = someone_listens();
        ENABLED.store(open, Ordering::SeqCst);
        let changed = known.replace(open) != Some(open);
        // Rebuilds twice: a callsite that was registering during the change may have cached the old answer.
        if changed || again {
            rebuild_interest();
        }
        again = changed;
        std::thread::park_timeout(POLL_INTERVAL);
    }
}

/// Forgets the handle of a thread that belongs to the parent process. Its `pthread_t` may now be that of a
/// thread of this process, because libc uses stacks again, so the handle must be neither joined nor dropped,
/// which would detach.
fn forget_parents_thread(watcher: Option<(u32, JoinHandle<()>)>) -> Option<JoinHandle<()>> {
    let (forks, thread) = watcher?;
    if forks == process::forks() {
        return Some(thread);
    }
    std::mem::forget(thread);
    None
}

/// Stops the thread. If this code is in a library that is unloaded now, no thread may still run in it.
extern "C" fn stop_watcher() {
    ENDING.store(true, Ordering::SeqCst);
    let watcher = WATCHER.try_lock().ok().and_then(|mut watcher| watcher.take());
    if let Some(thread) = forget_parents_thread(watcher) {
        // A panic must not leave a C function, and `join` can panic.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            thread.thread().unpark();
            process::join(thread, Instant::now() + Duration::from_secs(1));
        }));
    }
}
