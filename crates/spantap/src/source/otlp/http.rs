//! The answers of OTLP/HTTP.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use prost::Message;
use serde_json::json;
use tonic_types::pb::Status;

use super::answer::{self, Answer};
use super::denial::Denial;
use super::limits;
use crate::decode::Encoding;
use crate::pipeline::Taken;
use crate::stats::Refusal;

pub(super) fn answer(outcome: Result<Taken, Denial>, encoding: Encoding) -> Response<Answer> {
    match outcome {
        Ok(taken) => of(StatusCode::OK, encoding, success(taken, encoding)),
        Err(denial) => {
            let mut response = of(denial.status, encoding, failure(&denial, encoding));
            let headers = response.headers_mut();
            if denial.is_for_now() {
                headers.insert(RETRY_AFTER, limits::RETRY_AFTER.as_secs().into());
            }
            match (denial.refusal, denial.status) {
                (Some(Refusal::Unauthorized), _) => {
                    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                (_, StatusCode::METHOD_NOT_ALLOWED) => {
                    headers.insert(ALLOW, HeaderValue::from_static("POST"));
                }
                (Some(Refusal::MediaType), _) => {
                    headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
                }
                _ => {}
            }
            response
        }
    }
}

fn success(taken: Taken, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => answer::message(taken).encode_to_vec(),
        Encoding::Json if taken.rejected == 0 => b"{}".to_vec(),
        // In the JSON of protobuf, 64-bit integers are strings.
        Encoding::Json => json!({"partialSuccess": {
            "rejectedSpans": taken.rejected.to_string(),
            "errorMessage": taken.why,
        }})
        .to_string()
        .into_bytes(),
    }
}

fn failure(denial: &Denial, encoding: Encoding) -> Vec<u8> {
    let (code, message) = (denial.code as i32, denial.why.clone());
    match encoding {
        Encoding::Protobuf => Status { code, message, details: Vec::new() }.encode_to_vec(),
        Encoding::Json => json!({"code": code, "message": message}).to_string().into_bytes(),
    }
}

fn of(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response<Answer> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    let media_type = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
