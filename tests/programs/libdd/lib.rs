//! `set_context` for `foreign.c`.

use libdd_otel_thread_ctx::linux::OwnedThreadContext;

/// From now on the thread is in the span of `record`; or in none, if that is null or not valid.
///
/// # Safety
///
/// It is null, or points to a record of OTEP 4947.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn set_context(record: *const [u8; 28]) {
    // SAFETY: the caller sees to it.
    match unsafe { record.as_ref() } {
        Some(record) if record[24] == 1 => {
            let mut ids = ([0; 16], [0; 8]);
            ids.0.copy_from_slice(&record[..16]);
            ids.1.copy_from_slice(&record[16..24]);
            drop(OwnedThreadContext::new(ids.0, ids.1, record[25], [0; 8], &[]).attach());
        }
        _ => drop(OwnedThreadContext::detach()),
    }
}
