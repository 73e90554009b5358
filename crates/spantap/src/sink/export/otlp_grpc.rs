//! OTLP over gRPC: the OTLP specification, "OTLP/gRPC".
//!
//! The codec passes bytes through, because the request is already encoded.

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::Url;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::http;
use super::otlp_http::partial_success;
use super::outcome::{Outcome, one_line, root_cause, server_delay};
use crate::sink::environment::{Otlp, Tls};

const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// An OTLP backend over gRPC.
pub(in crate::sink) struct OtlpGrpc {
    endpoint: Endpoint,
    client: Grpc<Channel>,
    gzip: bool,
    metadata: MetadataMap,
}

impl OtlpGrpc {
    pub(super) fn new(url: &Url, options: &Otlp) -> Result<Self> {
        http::install_cryptography();
        let endpoint = || -> Result<Endpoint> {
            let endpoint = Endpoint::from_shared(url.to_string())?.user_agent(http::USER_AGENT)?;
            Ok(if url.scheme() == "https" { endpoint.tls_config(tls(&options.tls))? } else { endpoint })
        };
        let endpoint = endpoint().with_context(|| format!("can't set up a gRPC client for {url}"))?;
        let metadata = MetadataMap::from_headers(options.headers.clone());
        Ok(Self { client: client(&endpoint, options.gzip), endpoint, gzip: options.gzip, metadata })
    }

    /// Opens a new connection for the next request. A request that is given up leaves its connection open, and if the
    /// server has vanished silently, the connection would hang for many minutes.
    pub(super) fn leave_connection(&mut self) {
        self.client = client(&self.endpoint, self.gzip);
    }

    pub(super) async fn send(&mut self, body: Bytes) -> Outcome {
        if let Err(error) = self.client.ready().await {
            return Outcome::Failed { why: root_cause(&error), after: None };
        }
        let mut request = Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        let method = ::http::uri::PathAndQuery::from_static(METHOD);
        // Like `unary`, but distinguishes an unreadable answer from a status of the server.
        let mut answer = match self.client.server_streaming(request, method, ExportCodec).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return failure(&status),
        };
        let message = match answer.message().await {
            Ok(message) => message.unwrap_or_default(),
            Err(status) if is_unreadable(&status) => {
                let message = format!("the answer can't be read: {}", one_line(status.message()));
                return Outcome::Done { rejected: 0, message: Some(message) };
            }
            Err(status) => return failure(&status),
        };
        match answer.trailers().await {
            Ok(_) => partial_success(message),
            Err(status) => failure(&status),
        }
    }
}

fn client(endpoint: &Endpoint, gzip: bool) -> Grpc<Channel> {
    let client = Grpc::new(endpoint.connect_lazy()).accept_compressed(CompressionEncoding::Gzip);
    if gzip { client.send_compressed(CompressionEncoding::Gzip) } else { client }
}

fn tls(tls: &Tls) -> ClientTlsConfig {
    let config = match &tls.authorities {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match &tls.client {
        Some(client) => config.identity(Identity::from_pem(&client.certificate, &client.key)),
        None => config,
    }
}

/// Whether tonic could not read the message of a successful answer: it has more than 4 MiB, compressed or not. The
/// server has most likely accepted the spans, and would answer the same again.
fn is_unreadable(status: &Status) -> bool {
    let tonic_errors = ["Error, decoded message length too large", "Error decompressing"];
    tonic_errors.iter().any(|start| status.message().starts_with(start))
}

/// Whether the request had too many bytes. There is no code for that: most servers return RESOURCE_EXHAUSTED, as
/// for an exhausted quota, and tonic's return OUT_OF_RANGE. These are their messages:
///
/// * Go, C++, Node: `received message larger than max (5000000 vs. 4194304)`
/// * Java: `gRPC message exceeds maximum size 4194304: 5000000`
/// * .NET: `Received message exceeds the maximum configured message size.`
/// * tonic: `decoded message length too large`, `size limit, of 4194304 bytes, exceeded while decompressing`
///
/// A proxy without gRPC returns status 413, which tonic turns into a message.
fn is_too_large(status: &Status) -> bool {
    let message = status.message().to_ascii_lowercase();
    match status.code() {
        // If it may be repeated later, it is a quota and not the size.
        Code::ResourceExhausted if status.get_details_retry_info().is_some() => false,
        Code::ResourceExhausted | Code::OutOfRange => {
            ["larger than", "too large", "maximum size", "message size", "size limit"]
                .iter()
                .any(|part| message.contains(part))
        }
        Code::Unknown => message.ends_with("http status code 413"),
        _ => false,
    }
}

/// By the table of codes in "Failures".
fn failure(status: &Status) -> Outcome {
    let retry_info = status.get_details_retry_info();
    // tonic makes a status of a broken connection.
    let broken = std::error::Error::source(status);
    let why = match broken {
        Some(source) => root_cause(source),
        None => format!("{:?}: {}", status.code(), one_line(status.message())),
    };
    if is_too_large(status) {
        return Outcome::TooLarge { why };
    }
    if broken.is_some() {
        return Outcome::Broken { why };
    }
    let retryable = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // "Only if the server signals that recovery is possible."
        Code::ResourceExhausted => retry_info.is_some(),
        _ => false,
    };
    match retryable {
        true => {
            let after = server_delay(retry_info.and_then(|info| info.retry_delay));
            Outcome::Failed { why, after }
        }
        false => Outcome::Refused { why },
    }
}

/// Encodes bytes as they are, and decodes the response.
struct ExportCodec;

impl Codec for ExportCodec {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for ExportCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, body: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(body.len());
        buffer.put(body);
        Ok(())
    }
}

impl Decoder for ExportCodec {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        match ExportTraceServiceResponse::decode(buffer) {
            Ok(response) => Ok(Some(response)),
            // As over HTTP: the content of the answer is no reason to send the spans again.
            Err(_) => Ok(Some(ExportTraceServiceResponse::default())),
        }
    }
}
