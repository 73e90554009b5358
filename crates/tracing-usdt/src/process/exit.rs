//! Runs code at the end of the process.

/// Runs `handler` when the process returns from `main` or calls `exit`, and before the image that contains it
/// (a shared library) is unloaded. The handler must not unwind, and must not wait for other threads.
pub(crate) fn at_exit(handler: extern "C" fn()) {
    #[cfg(unix)]
    {
        // SAFETY: the handler is a function of this image, and libc runs the image's handlers before it
        // unloads the image. `atexit` fails only if memory is exhausted; then the spans still queued at the
        // end are lost.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::atexit(handler);
        }
    }
    #[cfg(not(unix))]
    let _ = handler;
}
