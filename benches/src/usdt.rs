//! tracing-usdt, configured by the environment.

use std::time::Duration;

use tracing_usdt::{Error, Handle, UsdtLayer};

use crate::far_end::{BURST, FarEnd};

/// The layer's handle, and whether it sends and queues.
pub(crate) struct Usdt {
    handle: Handle,
    sends: bool,
    queues: bool,
}

/// The time that the sender thread may take to empty the queue.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn layer() -> (Usdt, UsdtLayer) {
    with_far_end(tracing_usdt::layer())
}

/// A layer whose threads publish their context, whether or not anybody looks.
///
/// # Errors
///
/// The threads can't.
pub fn with_thread_context() -> Result<UsdtLayer, String> {
    let (said, why) = std::sync::mpsc::channel();
    let builder = tracing_usdt::builder().with_thread_context(true).on_error(move |error| {
        if matches!(error, Error::ThreadContext { .. }) {
            _ = said.send(error.to_string());
        }
    });
    let layer = builder.build();
    why.try_recv().map_or(Ok(layer), Err)
}

pub(crate) fn with_far_end(layer: UsdtLayer) -> (Usdt, UsdtLayer) {
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

/// Waits until all closed spans are sent or dropped. After a timeout, the stats show how many are still queued.
pub fn settle(handle: &Handle) {
    let _ = handle.flush(FLUSH_TIMEOUT);
}
