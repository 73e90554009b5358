//! Finishes the deliveries when the program ends. A layer in the global default subscriber is never dropped,
//! so a handler of `atexit` does it, which runs on return from `main` and on `exit`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::in_use;
use super::outlet::Undelivered;
use crate::error::{self, Error};
use crate::process;

/// Registers the handler that finishes all deliveries in use.
pub(super) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| process::at_exit(finish));
}

extern "C" fn finish() {
    let deliveries = in_use::take_all();
    // First, so that all have the same second.
    deliveries.iter().for_each(|delivery| delivery.begin_to_finish());
    // A panic must not leave a C function. None happens on Linux; elsewhere std's thread-locals may be
    // destroyed by now.
    let mut finished = Vec::new();
    for delivery in &deliveries {
        finished.extend(catch_unwind(AssertUnwindSafe(|| delivery.finish_at_exit())).ok().flatten());
    }
    let _ = catch_unwind(AssertUnwindSafe(|| report(&finished)));
}

/// Prints one line for the whole process on stderr. Layers with a callback are left out: the callback must
/// not be called any more, and a program that sets one wants nothing on stderr.
fn report(finished: &[Undelivered<'_>]) {
    let mut lost = finished.iter().filter(|left| left.spans > 0 && left.reporter.prints()).peekable();
    let Some(path) = lost.peek().map(|left| left.path.to_owned()) else { return };
    error::print(&Error::Undelivered { path, spans: lost.map(|left| left.spans).sum() });
}
