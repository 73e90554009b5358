//! Background work that no request waits for.

use std::sync::Arc;
use std::time::Duration;

use tracing_usdt::tracing::{self, Instrument, Span, info, info_span, warn};

use crate::store::Store;

/// Refills the stock, for ever.
pub(crate) async fn keep_stock(store: Arc<Store>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        ticks.tick().await;
        let span = info_span!("check_stock", products = tracing::field::Empty);
        match store.restock(20).instrument(span.clone()).await {
            Ok(products) => {
                span.record("products", products);
            }
            Err(error) => warn!(parent: &span, %error, "could not restock"),
        }
    }
}

/// The span of an order's confirmation. It begins a trace of its own, because the customer does not wait for
/// it, and it follows from the current span.
pub(crate) fn confirmation(order: i64) -> Span {
    let span = info_span!(parent: None, "confirm_order", otel.kind = "consumer", order);
    span.follows_from(Span::current());
    span
}

/// Sends mail to the customer and marks the order as confirmed.
pub(crate) async fn confirm(store: Arc<Store>, order: i64) {
    pretend_to_talk_to("mail.example").instrument(info_span!("send_mail", otel.kind = "client")).await;
    match store.confirm(order).await {
        Ok(()) => info!(order, "confirmed"),
        Err(error) => warn!(order, %error, "not confirmed"),
    }
}

/// Stands in for a call to another service: it takes a few milliseconds and no processor time.
pub(crate) async fn pretend_to_talk_to(server: &str) {
    Span::current().record("server.address", server);
    tokio::time::sleep(Duration::from_micros(fastrand::u64(2_000..6_000))).await;
}
