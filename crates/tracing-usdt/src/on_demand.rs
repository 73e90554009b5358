//! Callsites that cost nothing while nobody looks: a filter that is closed then.
//!
//! `tracing` asks filters once for each callsite and keeps the answers, so that a closed callsite is
//! a load and a branch. The answers have to be asked for again when somebody attaches or detaches,
//! and the kernel tells nobody: it increments a semaphore. So a thread looks at those.

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

/// How often it is looked whether somebody has attached or detached.
const LOOK: Duration = Duration::from_millis(50);

/// How many layers send datagrams: somebody is to look all the time.
static SENDING: AtomicUsize = AtomicUsize::new(0);

/// Somebody looks, as far as was noticed.
static OPEN: AtomicBool = AtomicBool::new(false);

/// How many filters there are.
static FILTERS: AtomicUsize = AtomicUsize::new(0);

/// Enables spans and events only while somebody looks: while a consumer is attached to any of the
/// probes, or a layer of ours sends datagrams. Made by [`on_demand`](crate::on_demand()).
///
/// Like [`LevelFilter`] it is both a [`Filter`] for one layer and, added `with` the others, a filter
/// for all of the subscriber:
///
/// * As the **layer's filter** it leaves the other layers what they had. Spans that they leave out
///   by filters of their own, such as debug spans under `info`, cost nothing until somebody looks:
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
/// * As the **subscriber's filter**, where the layer is the only one that wants anything, it makes
///   all callsites as free as without a subscriber. Any other layer sees nothing either:
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
/// The price: an attach is noticed within 100 milliseconds, and spans that begin before are not seen;
/// a thread wakes up twenty times a second for it; and a filter for a layer, whatever it says, costs
/// a span that is enabled some 30 nanoseconds. Threads do not survive `fork`: a child that goes on
/// without `exec` keeps the filter as it was, so a daemon should fork before it sets up its
/// subscriber.
pub struct OnDemand {
    max_level: LevelFilter,
}

impl OnDemand {
    pub(crate) fn new() -> Self {
        FILTERS.fetch_add(1, Ordering::SeqCst);
        OPEN.store(somebody_looks(), Ordering::SeqCst);
        Self { max_level: LevelFilter::TRACE }
    }

    /// Leaves more verbose spans and events out, even if somebody looks.
    #[must_use]
    pub fn max_level(mut self, level: LevelFilter) -> Self {
        self.max_level = level;
        self
    }

    fn level(&self) -> LevelFilter {
        if OPEN.load(Ordering::Relaxed) { self.max_level } else { LevelFilter::OFF }
    }

    fn interest(&self, metadata: &Metadata<'_>) -> Interest {
        watch();
        if *metadata.level() <= self.level() { Interest::always() } else { Interest::never() }
    }

    fn hint(&self) -> Option<LevelFilter> {
        watch();
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
        self.hint()
    }
}

impl<S: Subscriber> Layer<S> for OnDemand {
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        serve(subscriber);
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level()
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.interest(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.hint()
    }
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand")
            .field("max_level", &self.max_level)
            .field("open", &OPEN.load(Ordering::Relaxed))
            .finish()
    }
}

/// A layer sends datagrams from now on, or one doesn't any more. Callsites don't ask again at once: this
/// may be a `reload`, which holds a lock that they would ask for.
pub(crate) fn sending(begins: bool) {
    if begins {
        SENDING.fetch_add(1, Ordering::SeqCst);
        OPEN.store(true, Ordering::SeqCst);
    } else {
        SENDING.fetch_sub(1, Ordering::SeqCst);
    }
}

fn somebody_looks() -> bool {
    probes::any_attached() || SENDING.load(Ordering::SeqCst) > 0
}

/// The subscribers with one of our layers.
static SUBSCRIBERS: Mutex<Vec<WeakDispatch>> = Mutex::new(Vec::new());

/// A subscriber has one of our layers; a filter may come into it later, by `reload`.
pub(crate) fn serve(subscriber: &Dispatch) {
    let Some(mut subscribers) = process::lock_for_a_moment(&SUBSCRIBERS) else { return };
    subscribers.retain(|known| known.upgrade().is_some());
    subscribers.push(subscriber.downgrade());
}

/// Has all callsites ask again.
///
/// Where there is just one subscriber, `tracing` asks the calling thread's default instead, which this
/// thread, and so each callsite, would have none of if that one is not the global default.
fn ask_again() {
    let subscriber = process::lock_for_a_moment(&SUBSCRIBERS)
        .and_then(|subscribers| subscribers.iter().find_map(WeakDispatch::upgrade));
    if let Some(subscriber) = subscriber {
        dispatcher::with_default(&subscriber, callsite::rebuild_interest_cache);
    }
}

/// The thread that looks, and the process it is in.
static WATCHER: Mutex<Option<(u32, JoinHandle<()>)>> = Mutex::new(None);

/// The program ends.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Starts the thread if there is none.
fn watch() {
    // Whoever comes while another starts it need not wait for that.
    let Ok(mut watcher) = WATCHER.try_lock() else { return };
    let there = |(forks, thread): &(u32, JoinHandle<()>)| *forks == process::forks() && !thread.is_finished();
    if watcher.as_ref().is_some_and(there) || ENDING.load(Ordering::SeqCst) {
        return;
    }
    let thread = process::spawn(look_again_and_again);
    // Without a thread it stays as it is; the next callsite tries again.
    let parents = std::mem::replace(&mut *watcher, thread.ok().map(|thread| (process::forks(), thread)));
    forget_if_parents(parents);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| process::at_exit(end));
}

fn look_again_and_again() {
    let (mut known, mut again) = (None, false);
    while FILTERS.load(Ordering::SeqCst) > 0 && !ENDING.load(Ordering::SeqCst) {
        let open = somebody_looks();
        OPEN.store(open, Ordering::SeqCst);
        let changed = known.replace(open) != Some(open);
        // Twice, since a callsite that was just asking for the first time keeps the answer it got.
        if changed || again {
            ask_again();
        }
        again = changed;
        std::thread::park_timeout(LOOK);
    }
}

/// A handle of the parent process's thread: libc may have given its stack, and with it its name, to one of
/// this process, which is not to be detached or joined in its place.
fn forget_if_parents(watcher: Option<(u32, JoinHandle<()>)>) -> Option<JoinHandle<()>> {
    let (forks, thread) = watcher?;
    if forks == process::forks() {
        return Some(thread);
    }
    std::mem::forget(thread);
    None
}

/// An image that is unloaded must not have a thread that runs in it.
extern "C" fn end() {
    ENDING.store(true, Ordering::SeqCst);
    let watcher = WATCHER.try_lock().ok().and_then(|mut watcher| watcher.take());
    if let Some(thread) = forget_if_parents(watcher) {
        // A panic may not leave a C function, and `join` has one.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            thread.thread().unpark();
            process::join(thread, Instant::now() + Duration::from_secs(1));
        }));
    }
}
