//! Makes a frame.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use super::compress::compress;
use super::frame::{Found, Header, MAX_BODY, MAX_HEADER};
use super::index::Index;

/// Encodes an `ExportTraceServiceRequest` as a frame.
///
/// # Errors
///
/// When the request is no valid protobuf, or does not fit into one frame, which takes 16 MiB.
pub fn encode(request: Bytes) -> Result<Vec<u8>> {
    let raw = request.len();
    let body = compress(&request).context("can't compress the spans")?;
    let (index, spans) = Index::of_request(request)?;
    let body_crc = crc32fast::hash(&body);
    let header = Header { body: body.len(), raw, body_crc, spans, written_ns: now_ns(), index };
    ensure!(
        raw.max(body.len()) <= MAX_BODY && header.length() <= MAX_HEADER,
        "the spans do not fit into one frame of a capture"
    );
    let mut frame = Vec::with_capacity(header.length() + body.len());
    header.put(&mut frame);
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The number of spans in a frame of [`encode`].
pub(crate) fn spans_of(frame: &[u8]) -> u64 {
    match Header::read(frame) {
        Found::Header(header) => header.spans.into(),
        _ => 0,
    }
}

/// The time, in nanoseconds since 1970.
pub(super) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
