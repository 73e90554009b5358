//! Accepts connections, up to a limit, and ends them.
//!
//! When there are too many, the one that has had no request for longest has to leave. So a client that opens any number
//! of connections keeps nobody else out, unless all of them have a request. Each request has a time limit, and a new
//! connection is closed at once. A request without the right token does not count, and its connection is closed.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::limits::{LEAVE_TIME, Limits, MAX_HEAD, MAX_STREAMS, WINDOW};
use super::request::Server;
use crate::stats::Refusal;

/// How long to wait after an error such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Ends the server, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Stop(pub(super) Arc<watch::Sender<bool>>);

impl Stop {
    /// Takes no more requests. Those that have arrived are still answered.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// A connection.
struct Connection {
    use_: Mutex<Use>,
    /// Whether another connection needs its place.
    leaves: AtomicBool,
    leave: Notify,
}

struct Use {
    requests: usize,
    /// Since when there has been no request.
    since: Instant,
    has_had_requests: bool,
}

impl Connection {
    fn new() -> Self {
        let now = Use { requests: 0, since: Instant::now(), has_had_requests: false };
        Self { use_: Mutex::new(now), leaves: AtomicBool::new(false), leave: Notify::new() }
    }

    fn now(&self) -> MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> InRequest {
        let mut now = self.now();
        now.requests += 1;
        now.has_had_requests = true;
        drop(now);
        InRequest(Arc::clone(self))
    }

    /// When it has to have had a request.
    fn may_be_idle_until(&self, limits: &Limits) -> Instant {
        let now = self.now();
        let time = if now.has_had_requests { limits.idle_time } else { limits.first_time };
        if now.requests > 0 { Instant::now() + time } else { now.since + time }
    }

    /// Since when it has had no request; `None` if it has one.
    fn idle_since(&self) -> Option<Instant> {
        let now = self.now();
        (now.requests == 0).then_some(now.since)
    }
}

/// A request of a connection.
struct InRequest(Arc<Connection>);

impl Drop for InRequest {
    fn drop(&mut self) {
        let mut now = self.0.now();
        now.requests -= 1;
        now.since = Instant::now();
    }
}

/// Serves until spantap ends. Then waits for a short time for the requests that have arrived.
pub(super) async fn serve(listeners: Vec<TcpListener>, server: Arc<Server>) {
    let mut ending = server.ending.clone();
    let mut tasks = JoinSet::new();
    let mut connections: Vec<Arc<Connection>> = Vec::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = ending.wait_for(|is_ending| *is_ending) => break,
            Some(_) = tasks.join_next() => continue,
            accepted = accept(&listeners) => accepted,
        };
        let Ok((stream, from)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        // A task has the other reference.
        connections.retain(|connection| Arc::strong_count(connection) > 1);
        if connections.len() >= server.limits.connections && !make_room(&mut connections, &mut tasks).await {
            server.refuse(Refusal::Connections, from.ip(), "there are too many connections with requests");
            continue;
        }
        let connection = Arc::new(Connection::new());
        connections.push(Arc::clone(&connection));
        tasks.spawn(serve_one(stream, from.ip(), connection, Arc::clone(&server)));
    }
    drop(listeners);
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(server.limits.farewell, all).await;
    tasks.shutdown().await;
}

async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let mut polled = listeners.iter().map(|listener| listener.poll_accept(cx));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Has the connection leave that has had no request for longest. Returns whether there was one.
async fn make_room(connections: &mut Vec<Arc<Connection>>, tasks: &mut JoinSet<()>) -> bool {
    let idle = |connection: &Arc<Connection>| {
        if connection.leaves.load(Ordering::Relaxed) { None } else { connection.idle_since() }
    };
    let longest = connections.iter().filter_map(|connection| Some((idle(connection)?, connection)));
    let Some((_, longest)) = longest.min_by_key(|(since, _)| *since) else { return false };
    longest.leaves.store(true, Ordering::Relaxed);
    longest.leave.notify_one();
    // Its task takes at most the time to leave, and a little more if the machine is busy.
    let longest = Arc::downgrade(longest);
    connections.retain(|connection| !std::ptr::eq(Arc::as_ptr(connection), longest.as_ptr()));
    while longest.strong_count() > 0 {
        if timeout(2 * LEAVE_TIME, tasks.join_next()).await.is_err() {
            break;
        }
    }
    true
}

async fn serve_one(stream: TcpStream, from: IpAddr, connection: Arc<Connection>, server: Arc<Server>) {
    // An answer is small, and the client waits for it.
    let _ = stream.set_nodelay(true);
    let Some(tls) = server.access.tls.clone() else {
        return serve_requests(stream, from, connection, server).await;
    };
    let mut ending = server.ending.clone();
    let handshake = tokio::select! {
        handshake = timeout(server.limits.first_time, tls.accept(stream)) => handshake,
        () = connection.leave.notified() => return,
        _ = ending.wait_for(|is_ending| *is_ending) => return,
    };
    match handshake {
        Ok(Ok(stream)) => serve_requests(stream, from, connection, server).await,
        Ok(Err(error)) => {
            server.refuse(Refusal::Handshake, from, &format!("the TLS handshake failed: {error}"))
        }
        Err(_) => server.refuse(Refusal::Handshake, from, "the TLS handshake took too long"),
    }
}

async fn serve_requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: IpAddr,
    connection: Arc<Connection>,
    server: Arc<Server>,
) {
    let mut ending = server.ending.clone();
    let limits = server.limits;
    let requests = Arc::clone(&connection);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, requests) = (Arc::clone(&server), Arc::clone(&requests));
        // One without the right token does not count, so it holds no place.
        let in_request = server.access.authorizes(request.headers()).is_ok().then(|| requests.begin());
        async move {
            let response = server.answer(request, from).await;
            if in_request.is_none() {
                requests.leave.notify_one();
            }
            drop(in_request);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // `idle` below limits the time for a head.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let idle = async {
        loop {
            let until = connection.may_be_idle_until(&limits);
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    };
    tokio::select! {
        // Clients that leave are not reported.
        _ = &mut serving => return,
        () = idle => {}
        () = connection.leave.notified() => {}
        _ = ending.wait_for(|is_ending| *is_ending) => {}
    }
    serving.as_mut().graceful_shutdown();
    // Without a request, another connection does not wait for its place: the client may have sent half a head.
    let has_ended = poll_fn(|cx| Poll::Ready(serving.as_mut().poll(cx).is_ready())).await;
    if has_ended || (connection.leaves.load(Ordering::Relaxed) && connection.idle_since().is_some()) {
        return;
    }
    // A request that came at this moment is still answered: otherwise its client would send spans again that were taken.
    while timeout(LEAVE_TIME, &mut serving).await.is_err() && connection.idle_since().is_none() {}
}
