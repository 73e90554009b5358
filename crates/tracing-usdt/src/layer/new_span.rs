//! The creation of a span.

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use tracing_core::span::{Attributes, Id};
use tracing_core::{Metadata, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::usdt_layer::{UsdtLayer, owner};
use crate::aside;
use crate::callsite::{self, Callsite};
use crate::clock::Monotonic;
use crate::encode;
use crate::fields::Owner;
use crate::otel::OpenTelemetry;
use crate::probes::{self, Probe};
use crate::propagation::{SpanId, remote};
use crate::sampler;
use crate::span::{Identity, OpenSpan, Record, Timing, Untracked};

/// The parent of a new span.
enum Parent {
    None,
    Known(Identity),
    /// The trace is not sampled, and no probe has a consumer: the new span is counted and not tracked.
    SampledOut,
}

impl UsdtLayer {
    /// Finds the parent of a new span, and gives it an identity if it has none.
    #[inline]
    fn parent<S>(&self, attributes: &Attributes<'_>, parent_id: &Id, id: &Id, ctx: &Context<'_, S>) -> Parent
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Most parents are in the table, and no filter hides them. Asking the registry takes 300 instructions
        // more. With OpenTelemetry's ids, sampling is decided later, so all spans are tracked.
        let tracked_identity =
            |open: &OpenSpan| (open.had_listener && !self.uses_opentelemetry_ids()).then_some(open.identity);
        if let Some(known) = self.spans.look(parent_id, tracked_identity).flatten() {
            let sampled_out = !known.ids.sampled && self.skip_sampled_out_child(attributes.metadata());
            return if sampled_out { Parent::SampledOut } else { Parent::Known(known) };
        }
        let Some(parent) = ctx.span(id).and_then(|span| span.parent()) else {
            // In the registry, a span that exists for its probes alone has no parent.
            let parent = ctx.span(parent_id).and_then(|parent| self.identity_of_parent(&parent));
            return parent.map_or(Parent::None, Parent::Known);
        };
        if !self.uses_opentelemetry_ids()
            && self.is_sampled_out(&parent)
            && self.skip_sampled_out_child(attributes.metadata())
        {
            return Parent::SampledOut;
        }
        // The current span's identity was resolved when it was entered, or OpenTelemetry is just starting it.
        if self.uses_opentelemetry_ids()
            && attributes.parent().is_some()
            && ctx.current_span().id() != Some(&parent.id())
        {
            self.resolve_identity(&parent);
        }
        Parent::Known(self.identity(&parent))
    }

    /// The creation of a span while no probe has a consumer, and there is nothing to look for that only some programs use.
    /// If the span's parent is not tracked, or another span has its slot, [`begin`](Self::begin) creates it.
    #[inline(never)]
    pub(super) fn begin_plainly<S>(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let parent_id = match attributes.is_contextual() {
            true => ctx.current_span().id().cloned(),
            false => attributes.parent().cloned(),
        };
        let callsite = callsite::of(attributes.metadata());
        // `inspects_new_spans` need not show it: the subscriber may not have been asked for its interest in the callsite yet,
        // while another thread is asking, or a layer around this one may not pass the question on.
        if callsite.has_priority {
            return self.begin(attributes, id, &ctx);
        }
        let Some(mut new) = self.spans.begin_near(id) else {
            return self.begin(attributes, id, &ctx);
        };
        let span = &mut *new.span;
        match &parent_id {
            None => span.identity = Identity::first_of_sampled_trace(),
            Some(parent_id) => {
                // Drawn before: it may take a system call, and others wait for the parent's slot meanwhile.
                let span_id = SpanId::random();
                let begin = |parent: &OpenSpan| {
                    let is_known = parent.had_listener && parent.identity.ids.sampled;
                    is_known.then(|| span.identity = parent.identity.child(span_id))
                };
                if self.spans.look(parent_id, begin).flatten().is_none() {
                    new.cancel();
                    return self.begin(attributes, id, &ctx);
                }
            }
        }
        let now = Monotonic::now();
        span.had_listener = true;
        span.record.fields.visit(callsite, Owner::Span, &self.limits, |visitor| attributes.record(visitor));
        span.timing = Some(Timing::start(now));
        span.callsite = Some(callsite);
        // The rest of what `OpenSpan::state` asks for is so already. The memory is new, or cleared by `OpenSpan::clear` or
        // `clear_plain`: the ids' origin is the layer, nothing is pending or began before, and the record has no extras and
        // no reserved name, which only later calls of the application add. The identity is sampled, see above.
        let is_plain = span.record.has_all_fields();
        self.spans.insert_near(new, is_plain, false);
    }

    /// The creation of any span.
    #[inline(never)]
    pub(super) fn begin<S>(&self, attributes: &Attributes<'_>, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut parent_id = match attributes.is_contextual() {
            true => ctx.current_span().id().cloned(),
            false => attributes.parent().cloned(),
        };
        if aside::is_used() {
            parent_id = self.parent_aside(attributes, parent_id);
        }
        let parent = match parent_id.as_ref().map(|parent_id| self.parent(attributes, parent_id, id, ctx)) {
            Some(Parent::SampledOut) => return,
            Some(Parent::Known(parent)) => Some(parent),
            Some(Parent::None) | None => None,
        };
        let identity = self.identities.draw(attributes.metadata(), parent.as_ref(), remote::ids());
        let mut new = self.spans.begin(id, identity);
        let span = &mut *new.span;
        if parent.is_none() && remote::inspects_new_spans() {
            self.set_extras(&mut span.record);
        }
        let callsite = callsite::of(attributes.metadata());
        if let Some(sampled) = priority(callsite, attributes) {
            span.identity.ids.sampled = sampled;
        }
        span.had_listener = true;
        // In a trace that is not sampled, a span needs no more than its identity while no probe has a consumer.
        if !span.identity.ids.sampled && !self.uses_opentelemetry_ids() && !probes::any_attached() {
            self.spans.insert(id, new, self.counts_open_spans());
            return;
        }
        let (now, probed) = (Monotonic::now(), probes::attached(Probe::NewSpan));
        // With OpenTelemetry's ids, sampling is decided later.
        let sent = self.is_sending() && (span.identity.ids.sampled || self.uses_opentelemetry_ids());
        let recorded = sent || probes::attached_to_one([Probe::SpanEmit, Probe::BatchEmit]);
        if probed || recorded {
            let record = |visitor: &mut dyn tracing_core::field::Visit| attributes.record(visitor);
            span.record.fields.visit(callsite, Owner::Span, &self.limits, record);
        }
        span.new_span_pending = probed && self.otel.as_ref().is_some_and(OpenTelemetry::is_registered);
        let fires_now = probed && !span.new_span_pending;
        let fields = fires_now.then(|| encode::fields_object(span.record.fields.view(callsite), &[]));
        span.timing = Some(Timing::start(now));
        span.callsite = recorded.then_some(callsite);
        self.spans.insert(id, new, self.counts_open_spans());
        if self.inherited.load(Ordering::Relaxed) != 0 {
            self.inherit(id, parent_id.as_ref(), ctx);
        }
        if probes::attached(Probe::BatchEmit) {
            self.batches.watch();
        }
        if let Some(fields) = fields {
            let identity = self.spans.look(id, |span| span.identity).unwrap_or(identity);
            new_span(callsite, &identity, &fields);
        }
    }

    /// The parent of a new span, which may be one that the subscriber does not know of. `known` is the one that it knows.
    #[cold]
    fn parent_aside(&self, attributes: &Attributes<'_>, known: Option<Id>) -> Option<Id> {
        let aside = match attributes.is_contextual() {
            true => aside::innermost(owner(self), known.as_ref()),
            false if attributes.is_root() => aside::take_parent(),
            false => None,
        };
        aside.or(known)
    }

    /// The creation of a span for the probes of its callsite alone, see `probe_only`. It always gets its identity now,
    /// because the registry does not know its parent.
    pub(crate) fn begin_probe_only<S>(&self, attributes: &Attributes<'_>, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if self.is_duplicate {
            return;
        }
        self.begin(attributes, id, ctx);
        if self.spans.identity(id).is_none() {
            // Its trace is not sampled.
            let parent = match attributes.is_contextual() {
                true => ctx.lookup_current(),
                false => attributes.parent().and_then(|parent| ctx.span(parent)),
            };
            let parent = parent.and_then(|parent| self.identity_of_parent(&parent));
            let identity = self.identities.draw(attributes.metadata(), parent.as_ref(), remote::ids());
            self.spans.identity_or_insert(id, identity, self.counts_open_spans());
        }
    }

    /// Gives a root span the trace state and the baggage of its remote parent.
    #[cold]
    fn set_extras(&self, record: &mut Record) {
        let remote::Extras { trace_state, baggage } = remote::extras();
        if remote::ids().is_some() {
            self.set_trace_state(record, trace_state);
        }
        if let Some(baggage) = baggage.filter(|own| self.matters(own)) {
            self.note_baggage(&baggage);
            record.set_baggage(baggage);
        }
    }

    /// Gives a new span what it has from its parent. Its trace state and its attributes are stored in the span itself: if
    /// it is still open when the program ends, the registry can't be asked any more.
    #[cold]
    fn inherit<S>(&self, id: &Id, parent_id: Option<&Id>, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = ctx.span(id) else { return };
        // In the registry, a span that exists for its probes alone has no parent.
        let aside =
            if span.parent().is_none() { parent_id.and_then(|parent_id| ctx.span(parent_id)) } else { None };
        if let Some(parent) = aside {
            let (trace_state, baggage) = (self.trace_state(&parent), self.baggage_of(&parent));
            self.spans.with(id, |open| {
                open.record.set_trace_state(trace_state);
                if self.matters(&baggage) {
                    open.record.set_baggage(baggage);
                }
            });
        }
        self.inherit_trace_state(id, ctx);
        self.inherit_baggage(&span);
    }

    /// Whether the nearest span with an identity, from `span` upwards, is not sampled.
    #[cold]
    pub(super) fn is_sampled_out<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> bool {
        let known = span.scope().find_map(|above| {
            let untracked = || above.extensions().get::<Untracked>().map(|untracked| untracked.identity);
            self.spans.identity(&above.id()).or_else(untracked)
        });
        known.is_some_and(|above| !above.ids.sampled)
    }

    /// Whether to leave a new span in a trace that is not sampled untracked; if so, counts it. Only the
    /// trace's first span is tracked. Others get an identity if the program asks for their context, as while
    /// nobody listens.
    #[inline]
    pub(super) fn skip_sampled_out_child(&self, metadata: &'static Metadata<'static>) -> bool {
        let is_skipped = !probes::any_attached() && !callsite::of(metadata).has_priority;
        if let Some(exporter) = self.exporter.as_ref().filter(|_| is_skipped) {
            exporter.count_sampled_out();
        }
        is_skipped
    }

    /// Creates a span while nobody listens. Stores what can be read only at creation: the remote parent
    /// that it continues, its baggage, and its field `sampling.priority`.
    #[cold]
    pub(super) fn begin_idle<S>(&self, attributes: &Attributes<'_>, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Checked before the registry lookup (300 instructions): most spans have none of them.
        let remote = remote::ids();
        let remote::Extras { trace_state, baggage } = remote::extras();
        // With OpenTelemetry's ids the field is not read here: an identity would need that of the parent, for
        // which it is too early to ask OpenTelemetry.
        let callsite = callsite::of(attributes.metadata());
        let sampled = if self.uses_opentelemetry_ids() { None } else { priority(callsite, attributes) };
        let baggage = baggage.filter(|own| self.matters(own));
        if self.is_duplicate || (remote.is_none() && baggage.is_none() && sampled.is_none()) {
            return;
        }
        let Some(span) = ctx.span(id) else { return };
        let is_root = span.parent().is_none();
        let (remote, baggage) = (remote.filter(|_| is_root), baggage.filter(|_| is_root));
        if remote.is_none() && baggage.is_none() && sampled.is_none() {
            return;
        }
        self.identities.of_untracked(&self.spans, &span, remote, |_| None);
        self.update_untracked(&span, |untracked| {
            if remote.is_some() {
                untracked.trace_state = self.note_trace_state(trace_state);
            }
            if let Some(baggage) = baggage {
                self.note_baggage(&baggage);
                untracked.baggage = Some(baggage);
            }
            untracked.identity.ids.sampled = sampled.unwrap_or(untracked.identity.ids.sampled);
        });
    }
}

/// Whether the span is sent by its field `sampling.priority`, if it has one.
#[inline]
fn priority(callsite: &Callsite, attributes: &Attributes<'_>) -> Option<bool> {
    if callsite.has_priority { sampler::priority(attributes) } else { None }
}

pub(super) fn new_span(callsite: &Callsite, identity: &Identity, fields: &CStr) {
    probes::new_span(&probes::NewSpan {
        span: identity.ids,
        name: &callsite.name,
        target: &callsite.target,
        level: callsite.level(),
        parent_id: identity.parent_id.map_or(0, SpanId::get),
        fields,
    });
}
