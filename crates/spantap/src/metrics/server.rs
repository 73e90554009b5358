//! Answers `GET /metrics`. A client may open any number of connections and be as slow as it likes; the next good
//! request is still answered.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The most connections at a time. One more closes the oldest. Each takes a file descriptor, which the spool needs,
/// too.
const MAX_CONNECTIONS: usize = 128;

/// Each connection may last at least this long, however many there are. A good request takes some milliseconds.
const GRACE: Duration = Duration::from_millis(100);

/// The time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);

/// The most time for a connection; Prometheus itself gives up after ten seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// All requests within this time get the same page. The page of a thousand senders takes some milliseconds to
/// write, too much if hundreds ask at once.
const SAME_PAGE: Duration = Duration::from_millis(250);

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Connection {
    since: Instant,
    task: AbortHandle,
}

struct Page {
    registry: Registry,
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Page {
    fn text(&self) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = last.as_ref().filter(|(since, _)| since.elapsed() < SAME_PAGE) {
            return text.clone();
        }
        let mut page = String::new();
        // Writing to a string doesn't fail.
        let _ = text::encode(&mut page, &self.registry);
        let text = Bytes::from(page);
        *last = Some((Instant::now(), text.clone()));
        text
    }
}

/// Serves the page forever.
pub(super) async fn serve(listener: TcpListener, registry: Registry) {
    let page = Arc::new(Page { registry, last: Mutex::default() });
    // The oldest first.
    let mut connections: VecDeque<Connection> = VecDeque::new();
    loop {
        let accepted = listener.accept().await;
        connections.retain(|connection| !connection.task.is_finished());
        let Ok((stream, _)) = accepted else {
            // An error such as too many open files: the rest of spantap needs some, too.
            sleep(GRACE).await;
            connections.drain(..connections.len().div_ceil(2)).for_each(|oldest| oldest.task.abort());
            continue;
        };
        if connections.len() >= MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            sleep_until(oldest.since + GRACE).await;
            oldest.task.abort();
        }
        let page = Arc::clone(&page);
        let task = tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&page)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                // An idle connection would only take up a place.
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Clients that leave or are slow are not reported.
            let _ = timeout(TIMEOUT, connection).await;
        });
        connections.push_back(Connection { since: Instant::now(), task: task.abort_handle() });
    }
}

async fn answer(request: Request<Incoming>, page: Arc<Page>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    if request.uri().path() == "/metrics" {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
        *response.body_mut() = Full::from(page.text());
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = Full::from("the metrics are at /metrics\n");
    }
    Ok(response)
}
