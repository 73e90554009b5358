//! The first of three services in a row: it sends requests to the second, `axum_server`, with nothing but hyper.
//!
//! ```sh
//! cargo run --bin tonic_server &       # prints its address
//! cargo run --bin axum_server -- http://127.0.0.1:50051 &
//! cargo run --bin hyper_client -- http://127.0.0.1:8080/health/shop 3
//! ```
//!
//! ```text
//! 200 OK: shop is serving
//! 200 OK: shop is serving
//! 200 OK: shop is serving
//! ```
//!
//! If `TRACING_USDT_SOCKET` is set for all three, `spantap listen` shows each request as one trace of three
//! processes.

use std::io::{Write, stdout};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::{Instrument, Span, info_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_usdt::SpanExt;

#[tokio::main]
async fn main() -> Result<()> {
    // At INFO, because the libraries below have many spans at DEBUG and TRACE.
    tracing_subscriber::registry().with(tracing_usdt::layer().with_filter(LevelFilter::INFO)).init();
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("usage: hyper_client <url> [<times>]")?;
    let times = arguments.next().map_or(Ok(1), |times| times.parse())?;
    for number in 0..times {
        let span = info_span!("visit", otel.kind = "client", number, url.full = url);
        let answer = get(&url.parse()?).instrument(span).await?;
        writeln!(stdout(), "{answer}")?;
    }
    Ok(())
}

/// Sends one request, with the context of the current span.
async fn get(url: &Uri) -> Result<String> {
    let authority = url.authority().with_context(|| format!("no host in {url}"))?;
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);

    let mut request =
        Request::get(url.path()).header("host", authority.as_str()).body(Empty::<Bytes>::new())?;
    // Propagation needs only this.
    if let Some(context) = Span::current().trace_context() {
        context.inject(request.headers_mut());
    }
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(format!("{status}: {}", String::from_utf8_lossy(&body)))
}
