//! The machine's own cost of the operations that tracing-usdt consists of.

use std::hint::black_box;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::time::{ClockId, clock_gettime};
use probe::probe_lazy;

use crate::far_end::FarEnd;
use crate::spans::Burst;

/// The number of datagrams that the socket has taken.
#[derive(Clone, Default)]
pub(crate) struct Taken(Arc<AtomicU64>);

impl FarEnd for Taken {
    fn arrived(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed))
    }
}

/// A `send` of 300 bytes, the size of a span's datagram, to the receiver at `path`.
pub(crate) fn send(path: &Path) -> io::Result<(Taken, Burst)> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    let taken = Taken::default();
    let count = taken.clone();
    let datagram = [b' '; 300];
    let burst = move |sends: u64| {
        // A full queue refuses datagrams. As with inline delivery, refusals are part of the cost.
        let sent = (0..sends).filter(|_| socket.send(black_box(&datagram)).is_ok()).count();
        count.0.fetch_add(sent as u64, Ordering::Relaxed);
    };
    Ok((taken, Box::new(burst)))
}

/// A hit of a probe with one argument, and the consumer's work, if one is attached.
pub(crate) fn probe() -> Burst {
    Box::new(|hits| {
        for n in 0..hits {
            probe_lazy!(bench, hit, black_box(n));
        }
    })
}

/// A reading of the clock that times spans.
pub(crate) fn clock() -> Burst {
    Box::new(|reads| {
        for _ in 0..reads {
            let _ = black_box(clock_gettime(ClockId::CLOCK_MONOTONIC));
        }
    })
}
