//! The close of a span.

use std::sync::atomic::Ordering;

use tracing_core::Subscriber;
use tracing_core::span::Id;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

#[cfg(feature = "fmt")]
use super::last_closed;
use super::usdt_layer::UsdtLayer;
use crate::callsite;
use crate::clock::Monotonic;
use crate::probes::{self, Probe};
use crate::propagation::{SpanId, TraceState};
use crate::span::{ClosedSpan, Identity, OpenSpan, PlainSpan, RecordView, Timing, reuse};

impl UsdtLayer {
    /// The close of a span that has nothing but what all spans have. No probe for it may have a consumer. Returns whether
    /// the delivery took the span; if it can't at once, [`end`](Self::end) is for all spans.
    #[inline(never)]
    pub(super) fn end_plainly(&self, closing: PlainSpan<'_>, #[cfg(feature = "fmt")] id: &Id) -> bool {
        let Some(exporter) = &self.exporter else { return false };
        if self.uses_opentelemetry_ids() || self.inherited.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let needs_wake = closing.close(|span, timing, callsite| {
            let record = &span.record.plain_view();
            let (identity, start_ns, elapsed) = (&span.identity, timing.start_wall_ns(), timing.finished()?);
            let sent = exporter.try_send(&ClosedSpan { identity, callsite, start_ns, elapsed, record })?;
            #[cfg(feature = "fmt")]
            last_closed::keep(self.number, id, identity.ids);
            Some(sent)
        });
        needs_wake.map(|needs_wake| exporter.finish_send(needs_wake)).is_some()
    }

    /// The close of any span.
    #[inline(never)]
    pub(super) fn end<S>(&self, id: Id, ctx: Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if !self.is_active_for([Probe::Close, Probe::BatchEmit], || self.spans.may_contain(&id)) {
            return;
        }
        let (id, ctx) = (&id, &ctx);
        if self.uses_opentelemetry_ids() {
            if let Some(span) = ctx.span(id) {
                self.resolve_at_close(&span);
            }
        }
        // Not before OpenTelemetry is asked, so that they need not be kept meanwhile.
        let (probed, batched) = (probes::attached(Probe::Close), probes::attached(Probe::BatchEmit));
        let trace_state = match self.inherited.load(Ordering::Relaxed) {
            0 => TraceState::NONE,
            _ => self.complete(id, ctx),
        };
        let known = self.spans.remove(id, self.counts_open_spans());
        let identity = match &known {
            Some(span) => span.identity,
            None if !(probed || batched) => return,
            // The span is not tracked: it gets an identity for the probes, and nothing else.
            None => {
                let Some(span) = ctx.span(id) else { return };
                let identity = self.identity(&span);
                self.spans.remove(id, self.counts_open_spans());
                identity
            }
        };
        #[cfg(feature = "fmt")]
        last_closed::keep(self.number, id, identity.ids);
        let timing = known.as_ref().filter(|span| !span.began_before).and_then(|span| span.timing.as_ref());
        let elapsed = timing.map(|timing| timing.finish(Monotonic::now));
        if probed {
            if let Some(span) = ctx.span(id) {
                probes::close(&probes::Close {
                    span: identity.ids,
                    name: &callsite::of(span.metadata()).name,
                    duration_ns: elapsed.map_or(0, |elapsed| elapsed.duration_ns),
                    busy_ns: elapsed.map_or(0, |elapsed| elapsed.busy_ns),
                    parent_id: identity.parent_id.map_or(0, SpanId::get),
                });
            }
        }
        if elapsed.is_none() && batched {
            let late = known.as_ref().and_then(|span| span.timing.as_ref());
            self.batch_late(id, ctx, identity, late, trace_state.as_str());
        }
        let Some(mut span) = known else { return };
        let is_recorded_late = span.callsite.is_none() && span.timing.is_some() && !span.began_before;
        if is_recorded_late && probes::attached_to_one([Probe::SpanEmit, Probe::BatchEmit]) {
            self.record_late(id, ctx, &mut span);
        }
        match (&span.timing, elapsed, span.callsite) {
            (Some(timing), Some(elapsed), Some(callsite)) => {
                let (identity, start_ns) = (&identity, timing.start_wall_ns());
                let record = || RecordView { trace_state: trace_state.as_str(), ..span.record.view() };
                // The probes and the exporter each make a view of the span. If they shared one, the compiler would keep it in
                // memory also where only the exporter needs it.
                if probes::attached_to_one([Probe::SpanEmit, Probe::BatchEmit]) {
                    let record = &record();
                    self.deliver_to_probes(&ClosedSpan { identity, callsite, start_ns, elapsed, record });
                }
                match &self.exporter {
                    Some(exporter) if identity.ids.sampled => {
                        let record = &record();
                        exporter.send(&ClosedSpan { identity, callsite, start_ns, elapsed, record });
                    }
                    Some(exporter) => exporter.count_sampled_out(),
                    None => {}
                }
            }
            _ if span.had_listener && !identity.ids.sampled => {
                if let Some(exporter) = &self.exporter {
                    exporter.count_sampled_out();
                }
            }
            _ => {}
        }
        self.spans.give_back(id, span);
    }

    /// Gives a span that closes the attributes from its baggage, and returns its trace state.
    #[cold]
    fn complete<S>(&self, id: &Id, ctx: &Context<'_, S>) -> TraceState
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if self.has_baggage_attributes() {
            self.spans.with(id, |open| {
                if let Some(callsite) = open.callsite {
                    open.record.add_baggage_attributes(callsite);
                }
            });
        }
        self.inherited_trace_state(id, ctx)
    }

    /// Puts a span into the batch that began before anyone listened. At most its times after that are known.
    #[cold]
    fn batch_late<S>(
        &self,
        id: &Id,
        ctx: &Context<'_, S>,
        identity: Identity,
        late: Option<&Timing>,
        trace_state: &str,
    ) where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(callsite) = ctx.span(id).map(|span| callsite::of(span.metadata())) else { return };
        let now;
        let timing = match late {
            Some(timing) => timing,
            None => {
                now = Timing::start(Monotonic::now());
                &now
            }
        };
        let (identity, start_ns, elapsed) =
            (&identity, timing.start_wall_ns(), timing.finish(Monotonic::now));
        let record = &RecordView { trace_state, began_before: true, ..RecordView::default() };
        self.batches.send(&ClosedSpan { identity, callsite, start_ns, elapsed, record });
    }

    /// Prepares `span_emit` and the batch for a span that was created while only other probes had consumers. Fields
    /// that were not recorded, because none of these probes was `new_span`, are counted as dropped.
    #[cold]
    fn record_late<S>(&self, id: &Id, ctx: &Context<'_, S>, span: &mut OpenSpan)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if let Some(callsite) = ctx.span(id).map(|span| callsite::of(span.metadata())) {
            span.callsite = Some(callsite);
            span.record.count_missing_fields(callsite);
        }
    }

    #[cold]
    fn deliver_to_probes(&self, span: &ClosedSpan<'_>) {
        if probes::attached(Probe::SpanEmit) {
            reuse::with_text(|json| {
                self.encoder.open(json);
                self.encoder.span(json, span);
                self.encoder.close(json, None);
                json.push(0);
                if let Ok(json) = std::ffi::CStr::from_bytes_with_nul(json) {
                    let span_id = span.identity.ids.span_id.get();
                    probes::span_emit(&probes::SpanEmit { span_id, json });
                }
            });
        }
        if probes::attached(Probe::BatchEmit) {
            self.batches.send(span);
        }
    }
}
