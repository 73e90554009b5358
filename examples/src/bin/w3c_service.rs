//! A service for the [test harness of W3C Trace Context]. A request holds a list of calls. The service makes
//! them with reqwest, and each call continues the trace of the request.
//!
//! ```sh
//! cargo run --bin w3c_service -- 127.0.0.1:5000 &
//! # in a clone of https://github.com/w3c/trace-context, folder `test`:
//! SPEC_LEVEL=2 STRICT_LEVEL=2 python3 test.py http://127.0.0.1:5000/test
//! ```
//!
//! Expected output: `Ran 41 tests`, `OK`. The variables select level 2 of the specification, and the harness's
//! strictness 2.
//!
//! [test harness of W3C Trace Context]: https://github.com/w3c/trace-context/tree/main/test

use std::io::{Write, stdout};

use anyhow::Result;
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router, extract::State, routing::post};
use reqwest::Client;
use serde::Deserialize;
use tokio::net::TcpListener;
use tracing::{Instrument, Span, info_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_usdt::SpanExt;
use tracing_usdt_tower::ServerLayer;

/// A call to make.
#[derive(Deserialize)]
struct Call {
    url: String,
    /// The body to send.
    arguments: serde_json::Value,
}

#[tokio::main]
async fn main() -> Result<()> {
    // At INFO, because the libraries below have many spans at DEBUG and TRACE.
    tracing_subscriber::registry().with(tracing_usdt::layer().with_filter(LevelFilter::INFO)).init();
    // reqwest is built without a default for rustls' cryptography.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5000".into());
    let app =
        Router::new().route("/test", post(make_calls)).layer(ServerLayer::new()).with_state(Client::new());
    let listener = TcpListener::bind(address).await?;
    writeln!(stdout(), "listening on {}", listener.local_addr()?)?;
    Ok(axum::serve(listener, app).await?)
}

async fn make_calls(
    State(client): State<Client>,
    Json(calls): Json<Vec<Call>>,
) -> Result<&'static str, (StatusCode, String)> {
    for Call { url, arguments } in calls {
        let span = info_span!("call", otel.kind = "client", url.full = url);
        let call = async {
            let mut headers = HeaderMap::new();
            if let Some(context) = Span::current().trace_context() {
                context.inject(&mut headers);
            }
            client.post(&url).headers(headers).json(&arguments).send().await?.error_for_status()
        };
        let answer = call.instrument(span).await;
        answer.map_err(|error| (StatusCode::BAD_GATEWAY, format!("{url}: {error}")))?;
    }
    Ok("done")
}
