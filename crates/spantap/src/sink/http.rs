//! What the sinks over HTTP share: the client, and what its answers mean.

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

use super::environment::Tls;
use super::retry::{Outcome, retry_after, root_cause, server_delay, words};
use super::target::shown;

/// More of an answer is not read: it holds a few words or numbers.
const MAX_ANSWER: usize = 64 << 10;

/// How long the body of an answer may take after its head. It is in the same packet usually.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How we name ourselves to backends.
pub(super) const USER_AGENT: &str = concat!("spantap/", env!("CARGO_PKG_VERSION"));

/// rustls leaves the choice of the cryptography to the program.
pub(super) fn install_cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error is that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client for requests to `url`.
pub(super) fn client(url: &Url, tls: &Tls, headers: HeaderMap) -> Result<Client> {
    install_cryptography();
    // A redirected POST arrives as a GET. It is told as a refusal instead.
    let mut builder =
        Client::builder().user_agent(USER_AGENT).redirect(redirect::Policy::none()).default_headers(headers);
    if is_loopback(url) {
        // A proxy that is meant for the world can't reach what listens here.
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // Spares the reading of the certificates of the system, and needs none to be there.
        builder = builder.tls_certs_only([]);
    } else if let Some(authorities) = &tls.authorities {
        let context = "OTEL_EXPORTER_OTLP_CERTIFICATE is no file of certificates in PEM";
        let certificates = reqwest::Certificate::from_pem_bundle(authorities).context(context)?;
        anyhow::ensure!(!certificates.is_empty(), context);
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(client) = tls.client.as_ref().filter(|_| url.scheme() == "https") {
        let both = [&*client.key, b"\n", &*client.certificate].concat();
        let context =
            "OTEL_EXPORTER_OTLP_CLIENT_KEY and _CLIENT_CERTIFICATE are no key and certificate in PEM";
        builder = builder.identity(reqwest::Identity::from_pem(&both).context(context)?);
    }
    builder.build().with_context(|| format!("can't set up a client for {}", shown(url)))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// As a body with `Content-Encoding: gzip`.
pub(super) fn gzip(body: &[u8]) -> Bytes {
    // Spans repeat themselves: the fastest level already takes off most.
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    // A Vec takes everything.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// Posts `body`. `retryable` says which statuses are worth another attempt, `accepted` reads the answer
/// of a success.
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
        // The URL is in the name of the sink already, and may have a password in it.
        Err(error) if error.is_connect() => {
            return Outcome::Failed { why: root_cause(&error.without_url()), after: None };
        }
        Err(error) => return Outcome::Broken { why: root_cause(&error.without_url()) },
    };
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|value| retry_after(value, SystemTime::now()));
    let location = response.headers().get(reqwest::header::LOCATION).cloned();
    // The status alone decides. An answer that always breaks off would otherwise have the spans sent for ever.
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
    let said = match (location, status.is_redirection()) {
        (Some(location), true) => {
            format!("use {} instead", words(&String::from_utf8_lossy(location.as_bytes())))
        }
        _ => said(&body),
    };
    let why = format!("{status}: {said}").trim_end_matches([':', ' ']).to_owned();
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

/// The words in the body of a failure: as text, or in a protobuf `google.rpc.Status`, which OTLP has
/// there: its field 2.
fn said(body: &[u8]) -> String {
    use prost::Message;
    if let Ok(text) = std::str::from_utf8(body) {
        if !text.contains(|char: char| char.is_control() && !char.is_whitespace()) {
            return words(text);
        }
    }
    tonic_types::pb::Status::decode(body).map(|status| words(&status.message)).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn the_words_of_a_failure_are_found_in_text_and_in_protobuf() {
        assert_eq!(said(b"too\nmany spans"), "too many spans");
        let status = tonic_types::pb::Status { code: 3, message: "bad trace id".into(), details: vec![] };
        assert_eq!(said(&status.encode_to_vec()), "bad trace id");
        let only_message =
            tonic_types::pb::Status { code: 0, message: "with a short one".into(), details: vec![] };
        assert_eq!(said(&only_message.encode_to_vec()), "with a short one");
        assert_eq!(said(&[0xff, 0x00]), "");
    }
}
