//! The thread that created a span.

use crate::bounds::{MAX_NAME_BYTES, floor_char_boundary};
use crate::bytes::take;

/// Id and name of a thread, as they are sent.
#[derive(PartialEq, Debug)]
pub(crate) struct Thread<'a> {
    /// The kernel's id of the thread, which bpftrace calls `tid`. 0 on systems without one.
    pub(crate) id: u64,
    /// Empty if the thread has no name.
    pub(crate) name: &'a str,
}

impl<'a> Thread<'a> {
    /// Calls `f` with the calling thread.
    pub(super) fn with_current<T>(f: impl FnOnce(Thread<'_>) -> T) -> T {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        f(Thread { id: kernel_id(), name: &name[..floor_char_boundary(name, MAX_NAME_BYTES)] })
    }

    /// The form in which the record of a span has it.
    pub(super) fn to_bytes(&self) -> Box<[u8]> {
        [&self.id.to_le_bytes(), self.name.as_bytes()].concat().into()
    }

    /// The reverse of [`to_bytes`](Self::to_bytes). Without bytes, no thread is known.
    pub(super) fn from_bytes(mut bytes: &'a [u8]) -> Self {
        let id = u64::from_le_bytes(take(&mut bytes));
        Self { id, name: std::str::from_utf8(bytes).unwrap_or_default() }
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
                Thread::with_current(|thread| {
                    let task = format!("/proc/self/task/{}/comm", thread.id);
                    let comm = std::fs::read_to_string(task).expect("the running thread");
                    assert_eq!((comm.trim(), thread.name), ("worker-7", "worker-7"));
                });
            })
            .expect("a thread")
            .join()
            .expect("the assertions hold");
    }

    #[test]
    fn bytes_read_back_unchanged() {
        for thread in [Thread { id: 1 << 40 | 7, name: "wörker" }, Thread { id: 7, name: "" }] {
            assert_eq!(Thread::from_bytes(&thread.to_bytes()), thread);
        }
        assert_eq!(Thread::from_bytes(&[]), Thread { id: 0, name: "" });
    }
}
