//! The second of three services in a row: an axum server that asks the third, a gRPC server, for its health.
//!
//! `hyper_client` shows how to run the three.

use std::io::{Write, stdout};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{MatchedPath, Path, State};
use axum::http::StatusCode;
use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tracing::{Instrument, Span, info_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_usdt::SpanExt;
use tracing_usdt_tower::ServerLayer;

#[tokio::main]
async fn main() -> Result<()> {
    // At INFO, because the libraries below have many spans at DEBUG and TRACE.
    tracing_subscriber::registry().with(tracing_usdt::layer().with_filter(LevelFilter::INFO)).init();
    let mut arguments = std::env::args().skip(1);
    let upstream = arguments.next().context("usage: axum_server <gRPC server> [<address>]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let health = HealthClient::new(Channel::from_shared(upstream)?.connect_lazy());

    let route = |request: &axum::http::request::Parts| {
        request.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned())
    };
    let app = Router::new()
        .route("/health/{service}", get(check))
        // A layer on the routes, because the matched route is known only there.
        .route_layer(ServerLayer::new().with_route(route))
        .with_state(Arc::new(health));
    let listener = TcpListener::bind(address).await?;
    writeln!(stdout(), "listening on {}", listener.local_addr()?)?;
    Ok(axum::serve(listener, app).await?)
}

async fn check(
    Path(service): Path<String>,
    State(health): State<Arc<HealthClient<Channel>>>,
) -> Result<String, (StatusCode, String)> {
    let span = info_span!(
        "check",
        otel.name = "grpc.health.v1.Health/Check",
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = "grpc.health.v1.Health",
        rpc.method = "Check"
    );
    let ask = async {
        let mut request = tonic::Request::new(HealthCheckRequest { service: service.clone() });
        if let Some(context) = Span::current().trace_context() {
            context.inject(request.metadata_mut());
        }
        HealthClient::clone(&health).check(request).await
    };
    match ask.instrument(span).await {
        Ok(response) => {
            Ok(format!("{service} is {}", response.into_inner().status().as_str_name().to_lowercase()))
        }
        Err(status) => Err((StatusCode::BAD_GATEWAY, status.message().to_owned())),
    }
}
