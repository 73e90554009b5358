//! The spans of a request that was read from a file.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

use super::Spans;
use crate::capture::compress::decompress;
use crate::capture::damage::Damage;
use crate::capture::filter::Filter;
use crate::decode::{Decoded, Decoder, LOSSES, losses};
use crate::encode::encode_summarised;
use crate::process::Process;
use crate::span::{EncodedScopes, Summary};

/// The most bytes of a line or message, also without compression. A longer one is damage.
pub(super) const MAX_DOCUMENT: usize = 64 << 20;

/// A request as it was in the file.
#[derive(Debug)]
pub(in crate::capture) struct Document {
    pub(in crate::capture) bytes: Vec<u8>,
    /// The body of a frame is compressed; this is its length without compression.
    pub(in crate::capture) raw: Option<usize>,
    /// When it was written, in nanoseconds since 1970. 0: unknown.
    pub(in crate::capture) written_ns: u64,
    /// Where it is in the file.
    pub(in crate::capture) at: u64,
}

/// What a document has.
#[derive(Default)]
pub(super) struct Contents {
    /// The selected spans, by process. No entry is empty.
    pub(super) spans: Vec<Spans>,
    pub(super) damage: Damage,
    /// The losses that senders report.
    pub(super) lost: u64,
}

impl Contents {
    /// Decodes a document.
    pub(super) fn of(document: &Document, filter: &Filter, decoder: &mut Decoder) -> Self {
        let Document { bytes, raw, written_ns, at } = document;
        let mut contents = Self::default();
        let decompressed = match raw {
            None => None,
            Some(length) => match decompress(bytes, *length) {
                Some(bytes) => Some(bytes),
                None => {
                    contents.damage.add(*at, bytes.len() as u64, 0);
                    return contents;
                }
            },
        };
        let request = decompressed.as_deref().unwrap_or(bytes);
        // A request without spans.
        if request.is_empty() {
            return contents;
        }
        let Decoded { processes, encoded, faults, .. } =
            decoder.decode_recorded(request, *written_ns, raw.is_some());
        let faults = faults.iter().filter(|(found, _)| found.fault.refuses());
        let refused: u64 = faults.map(|(_, count)| count).sum();
        if refused > 0 {
            match processes.is_empty() && encoded.is_empty() {
                true => contents.damage.add(*at, bytes.len() as u64, 0),
                false => contents.damage.refused += refused,
            }
        }
        for (process, scopes) in encoded {
            contents.add(process, scopes, *written_ns, filter);
        }
        for (process, scopes) in processes {
            let lost = scopes.iter().flat_map(|scope| &scope.spans).flat_map(losses).map(|(_, lost)| lost);
            contents.lost = lost.fold(contents.lost, u64::saturating_add);
            let scopes = encode(&scopes);
            contents.add(process, scopes, *written_ns, filter);
        }
        contents
    }

    fn add(&mut self, process: Arc<Process>, mut encoded: EncodedScopes, written_ns: u64, filter: &Filter) {
        encoded.spans.retain(|(span, _)| filter.selects(span));
        if !encoded.spans.is_empty() {
            self.spans.push(Spans { process, encoded, written_ns });
        }
    }
}

/// Encodes decoded spans, without the reports of losses among them.
fn encode(scopes: &[ScopeSpans]) -> EncodedScopes {
    encode_summarised(scopes, |scope, span| Summary::in_scope(span, scope).filter(|_| span.name != LOSSES))
}
