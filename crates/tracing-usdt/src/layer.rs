//! `tracing`'s callbacks: from what happens to a span, to its state, its probes and its datagram.
//!
//! Every callback begins with the question whether anyone listens: a socket, a consumer of one of
//! its probes, or a span that is being followed already. Without one it ends there.
//!
//! Three rules, each learned from another layer's bug reports: no lock is held while a user's `Debug`
//! or anything else outside of this crate runs; a span or a state that is
//! not there is passed over, never expected; and user code may make spans wherever it runs.

use std::any::TypeId;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing_core::span::{Attributes, Id, Record as Values};
use tracing_core::{Dispatch, Event, Interest, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::callsite::{self, Callsite};
use crate::clock::{Monotonic, wall_offset};
use crate::context::{SpanContext, SpanId, TraceId};
use crate::delivery::{Carrier, Stats};
use crate::encode::{self, Encoder};
use crate::error::{Error, Reporter};
use crate::fields::Owner;
use crate::identity::{self, Identities, Identity, Unlisted};
use crate::limits::Limits;
use crate::link::Link;
use crate::on_demand;
use crate::otel::{self, Answer, OpenTelemetry, Origin};
use crate::probes::{self, Probe};
use crate::remote;
use crate::sampler;
use crate::span::{ClosedSpan, OpenSpan, Record, Timing};
use crate::span_ext::{Access, AttributeValue};
use crate::spans::Spans;
use crate::thread;
use crate::trace_state::TraceState;

/// A [`Layer`] that fires a USDT probe for whatever happens to a span, and sends every completed
/// span to a socket. Made by [`layer`](crate::layer()) or [`builder`](crate::builder()).
///
/// One for a subscriber is enough: a second one added `with` it is reported and does nothing, since
/// two would show every span twice. (One that comes within a `Vec` or a `reload` goes unnoticed.)
pub struct UsdtLayer {
    identities: Identities,
    limits: Limits,
    encoder: Arc<Encoder>,
    carrier: Option<Arc<Carrier>>,
    reporter: Arc<Reporter>,
    spans: Spans,
    otel: OpenTelemetry,
    /// There is, or was, a `tracestate` of some span.
    has_trace_states: AtomicBool,
    /// Another one was in the subscriber before.
    second: bool,
}

/// Of a span that begins.
enum Parent {
    None,
    Known(Identity),
    /// Its trace is not sampled, and nobody wants to know of the span.
    LeftOut,
}

/// Reads the layer's account, and has it send what it has, after the layer itself has gone into a
/// subscriber.
#[derive(Clone)]
pub struct Handle {
    carrier: Option<Arc<Carrier>>,
}

impl Handle {
    /// Spans closed, sent, queued and dropped so far; all zero without a socket.
    pub fn stats(&self) -> Stats {
        self.carrier.as_ref().map(|carrier| carrier.stats()).unwrap_or_default()
    }

    /// Returns when the spans that were closed before have left the process, or were dropped and
    /// counted. The calling thread helps with it.
    ///
    /// The end of the program does this by itself, for up to a second; so this is for tests, and for
    /// what ends without `exit`: to be called before `exec`, and where a process may be frozen or killed.
    ///
    /// # Errors
    ///
    /// [`Error::Flush`] if some are still queued after `timeout`. They stay queued.
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        self.carrier.as_ref().map_or(Ok(()), |carrier| carrier.flush(timeout))
    }
}

impl UsdtLayer {
    pub(crate) fn new(
        identities: Identities,
        limits: Limits,
        encoder: Arc<Encoder>,
        carrier: Option<Arc<Carrier>>,
        reporter: Arc<Reporter>,
        spans: Spans,
    ) -> Self {
        if carrier.is_some() {
            on_demand::sending(true);
        }
        let of_parent = identities.remote_parent.as_ref().map(|parent| &parent.trace_state);
        let has_trace_states = AtomicBool::new(of_parent.is_some_and(|state| !state.is_empty()));
        let otel = OpenTelemetry::default();
        Self { identities, limits, encoder, carrier, reporter, spans, otel, has_trace_states, second: false }
    }

    /// For reading [`Stats`] later on.
    pub fn handle(&self) -> Handle {
        Handle { carrier: self.carrier.clone() }
    }

    /// What it was built with; the format if there is a socket.
    #[cfg(test)]
    pub(crate) fn settings(&self) -> (Identities, Limits, Option<encode::Format>) {
        (self.identities.clone(), self.limits, self.carrier.is_some().then_some(self.encoder.format()))
    }

    fn stop_sending(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            on_demand::sending(false);
            // A subscriber outlives its spans, so there are some only if `reload` takes the layer out.
            carrier.abandon(self.spans.unfinished().take().len() as u64);
            carrier.close();
        }
    }

    /// Whether a callback about a span that began earlier has anything to do. All that an idle layer
    /// does is to ask this.
    #[inline]
    fn listens(&self, probe: Probe) -> bool {
        self.listens_to(probe, || true)
    }

    /// The same of a span that may be left out: whether it is not, `minds` tells.
    #[inline]
    fn listens_to(&self, probe: Probe, minds: impl Fn() -> bool) -> bool {
        let follows = || (self.is_sending() || !self.spans.is_empty()) && minds();
        (probes::attached(probe) || follows()) && !self.second
    }

    #[inline]
    fn is_sending(&self) -> bool {
        self.carrier.is_some()
    }

    /// Whether to keep count of the open spans, as only `listens` asks for.
    #[inline]
    fn counts(&self) -> bool {
        !self.is_sending()
    }

    fn identity<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Identity {
        if otel::IS_ON && self.spans.identity(&span.id()).is_none() {
            self.settle_unknown(span);
        }
        self.identities.of(&self.spans, span, self.counts())
    }

    /// A span that began unheard was entered, if at all, before anyone listened: OpenTelemetry can tell.
    #[cold]
    fn settle_unknown<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let is_unknown = |span: &SpanRef<'a, R>| self.spans.identity(&span.id()).is_none();
        let unknown: Vec<_> = span.scope().take_while(is_unknown).collect();
        // One that OpenTelemetry has not is below those above it, so they come first.
        for span in unknown.iter().rev() {
            self.identities.of(&self.spans, span, self.counts());
            self.settle(span);
        }
    }

    /// Gives a span the identity that it has in OpenTelemetry, unless that has been done. Not under a lock:
    /// the user's sampler may run.
    #[inline]
    fn settle<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        if self.is_undecided(&span.id()) {
            self.ask_opentelemetry(span);
        }
    }

    #[inline]
    fn is_undecided(&self, id: &Id) -> bool {
        otel::IS_ON && self.spans.with(id, |open| open.origin) == Some(Origin::Undecided)
    }

    #[inline(never)]
    fn ask_opentelemetry<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let id = span.id();
        match self.otel.ask(&id) {
            Answer::Later => return,
            Answer::Known(told) => {
                let trace_id = told.ids.trace_id;
                let (parent_id, remote) = match told.parent {
                    Some(parent) => (parent.id, parent.remote),
                    None => (self.nearest_in_opentelemetry(span, trace_id), false),
                };
                self.spans.with(&id, |open| {
                    open.identity = Identity { context: told.ids, parent_id, remote };
                    open.origin = Origin::OpenTelemetry;
                    self.set_trace_state(&mut open.record, told.trace_state);
                });
            }
            Answer::Unknown => {
                let parent = span.parent().and_then(|parent| self.spans.identity(&parent.id()));
                self.spans.with(&id, |open| {
                    open.origin = Origin::Own;
                    let parent = parent.filter(|_| !open.identity.remote);
                    let renamed = |parent: &Identity| open.identity.parent_id != Some(parent.context.span_id);
                    if let Some(parent) = parent.filter(renamed) {
                        open.identity = Identities::below(&parent, &open.identity);
                    }
                });
            }
        }
        self.tell_new_span(span);
    }

    /// The span above that OpenTelemetry made its parent, as far as that can be told from the trace.
    fn nearest_in_opentelemetry<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
        trace_id: TraceId,
    ) -> Option<SpanId> {
        let known = |above: SpanRef<'a, R>| {
            let of = self.spans.with(&above.id(), |open| (open.origin, open.identity.context));
            of.and_then(|(origin, ids)| (origin == Origin::OpenTelemetry).then_some(ids))
        };
        let parent = span.scope().skip(1).find_map(known)?;
        (parent.trace_id == trace_id).then_some(parent.span_id)
    }

    /// Fires `new_span`, if that waited for the span's ids.
    fn tell_new_span<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let callsite = callsite::of(span.metadata());
        let untold = self.spans.with(&span.id(), |open| {
            let untold = std::mem::take(&mut open.untold);
            untold.then(|| (open.identity, encode::fields_object(open.record.fields.view(callsite), &[])))
        });
        if let Some((identity, fields)) = untold.flatten() {
            new_span(callsite, &identity, &fields);
        }
    }

    /// The last chance to settle a span.
    fn settle_at_end<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let id = span.id();
        match self.spans.with(&id, |open| open.origin) {
            Some(Origin::Undecided) => {
                self.ask_opentelemetry(span);
                let is_own = self.spans.with(&id, |open| open.origin) == Some(Origin::Own);
                if is_own && self.otel.closes_first() == Some(true) {
                    self.reporter.report(Error::LayerOrder);
                }
            }
            // What it told a moment ago it can tell again, unless it has closed the span by now.
            Some(Origin::OpenTelemetry) if self.otel.closes_first().is_none() => {
                self.otel.set_closes_first(matches!(self.otel.ask(&id), Answer::Unknown));
            }
            _ => {}
        }
        self.tell_new_span(span);
    }

    /// What there is to know of the parent of a span that begins.
    #[inline]
    fn parent<S>(&self, attributes: &Attributes<'_>, parent_id: &Id, id: &Id, ctx: &Context<'_, S>) -> Parent
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Most have begun here, so that no filter of ours has left them out; to ask the registry as well takes
        // 300 instructions. OpenTelemetry decides later, so that beside it all are kept.
        let begun = |open: &mut OpenSpan| (open.begun && !otel::IS_ON).then_some(open.identity);
        if let Some(known) = self.spans.with(parent_id, begun).flatten() {
            let left_out = !known.context.sampled && self.leaves_out_below(attributes.metadata());
            return if left_out { Parent::LeftOut } else { Parent::Known(known) };
        }
        let Some(parent) = ctx.span(id).and_then(|span| span.parent()) else { return Parent::None };
        if !otel::IS_ON && self.is_left_out(&parent) && self.leaves_out_below(attributes.metadata()) {
            return Parent::LeftOut;
        }
        // The current span was asked for when it was entered, or is just being started.
        if otel::IS_ON && attributes.parent().is_some() && ctx.current_span().id() != Some(&parent.id()) {
            self.settle(&parent);
        }
        Parent::Known(self.identity(&parent))
    }

    #[inline(never)]
    fn begin<S>(&self, attributes: &Attributes<'_>, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let current;
        let parent_id = if attributes.is_contextual() {
            current = ctx.current_span();
            current.id()
        } else {
            attributes.parent()
        };
        let parent = match parent_id.map(|parent_id| self.parent(attributes, parent_id, id, ctx)) {
            Some(Parent::LeftOut) => return,
            Some(Parent::Known(parent)) => Some(parent),
            Some(Parent::None) | None => None,
        };
        let identity = self.identities.draw(attributes.metadata(), parent.as_ref(), remote::ids());
        let mut span = thread::open_span(identity);
        if parent.is_none() && remote::ids().is_some() {
            self.set_trace_state(&mut span.record, remote::trace_state());
        }
        let callsite = callsite::of(attributes.metadata());
        if let Some(sampled) = priority(callsite, attributes) {
            span.identity.context.sampled = sampled;
        }
        span.begun = true;
        // Of a trace that is not sent nobody wants to know more than who the span is, unless he attaches.
        if !span.identity.context.sampled && !otel::IS_ON && !probes::any_attached() {
            self.spans.begin(id, span, self.counts());
            return;
        }
        let (now, probed) = (Monotonic::now(), probes::attached(Probe::NewSpan));
        // Where OpenTelemetry decides, it does so later.
        let sent = self.is_sending() && (span.identity.context.sampled || otel::IS_ON);
        let recorded = sent || probes::attached(Probe::SpanEmit);
        if probed || recorded {
            let record = |visitor: &mut dyn tracing_core::field::Visit| attributes.record(visitor);
            span.record.fields.visit(callsite, Owner::Span, &self.limits, record);
        }
        span.untold = probed && otel::IS_ON && self.otel.is_within_reach();
        let tells = probed && !span.untold;
        let fields = tells.then(|| encode::fields_object(span.record.fields.view(callsite), &[]));
        span.timing = Some(Timing::start(now));
        span.callsite = recorded.then_some(callsite);
        let identity = self.spans.begin(id, span, self.counts());
        if self.has_trace_states.load(Ordering::Relaxed) {
            self.inherit_trace_state(id, ctx);
        }
        if let Some(fields) = fields {
            new_span(callsite, &identity, &fields);
        }
    }

    /// Whether a span is one of a trace that is not sampled, or below one.
    #[cold]
    fn is_left_out<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> bool {
        let known = span.scope().find_map(|above| {
            let unlisted = || above.extensions().get::<Unlisted>().map(|unlisted| unlisted.identity);
            self.spans.identity(&above.id()).or_else(unlisted)
        });
        known.is_some_and(|above| !above.context.sampled)
    }

    /// Of a trace that is not sampled, only its first span is kept. Whoever asks for the context of one below
    /// that is given it then, as while nobody looks.
    #[inline]
    fn leaves_out_below(&self, metadata: &'static Metadata<'static>) -> bool {
        let leaves_out = !probes::any_attached() && !callsite::of(metadata).has_priority;
        if let Some(carrier) = self.carrier.as_ref().filter(|_| leaves_out) {
            carrier.leave_out();
        }
        leaves_out
    }

    /// Nobody listens, but a span must know later that it continues one of another process, or that its field says
    /// whether it is sent.
    #[cold]
    fn begin_unheard<S>(&self, attributes: &Attributes<'_>, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Of most spans there is nothing to be known; to ask the registry would take them 300 instructions.
        let remote = remote::ids();
        // To ask OpenTelemetry who the parent is would be too early.
        let of = callsite::of(attributes.metadata());
        let sampled = if otel::IS_ON { None } else { priority(of, attributes) };
        if self.second || (remote.is_none() && sampled.is_none()) {
            return;
        }
        let Some(span) = ctx.span(id) else { return };
        let remote = remote.filter(|_| span.parent().is_none());
        if remote.is_none() && sampled.is_none() {
            return;
        }
        self.identities.of_unlisted(&self.spans, &span, remote, |_| None);
        self.set_unlisted(&span, |unlisted| {
            if remote.is_some() {
                unlisted.trace_state = self.noted(remote::trace_state());
            }
            unlisted.identity.context.sampled = sampled.unwrap_or(unlisted.identity.context.sampled);
        });
    }

    fn set_unlisted<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>, set: impl FnOnce(&mut Unlisted)) {
        if let Some(unlisted) = span.extensions_mut().get_mut::<Unlisted>() {
            set(unlisted);
        }
    }

    fn set_trace_state(&self, record: &mut Record, trace_state: TraceState) {
        record.set_trace_state(self.noted(trace_state));
    }

    fn noted(&self, trace_state: TraceState) -> TraceState {
        if !trace_state.is_empty() {
            self.has_trace_states.store(true, Ordering::Relaxed);
        }
        trace_state
    }

    /// What came with the remote parent of the span, or of the nearest one above it that has one.
    #[inline]
    fn inherited_trace_state<S>(&self, id: &Id, ctx: &Context<'_, S>) -> TraceState
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Zipkin has no place for it.
        if !self.has_trace_states.load(Ordering::Relaxed) || self.encoder.format() != encode::Format::Otlp {
            return TraceState::default();
        }
        ctx.span(id).map(|span| self.trace_state(&span)).unwrap_or_default()
    }

    /// Gives it to the span itself: at the end of the program, the registry can't be asked any more.
    #[cold]
    fn inherit_trace_state<S>(&self, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let trace_state = self.inherited_trace_state(id, ctx);
        if !trace_state.is_empty() {
            self.spans.with(id, |open| open.record.set_trace_state(trace_state));
        }
    }

    #[cold]
    fn trace_state<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> TraceState {
        for span in span.scope() {
            let of = |span: &mut OpenSpan| (span.identity, span.record.trace_state());
            let listed = self.spans.with(&span.id(), of);
            let unlisted =
                span.extensions().get::<Unlisted>().map(|of| (of.identity, of.trace_state.clone()));
            let Some((identity, _)) = listed.as_ref().or(unlisted.as_ref()).cloned() else { continue };
            let mut states = listed.into_iter().chain(unlisted).map(|(_, state)| state);
            if let Some(state) = states.find(|state| !state.is_empty()) {
                return state;
            }
            if identity.remote {
                let ours = self.identities.remote_parent.as_deref();
                let ours = ours.filter(|parent| identity.parent_id == Some(parent.ids.span_id));
                return ours.map(|parent| parent.trace_state.clone()).unwrap_or_default();
            }
        }
        TraceState::default()
    }

    /// See [`SpanExt::context`](crate::SpanExt::context).
    pub(crate) fn context_of<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> SpanContext {
        let id = span.id();
        self.settle(span);
        let ids = match self.spans.identity(&id) {
            Some(known) => known.context,
            None => match (self.told(&id), self.nearest_begun(span)) {
                (Some((told, trace_state)), _) => return SpanContext { ids: told.context, trace_state },
                // It is kept from us by a filter, and will not be sent.
                (None, Some(above)) if above.context.sampled => above.context,
                _ => self.unlisted(span).context,
            },
        };
        let has_states = self.has_trace_states.load(Ordering::Relaxed);
        SpanContext { ids, trace_state: if has_states { self.trace_state(span) } else { TraceState::NONE } }
    }

    /// Who a span is that is not in the table: nobody listens, or a filter keeps it from us, and then also its close.
    fn unlisted<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Identity {
        self.identities.of_unlisted(&self.spans, span, None, |id| Some(self.told(id)?.0))
    }

    /// What OpenTelemetry says of a span that is not in the table. Not under a lock, see `settle`.
    fn told(&self, id: &Id) -> Option<(Identity, TraceState)> {
        let Answer::Known(told) = (if otel::IS_ON { self.otel.ask(id) } else { Answer::Unknown }) else {
            return None;
        };
        let (parent_id, remote) = told.parent.map_or((None, false), |parent| (parent.id, parent.remote));
        Some((Identity { context: told.ids, parent_id, remote }, told.trace_state))
    }

    /// The nearest span above that has begun while someone listened: then so has this one, unless a filter keeps
    /// it from us or its trace is not sampled.
    fn nearest_begun<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Option<Identity> {
        let begun = |above: SpanRef<'a, R>| {
            self.spans.with(&above.id(), |open| open.begun.then_some(open.identity)).flatten()
        };
        span.scope().skip(1).find_map(begun)
    }

    /// See [`SpanExt::set_parent`](crate::SpanExt::set_parent).
    pub(crate) fn set_parent<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>, parent: SpanContext) {
        let metadata = span.metadata();
        self.settle(span);
        if let Some(known) = self.spans.identity(&span.id()) {
            let identity = self.identities.continuing(parent.ids, metadata, &known);
            self.spans
                .change(&span.id(), |open| self.continue_from(open, identity, metadata, parent.trace_state));
            return;
        }
        // Its exporter tells its own parent.
        if self.told(&span.id()).is_some() {
            return;
        }
        let left_out = self.nearest_begun(span).is_some_and(|above| !above.context.sampled);
        let own = self.unlisted(span);
        let mut identity = self.identities.continuing(parent.ids, metadata, &own);
        // It was counted as one that is not sent.
        identity.context.sampled &= !left_out;
        let trace_state = self.noted(parent.trace_state);
        self.set_unlisted(span, |unlisted| *unlisted = Unlisted { identity, trace_state });
    }

    fn continue_from(
        &self,
        open: &mut OpenSpan,
        identity: Identity,
        metadata: &'static Metadata<'static>,
        trace_state: TraceState,
    ) {
        // Its exporter tells its own ids and parent.
        if open.origin == Origin::OpenTelemetry {
            return;
        }
        open.identity = identity;
        self.set_trace_state(&mut open.record, trace_state);
        // It is to be sent after all.
        if open.begun && open.callsite.is_none() && identity.context.sampled && self.is_sending() {
            let now = Monotonic::now();
            let callsite = callsite::of(metadata);
            open.callsite = Some(callsite);
            open.timing.get_or_insert_with(|| Timing::start(now));
            open.record.leave_out_unknown_fields(callsite);
        }
    }

    /// See [`SpanExt::add_link`](crate::SpanExt::add_link).
    pub(crate) fn add_link(&self, id: &Id, to: &SpanContext) {
        self.spans.with(id, |span| {
            if span.callsite.is_some() {
                let trace_state = to.trace_state.as_str();
                span.record.add_link(&Link { ids: to.ids, is_local: false, trace_state });
            }
        });
    }

    /// See [`SpanExt::set_attribute`](crate::SpanExt::set_attribute).
    pub(crate) fn set_attribute(&self, id: &Id, name: &str, value: &AttributeValue<'_>) {
        self.spans.with(id, |span| {
            if let Some(callsite) = span.callsite {
                span.record.set(callsite, name, value, &self.limits);
            }
        });
    }

    /// An enter or an exit: `fire` is its probe, `count` what it does to the times.
    #[inline]
    fn step<S>(
        &self,
        id: &Id,
        ctx: &Context<'_, S>,
        (probe, fire): (Probe, fn(&probes::Step<'_>)),
        count: impl FnOnce(&mut Timing, Monotonic),
    ) where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        self.spans.with(id, |span| {
            if let Some(timing) = &mut span.timing {
                count(timing, Monotonic::now());
            }
        });
        if probes::attached(probe) {
            if let Some(span) = ctx.span(id) {
                let name = &callsite::of(span.metadata()).name;
                fire(&probes::Step { span: self.identity(&span).context, name });
            }
        }
    }

    #[inline(never)]
    fn enter<S>(&self, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if self.is_undecided(id) {
            if let Some(span) = ctx.span(id) {
                self.ask_opentelemetry(&span);
            }
        }
        self.step(id, ctx, (Probe::Enter, probes::enter), Timing::enter);
    }

    #[inline(never)]
    fn exit<S>(&self, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        self.step(id, ctx, (Probe::Exit, probes::exit), Timing::exit);
    }

    #[inline(never)]
    fn end<S>(&self, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let probed = probes::attached(Probe::Close);
        if otel::IS_ON {
            if let Some(span) = ctx.span(id) {
                self.settle_at_end(&span);
            }
        }
        let trace_state = self.inherited_trace_state(id, ctx);
        let known = self.spans.remove(id, self.counts());
        let identity = match &known {
            Some(span) => span.identity,
            None if !probed => return,
            // Met for the first time: it has an identity and nothing else.
            None => {
                let Some(span) = ctx.span(id) else { return };
                let identity = self.identity(&span);
                self.spans.remove(id, self.counts());
                identity
            }
        };
        let timing = known.as_ref().and_then(|span| span.timing.as_ref());
        let elapsed = timing.map(|timing| timing.finish(Monotonic::now));
        if probed {
            if let Some(span) = ctx.span(id) {
                probes::close(&probes::Close {
                    span: identity.context,
                    name: &callsite::of(span.metadata()).name,
                    duration_ns: elapsed.map_or(0, |elapsed| elapsed.duration_ns),
                    busy_ns: elapsed.map_or(0, |elapsed| elapsed.busy_ns),
                    parent_id: identity.parent_id.map_or(0, SpanId::get),
                });
            }
        }
        let Some(mut span) = known else { return };
        if span.callsite.is_none() && span.timing.is_some() && probes::attached(Probe::SpanEmit) {
            self.describe_late(id, ctx, &mut span);
        }
        match (&span.timing, elapsed, span.callsite) {
            (Some(timing), Some(elapsed), Some(callsite)) => {
                let (start_ns, mut record) = (timing.start_wall_ns(), span.record.view());
                record.trace_state = trace_state.as_str();
                self.deliver(&ClosedSpan { identity, callsite, start_ns, elapsed, record: &record });
            }
            _ if span.begun && !identity.context.sampled => {
                if let Some(carrier) = &self.carrier {
                    carrier.leave_out();
                }
            }
            _ => {}
        }
        thread::give_back(span);
    }

    /// A span began while somebody listened, but not to what is emitted of it: fields are missing, and that is said.
    #[cold]
    fn describe_late<S>(&self, id: &Id, ctx: &Context<'_, S>, span: &mut OpenSpan)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if let Some(callsite) = ctx.span(id).map(|span| callsite::of(span.metadata())) {
            span.callsite = Some(callsite);
            span.record.leave_out_unknown_fields(callsite);
        }
    }

    #[inline]
    fn deliver(&self, span: &ClosedSpan<'_>) {
        let context = span.identity.context;
        if probes::attached(Probe::SpanEmit) {
            thread::with_text(|json| {
                self.encoder.open(json);
                self.encoder.span(json, span);
                self.encoder.close(json, None);
                json.push(0);
                if let Ok(json) = std::ffi::CStr::from_bytes_with_nul(json) {
                    probes::span_emit(&probes::SpanEmit { span_id: context.span_id.get(), json });
                }
            });
        }
        match &self.carrier {
            Some(carrier) if context.sampled => carrier.send(span),
            Some(carrier) => carrier.leave_out(),
            None => {}
        }
    }
}

/// Whether the span says itself that it is sent.
#[inline]
fn priority(callsite: &Callsite, attributes: &Attributes<'_>) -> Option<bool> {
    if callsite.has_priority { sampler::priority(attributes) } else { None }
}

fn new_span(callsite: &Callsite, identity: &Identity, fields: &CStr) {
    probes::new_span(&probes::NewSpan {
        span: identity.context,
        name: &callsite.name,
        target: &callsite.target,
        level: callsite.level(),
        parent_id: identity.parent_id.map_or(0, SpanId::get),
        fields,
    });
}

impl<S> Layer<S> for UsdtLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_layer(&mut self, subscriber: &mut S) {
        let subscriber: &dyn Subscriber = subscriber;
        if subscriber.is::<Self>() {
            self.second = true;
            self.stop_sending();
            self.reporter.report(Error::SecondLayer);
        }
    }

    // SAFETY: both pointers are to values of the type that was asked for, which live as long as the layer.
    #[allow(unsafe_code)]
    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        match id {
            _ if self.second => None,
            id if id == TypeId::of::<Self>() => Some(std::ptr::from_ref(self).cast()),
            id if id == TypeId::of::<Access>() => Some(std::ptr::from_ref(Access::of::<S>()).cast()),
            _ => None,
        }
    }

    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        on_demand::serve(subscriber);
        self.otel.register(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if !otel::IS_ON && metadata.is_span() && metadata.fields().field(sampler::PRIORITY).is_some() {
            identity::is_told_at_once();
        }
        Interest::always()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        if (self.is_sending() || probes::any_attached()) && !self.second {
            self.begin(attributes, id, &ctx);
        } else if identity::may_be_told_at_once() {
            self.begin_unheard(attributes, id, &ctx);
        }
    }

    fn on_record(&self, id: &Id, values: &Values<'_>, ctx: Context<'_, S>) {
        if !self.listens(Probe::Record) {
            return;
        }
        let recorded = self.spans.with(id, |span| span.callsite.is_some()) == Some(true);
        if !(probes::attached(Probe::Record) || recorded) {
            return;
        }
        let Some(span) = ctx.span(id) else { return };
        let callsite = callsite::of(span.metadata());
        thread::with_fields(|fields| {
            fields.visit(callsite, Owner::Span, &self.limits, |visitor| values.record(visitor));
            if probes::attached(Probe::Record) {
                probes::record(&probes::Record {
                    span: self.identity(&span).context,
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
        if !self.listens(Probe::FollowsFrom) {
            return;
        }
        // A span that is closed by now has left no identity to name.
        let (Some(span), Some(follows)) = (ctx.span(id), ctx.span(follows_id)) else {
            return;
        };
        let recorded = self.spans.with(id, |span| span.callsite.is_some()) == Some(true);
        let probed = probes::attached(Probe::FollowsFrom);
        if !(probed || recorded) {
            return;
        }
        self.settle(&follows);
        let follows = self.identity(&follows).context;
        if probed {
            probes::follows_from(&probes::FollowsFrom {
                span: self.identity(&span).context,
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
        if !self.listens(Probe::Event) {
            return;
        }
        let now = Monotonic::now();
        let span = ctx.event_span(event);
        let recorded =
            span.as_ref().and_then(|span| self.spans.with(&span.id(), |span| span.callsite)).flatten();
        let probed = probes::attached(Probe::Event);
        if !probed && recorded.is_none() {
            return;
        }
        let callsite = callsite::of(event.metadata());
        thread::with_fields(|fields| {
            fields.visit(callsite, Owner::Event, &self.limits, |visitor| event.record(visitor));
            if probed {
                let view = fields.view(callsite);
                let text = |name| view.get(name).map(|value| callsite::c_string(&encode::value_text(value)));
                let of_record = if callsite.is_log_bridge { text("target") } else { None };
                let arguments: &[&str] =
                    if of_record.is_some() { &["message", "target"] } else { &["message"] };
                probes::event(&probes::Event {
                    span_id: span.as_ref().map_or(0, |span| self.identity(span).context.span_id.get()),
                    message: &text("message").unwrap_or_default(),
                    target: of_record.as_ref().unwrap_or(&callsite.target),
                    level: callsite.level(),
                    fields: &encode::fields_object(view, arguments),
                });
            }
            if let (Some(span), Some(of_span)) = (span, recorded) {
                let at_ns = wall_offset(now).nanos(now);
                self.spans.with(&span.id(), |span| {
                    span.record.add_event(of_span, at_ns, callsite, fields, &self.limits);
                });
            }
        });
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        if self.listens_to(Probe::Enter, || self.spans.watches(id)) {
            self.enter(id, &ctx);
        }
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        if self.listens_to(Probe::Exit, || self.spans.watches(id)) {
            self.exit(id, &ctx);
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        if self.listens_to(Probe::Close, || self.spans.may_have(&id)) {
            self.end(&id, &ctx);
        }
    }
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

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("stats", &self.stats()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span_ext::SpanExt;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::prelude::*;

    /// We don't hear of the close of those that a filter hides.
    #[test]
    fn a_span_that_was_asked_for_its_context_is_not_kept() {
        let layer = crate::builder().no_socket().build().with_filter(LevelFilter::INFO);
        let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(fmt).with(layer));
        tracing::dispatcher::with_default(&dispatch, || {
            let hidden = tracing::debug_span!("hidden");
            assert!(hidden.context().is_some() && hidden.context() == hidden.context());
            let shown = tracing::info_span!("shown");
            assert!(shown.context().is_some() && shown.context() == shown.context());
            hidden.set_parent(SpanContext::new(TraceId::random(), SpanId::random(), true));
        });
        let layer = dispatch.downcast_ref::<UsdtLayer>().expect("the one that was put in");
        assert!(layer.spans.is_empty());
    }
}
