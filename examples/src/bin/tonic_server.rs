//! The last of three services in a row: the standard gRPC health service, which continues its caller's trace.
//!
//! `hyper_client` shows how to run the three.

use std::io::{Write, stdout};

use anyhow::Result;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_usdt_tower::ServerLayer;

#[tokio::main]
async fn main() -> Result<()> {
    // At INFO, because the libraries below have many spans at DEBUG and TRACE.
    tracing_subscriber::registry().with(tracing_usdt::layer().with_filter(LevelFilter::INFO)).init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".into());
    let (health, service) = tonic_health::server::health_reporter();
    health.set_service_status("shop", ServingStatus::Serving).await;

    let listener = TcpListener::bind(address).await?;
    writeln!(stdout(), "listening on {}", listener.local_addr()?)?;
    // A gRPC request is an HTTP request whose path names the method.
    let server = Server::builder().layer(ServerLayer::new()).add_service(service);
    Ok(server.serve_with_incoming(TcpListenerStream::new(listener)).await?)
}
