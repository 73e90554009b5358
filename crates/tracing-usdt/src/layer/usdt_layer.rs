//! The layer's type, and the checks that all callbacks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::handle::Handle;
use super::identities::Identities;
#[cfg(feature = "fmt")]
use super::last_closed::LayerNumber;
use crate::delivery::{Batches, Exporter};
#[cfg(test)]
use crate::encode;
use crate::encode::Encoder;
use crate::error::Reporter;
use crate::fields::Limits;
use crate::on_demand;
use crate::otel::OpenTelemetry;
use crate::probes::{self, Probe};
use crate::propagation::Baggage;
use crate::span::OpenSpans;

/// A [`Layer`](tracing_subscriber::Layer) that fires USDT probes for spans and events, and sends closed spans
/// to a socket. Made by [`layer`](crate::layer()) or [`builder`](crate::builder()).
///
/// A subscriber needs one. If another is added `with` it, this is reported as an error and the other layer
/// does nothing, because two would report every span twice. (A second layer within a `Vec` or a `reload` is
/// not noticed.)
pub struct UsdtLayer {
    pub(super) identities: Identities,
    pub(super) limits: Limits,
    /// Of the probe `span_emit`.
    pub(super) encoder: Arc<Encoder>,
    pub(super) exporter: Option<Exporter>,
    pub(super) batches: Arc<Batches>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) spans: OpenSpans,
    /// Set by `Builder::with_opentelemetry_ids`.
    pub(super) otel: Option<OpenTelemetry>,
    /// What spans may have from the spans above them: [`HAS_TRACE_STATES`] and [`HAS_BAGGAGE`]. While there is neither,
    /// no span looks for it.
    pub(super) inherited: AtomicU8,
    pub(super) baggage: BaggageSettings,
    #[cfg(feature = "fmt")]
    pub(super) number: LayerNumber,
    /// The subscriber already has another layer of this type, so this one does nothing.
    pub(super) is_duplicate: bool,
}

/// The baggage of the process, and what the layer does with baggage.
#[derive(Default)]
pub(crate) struct BaggageSettings {
    /// The baggage of root spans outside of [`SpanContext::in_scope`](crate::SpanContext::in_scope) and
    /// [`Baggage::in_scope`].
    pub(crate) of_process: Baggage,
    /// The keys that become attributes.
    pub(crate) attributes: Box<[Box<str>]>,
}

/// Set once any span has had a `tracestate`.
pub(super) const HAS_TRACE_STATES: u8 = 1;

/// Set once any span has had baggage.
pub(super) const HAS_BAGGAGE: u8 = 2;

impl UsdtLayer {
    pub(crate) fn new(
        identities: Identities,
        limits: Limits,
        encoder: Arc<Encoder>,
        (exporter, batches): (Option<Exporter>, Batches),
        reporter: Arc<Reporter>,
        spans: OpenSpans,
        otel: Option<OpenTelemetry>,
    ) -> Self {
        if exporter.is_some() {
            on_demand::set_sending(true);
        }
        let parent_state = identities.remote_parent.as_ref().map(|parent| &parent.trace_state);
        let has_trace_states = parent_state.is_some_and(|state| !state.is_empty());
        Self {
            identities,
            limits,
            encoder,
            exporter,
            batches: Arc::new(batches),
            reporter,
            spans,
            otel,
            inherited: AtomicU8::new(if has_trace_states { HAS_TRACE_STATES } else { 0 }),
            baggage: BaggageSettings::default(),
            #[cfg(feature = "fmt")]
            number: LayerNumber::next(),
            is_duplicate: false,
        }
    }

    /// A handle to read [`Stats`](crate::Stats) and to flush, after the layer has become a part of a
    /// subscriber.
    pub fn handle(&self) -> Handle {
        Handle { exporter: self.exporter.clone(), batches: Arc::clone(&self.batches) }
    }

    /// The settings, with the format if there is a socket.
    #[cfg(test)]
    pub(crate) fn settings(&self) -> (Identities, Limits, Option<encode::Format>) {
        (self.identities.clone(), self.limits, self.exporter.as_ref().map(Exporter::format))
    }

    /// The baggage of the process, and the keys that become attributes.
    #[cfg(test)]
    pub(crate) fn baggage_settings(&self) -> (String, Vec<String>) {
        let attributes = self.baggage.attributes.iter().map(|key| key.to_string()).collect();
        (self.baggage.of_process.to_string(), attributes)
    }

    pub(super) fn stop_sending(&mut self) {
        if let Some(exporter) = self.exporter.take() {
            on_demand::set_sending(false);
            // A subscriber outlives its spans, so spans are open only if `reload` takes the layer out.
            exporter.abandon(self.spans.view().take().len() as u64);
            exporter.close();
        }
        self.batches.close();
    }

    /// Whether the callback of this probe has anything to do. This check is all that an idle layer costs.
    #[inline]
    pub(super) fn is_active(&self, probe: Probe) -> bool {
        self.is_active_for([probe], || true)
    }

    /// Whether the callback of these probes has anything to do for a span; `is_tracked` says whether this span
    /// is recorded.
    #[inline]
    pub(super) fn is_active_for<const N: usize>(
        &self,
        probes: [Probe; N],
        is_tracked: impl Fn() -> bool,
    ) -> bool {
        (probes::attached_to_one(probes) || self.tracks_spans() && is_tracked()) && !self.is_duplicate
    }

    /// Whether there may be tracked spans. A duplicate layer has none.
    #[inline]
    pub(super) fn tracks_spans(&self) -> bool {
        self.is_sending() || !self.spans.is_empty()
    }

    /// Whether spans get the ids that OpenTelemetry exports.
    #[inline]
    pub(super) fn uses_opentelemetry_ids(&self) -> bool {
        self.otel.is_some()
    }

    #[inline]
    pub(super) fn is_sending(&self) -> bool {
        self.exporter.is_some()
    }

    /// Whether the layer sends, has given no span a trace state or baggage yet, and gives new traces ids of its own and
    /// samples them all.
    #[inline]
    pub(super) fn sends_plainly(&self) -> bool {
        self.is_sending()
            && self.identities.begins_all_sampled
            && !self.uses_opentelemetry_ids()
            && self.inherited.load(Ordering::Relaxed) == 0
    }

    /// Whether to count open spans. Only `is_active` needs the count, and only without a socket.
    #[inline]
    pub(super) fn counts_open_spans(&self) -> bool {
        !self.is_sending()
    }
}

/// A number that stands for this layer.
pub(crate) fn owner(layer: &UsdtLayer) -> usize {
    std::ptr::from_ref(layer).addr()
}

impl Drop for UsdtLayer {
    fn drop(&mut self) {
        self.stop_sending();
    }
}

impl std::fmt::Debug for UsdtLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsdtLayer")
            .field("identities", &self.identities)
            .field("stats", &self.handle().stats())
            .finish_non_exhaustive()
    }
}
