//! The second of three services in a row: an axum server that asks the third, a gRPC one, how it is.
//!
//! See `hyper_client` for how the three are run.

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
use tracing_usdt::tower::ServerLayer;

#[tokio::main]
async fn main() -> Result<()> {
    // At INFO: below it, what is underneath has much to say of itself.
    tracing_subscriber::registry().with(tracing_usdt::layer().with_filter(LevelFilter::INFO)).init();
    let mut words = std::env::args().skip(1);
    let upstream = words.next().context("usage: axum_server <gRPC server> [<address>]")?;
    let address = words.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let health = HealthClient::new(Channel::from_shared(upstream)?.connect_lazy());

    let route = |request: &axum::http::request::Parts| {
        request.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned())
    };
    let app = Router::new()
        .route("/health/{service}", get(check))
        // On the routes, where it is known which of them it is.
        .route_layer(ServerLayer::new().route(route))
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
        if let Some(context) = Span::current().context() {
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
