//! The deliveries that are in use, so that `at_exit` and `at_exec` can finish them.

use std::sync::{Arc, Mutex, Weak};

use super::outlet::Undelivered;
use super::ring::BeforeExec;
use crate::process;

/// A delivery in use, as the handlers of `exit` and `exec` need it.
pub(super) trait DeliveryInUse: Send + Sync {
    /// Starts the time limit of [`finish_at_exit`](Self::finish_at_exit).
    fn begin_to_finish(&self) {}

    /// Sends what is left when the program ends. Calls no callback: it may rely on what no longer exists.
    /// `None` if this process has not used the delivery, or if it has no socket.
    fn finish_at_exit(&self) -> Option<Undelivered<'_>>;

    /// What must be sent before `exec` may replace the program; `None` if nothing is queued.
    fn before_exec(&self) -> Option<BeforeExec> {
        None
    }

    /// Whether everything in `before` has been sent.
    fn is_done(&self, _before: &BeforeExec) -> bool {
        true
    }
}

static IN_USE: Mutex<Vec<Weak<dyn DeliveryInUse>>> = Mutex::new(Vec::new());

pub(super) fn add<T: DeliveryInUse + 'static>(delivery: &Arc<T>) {
    if let Some(mut in_use) = process::lock_for_a_moment(&IN_USE) {
        in_use.retain(|other| other.strong_count() > 0);
        let delivery: Weak<T> = Arc::downgrade(delivery);
        in_use.push(delivery);
    }
}

/// Takes all deliveries out of the list. Returns none if the list is locked: at the end of the program the
/// lock may never be released.
pub(super) fn take_all() -> Vec<Arc<dyn DeliveryInUse>> {
    let in_use = IN_USE.try_lock().map(|mut in_use| std::mem::take(&mut *in_use));
    in_use.unwrap_or_default().iter().filter_map(Weak::upgrade).collect()
}

/// Calls `f` with each delivery, or with none if the list is locked.
///
/// Signal handlers may call this, so it must not free memory: if it holds the last reference to a delivery,
/// it leaks it.
pub(super) fn for_each(mut f: impl FnMut(&dyn DeliveryInUse)) {
    if let Ok(in_use) = IN_USE.try_lock() {
        for delivery in in_use.iter().filter_map(Weak::upgrade) {
            f(&*delivery);
            if Arc::strong_count(&delivery) == 1 {
                std::mem::forget(delivery);
            }
        }
    }
}
