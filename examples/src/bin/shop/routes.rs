//! The routes, and the span around each request.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tower_http::classify::ServerErrorsFailureClass;
use tower_http::trace::TraceLayer;
use tracing_usdt::tracing::field::Empty;
use tracing_usdt::tracing::{Instrument, Span, debug, error, info, info_span, instrument};

use crate::background::{confirm, confirmation, pretend_to_talk_to};
use crate::store::{Error, Product, Sales, Store};

#[derive(Clone)]
struct Shop {
    store: Arc<Store>,
    confirmations: TaskTracker,
}

pub(crate) fn router(store: Arc<Store>, confirmations: TaskTracker) -> Router {
    let trace = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_response(|response: &Response, took: Duration, span: &Span| {
            span.record("http.response.status_code", response.status().as_u16());
            info!(status = response.status().as_u16(), ?took, "answered");
        })
        .on_failure(|failure: ServerErrorsFailureClass, _took: Duration, _span: &Span| {
            error!(error = %failure);
        });
    Router::new()
        .route("/products", get(list_products))
        .route("/products/{id}", get(show_product))
        .route("/orders", post(place_order))
        .route("/report", get(report))
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such page"))
        .layer(trace)
        .with_state(Shop { store, confirmations })
}

/// The span's name has the route instead of the path, as OpenTelemetry specifies.
fn request_span(request: &Request) -> Span {
    let method = request.method();
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    info_span!(
        "request",
        otel.kind = "server",
        otel.name = route.map_or_else(|| method.to_string(), |route| format!("{method} {route}")),
        http.request.method = %method,
        http.route = route,
        url.path = request.uri().path(),
        http.response.status_code = Empty,
    )
}

#[instrument(skip_all, fields(products = Empty), err)]
async fn list_products(State(shop): State<Shop>) -> Result<Json<Vec<Product>>, Error> {
    let products = shop.store.products().await?;
    Span::current().record("products", products.len());
    Ok(Json(products))
}

/// Runs two queries and a call concurrently.
#[instrument(skip(shop), err)]
async fn show_product(State(shop): State<Shop>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let (product, related, rate) =
        tokio::join!(shop.store.product(id), shop.store.related(id), exchange_rate("EUR", "CHF"));
    let product = product?.ok_or(Error::NoProduct(id))?;
    let francs = product.cents as f64 * rate / 100.0;
    Ok(Json(json!({ "product": product, "francs": francs, "related": related? })))
}

#[derive(Debug, Deserialize)]
struct Order {
    product: i64,
    quantity: i64,
}

#[instrument(skip_all, fields(product = order.product, quantity = order.quantity, order = Empty), err)]
async fn place_order(
    State(shop): State<Shop>,
    Json(order): Json<Order>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let id = shop.store.reserve(order.product, order.quantity).await?;
    Span::current().record("order", id);
    charge().await;
    let confirm = confirm(Arc::clone(&shop.store), id).instrument(confirmation(id));
    shop.confirmations.spawn(confirm);
    Ok((StatusCode::CREATED, Json(json!({ "order": id }))))
}

/// A slow query, then some work of our own.
#[instrument(skip_all, err)]
async fn report(State(shop): State<Shop>) -> Result<String, Error> {
    let sales = shop.store.sales().await?;
    Ok(info_span!("render", lines = sales.len()).in_scope(|| render(&sales)))
}

fn render(sales: &[Sales]) -> String {
    let mut text = String::new();
    for Sales { name, orders, cents } in sales {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name:<20} {orders:>8} orders {:>12.2} EUR", *cents as f64 / 100.0);
    }
    debug!(bytes = text.len(), "rendered");
    text
}

#[instrument(fields(otel.kind = "client", server.address = Empty))]
async fn exchange_rate(from: &str, to: &str) -> f64 {
    pretend_to_talk_to("rates.example").await;
    0.94
}

#[instrument(fields(otel.kind = "client", server.address = Empty))]
async fn charge() {
    pretend_to_talk_to("payments.example").await;
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoProduct(_) => StatusCode::NOT_FOUND,
            Self::OutOfStock { .. } => StatusCode::CONFLICT,
            Self::Database(_) | Self::Unfinished(_) | Self::Closed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let text =
            if status.is_server_error() { "something went wrong".to_owned() } else { self.to_string() };
        (status, Json(json!({ "error": text }))).into_response()
    }
}
