//! One request, from its head to its answer.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::access::Access;
use super::answer::Answer;
use super::body::{self, Received};
use super::denial::Denial;
use super::limits::{Limits, STRANGER_TIME};
use super::queue::Job;
use super::route::{Route, Transport};
use super::{grpc, http as otlp_http};
use crate::pipeline::Taken;
use crate::stats::{Refusal, Stats};
use crate::text::Notices;

/// What all connections share.
pub(super) struct Server {
    pub(super) access: Access,
    pub(super) limits: Limits,
    /// The bytes that requests may still take.
    pub(super) memory: Arc<Semaphore>,
    pub(super) queue: mpsc::Sender<Job>,
    pub(super) stats: Arc<Stats>,
    pub(super) notices: Notices,
    /// Whether spantap is ending.
    pub(super) ending: watch::Receiver<bool>,
}

impl Server {
    /// Answers a request.
    pub(super) async fn answer(&self, request: Request<Incoming>, from: IpAddr) -> Response<Answer> {
        let deadline = Instant::now() + self.limits.read_time;
        let (head, mut body) = request.into_parts();
        let transport = Transport::of(&head.headers);
        let outcome = self.outcome(&head, transport, &mut body, from, deadline).await;
        if let Err(Denial { refusal: Some(refusal), why, .. }) = &outcome {
            self.refuse(*refusal, from, why);
            // A client that waits for a go-ahead does not send its body.
            let waits = head.headers.contains_key(http::header::EXPECT);
            if !waits && !*self.ending.borrow() {
                let until = match refusal {
                    Refusal::Unauthorized => deadline.min(Instant::now() + STRANGER_TIME),
                    _ => deadline,
                };
                body::discard(&mut body, until).await;
            }
        }
        match transport {
            Transport::Grpc => grpc::answer(outcome),
            Transport::Http(encoding) => otlp_http::answer(outcome, encoding),
        }
    }

    /// Counts a request or a connection that is refused, and tells the user of the first for this reason.
    pub(super) fn refuse(&self, refusal: Refusal, from: IpAddr, why: &str) {
        if self.stats.refused_request(refusal) {
            let from = from.to_canonical();
            self.notices
                .say(format!("refused: an OTLP request from {from}: {why} (more of these are only counted)"));
        }
    }

    async fn outcome(
        &self,
        head: &Parts,
        transport: Transport,
        body: &mut Incoming,
        from: IpAddr,
        deadline: Instant,
    ) -> Result<Taken, Denial> {
        self.access.authorizes(&head.headers).map_err(|why| Denial::new(Refusal::Unauthorized, why))?;
        let route = Route::of(head, transport)?;
        let prefix = if transport == Transport::Grpc { grpc::PREFIX } else { 0 };
        let most = self.limits.message + prefix;
        let mut ending = self.ending.clone();
        let Received { mut bytes, held } = tokio::select! {
            biased;
            // What is not here yet is not waited for.
            _ = ending.wait_for(|is_ending| *is_ending) => return Err(Denial::ending()),
            received = body::read(body, most, &self.memory, deadline) => received?,
        };
        let is_gzip = match transport {
            Transport::Grpc => grpc::message(&mut bytes, route.is_gzip)?,
            Transport::Http(_) => route.is_gzip,
        };
        let (reply, outcome) = oneshot::channel();
        let message = Received { bytes, held };
        let (encoding, most) = (route.encoding, self.limits.message);
        let job = Job { message, is_gzip, encoding, from, most, reply };
        match self.queue.send_timeout(job, self.limits.queue_time).await {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(_)) => return Err(Denial::busy()),
            Err(SendTimeoutError::Closed(_)) => return Err(Denial::ending()),
        }
        // The thread that decodes has ended without it.
        outcome.await.unwrap_or_else(|_| Err(Denial::ending()))
    }
}
