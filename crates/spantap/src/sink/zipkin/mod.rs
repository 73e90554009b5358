//! Zipkin's version 2 API: an array of JSON, for backends that have no OTLP.

mod span;

use anyhow::Result;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode, Url};

use super::environment::Tls;
use super::http;
use super::retry::Outcome;
use crate::chunk::Chunk;

/// A backend.
pub(super) struct Zipkin {
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

    /// The body, and how many spans are not in it because their chunk can't be decoded.
    pub(super) fn encode(&self, chunks: &[Chunk]) -> (Bytes, u64) {
        let mut unreadable = 0;
        let mut spans = Vec::new();
        for chunk in chunks {
            match chunk.decode() {
                Ok(resource) => spans.extend(span::all_of(&resource)),
                Err(_) => unreadable += u64::from(chunk.spans),
            }
        }
        // Strings, numbers and maps of strings: nothing that JSON has no form for.
        (serde_json::to_vec(&spans).unwrap_or_default().into(), unreadable)
    }

    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        http::post(&self.client, &self.url, &self.headers, body, is_retryable, |_| Outcome::ACCEPTED).await
    }
}

/// Zipkin's API says nothing of it. Its server answers 500 when its storage is away. A server that does not know the
/// method or the version of HTTP will not learn it.
fn is_retryable(status: StatusCode) -> bool {
    let never = [StatusCode::NOT_IMPLEMENTED, StatusCode::HTTP_VERSION_NOT_SUPPORTED];
    status == StatusCode::TOO_MANY_REQUESTS || (status.is_server_error() && !never.contains(&status))
}
