//! What OpenTelemetry's conventions for HTTP call the parts of a request.

use std::fmt;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Uri, Version};
use tracing::Span;

use crate::span_ext::SpanExt;

/// Those that the conventions know. Others are not passed on in `http.request.method`, of which backends make
/// metrics: anybody can think up new ones.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

fn known(method: &Method) -> Option<&'static str> {
    METHODS.into_iter().find(|known| *known == method.as_str())
}

/// `http.request.method`.
pub(super) fn method(method: &Method) -> &'static str {
    known(method).unwrap_or("_OTHER")
}

/// `http.request.method_original`, which is rare: no field for it.
pub(super) fn set_original_method(span: &Span, method: &Method) {
    if known(method).is_none() {
        span.set_attribute("http.request.method_original", method.as_str());
    }
}

/// The name of a request's span.
pub(super) struct Name<'a> {
    pub(super) method: &'a Method,
    pub(super) route: Option<&'a str>,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(known(self.method).unwrap_or("HTTP"))?;
        self.route.map_or(Ok(()), |route| write!(f, " {route}"))
    }
}

/// Whom the request is for. HTTP/2 has it in the URI, HTTP/1 mostly in a header.
pub(super) fn authority(request: &Parts) -> Option<Authority> {
    let header = || Authority::try_from(request.headers.get(HOST)?.as_bytes()).ok();
    request.uri.authority().cloned().or_else(header)
}

/// `server.address`: an IPv6 address has brackets only in a URI.
pub(super) fn address(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// `server.port`, where it is named.
pub(super) fn port(authority: &Authority) -> Option<u16> {
    authority.port_u16()
}

/// `server.port`, where it is not.
pub(super) fn default_port(uri: &Uri) -> Option<u16> {
    match uri.scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// `network.protocol.version`.
pub(super) fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_09 => Some("0.9"),
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

const REDACTED: &str = "REDACTED";

/// By which keys of a query whoever has the URL may do what it is for: those that the conventions name, and
/// their like in Amazon's present way to sign.
const SECRETS: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Goog-Signature",
    "sig",
];

/// `url.query`, without what is secret.
pub(super) struct Query<'a>(pub(super) &'a str);

impl fmt::Display for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, part) in self.0.split('&').enumerate() {
            f.write_str(if n == 0 { "" } else { "&" })?;
            match part.split_once('=') {
                Some((key, _)) if SECRETS.contains(&key) => write!(f, "{key}={REDACTED}")?,
                _ => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// `url.full`, likewise.
pub(super) struct Url<'a> {
    pub(super) uri: &'a Uri,
    pub(super) authority: &'a Authority,
}

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.uri.scheme_str() {
            write!(f, "{scheme}:")?;
        }
        f.write_str("//")?;
        match self.authority.as_str().rsplit_once('@') {
            Some((user, host)) if user.contains(':') => write!(f, "{REDACTED}:{REDACTED}@{host}")?,
            Some((_, host)) => write!(f, "{REDACTED}@{host}")?,
            None => f.write_str(self.authority.as_str())?,
        }
        f.write_str(self.uri.path())?;
        self.uri.query().map_or(Ok(()), |query| write!(f, "?{}", Query(query)))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, host: Option<&str>) -> Parts {
        let request = Request::get(uri);
        let request = host.into_iter().fold(request, |request, host| request.header(HOST, host));
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn urls_have_no_secrets() {
        let cases = [
            ("http://a.example/", None, "http://a.example/"),
            ("http://a.example", None, "http://a.example/"),
            ("https://a.example:8443/p/q?x=1&y", None, "https://a.example:8443/p/q?x=1&y"),
            ("https://me:secret@a.example/p", None, "https://REDACTED:REDACTED@a.example/p"),
            ("https://me:@a.example:1/p", None, "https://REDACTED:REDACTED@a.example:1/p"),
            ("https://token@[::1]:1/p", None, "https://REDACTED@[::1]:1/p"),
            ("/p?sig=abc&x=1", Some("a.example"), "//a.example/p?sig=REDACTED&x=1"),
            ("/p", Some("me:secret@a.example"), "//REDACTED:REDACTED@a.example/p"),
            (
                "/p?X-Amz-Signature=a=b&sig=&Sig=1&sig",
                Some("a"),
                "//a/p?X-Amz-Signature=REDACTED&sig=REDACTED&Sig=1&sig",
            ),
            ("http://a/?", None, "http://a/?"),
        ];
        for (uri, host, expected) in cases {
            let parts = parts(uri, host);
            let authority = authority(&parts).expect("an authority");
            let url = Url { uri: &parts.uri, authority: &authority }.to_string();
            assert_eq!(url, expected, "{uri}");
        }
    }

    #[test]
    fn the_server_is_whom_the_request_is_for() {
        let cases = [
            ("/", None, None),
            ("/", Some("a.example"), Some(("a.example", None))),
            ("/", Some("a.example:8080"), Some(("a.example", Some(8080)))),
            ("/", Some("[::1]:8080"), Some(("::1", Some(8080)))),
            ("/", Some("127.0.0.1"), Some(("127.0.0.1", None))),
            ("/", Some(""), None),
            ("/", Some("a b"), None),
            ("/", Some("a:99999"), Some(("a", None))),
            ("*", Some("a"), Some(("a", None))),
            ("http://b.example/", Some("a.example:8080"), Some(("b.example", None))),
            ("http://me:secret@b.example:1/", None, Some(("b.example", Some(1)))),
        ];
        for (uri, host, expected) in cases {
            let authority = authority(&parts(uri, host));
            let found = authority.as_ref().map(|authority| (address(authority), port(authority)));
            assert_eq!(found, expected, "{uri} {host:?}");
        }
    }
}
