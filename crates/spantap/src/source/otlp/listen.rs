//! Binds the addresses and starts the server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use reqwest::Url;
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

/// Whether requests to a target arrive at an address of this machine.
fn leads_to(target: &str, address: SocketAddr) -> bool {
    let url = target.split_once('=').and_then(|(_, url)| Url::parse(url).ok());
    let Some(url) = url.filter(|url| url.port_or_known_default() == Some(address.port())) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let ip = host.parse::<IpAddr>().ok();
    let is_loopback = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback() || ip.is_unspecified());
    let takes_loopback = address.ip().is_loopback() || address.ip().is_unspecified();
    (is_loopback && takes_loopback) || ip == Some(address.ip())
}

impl Bound {
    /// Checks that no target, such as `otlp=http://localhost:4317`, is one of the addresses. Finds those that name the
    /// address or the loopback interface, and not this machine by another address or name, nor a circle of several spantaps.
    ///
    /// # Errors
    ///
    /// One is: each span would come back, and be sent again, without end.
    pub(crate) fn check_targets(&self, targets: impl IntoIterator<Item = String>) -> Result<()> {
        let bound: Vec<_> = self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        for target in targets {
            let here = bound.iter().find(|bound| leads_to(&target, **bound));
            if let Some(here) = here {
                bail!(
                    "the target {target} is spantap itself, which takes OTLP requests on {here}: each span would come back, and \
                     be sent again, without end; give --otlp or --to another port"
                );
            }
        }
        Ok(())
    }

    /// The addresses.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_spantap_itself_is_found() {
        let leads = |target: &str, address: &str| leads_to(target, address.parse().unwrap());
        for (target, address) in [
            ("otlp=http://localhost:4317/v1/traces", "127.0.0.1:4317"),
            ("otlp=grpc://127.0.0.1:4317", "0.0.0.0:4317"),
            ("otlp=grpc://[::1]:4317", "[::]:4317"),
            ("otlp=http://10.0.0.7:4317/x", "10.0.0.7:4317"),
            ("otlp=http://localhost/v1/traces", "127.0.0.1:80"),
        ] {
            assert!(leads(target, address), "{target} {address}");
        }
        for (target, address) in [
            ("otlp=http://localhost:4318/v1/traces", "127.0.0.1:4317"),
            ("otlp=http://10.0.0.8:4317/v1/traces", "10.0.0.7:4317"),
            ("otlp=http://localhost:4317/v1/traces", "10.0.0.7:4317"),
            ("otlp=http://collector:4317/v1/traces", "0.0.0.0:4317"),
            ("jsonl=localhost:4317", "127.0.0.1:4317"),
        ] {
            assert!(!leads(target, address), "{target} {address}");
        }
    }
}
