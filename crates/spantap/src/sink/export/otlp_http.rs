//! OTLP over HTTP with protobuf: the OTLP specification, "OTLP/HTTP".

use anyhow::Result;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode, Url};

use super::http;
use super::outcome::{Outcome, one_line};
use crate::encode::{Chunk, request};
use crate::sink::environment::Otlp;

/// An OTLP backend over HTTP.
pub(in crate::sink) struct OtlpHttp {
    client: Client,
    url: Url,
    headers: HeaderMap,
    gzip: bool,
}

impl OtlpHttp {
    pub(super) fn new(url: &Url, options: &Otlp) -> Result<Self> {
        let client = http::client(url, &options.tls, options.headers.clone())?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if options.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self { client, url: url.clone(), headers, gzip: options.gzip })
    }

    pub(super) fn encode(&self, chunks: &[Chunk]) -> Bytes {
        let body = request(chunks);
        if self.gzip { http::gzip(&body) } else { body }
    }

    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        http::post(&self.client, &self.url, &self.headers, body, is_retryable, accepted).await
    }
}

/// By "Failures", "Retryable Response Codes".
fn is_retryable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

fn accepted(body: &[u8]) -> Outcome {
    match ExportTraceServiceResponse::decode(body) {
        Ok(response) => partial_success(response),
        // Some backends answer with something else. The status already means success.
        Err(_) => Outcome::ACCEPTED,
    }
}

/// By "Partial Success": some spans may be rejected; or all are accepted, with a warning.
pub(super) fn partial_success(response: ExportTraceServiceResponse) -> Outcome {
    let partial = response.partial_success.unwrap_or_default();
    let message = Some(one_line(&partial.error_message)).filter(|message| !message.is_empty());
    Outcome::Done { rejected: u64::try_from(partial.rejected_spans).unwrap_or(0), message }
}
