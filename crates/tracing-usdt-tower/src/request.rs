//! Converts the parts of a request to attributes of OpenTelemetry's conventions for HTTP.

use std::fmt;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Uri, Version};
use tracing::Span;
use tracing_usdt::SpanExt;

/// The methods that the conventions define. Other methods do not go into `http.request.method`: a client can send
/// any number of them, and backends make metrics by this attribute.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

fn known(method: &Method) -> Option<&'static str> {
    METHODS.into_iter().find(|known| *known == method.as_str())
}

/// `http.request.method`.
pub(crate) fn method(method: &Method) -> &'static str {
    known(method).unwrap_or("_OTHER")
}

/// Records `http.request.method_original` for an unknown method. This is rare, so the spans have no field for it.
pub(crate) fn set_original_method(span: &Span, method: &Method) {
    if known(method).is_none() {
        span.record_attribute("http.request.method_original", method.as_str());
    }
}

/// The name of a request's span.
pub(crate) struct Name<'a> {
    pub(crate) method: &'a Method,
    pub(crate) route: Option<&'a str>,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(known(self.method).unwrap_or("HTTP"))?;
        self.route.map_or(Ok(()), |route| write!(f, " {route}"))
    }
}

/// The host and port of the request. HTTP/2 has them in the URI, HTTP/1 usually in a header.
pub(crate) fn authority(request: &Parts) -> Option<Authority> {
    let header = || Authority::try_from(request.headers.get(HOST)?.as_bytes()).ok();
    request.uri.authority().cloned().or_else(header)
}

/// `server.address`, without the brackets that an IPv6 address has in a URI.
pub(crate) fn address(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// `server.port`, if the request names one.
pub(crate) fn port(authority: &Authority) -> Option<u16> {
    authority.port_u16()
}

/// `server.port` of the scheme, for a request that names no port.
pub(crate) fn default_port(uri: &Uri) -> Option<u16> {
    match uri.scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// `network.protocol.version`.
pub(crate) fn version(version: Version) -> Option<&'static str> {
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

/// Keys of a query whose values grant access to anyone who has the URL. The conventions name some; those of
/// version 4 of Amazon's signatures correspond to them.
const SECRETS: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Goog-Signature",
    "sig",
];

/// `url.query` with the secret values redacted.
pub(crate) struct Query<'a>(pub(crate) &'a str);

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

/// `url.full` with user, password and the secret values of the query redacted.
pub(crate) struct Url<'a> {
    pub(crate) uri: &'a Uri,
    pub(crate) authority: &'a Authority,
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
    fn urls_show_no_secrets() {
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
    fn server_address_and_port_are_those_of_the_request() {
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
