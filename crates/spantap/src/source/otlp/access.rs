//! Who may send: TLS and the token.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use subtle::ConstantTimeEq;
use tokio_rustls::TlsAcceptor;

use crate::metrics::Address;

/// Where OTLP requests are taken, and from whom.
#[derive(Clone, Default, Debug)]
pub struct Settings {
    /// Where; empty for nowhere.
    pub addresses: Vec<Address>,
    /// The certificate and its key.
    pub tls: Option<Tls>,
    /// A file with the token that clients have to send.
    pub token_file: Option<PathBuf>,
    /// Whether other machines may reach an address without TLS or without a token.
    pub is_insecure: bool,
}

/// The files for TLS, in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate, and those of the authorities between it and a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Who may send.
pub(super) struct Access {
    pub(super) tls: Option<TlsAcceptor>,
    token: Option<Token>,
    is_insecure: bool,
}

struct Token(Vec<u8>);

impl Access {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let tls = settings.tls.as_ref().map(acceptor).transpose()?;
        let token = settings.token_file.as_deref().map(Token::read).transpose()?;
        Ok(Self { tls, token, is_insecure: settings.is_insecure })
    }

    /// Whether `address` may be listened on.
    pub(super) fn check(&self, address: SocketAddr) -> Result<()> {
        let is_safe = self.tls.is_some() && self.token.is_some();
        if address.ip().to_canonical().is_loopback() || is_safe || self.is_insecure {
            return Ok(());
        }
        let lacks = match (&self.tls, &self.token) {
            (None, None) => "TLS and without a token",
            (None, Some(_)) => "TLS",
            (Some(_), _) => "a token",
        };
        bail!(
            "other machines could send to {address} without {lacks}; give --otlp-cert, --otlp-key and --otlp-token-file, or \
             listen on 127.0.0.1:{} only; where the network itself is safe, such as in a pod, add --otlp-insecure",
            address.port()
        )
    }

    /// Whether a request with these headers may be taken; if not, why.
    pub(super) fn authorizes(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let Some(token) = &self.token else { return Ok(()) };
        let Some(given) = headers.get(AUTHORIZATION) else {
            return Err("it has no token; set OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20TOKEN there");
        };
        if token.is(given.as_bytes()) { Ok(()) } else { Err("it has another token") }
    }
}

impl Token {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("can't read the token from {}", path.display()))?;
        let token = text.trim();
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(
            is_token,
            "{} has no token: write one line of letters, digits and signs, such as from openssl rand -hex 32",
            path.display()
        );
        Ok(Self(token.as_bytes().to_vec()))
    }

    /// Whether a header has this token. Takes the same time for each wrong one of a length, so that a client can't find the
    /// token byte by byte.
    fn is(&self, header: &[u8]) -> bool {
        let scheme = header.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        scheme && header.get(7..).is_some_and(|token| bool::from(token.trim_ascii().ct_eq(&self.0)))
    }
}

fn acceptor(files: &Tls) -> Result<TlsAcceptor> {
    let certificates = || -> Result<Vec<CertificateDer<'static>>> {
        Ok(CertificateDer::pem_file_iter(&files.certificate)?.collect::<Result<_, _>>()?)
    };
    let path = files.certificate.display();
    let certificates =
        certificates().with_context(|| format!("can't read certificates in PEM from {path}"))?;
    ensure!(!certificates.is_empty(), "{path} has no certificate in PEM");
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("can't read a private key in PEM from {}", files.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| format!("{} is not the key of {path}, or of another kind", files.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    fn access(token: Option<&str>) -> Access {
        let token = token.map(|token| Token(token.into()));
        Access { tls: None, token, is_insecure: false }
    }

    #[test]
    fn only_the_right_token_authorizes() {
        let access = access(Some("s3cret"));
        let authorizes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            access.authorizes(&headers).is_ok()
        };
        assert!(authorizes("Bearer s3cret") && authorizes("bearer  s3cret "));
        for wrong in [
            "Bearer s3cre",
            "Bearer s3cretx",
            "Bearer S3cret",
            "Bearer",
            "Bearer ",
            "",
            "Basic s3cret",
            "s3cret",
        ] {
            assert!(!authorizes(wrong), "{wrong}");
        }
        assert!(access.authorizes(&HeaderMap::new()).is_err());
        assert!(super::tests::access(None).authorizes(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn an_address_that_others_reach_needs_tls_and_a_token() {
        let check = |access: &Access, address: &str| access.check(address.parse().unwrap());
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(check(&access(None), loopback).is_ok(), "{loopback}");
        }
        for (token, lacks) in [(None, "without TLS and without a token"), (Some("x"), "without TLS;")] {
            for open in ["0.0.0.0:4317", "[::]:4317", "10.0.0.7:4317", "[::ffff:10.0.0.7]:4317"] {
                let error = check(&access(token), open).unwrap_err().to_string();
                assert!(error.contains(lacks) && error.contains("127.0.0.1:4317"), "{error}");
            }
        }
        assert!(check(&Access { is_insecure: true, ..access(None) }, "0.0.0.0:4317").is_ok());
    }

    #[test]
    fn a_file_without_a_token_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            fs::write(file.path(), text).unwrap();
            Token::read(file.path())
        };
        assert!(read("abc\n").unwrap().is(b"Bearer abc"));
        for text in ["", "\n", "a b", "a\nb", "ä"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
