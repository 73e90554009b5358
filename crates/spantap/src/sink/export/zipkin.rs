//! Zipkin's version 2 API: a JSON array, for backends without OTLP.

use anyhow::Result;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode, Url};

use super::http;
use super::outcome::Outcome;
use crate::encode::{Chunk, zipkin};
use crate::sink::environment::Tls;

/// A Zipkin backend.
pub(in crate::sink) struct Zipkin {
    client: Client,
    url: Url,
    headers: HeaderMap,
}

impl Zipkin {
    pub(super) fn new(url: &Url) -> Result<Self> {
        let client = http::client(url, &Tls::default(), HeaderMap::new())?;
        let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
        Ok(Self { client, url: url.clone(), headers })
    }

    /// Encodes the body. Also returns the number of spans that are left out because their chunk can't be decoded.
    pub(super) fn encode(&self, chunks: &[Chunk]) -> (Bytes, u64) {
        let mut unreadable = 0;
        let mut spans = Vec::new();
        for chunk in chunks {
            match chunk.decode() {
                Ok(resource) => spans.extend(zipkin::all_of(&resource)),
                Err(_) => unreadable += u64::from(chunk.spans),
            }
        }
        // Can't fail: there are only strings, numbers and maps of strings.
        (serde_json::to_vec(&spans).unwrap_or_default().into(), unreadable)
    }

    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        http::post(&self.client, &self.url, &self.headers, body, is_retryable, |_| Outcome::ACCEPTED).await
    }
}

/// Zipkin's API doesn't define it. Its server answers 500 when its storage is down. A server that doesn't support the
/// method or the HTTP version will not do so later.
fn is_retryable(status: StatusCode) -> bool {
    let never = [StatusCode::NOT_IMPLEMENTED, StatusCode::HTTP_VERSION_NOT_SUPPORTED];
    status == StatusCode::TOO_MANY_REQUESTS || (status.is_server_error() && !never.contains(&status))
}
