//! The frames and answers of gRPC, for calls with one message each way.
//!
//! Source: gRPC over HTTP2 (`PROTOCOL-HTTP2.md`), and OTLP/gRPC.

use std::future::ready;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Empty, Full};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use super::answer::{self, Answer};
use super::denial::Denial;
use super::limits::RETRY_AFTER;
use crate::pipeline::Taken;
use crate::stats::Refusal;

/// A byte that says whether the message is compressed, and four with its length.
pub(super) const PREFIX: usize = 5;

/// Removes the prefix of the only message in `body`. Returns whether the message is compressed.
pub(super) fn message(body: &mut Vec<u8>, takes_gzip: bool) -> Result<bool, Denial> {
    let malformed = |why: &str| Err(Denial::new(Refusal::Malformed, why));
    let Some((prefix, message)) = body.split_first_chunk::<PREFIX>() else {
        return malformed("it has no whole message");
    };
    let [flag, length @ ..] = *prefix;
    let is_whole = usize::try_from(u32::from_be_bytes(length)).is_ok_and(|length| length == message.len());
    if !is_whole {
        return malformed("it does not have exactly one message");
    }
    let is_compressed = match flag {
        0 => false,
        1 if takes_gzip => true,
        1 => return malformed("its message is compressed, and its header grpc-encoding does not say how"),
        _ => return malformed("its message has a flag that gRPC does not define"),
    };
    body.drain(..PREFIX);
    Ok(is_compressed)
}

pub(super) fn answer(outcome: Result<Taken, Denial>) -> Response<Answer> {
    match outcome {
        Ok(taken) => success(&answer::message(taken)),
        Err(denial) => failure(&denial),
    }
}

fn success(message: &ExportTraceServiceResponse) -> Response<Answer> {
    let length = message.encoded_len();
    let mut body = BytesMut::with_capacity(PREFIX + length);
    body.put_u8(0);
    // The reasons have some hundred bytes.
    body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows, so this can't fail.
    let _ = message.encode(&mut body);
    let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(body)).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn failure(denial: &Denial) -> Response<Answer> {
    let status = match denial.is_for_now() {
        true => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
            Status::with_error_details(denial.code, &*denial.why, details)
        }
        false => Status::new(denial.code, &*denial.why),
    };
    let mut response = status.into_http::<Empty<Bytes>>().map(BodyExt::boxed_unsync);
    if denial.refusal == Some(Refusal::MediaType) {
        response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn a_call_has_exactly_one_message() {
        let read = |bytes: &[u8], takes_gzip| {
            let mut body = bytes.to_vec();
            message(&mut body, takes_gzip).map(|is_gzip| (body, is_gzip)).map_err(|denial| denial.why)
        };
        assert_eq!(read(&[0, 0, 0, 0, 2, 7, 8], false), Ok((vec![7, 8], false)));
        assert_eq!(read(&[0, 0, 0, 0, 0], true), Ok((vec![], false)));
        assert_eq!(read(&[1, 0, 0, 0, 1, 9], true), Ok((vec![9], true)));
        for (bytes, why) in [
            (&[][..], "no whole message"),
            (&[0, 0, 0, 0], "no whole message"),
            (&[0, 0, 0, 0, 2, 7], "exactly one"),
            (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "exactly one"),
            (&[0, 255, 255, 255, 255, 1], "exactly one"),
            (&[1, 0, 0, 0, 1, 9], "grpc-encoding"),
            (&[2, 0, 0, 0, 1, 9], "flag"),
        ] {
            assert!(read(bytes, false).unwrap_err().contains(why), "{bytes:?}");
        }
    }
}
