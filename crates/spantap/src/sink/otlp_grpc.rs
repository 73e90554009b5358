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
        match self.client.unary(request, method, ExportCodec).await {
            Ok(response) => partial_success(response.into_inner()),
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

/// "Failures" has the table of the codes.
fn failure(status: &Status) -> Outcome {
    let retry_info = status.get_details_retry_info();
    // The connection broke, and tonic made a status of it.
    let broken = std::error::Error::source(status);
    let why = match broken {
        Some(source) => root_cause(source),
        None => format!("{:?}: {}", status.code(), words(status.message())),
    };
    let retryable = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // "Only if the server signals that recovery is possible."
        Code::ResourceExhausted => retry_info.is_some(),
        _ => broken.is_some(),
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
