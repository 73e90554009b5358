//! Why a request is not taken, in the terms of HTTP and of gRPC.
//!
//! The OTLP specification says which answers have a client send a request again. Of those here, only 503 and `UNAVAILABLE`
//! do: what would be refused again, such as a request on a slow line, is not to come again.

use http::StatusCode;
use tonic::Code;

use crate::stats::Refusal;
use crate::text::cut;

/// The most characters of a reason, which may quote the client.
const MAX_WHY: usize = 300;

/// The reason, and the status of the answer.
#[derive(Clone, Debug)]
pub(super) struct Denial {
    /// To be counted; `None` if the decoder has counted it.
    pub(super) refusal: Option<Refusal>,
    /// For the client and the user.
    pub(super) why: String,
    pub(super) status: StatusCode,
    pub(super) code: Code,
}

impl Denial {
    pub(super) fn new(refusal: Refusal, why: impl Into<String>) -> Self {
        let (status, code) = match refusal {
            Refusal::Unauthorized => (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
            Refusal::NotTraces => (StatusCode::NOT_FOUND, Code::Unimplemented),
            Refusal::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented),
            Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
            Refusal::TooSlow => (StatusCode::REQUEST_TIMEOUT, Code::ResourceExhausted),
            Refusal::Malformed => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
            Refusal::Busy | Refusal::Ending | Refusal::Connections | Refusal::Handshake => {
                (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable)
            }
        };
        Self { refusal: Some(refusal), why: cut(&why.into(), MAX_WHY), status, code }
    }

    /// A request that the decoder refuses, and counts.
    pub(super) fn undecodable(why: String) -> Self {
        Self { refusal: None, ..Self::new(Refusal::Malformed, why) }
    }

    /// A request for which there is no room.
    pub(super) fn busy() -> Self {
        Self::new(Refusal::Busy, "too many requests wait; send it again")
    }

    /// A request that came too late.
    pub(super) fn ending() -> Self {
        Self::new(Refusal::Ending, "spantap is ending; send it again")
    }

    /// Whether the client is to send the request again.
    pub(super) fn is_for_now(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the tables of the OTLP specification. `RESOURCE_EXHAUSTED` is among them with `RetryInfo` only, which goes with
    /// [`Denial::is_for_now`].
    #[test]
    fn both_transports_agree_on_what_comes_again() {
        for refusal in Refusal::ALL {
            let denial = Denial::new(refusal, "");
            let over_http = [429, 502, 503, 504].contains(&denial.status.as_u16());
            let over_grpc = matches!(
                denial.code,
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
            );
            assert_eq!((over_http, over_grpc), (denial.is_for_now(), denial.is_for_now()), "{refusal:?}");
        }
    }
}
