//! The wait until the sender thread has sent what is queued.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::delivery::in_use;

/// The sender thread needs 20 ms if the receiver keeps up.
const MAX_WAIT: Duration = Duration::from_millis(100);

const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// If the layers of the program have more deliveries, `exec` does not wait for the others.
const MAX_DELIVERIES: usize = 16;

/// The id of the process that may have queued spans. In a child that has closed no span, `exec` does not
/// wait. This also covers children of `vfork`, which share their parent's memory.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Notes that this process may queue spans. Returns whether it is the first process to do so.
pub(super) fn begin() -> bool {
    PROCESS.swap(std::process::id(), Ordering::Relaxed) == 0
}

#[allow(dead_code)] // on platforms without `symbols`
pub(super) fn wait_for_sender() {
    if PROCESS.load(Ordering::Relaxed) != std::process::id() {
        return;
    }
    let mut pending = [None; MAX_DELIVERIES];
    let mut places = pending.iter_mut();
    in_use::for_each(|delivery| {
        if let Some(place) = places.next() {
            *place = delivery.before_exec();
        }
    });
    let end = Instant::now() + MAX_WAIT;
    loop {
        let (mut is_done, mut pending) = (true, pending.iter());
        in_use::for_each(|delivery| {
            if let Some(pending) = pending.next() {
                is_done &= pending.as_ref().is_none_or(|pending| delivery.is_done(pending));
            }
        });
        if is_done || Instant::now() >= end {
            return;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
