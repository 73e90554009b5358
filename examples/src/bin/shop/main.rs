//! A shop: a small, typical HTTP service with axum, tower-http and SQLite. It uses `tracing` throughout, and
//! tracing-usdt in one line of [`main`].
//!
//! ```text
//! cargo run --release -p examples --bin shop -- 8080
//! curl http://127.0.0.1:8080/products/3
//! curl -H 'content-type: application/json' -d '{"product": 3, "quantity": 1}' http://127.0.0.1:8080/orders
//! curl http://127.0.0.1:8080/report
//! ```
//!
//! The port is the argument, or `PORT`, or 8080; 0 means any free port. The address is printed as one line on
//! stdout, and the log goes to stderr (`RUST_LOG` sets its filter). On Ctrl-C or SIGTERM, the shop ends once
//! its orders are confirmed. `cargo xtask demo` runs it under load and draws its traces.
//!
//! Attach to it as root while it runs:
//!
//! ```text
//! # how long spans take, by name, in microseconds
//! bpftrace -e 'usdt:target/release/shop:tracing:close { @us[str(arg1)] = hist(arg2 / 1000); }'
//!
//! # spans that took more than 20 ms, and their busy time; for /report:
//! #   fcb6375304bd7ed4 sqlite: 81 ms, busy 81 ms
//! #   5adc9dbabb6be4d1 sales: 81 ms, busy 12 ms
//! bpftrace -e 'usdt:target/release/shop:tracing:close /arg2 > 20000000/ {
//!     printf("%016llx %s: %d ms, busy %d ms\n", arg0, str(arg1), arg2 / 1000000, arg3 / 1000000); }'
//!
//! # errors as they happen; for /products/333:
//! #   {"error":"there is no product 333"}
//! bpftrace -e 'usdt:target/release/shop:tracing:event /arg3 == 1/ { printf("%s\n", str(arg4)); }'
//! ```
//!
//! Every completed span as JSON, sent to a datagram socket:
//!
//! ```text
//! socat -u -b 65536 UNIX-RECV:/tmp/spans.sock - &
//! TRACING_USDT_SOCKET=/tmp/spans.sock cargo run --release -p examples --bin shop
//! ```

#![allow(clippy::print_stdout)] // it is a terminal program

mod background;
mod routes;
mod store;

use std::io::{IsTerminal, Write, stderr, stdout};
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::store::Store;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let logged = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let log = fmt::layer().compact().with_writer(stderr).with_ansi(stderr().is_terminal());
    tracing_subscriber::registry().with(tracing_usdt::layer()).with(log.with_filter(logged)).init();

    let port = port()?;
    let folder = tempfile::tempdir().context("can't make a temporary folder for the database")?;
    let store = Arc::new(Store::open(&folder.path().join("shop.db")).context("can't set up the database")?);
    let confirmations = TaskTracker::new();
    let stock = tokio::spawn(background::keep_stock(store.clone()));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("can't listen on 127.0.0.1:{port}; is the port taken? 0 takes any"))?;
    let stop = asked_to_stop()?; // before the address is printed: its reader may stop us at once
    println!("listening on http://{}", listener.local_addr()?);
    stdout().flush()?;

    axum::serve(listener, routes::router(store, confirmations.clone())).with_graceful_shutdown(stop).await?;
    stock.abort();
    confirmations.close();
    confirmations.wait().await;
    tracing_usdt::tracing::info!("stopped");
    Ok(())
}

fn port() -> anyhow::Result<u16> {
    let Some(port) = std::env::args().nth(1).or_else(|| std::env::var("PORT").ok()) else {
        return Ok(8080);
    };
    port.parse().with_context(|| format!("{port:?} is not a port; give a number from 0 to 65535"))
}

/// Completes on the first SIGTERM or Ctrl-C. The handlers are installed when this function returns.
fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
