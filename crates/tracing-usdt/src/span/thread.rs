//! The thread that created a span.

use crate::bounds::{MAX_NAME_BYTES, floor_char_boundary};
use crate::process;

/// Id and name of a thread, as they are sent.
pub(crate) struct Thread {
    /// The process's number of it, see [`process::thread_number`].
    pub(super) number: usize,
    /// The kernel's id of the thread, which bpftrace calls `tid`. 0 on systems without one.
    pub(crate) id: u64,
    /// Empty if the thread has no name.
    pub(crate) name: String,
    /// Both as in [`RecordView::thread_words`](super::RecordView::thread_words).
    pub(super) words: Box<[u64]>,
}

impl Thread {
    /// The calling thread.
    pub(super) fn current() -> Self {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        let (id, name) = (kernel_id(), &name[..floor_char_boundary(name, MAX_NAME_BYTES)]);
        let padded = name.as_bytes().chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        });
        let words = [id, name.len() as u64].into_iter().chain(padded).collect();
        Self { number: process::thread_number(), id, name: name.to_owned(), words }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn kernel_id() -> u64 {
    u64::try_from(nix::unistd::gettid().as_raw()).unwrap_or(0)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn kernel_id() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn id_and_name_agree_with_the_kernel() {
        std::thread::Builder::new()
            .name("worker-7".into())
            .spawn(|| {
                let thread = Thread::current();
                let task = format!("/proc/self/task/{}/comm", thread.id);
                let comm = std::fs::read_to_string(task).expect("the running thread");
                assert_eq!(comm.trim(), "worker-7");
                assert_eq!(thread.name, "worker-7");
            })
            .expect("a thread")
            .join()
            .expect("the assertions hold");
    }
}
