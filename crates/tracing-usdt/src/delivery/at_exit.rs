//! The end of the program: a layer that is the global default is never dropped, so its last word
//! is said from `atexit`, which runs on return from `main` and on `exit`.

use std::sync::{Arc, Mutex, Weak};

use super::Carrier;

static OPEN: Mutex<Vec<Weak<Carrier>>> = Mutex::new(Vec::new());

/// Has the carrier finish when the program does.
pub(super) fn register(carrier: &Arc<Carrier>) {
    if let Ok(mut open) = OPEN.lock() {
        open.retain(|other| other.strong_count() > 0);
        open.push(Arc::downgrade(carrier));
    }
    hook();
}

#[cfg(unix)]
fn hook() {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    extern "C" fn finish() {
        // Not `lock`: at this point another thread may hold it for good.
        let open = OPEN.try_lock().map(|mut open| std::mem::take(&mut *open));
        for carrier in open.unwrap_or_default().iter().filter_map(Weak::upgrade) {
            // A panic may not leave a C function. There is none on Linux; elsewhere std's own
            // thread data is gone by now.
            let _ = catch_unwind(AssertUnwindSafe(|| carrier.finish_at_exit()));
        }
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: `finish` takes nothing, doesn't unwind, calls no code but this crate's and std's (the
        // reporter is silenced first) and lives as long as the image it is in: libc runs the
        // handlers of an image before unloading it. It fails only for want of memory; then the
        // last losses go untold.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::atexit(finish);
        }
    });
}

#[cfg(not(unix))]
fn hook() {}
