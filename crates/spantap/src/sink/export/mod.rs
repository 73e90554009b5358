//! The backends: what is sent to each, and how its answers are read.
//!
//! `otlp_http`, `otlp_grpc`, `zipkin`, `jsonl`, `capture` and `flight` each implement one backend. The first three share
//! `http`, the next two `append`, and the last two the encoding. Each returns an `outcome`.

mod append;
mod capture;
mod flight;
pub(super) mod http;
mod jsonl;
mod otlp_grpc;
mod otlp_http;
mod outcome;
mod zipkin;

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;

pub(super) use outcome::Outcome;

use super::Settings;
use super::environment::{self, DEFAULT_TIMEOUT, Lookup, resolve};
use super::target::Target;
use crate::encode::{Chunk, request};
use crate::text::Notices;
use capture::Capture;
use flight::Flight;
use jsonl::Jsonl;
use otlp_grpc::OtlpGrpc;
use otlp_http::OtlpHttp;
use zipkin::Zipkin;

/// The backend of a sink.
pub(super) enum Exporter {
    OtlpHttp(OtlpHttp),
    OtlpGrpc(Box<OtlpGrpc>),
    Zipkin(Zipkin),
    Jsonl(Jsonl),
    Capture(Capture),
    Flight(Flight),
}

impl Exporter {
    /// Opens the backend of a target. Also returns the timeout of a request.
    pub(super) fn open(
        target: &Target,
        settings: &Settings,
        environment: Lookup<'_>,
        notices: &Notices,
    ) -> Result<(Self, Option<Duration>)> {
        // Only read for OTLP, so that errors in them don't concern the other backends.
        let options = || environment::options(environment);
        Ok(match target {
            Target::Otlp => Self::open(&resolve(target, environment)?, settings, environment, notices)?,
            Target::OtlpHttp(url) => {
                let options = options()?;
                (Self::OtlpHttp(OtlpHttp::new(url, &options)?), options.timeout)
            }
            Target::OtlpGrpc(url) => {
                let options = options()?;
                (Self::OtlpGrpc(Box::new(OtlpGrpc::new(url, &options)?)), options.timeout)
            }
            Target::Zipkin(url) => (Self::Zipkin(Zipkin::new(url)?), Some(DEFAULT_TIMEOUT)),
            // No timeout: repeating a write does not make a slow disk faster.
            Target::Jsonl(path) => (Self::Jsonl(Jsonl::open(path)?), None),
            Target::Capture(path) => (Self::Capture(Capture::open(path, settings.rotation, notices)?), None),
            Target::FlightRecorder => (Self::Flight(Flight::new(settings.flight.as_ref())?), None),
        })
    }

    /// How long the first span of a batch waits for others, where `usual` is enough for most backends. Each frame of a
    /// capture repeats the resources, so fewer and larger ones take less room. A kill of spantap loses what waits.
    pub(super) fn linger(&self, usual: Duration) -> Duration {
        match self {
            Self::Capture(_) | Self::Flight(_) => 5 * usual,
            _ => usual,
        }
    }

    /// Encodes `chunks`. Also returns the number of spans that are left out because they can't be decoded.
    pub(super) fn encode(&self, chunks: &[Chunk]) -> (Bytes, u64) {
        match self {
            Self::OtlpHttp(sink) => (sink.encode(chunks), 0),
            Self::OtlpGrpc(_) => (request(chunks), 0),
            Self::Zipkin(sink) => sink.encode(chunks),
            Self::Jsonl(sink) => sink.encode(chunks),
            Self::Capture(_) | Self::Flight(_) => capture::encode(chunks),
        }
    }

    pub(super) async fn send(&mut self, body: Bytes) -> Outcome {
        match self {
            Self::OtlpHttp(sink) => sink.send(body).await,
            Self::OtlpGrpc(sink) => sink.send(body).await,
            Self::Zipkin(sink) => sink.send(body).await,
            Self::Jsonl(sink) => sink.send(body).await,
            Self::Capture(sink) => sink.send(body).await,
            Self::Flight(sink) => sink.send(body),
        }
    }

    /// Drops the connection after a request that was given up. HTTP/1.1 closes it by itself.
    pub(super) fn leave_connection(&mut self) {
        if let Self::OtlpGrpc(sink) = self {
            sink.leave_connection();
        }
    }
}
