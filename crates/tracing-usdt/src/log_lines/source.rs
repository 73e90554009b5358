//! Finds the layer that knows the span of an event.
//!
//! A format sees the subscriber below its own layer only, and while an event is handled, `tracing` does not say which
//! subscriber handles it. So this searches the subscribers that have our layer for the span itself, at the first event,
//! and keeps the one that it found: a format belongs to one subscriber.

use std::any::Any;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use once_cell::race::OnceBox;
use tracing_core::Dispatch;
use tracing_core::dispatcher::{self, WeakDispatch};
use tracing_core::span::Id;
use tracing_core::subscriber::NoSubscriber;
use tracing_subscriber::registry::Extensions;

use crate::layer::{self, Logged, ReadExtensions};
use crate::on_demand;
use crate::propagation::Ids;

thread_local! {
    /// This thread is finding out ids.
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`, unless this thread is running it already: a span may be getting its ids now, for which a sampler of the
/// application is asked, and that may log.
fn once_at_a_time<T>(f: impl FnOnce() -> Option<T>) -> Option<T> {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            IS_ASKING.set(false);
        }
    }
    if IS_ASKING.replace(true) {
        return None;
    }
    let _reset = Reset;
    f()
}

/// The subscriber of a format.
#[derive(Default)]
pub(super) struct Source {
    /// The subscriber, once it is found.
    subscriber: OnceBox<WeakDispatch>,
    /// What was there when no subscriber was found, see [`candidates`]; 0 before the first search.
    searched: AtomicUsize,
}

impl Source {
    /// The ids of the span, if the subscriber has the layer. None for a line that is written while ids are found out.
    ///
    /// `with_extensions` calls its argument with the extensions of the span. `E` is what the layer of this format has put
    /// there. Of two spans with the same id in different subscribers, only one has it at the same address.
    pub(super) fn ids<E: Any>(
        &self,
        id: &Id,
        logged: Logged,
        with_extensions: impl FnOnce(ReadExtensions<'_>) -> Option<usize>,
    ) -> Option<Ids> {
        once_at_a_time(|| self.find::<E>(id, logged, with_extensions))
    }

    fn find<E: Any>(
        &self,
        id: &Id,
        logged: Logged,
        with_extensions: impl FnOnce(ReadExtensions<'_>) -> Option<usize>,
    ) -> Option<Ids> {
        if let Some(known) = self.subscriber.get() {
            return layer::ids_of(&known.upgrade()?, id, logged);
        }
        // An `Option` or a `Vec` of layers does not tell them of their subscriber. It may be the default. But while an
        // event is handled, `tracing` says that there is none if any thread has a default of its own.
        let default = dispatcher::get_default(Dispatch::clone);
        let candidates = candidates(&default);
        if self.searched.load(Ordering::Relaxed) == candidates {
            return None;
        }
        let address = |extensions: &Extensions<'_>| Some(std::ptr::from_ref(extensions.get::<E>()?).addr());
        // Without it, no subscriber can be told from another.
        let own = with_extensions(&address)?;
        let is_own = |subscriber: &&Dispatch| layer::extensions_of(subscriber, id, &address) == Some(own);
        let all = on_demand::subscribers()?;
        let Some(found) = all.iter().chain([&default]).find(is_own) else {
            self.searched.store(candidates, Ordering::Relaxed);
            return None;
        };
        // Another thread may have set it in the meantime, to the same.
        let _ = self.subscriber.set(Box::new(found.downgrade()));
        layer::ids_of(found, id, logged)
    }
}

/// A number that changes when another subscriber may be found: one is registered, or there is a default now. Never 0.
fn candidates(default: &Dispatch) -> usize {
    let has_default = !default.is::<NoSubscriber>();
    2 * on_demand::registered_subscribers() + usize::from(has_default) + 1
}
