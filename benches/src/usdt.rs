//! tracing-usdt itself, as the environment configures it.

use std::time::Duration;

use tracing_usdt::{Handle, UsdtLayer};

use crate::far_end::{BURST, FarEnd};

/// With or without a socket.
pub(crate) struct Usdt {
    handle: Handle,
    sends: bool,
    queues: bool,
}

/// How long the sender may take for what is queued.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn layer() -> (Usdt, UsdtLayer) {
    let layer = tracing_usdt::layer();
    let sends = std::env::var_os("TRACING_USDT_SOCKET").is_some();
    let inline = std::env::var("TRACING_USDT_DELIVERY").is_ok_and(|delivery| delivery == "inline");
    (Usdt { handle: layer.handle(), sends, queues: sends && !inline }, layer)
}

impl FarEnd for Usdt {
    fn burst(&self) -> Option<u64> {
        self.queues.then_some(BURST)
    }

    fn settle(&self) {
        settle(&self.handle);
    }

    fn arrived(&self) -> Option<u64> {
        self.sends.then(|| self.handle.stats().sent)
    }
}

/// Waits until all that was closed is sent or given up; what is still queued then, the account shows.
pub fn settle(handle: &Handle) {
    let _ = handle.flush(PATIENCE);
}
