//! What a request is: its transport, encoding and compression, by its path and its headers.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::denial::Denial;
use crate::decode::Encoding;
use crate::stats::Refusal;

/// OTLP/HTTP: the default path for traces.
const PATH: &str = "/v1/traces";

/// OTLP/gRPC.
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// How a client talks to spantap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    /// gRPC, whose messages are protobuf.
    Grpc,
    /// HTTP, with a body in this encoding.
    Http(Encoding),
}

/// A request for traces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Route {
    pub(super) encoding: Encoding,
    /// Whether the body is compressed, or may be, in gRPC.
    pub(super) is_gzip: bool,
}

impl Transport {
    /// The transport of a request, whatever it asks for: a refusal is answered in the same terms.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match media_type(headers) {
            media_type if is_grpc(&media_type) => Self::Grpc,
            media_type if media_type == "application/json" => Self::Http(Encoding::Json),
            _ => Self::Http(Encoding::Protobuf),
        }
    }
}

impl Route {
    pub(super) fn of(head: &Parts, transport: Transport) -> Result<Self, Denial> {
        let path = head.uri.path();
        let is_for_traces = match transport {
            Transport::Grpc => path == METHOD,
            Transport::Http(_) => path == PATH,
        };
        if !is_for_traces {
            let why =
                format!("there is nothing at {path}; spantap takes traces only, at {PATH} and over gRPC");
            return Err(Denial::new(Refusal::NotTraces, why));
        }
        if head.method != Method::POST {
            let why = format!("{} is not POST", head.method);
            return Err(Denial {
                status: StatusCode::METHOD_NOT_ALLOWED,
                ..Denial::new(Refusal::NotTraces, why)
            });
        }
        let encoding = match (transport, &*media_type(&head.headers)) {
            (Transport::Grpc, "application/grpc" | "application/grpc+proto")
            | (Transport::Http(_), "application/x-protobuf") => Encoding::Protobuf,
            (Transport::Http(_), "application/json") => Encoding::Json,
            (Transport::Grpc, other) => {
                return Err(Denial::new(
                    Refusal::MediaType,
                    format!("spantap takes application/grpc, not {other}"),
                ));
            }
            (Transport::Http(_), other) => {
                let why = format!("spantap takes application/x-protobuf and application/json, not {other:?}");
                return Err(Denial::new(Refusal::MediaType, why));
            }
        };
        let compression = match transport {
            Transport::Grpc => GRPC_ENCODING,
            Transport::Http(_) => CONTENT_ENCODING,
        };
        let compression = text(&head.headers, &compression);
        let is_gzip = match &*compression {
            "" | "identity" => false,
            "gzip" => true,
            other => {
                let why = format!("spantap takes gzip or no compression, not {other:?}");
                return Err(Denial::new(Refusal::MediaType, why));
            }
        };
        Ok(Self { encoding, is_gzip })
    }
}

fn is_grpc(media_type: &str) -> bool {
    let rest = media_type.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

/// The content type without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> String {
    let text = text(headers, &CONTENT_TYPE);
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

/// A header in lower case; empty if there is none.
fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.map(|value| value.trim().to_ascii_lowercase()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use http::Request;

    use super::*;

    fn route(path: &str, headers: &[(&str, &str)]) -> Result<Route, (Transport, StatusCode)> {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let transport = Transport::of(&head.headers);
        Route::of(&head, transport).map_err(|denial| (transport, denial.status))
    }

    #[test]
    fn the_path_and_the_content_type_say_what_a_request_is() {
        let (protobuf, json) = (Encoding::Protobuf, Encoding::Json);
        let good = [
            (PATH, "application/x-protobuf", protobuf),
            ("/v1/traces?x=y", "application/x-protobuf", protobuf),
            (PATH, "application/json", json),
            (PATH, "Application/JSON; charset=utf-8", json),
            (METHOD, "application/grpc", protobuf),
            (METHOD, "application/grpc+proto", protobuf),
        ];
        for (path, media_type, encoding) in good {
            let found = route(path, &[("content-type", media_type)]);
            assert_eq!(found, Ok(Route { encoding, is_gzip: false }), "{path} {media_type}");
        }
        let http = Transport::Http(protobuf);
        let bad = [
            ("/v1/metrics", "application/x-protobuf", http, 404),
            ("/v1/logs", "application/json", Transport::Http(json), 404),
            ("/v1/traces/", "application/json", Transport::Http(json), 404),
            (METHOD, "application/x-protobuf", http, 404),
            (PATH, "application/grpc", Transport::Grpc, 404),
            (
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                "application/grpc",
                Transport::Grpc,
                404,
            ),
            (METHOD, "application/grpc+json", Transport::Grpc, 415),
            (PATH, "application/grpcx", http, 415),
            (PATH, "text/plain", http, 415),
            (PATH, "application/x-www-form-urlencoded", http, 415),
        ];
        for (path, media_type, transport, status) in bad {
            let found = route(path, &[("content-type", media_type)]);
            assert_eq!(found, Err((transport, StatusCode::from_u16(status).unwrap())), "{path} {media_type}");
        }
        assert_eq!(route(PATH, &[]), Err((http, StatusCode::UNSUPPORTED_MEDIA_TYPE)));
    }

    #[test]
    fn only_gzip_is_a_compression() {
        for (path, media_type, header) in
            [(PATH, "application/json", "content-encoding"), (METHOD, "application/grpc", "grpc-encoding")]
        {
            let of = |value| route(path, &[("content-type", media_type), (header, value)]);
            assert!(of("GZIP").unwrap().is_gzip && !of("identity").unwrap().is_gzip);
            for other in ["deflate", "gzip, gzip", "br", "zstd"] {
                assert_eq!(of(other).unwrap_err().1, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{other}");
            }
        }
    }
}
