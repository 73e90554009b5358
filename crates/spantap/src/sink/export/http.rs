//! The HTTP client that several sinks share, and how its answers are read.

use std::io::Write;
use std::sync::Once;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::time::timeout;

use super::outcome::{Outcome, one_line, retry_after, root_cause, server_delay};
use crate::sink::environment::Tls;
use crate::sink::target::shown;

/// The most bytes of an answer that are read: it has a short message or some numbers.
const MAX_ANSWER: usize = 64 << 10;

/// How long the body of an answer may take after its head. Usually both are in the same packet.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The name sent to backends.
pub(super) const USER_AGENT: &str = concat!("spantap/", env!("CARGO_PKG_VERSION"));

/// Chooses the cryptography for rustls, which leaves that to the program.
pub(in crate::sink) fn install_cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that it is already chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client for requests to `url`.
pub(super) fn client(url: &Url, tls: &Tls, headers: HeaderMap) -> Result<Client> {
    install_cryptography();
    // A redirected POST arrives as a GET, so a redirect is reported as a refusal.
    let mut builder =
        Client::builder().user_agent(USER_AGENT).redirect(redirect::Policy::none()).default_headers(headers);
    if is_loopback(url) {
        // A proxy for the network can't reach a local server.
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // Avoids reading the system's certificates, which need not exist.
        builder = builder.tls_certs_only([]);
    } else if let Some(authorities) = &tls.authorities {
        let context = "OTEL_EXPORTER_OTLP_CERTIFICATE has no certificates in PEM";
        let certificates = reqwest::Certificate::from_pem_bundle(authorities).context(context)?;
        anyhow::ensure!(!certificates.is_empty(), context);
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(client) = tls.client.as_ref().filter(|_| url.scheme() == "https") {
        let both = [&*client.key, b"\n", &*client.certificate].concat();
        let context =
            "OTEL_EXPORTER_OTLP_CLIENT_KEY and _CLIENT_CERTIFICATE are not a key and a certificate in PEM";
        builder = builder.identity(reqwest::Identity::from_pem(&both).context(context)?);
    }
    builder.build().with_context(|| format!("can't set up a client for {}", shown(url)))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Compresses a body for `Content-Encoding: gzip`.
pub(super) fn gzip(body: &[u8]) -> Bytes {
    // Spans repeat themselves, so the fastest level already removes most.
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    // Writing to a Vec can't fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// Posts `body`. `retryable` decides which statuses are worth another attempt, `accepted` reads the answer of a
/// success.
pub(super) async fn post(
    client: &Client,
    url: &Url,
    headers: &HeaderMap<HeaderValue>,
    body: Bytes,
    retryable: fn(StatusCode) -> bool,
    accepted: fn(&[u8]) -> Outcome,
) -> Outcome {
    let response = match client.post(url.clone()).headers(headers.clone()).body(body).send().await {
        Ok(response) => response,
        // The URL is already in the name of the sink, and may have a password.
        Err(error) if error.is_connect() => {
            return Outcome::Failed { why: root_cause(&error.without_url()), after: None };
        }
        Err(error) => return Outcome::Broken { why: root_cause(&error.without_url()) },
    };
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|value| retry_after(value, SystemTime::now()));
    let location = response.headers().get(reqwest::header::LOCATION).cloned();
    // The status alone decides. Otherwise an answer that always breaks off would have the spans sent forever.
    let body = match timeout(ANSWER_TIMEOUT, answer(response)).await {
        Ok(Ok(body)) => body,
        broken if status.is_success() => {
            let why = match broken {
                Ok(Err(error)) => root_cause(&error.without_url()),
                _ => format!("it took longer than {ANSWER_TIMEOUT:?}"),
            };
            let message = format!("{status}; the rest of the answer is missing: {why}");
            return Outcome::Done { rejected: 0, message: Some(message) };
        }
        _ => Vec::new(),
    };
    if status.is_success() {
        return accepted(&body);
    }
    let message = match (location, status.is_redirection()) {
        (Some(location), true) => {
            format!("use {} instead", one_line(&String::from_utf8_lossy(location.as_bytes())))
        }
        _ => failure_message(&body),
    };
    let why = format!("{status}: {message}").trim_end_matches([':', ' ']).to_owned();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Outcome::TooLarge { why };
    }
    match retryable(status) {
        true => Outcome::Failed { why, after: server_delay(after) },
        false => Outcome::Refused { why },
    }
}

async fn answer(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        body.extend_from_slice(&part[..part.len().min(MAX_ANSWER - body.len())]);
        if body.len() == MAX_ANSWER {
            break;
        }
    }
    Ok(body)
}

/// The message in the body of a failure: a text, or field 2 of a protobuf `google.rpc.Status`, which OTLP sends.
fn failure_message(body: &[u8]) -> String {
    use prost::Message;
    if let Ok(text) = std::str::from_utf8(body)
        && !text.contains(|char: char| char.is_control() && !char.is_whitespace())
    {
        return one_line(text);
    }
    tonic_types::pb::Status::decode(body).map(|status| one_line(&status.message)).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn failure_messages_are_read_from_text_and_protobuf() {
        assert_eq!(failure_message(b"too\nmany spans"), "too many spans");
        let status = tonic_types::pb::Status { code: 3, message: "bad trace id".into(), details: vec![] };
        assert_eq!(failure_message(&status.encode_to_vec()), "bad trace id");
        let only_message =
            tonic_types::pb::Status { code: 0, message: "with a short one".into(), details: vec![] };
        assert_eq!(failure_message(&only_message.encode_to_vec()), "with a short one");
        assert_eq!(failure_message(&[0xff, 0x00]), "");
    }
}
