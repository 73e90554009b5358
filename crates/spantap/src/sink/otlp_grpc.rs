//! OTLP over gRPC: the OTLP specification, "OTLP/gRPC".
//!
//! The request is encoded before it comes here, so the codec puts its bytes through.

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

use super::environment::{Otlp, Tls};
use super::http;
use super::otlp_http::partial_success;
use super::retry::{Outcome, root_cause, server_delay, words};

const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A backend.
pub(super) struct OtlpGrpc {
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

    /// The next request has a connection of its own. A request that is given up leaves the one it was on
    /// open, and if the server is gone without a word it would hang there for many minutes.
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
        // As `unary` does it, but here an answer that can't be read is told apart from a status of the server.
        let mut answer = match self.client.server_streaming(request, method, ExportCodec).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return failure(&status),
        };
        let message = match answer.message().await {
            Ok(message) => message.unwrap_or_default(),
            Err(status) if is_unreadable(&status) => {
                let message = format!("the answer can't be read: {}", words(status.message()));
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

/// tonic could not read the message of an answer that began well: it has more than 4 MiB, before or after it was
/// inflated. The server has most likely taken the spans, and would answer the same again.
fn is_unreadable(status: &Status) -> bool {
    let of_tonic = ["Error, decoded message length too large", "Error decompressing"];
    of_tonic.iter().any(|start| status.message().starts_with(start))
}

/// The request had too many bytes. There is no code for that: most servers say RESOURCE_EXHAUSTED, as for quotas that
/// are used up, and tonic's say OUT_OF_RANGE. These are their words:
///
/// * Go, C++, Node: `received message larger than max (5000000 vs. 4194304)`
/// * Java: `gRPC message exceeds maximum size 4194304: 5000000`
/// * .NET: `Received message exceeds the maximum configured message size.`
/// * tonic: `decoded message length too large`, `size limit, of 4194304 bytes, exceeded while decompressing`
///
/// A proxy that knows no gRPC says 413, which tonic puts into words.
fn is_too_large(status: &Status) -> bool {
    let said = status.message().to_ascii_lowercase();
    match status.code() {
        // One that may be sent again later is too much, not too large.
        Code::ResourceExhausted if status.get_details_retry_info().is_some() => false,
        Code::ResourceExhausted | Code::OutOfRange => {
            ["larger than", "too large", "maximum size", "message size", "size limit"]
                .iter()
                .any(|words| said.contains(words))
        }
        Code::Unknown => said.ends_with("http status code 413"),
        _ => false,
    }
}

/// "Failures" has the table of the codes.
fn failure(status: &Status) -> Outcome {
    let retry_info = status.get_details_retry_info();
    // The connection broke, and tonic made a status of it.
    let broken = std::error::Error::source(status);
    let why = match broken {
        Some(source) => root_cause(source),
        None => format!("{:?}: {}", status.code(), words(status.message())),
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

/// Bytes out, a message in.
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
            // As over HTTP: what the answer says is no reason to send the spans again.
            Err(_) => Ok(Some(ExportTraceServiceResponse::default())),
        }
    }
}
