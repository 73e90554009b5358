//! The end of the program: a layer that is the global default is never dropped, so its last word
//! is said from `atexit`, which runs on return from `main` and on `exit`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, Weak};

use super::Carrier;
use super::outlet::Undelivered;
use crate::error::{self, Error};
use crate::process;

static OPEN: Mutex<Vec<Weak<Carrier>>> = Mutex::new(Vec::new());

/// Has the carrier finish when the program does.
pub(super) fn register(carrier: &Arc<Carrier>) {
    if let Some(mut open) = process::lock_for_a_moment(&OPEN) {
        open.retain(|other| other.strong_count() > 0);
        open.push(Arc::downgrade(carrier));
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| process::at_exit(finish));
}

/// Gives each carrier that is open to `look`, but none while the list is locked. For signal handlers, which may not give
/// memory back: a carrier of which this is the last owner by now is left where it is.
pub(super) fn for_each_open(mut look: impl FnMut(&Carrier)) {
    if let Ok(open) = OPEN.try_lock() {
        for carrier in open.iter().filter_map(Weak::upgrade) {
            look(&carrier);
            if Arc::strong_count(&carrier) == 1 {
                std::mem::forget(carrier);
            }
        }
    }
}

extern "C" fn finish() {
    // Not `lock`: at this point another thread may hold it for good.
    let open = OPEN.try_lock().map(|mut open| std::mem::take(&mut *open));
    let carriers: Vec<_> = open.unwrap_or_default().iter().filter_map(Weak::upgrade).collect();
    // All at once, so that they have the same second.
    carriers.iter().for_each(|carrier| carrier.begin_to_finish());
    // A panic may not leave a C function. There is none on Linux; elsewhere std's own thread data is gone by now.
    let mut finished = Vec::new();
    for carrier in &carriers {
        finished.extend(catch_unwind(AssertUnwindSafe(|| carrier.finish_at_exit())).ok().flatten());
    }
    let _ = catch_unwind(AssertUnwindSafe(|| report(&finished)));
}

/// One line for the whole process, on stderr: no callback may be called any more, and whoever has set one has asked for
/// nothing on stderr.
fn report(finished: &[Undelivered<'_>]) {
    let mut lost = finished.iter().filter(|left| left.spans > 0 && left.reporter.prints()).peekable();
    let Some(path) = lost.peek().map(|left| left.path.to_owned()) else { return };
    error::print(&Error::Undelivered { path, spans: lost.map(|left| left.spans).sum() });
}
