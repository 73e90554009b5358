//! `tracing`'s callbacks: from what happens to a span, to its state, its probes and its datagram.
//!
//! Every callback begins with the question whether anyone listens: a socket, a consumer of one of
//! its probes, or a span that is being followed already. Without one it ends there.
//!
//! Three rules, each learned from another layer's bug reports: the extensions' lock is never held
//! while a user's `Debug` or anything else outside of this crate runs; a span or a state that is
//! not there is passed over, never expected; and user code may make spans wherever it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing_core::span::{Attributes, Id, Record as Values};
use tracing_core::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::callsite;
use crate::clock::{Monotonic, WallOffset, wall_offset};
use crate::context::{SpanContext, SpanId, TraceId};
use crate::delivery::{Inline, Stats};
use crate::encode;
use crate::fields::{Fields, Value};
use crate::probes;
use crate::resource::Resource;
use crate::sampler::Sampler;
use crate::span::{Record, SpanState, Timing};
use crate::thread;

/// A [`Layer`] that fires a USDT probe for whatever happens to a span, and sends every completed
/// span as a JSON datagram. Made by [`layer`](crate::layer()) or [`builder`](crate::builder()).
///
/// A span belongs to the first such layer that sees it: a second one in the same subscriber neither
/// doubles its probes nor sends it again.
pub struct UsdtLayer {
    id: u64,
    sampler: Sampler,
    remote_parent: Option<SpanContext>,
    resource: Arc<Resource>,
    delivery: Option<Arc<Inline>>,
    /// Some span has a state, so every callback must look. Never unset: a span may outlive every
    /// consumer and come back to the next one.
    following: AtomicBool,
}

/// Reads the layer's account after the layer itself has gone into a subscriber.
#[derive(Clone)]
pub struct Handle {
    delivery: Option<Arc<Inline>>,
}

impl Handle {
    /// Spans closed, sent and dropped so far; all zero without a socket.
    pub fn stats(&self) -> Stats {
        self.delivery.as_ref().map(|delivery| delivery.stats()).unwrap_or_default()
    }
}

/// Who a span is, which its children inherit in part.
#[derive(Clone, Copy)]
struct Identity {
    context: SpanContext,
    parent_id: Option<SpanId>,
    wall: WallOffset,
}

impl UsdtLayer {
    pub(crate) fn new(
        sampler: Sampler,
        remote_parent: Option<SpanContext>,
        resource: Arc<Resource>,
        delivery: Option<Arc<Inline>>,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            sampler,
            remote_parent,
            resource,
            delivery,
            following: AtomicBool::new(false),
        }
    }

    /// For reading [`Stats`] later on.
    pub fn handle(&self) -> Handle {
        Handle { delivery: self.delivery.clone() }
    }

    /// Sampler, remote parent, and whether there is a socket.
    #[cfg(test)]
    pub(crate) fn settings(&self) -> (Sampler, Option<SpanContext>, bool) {
        (self.sampler.clone(), self.remote_parent, self.delivery.is_some())
    }

    fn follows_any(&self) -> bool {
        self.following.load(Ordering::Relaxed)
    }

    /// Draws an identity below `parent`, or a new trace.
    fn draw(&self, parent: Option<&Identity>) -> Identity {
        let span_id = SpanId::random();
        if let Some(parent) = parent {
            return Identity {
                context: SpanContext { span_id, ..parent.context },
                parent_id: Some(parent.context.span_id),
                wall: parent.wall,
            };
        }
        let remote = self.remote_parent;
        let trace_id = remote.map_or_else(TraceId::random, |remote| remote.trace_id);
        let sampled = self.sampler.sample(trace_id, remote.map(|remote| remote.sampled));
        Identity {
            context: SpanContext { trace_id, span_id, sampled },
            parent_id: remote.map(|remote| remote.span_id),
            wall: wall_offset(Monotonic::now()),
        }
    }

    /// The identity of `span`. One that began unheard gets it here, and so do all above it, from
    /// the root down, because the trace id is the root's. A loop: spans may nest deeper than the
    /// stack is.
    fn identify<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Identity {
        let mut unknown = Vec::new();
        let mut known = None;
        for ancestor in span.scope() {
            if let Some(identity) = known_identity(&ancestor) {
                known = Some(identity);
                break;
            }
            unknown.push(ancestor);
        }
        for ancestor in unknown.into_iter().rev() {
            let drawn = self.draw(known.as_ref());
            let mut extensions = ancestor.extensions_mut();
            // Another thread may have been here in the meantime; its answer stands.
            if let Some(state) = extensions.get_mut::<SpanState>() {
                known = Some(state.identity());
                continue;
            }
            extensions.insert(self.state(drawn, None, None));
            known = Some(drawn);
        }
        // The scope of a span begins with the span, so the loop above has run unless it was known.
        known.unwrap_or_else(|| self.draw(None))
    }

    fn state(&self, identity: Identity, timing: Option<Timing>, record: Option<Box<Record>>) -> SpanState {
        self.following.store(true, Ordering::Relaxed);
        SpanState {
            layer: self.id,
            context: identity.context,
            parent_id: identity.parent_id,
            wall: identity.wall,
            timing,
            record,
        }
    }

    /// Runs `f` on the state of a span that is this layer's.
    fn with_state<'a, R: LookupSpan<'a>, T>(
        &self,
        span: &SpanRef<'a, R>,
        f: impl FnOnce(&mut SpanState) -> T,
    ) -> Option<T> {
        let mut extensions = span.extensions_mut();
        extensions.get_mut::<SpanState>().filter(|state| state.layer == self.id).map(f)
    }

    /// Whether another layer of this kind answers for `span`.
    fn is_foreign<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> bool {
        span.extensions().get::<SpanState>().is_some_and(|state| state.layer != self.id)
    }

    fn begin<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>, attributes: &Attributes<'_>) {
        let now = Monotonic::now();
        if self.is_foreign(span) {
            return;
        }
        let parent = span.parent().map(|parent| self.identify(&parent));
        let identity = self.draw(parent.as_ref());

        let probed = probes::new_span(None);
        let sent = self.delivery.is_some() && identity.context.sampled;
        let recorded = sent || probes::span_emit(None);
        let fields = (probed || recorded).then(|| Fields::visit(|visitor| attributes.record(visitor)));

        if probed {
            let text = callsite::text(attributes.metadata());
            probes::new_span(Some(&probes::NewSpan {
                span: identity.context,
                name: &text.name,
                target: &text.target,
                level: callsite::level_number(attributes.metadata().level()),
                parent_id: identity.parent_id.map_or(0, SpanId::get),
                fields: &encode::fields_object(fields.as_ref().unwrap_or(&Fields::default())),
            }));
        }
        let record = fields
            .filter(|_| recorded)
            .map(|fields| Box::new(Record::new(attributes.metadata(), thread::info(), fields)));
        let state = self.state(identity, Some(Timing::start(now)), record);
        span.extensions_mut().replace(state);
    }

    /// An enter or an exit: `fire` is its probe, `count` what it does to the times.
    fn step<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
        fire: fn(Option<&probes::Step<'_>>) -> bool,
        count: fn(&mut Timing, Monotonic),
    ) {
        let now = Monotonic::now();
        if self.follows_any() {
            self.with_state(span, |state| {
                if let Some(timing) = &mut state.timing {
                    count(timing, now);
                }
            });
        }
        if fire(None) && !self.is_foreign(span) {
            fire(Some(&probes::Step {
                span: self.identify(span).context,
                name: &callsite::text(span.metadata()).name,
            }));
        }
    }

    fn end<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let now = Monotonic::now();
        if self.is_foreign(span) {
            return;
        }
        let state = span.extensions_mut().remove::<SpanState>();
        let probed = probes::close(None);
        let state = match state {
            Some(state) => state,
            None if probed => {
                // Met for the first time: it has an identity and nothing else.
                let parent = span.parent().map(|parent| self.identify(&parent));
                self.state(self.draw(parent.as_ref()), None, None)
            }
            None => return,
        };
        let started = state.timing.as_ref().map(Timing::started);
        let elapsed = state.timing.map(|timing| timing.finish(now));
        if probed {
            probes::close(Some(&probes::Close {
                span: state.context,
                name: &callsite::text(span.metadata()).name,
                duration_ns: elapsed.map_or(0, |elapsed| elapsed.duration_ns),
                busy_ns: elapsed.map_or(0, |elapsed| elapsed.busy_ns),
            }));
        }

        let sampled = state.context.sampled;
        if let Some(delivery) = self.delivery.as_ref().filter(|_| !sampled && started.is_some()) {
            delivery.leave_out();
        }
        let delivery = self.delivery.as_ref().filter(|_| sampled);
        let emitted = probes::span_emit(None);
        let (Some(start), Some(elapsed), Some(record)) = (started, elapsed, &state.record) else {
            return;
        };
        if delivery.is_none() && !emitted {
            return;
        }
        let json = encode::zipkin::datagram(
            &encode::zipkin::Span {
                context: state.context,
                parent_id: state.parent_id,
                start,
                wall: state.wall,
                elapsed,
                record,
            },
            &self.resource,
        );
        let json = encode::nul_terminated(json);
        if emitted {
            let span_id = state.context.span_id.get();
            probes::span_emit(Some(&probes::SpanEmit { span_id, json: &json }));
        }
        if let Some(delivery) = delivery {
            delivery.send(json.as_bytes());
        }
    }

    /// Whether `span` is this layer's and its text is being collected.
    fn is_recorded<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> bool {
        self.follows_any() && self.with_state(span, |state| state.record.is_some()) == Some(true)
    }

    fn with_record<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>, f: impl FnOnce(&mut Record)) {
        self.with_state(span, |state| state.record.as_deref_mut().map(f));
    }
}

fn known_identity<'a, R: LookupSpan<'a>>(span: &SpanRef<'a, R>) -> Option<Identity> {
    span.extensions().get::<SpanState>().map(SpanState::identity)
}

impl SpanState {
    fn identity(&self) -> Identity {
        Identity { context: self.context, parent_id: self.parent_id, wall: self.wall }
    }
}

impl<S> Layer<S> for UsdtLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        if self.delivery.is_some() || probes::any_attached() {
            if let Some(span) = ctx.span(id) {
                self.begin(&span, attributes);
            }
        }
    }

    fn on_record(&self, id: &Id, values: &Values<'_>, ctx: Context<'_, S>) {
        let probed = probes::record(None);
        if !probed && !self.follows_any() {
            return;
        }
        let Some(span) = ctx.span(id) else { return };
        let recorded = self.is_recorded(&span);
        if self.is_foreign(&span) || !(probed || recorded) {
            return;
        }
        let fields = Fields::visit(|visitor| values.record(visitor));
        if probed {
            probes::record(Some(&probes::Record {
                span: self.identify(&span).context,
                name: &callsite::text(span.metadata()).name,
                fields: &encode::fields_object(&fields),
            }));
        }
        if recorded {
            self.with_record(&span, |record| record.add_fields(fields));
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, ctx: Context<'_, S>) {
        let probed = probes::follows_from(None);
        if !probed && !self.follows_any() {
            return;
        }
        // A span that is closed by now has left no identity to name.
        let (Some(span), Some(follows)) = (ctx.span(id), ctx.span(follows)) else {
            return;
        };
        let recorded = self.is_recorded(&span);
        if self.is_foreign(&span) || !(probed || recorded) {
            return;
        }
        let follows = self.identify(&follows).context;
        if probed {
            probes::follows_from(Some(&probes::FollowsFrom {
                span: self.identify(&span).context,
                name: &callsite::text(span.metadata()).name,
                follows: follows.span_id.get(),
            }));
        }
        if recorded {
            self.with_record(&span, |record| record.add_link(follows));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let probed = probes::event(None);
        if !probed && !self.follows_any() {
            return;
        }
        let now = Monotonic::now();
        let span = ctx.event_span(event);
        let recorded = span.as_ref().filter(|span| self.is_recorded(span));
        let foreign = span.as_ref().is_some_and(|span| self.is_foreign(span));
        if foreign || !(probed || recorded.is_some()) {
            return;
        }
        let mut fields = Fields::visit(|visitor| event.record(visitor));
        let message = fields.remove("message").map(|message| match message {
            Value::Text(text) => text,
            other => encode::value_text(&other).into_owned(),
        });
        if probed {
            let span_id = span.as_ref().map_or(0, |span| self.identify(span).context.span_id.get());
            probes::event(Some(&probes::Event {
                span_id,
                message: &callsite::c_string(message.as_deref().unwrap_or_default()),
                target: &callsite::text(event.metadata()).target,
                level: callsite::level_number(event.metadata().level()),
                fields: &encode::fields_object(&fields),
            }));
        }
        if let Some(span) = recorded {
            self.with_record(span, |record| record.add_event(now, event.metadata(), message, fields));
        }
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        if self.follows_any() || probes::enter(None) {
            if let Some(span) = ctx.span(id) {
                self.step(&span, probes::enter, Timing::enter);
            }
        }
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        if self.follows_any() || probes::exit(None) {
            if let Some(span) = ctx.span(id) {
                self.step(&span, probes::exit, Timing::exit);
            }
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        if self.follows_any() || probes::close(None) {
            if let Some(span) = ctx.span(&id) {
                self.end(&span);
            }
        }
    }
}

impl std::fmt::Debug for UsdtLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsdtLayer")
            .field("sampler", &self.sampler)
            .field("remote_parent", &self.remote_parent)
            .field("stats", &self.handle().stats())
            .finish_non_exhaustive()
    }
}
