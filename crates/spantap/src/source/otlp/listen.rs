//! Binds the addresses and starts the server.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use super::access::{Access, Settings};
use super::connections::{Stop, serve};
use super::limits::Limits;
use super::queue::Requests;
use super::request::Server;
use crate::stats::Stats;
use crate::text::Notices;

/// Addresses that are bound, on which nothing is accepted yet.
pub(crate) struct Bound {
    listeners: Vec<TcpListener>,
    access: Access,
    limits: Limits,
}

/// Binds the addresses. Returns `None` if there are none.
///
/// # Errors
///
/// An address can't be bound, or others could reach it without a token or TLS; or a file can't be read.
pub(crate) async fn bind(settings: &Settings, notices: &Notices) -> Result<Option<Bound>> {
    if settings.addresses.is_empty() {
        return Ok(None);
    }
    let access = Access::new(settings)?;
    let mut listeners = Vec::new();
    for address in &settings.addresses {
        let listener = address.listen().await;
        let listener = listener.with_context(|| {
            format!("can't take OTLP requests on {address}; choose another address with --otlp")
        })?;
        let bound = listener.local_addr()?;
        access.check(bound)?;
        if address.port() == 0 {
            let scheme = if access.tls.is_some() { "https" } else { "http" };
            notices.say(format!("OTLP requests are taken at {scheme}://{bound}, over gRPC and HTTP"));
        }
        listeners.push(listener);
    }
    Ok(Some(Bound { listeners, access, limits: Limits::default() }))
}

impl Bound {
    /// The addresses.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    #[cfg(test)]
    pub(super) fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Starts to accept connections. The requests have to be taken out, up to their end, which comes after
    /// [`Stop::stop`].
    pub(crate) fn start(self, stats: &Arc<Stats>, notices: &Notices) -> (Requests, Stop) {
        let Self { listeners, access, limits } = self;
        let (queue, requests) = mpsc::channel(limits.queue);
        let (stop, ending) = watch::channel(false);
        let server = Server {
            access,
            limits,
            memory: Arc::new(Semaphore::new(limits.memory)),
            queue,
            stats: Arc::clone(stats),
            notices: notices.clone(),
            ending,
        };
        tokio::spawn(serve(listeners, Arc::new(server)));
        (Requests(requests), Stop(Arc::new(stop)))
    }
}
