//! The callbacks that `tracing` calls.

use std::any::TypeId;

use tracing_core::span::{Attributes, Id, Record as Values};
use tracing_core::{Dispatch, Event, Interest, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::access::access_of;
use super::usdt_layer::UsdtLayer;
use crate::aside;
use crate::callsite;
use crate::clock::{Monotonic, wall_offset};
use crate::encode;
use crate::error::Error;
use crate::fields::Owner;
use crate::on_demand;
use crate::probes::{self, Probe};
use crate::propagation::remote;
use crate::sampler;
use crate::span::{Found, Link, Timing, reuse};
use crate::thread_context;

impl<S> Layer<S> for UsdtLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_layer(&mut self, subscriber: &mut S) {
        let subscriber: &dyn Subscriber = subscriber;
        if subscriber.is::<Self>() {
            self.is_duplicate = true;
            self.stop_sending();
            self.reporter.report(Error::SecondLayer);
        }
    }

    // SAFETY: both pointers are to values of the requested type, which live as long as the layer.
    #[allow(unsafe_code)]
    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        match id {
            _ if self.is_duplicate => None,
            id if id == TypeId::of::<Self>() => Some(std::ptr::from_ref(self).cast()),
            id => access_of::<S>(id),
        }
    }

    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        on_demand::register_subscriber(subscriber);
        if let Some(otel) = &self.otel {
            otel.register(subscriber);
        }
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if !self.uses_opentelemetry_ids()
            && metadata.is_span()
            && metadata.fields().field(sampler::PRIORITY).is_some()
        {
            remote::inspect_new_spans();
        }
        // Comes before the first span, which may be the one that hangs.
        if let Some(exporter) = self.exporter.as_ref().filter(|_| metadata.is_span()) {
            exporter.watch();
        }
        Interest::always()
    }

    #[inline(always)]
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let any_attached = probes::any_attached();
        if self.sends_plainly() && !any_attached && !remote::inspects_new_spans() && !aside::is_used() {
            self.begin_plainly(attributes, id, ctx);
        } else if (self.is_sending() || any_attached) && !self.is_duplicate {
            self.begin(attributes, id, &ctx);
        } else if remote::inspects_new_spans() {
            self.begin_idle(attributes, id, &ctx);
        }
    }

    fn on_record(&self, id: &Id, values: &Values<'_>, ctx: Context<'_, S>) {
        if !self.is_active(Probe::Record) {
            return;
        }
        let recorded = self.spans.look(id, |span| span.callsite.is_some()) == Some(true);
        if !(probes::attached(Probe::Record) || recorded) {
            return;
        }
        let Some(span) = ctx.span(id) else { return };
        let callsite = callsite::of(span.metadata());
        reuse::with_fields(|fields| {
            fields.visit(callsite, Owner::Span, &self.limits, |visitor| values.record(visitor));
            if probes::attached(Probe::Record) {
                probes::record(&probes::Record {
                    span: self.identity(&span).ids,
                    name: &callsite.name,
                    fields: &encode::fields_object(fields.view(callsite), &[]),
                });
            }
            if recorded {
                self.spans.with(id, |span| span.record.fields.merge(callsite, fields, &self.limits));
            }
        });
    }

    fn on_follows_from(&self, id: &Id, follows_id: &Id, ctx: Context<'_, S>) {
        if !self.is_active(Probe::FollowsFrom) {
            return;
        }
        // A span that is closed by now has no identity any more.
        let (Some(span), Some(follows)) = (ctx.span(id), ctx.span(follows_id)) else {
            return;
        };
        let recorded = self.spans.look(id, |span| span.callsite.is_some()) == Some(true);
        let probed = probes::attached(Probe::FollowsFrom);
        if !(probed || recorded) {
            return;
        }
        self.resolve_identity(&follows);
        let follows = self.identity(&follows).ids;
        if probed {
            probes::follows_from(&probes::FollowsFrom {
                span: self.identity(&span).ids,
                name: &callsite::of(span.metadata()).name,
                follows: follows.span_id.get(),
            });
        }
        if recorded && self.limits.vocabulary.links {
            let trace_state = self.inherited_trace_state(follows_id, &ctx);
            let link = Link { ids: follows, is_local: true, trace_state: trace_state.as_str() };
            self.spans.with(id, |span| span.record.add_link(&link));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        if !self.is_active(Probe::Event) {
            return;
        }
        let now = Monotonic::now();
        let span = self.event_span(event, &ctx);
        let recorded =
            span.as_ref().and_then(|span| self.spans.look(&span.id(), |span| span.callsite)).flatten();
        let probed = probes::attached(Probe::Event);
        if !probed && recorded.is_none() {
            return;
        }
        let callsite = callsite::of(event.metadata());
        reuse::with_fields(|fields| {
            fields.visit(callsite, Owner::Event, &self.limits, |visitor| event.record(visitor));
            if probed {
                let view = fields.view(callsite);
                let text = |name| view.get(name).map(|value| callsite::c_string(&encode::value_text(value)));
                let record_target = if callsite.is_log_bridge { text("target") } else { None };
                let arguments: &[&str] =
                    if record_target.is_some() { &["message", "target"] } else { &["message"] };
                probes::event(&probes::Event {
                    span_id: span.as_ref().map_or(0, |span| self.identity(span).ids.span_id.get()),
                    message: &text("message").unwrap_or_default(),
                    target: record_target.as_ref().unwrap_or(&callsite.target),
                    level: callsite.level(),
                    fields: &encode::fields_object(view, arguments),
                });
            }
            if let (Some(span), Some(span_callsite)) = (span, recorded) {
                let at_ns = wall_offset(now).nanos(now);
                self.spans.with(&span.id(), |span| {
                    span.record.add_event(span_callsite, at_ns, callsite, fields, &self.limits);
                });
            }
        });
    }

    #[inline(always)]
    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        if probes::attached_to_one([Probe::Enter, Probe::ThreadRegister]) {
            self.enter(id, ctx);
        } else if self.tracks_spans() {
            if self.uses_opentelemetry_ids() {
                self.enter(id, ctx);
            } else {
                self.spans.time(id, Timing::enter);
            }
        }
    }

    #[inline(always)]
    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        if probes::attached_to_one([Probe::Exit, Probe::ThreadRegister]) {
            self.exit(id, ctx);
        } else if self.tracks_spans() {
            if thread_context::exists() {
                self.exit(id, ctx);
            } else {
                self.spans.time(id, Timing::exit);
            }
        }
    }

    #[inline(always)]
    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        if probes::attached_to_one([Probe::Close, Probe::BatchEmit, Probe::SpanEmit]) {
            self.end(id, ctx);
        } else if self.tracks_spans() {
            let is_done = match self.spans.find(&id) {
                Found::Plain(span) => self.end_plainly(
                    span,
                    #[cfg(feature = "fmt")]
                    &id,
                ),
                Found::Perhaps => false,
                Found::Nowhere => true,
            };
            if !is_done {
                self.end(id, ctx);
            }
        }
    }
}
