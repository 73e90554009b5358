//! `tracing`'s callbacks: from what happens to a span, to its state, its probes and its datagram.
//!
//! Every callback begins with the question whether anyone listens: a socket, a consumer of one of
//! its probes, or a span that is being followed already. Without one it ends there.
//!
//! Three rules, each learned from another layer's bug reports: the extensions' lock is never held
//! while a user's `Debug` or anything else outside of this crate runs; a span or a state that is
//! not there is passed over, never expected; and user code may make spans wherever it runs.

use std::sync::Arc;

use tracing_core::span::{Attributes, Id, Record as Values};
use tracing_core::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::callsite;
use crate::clock::Monotonic;
use crate::context::SpanId;
use crate::delivery::{Inline, Stats};
use crate::encode::{self, Format};
use crate::error::{Error, Reporter};
use crate::fields::Fields;
use crate::identity::Identities;
use crate::probes;
use crate::resource::Resource;
use crate::span::{self, Record, SpanState, Timing};
use crate::thread;

/// A [`Layer`] that fires a USDT probe for whatever happens to a span, and sends every completed
/// span as a JSON datagram. Made by [`layer`](crate::layer()) or [`builder`](crate::builder()).
///
/// One for a subscriber is enough: a second one added `with` it is reported and does nothing, since
/// two would show every span twice. (One that comes within a `Vec` or a `reload` goes unnoticed.)
pub struct UsdtLayer {
    identities: Identities,
    format: Format,
    resource: Arc<Resource>,
    delivery: Option<Arc<Inline>>,
    reporter: Arc<Reporter>,
    /// Another one was in the subscriber before.
    second: bool,
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

impl UsdtLayer {
    pub(crate) fn new(
        identities: Identities,
        format: Format,
        resource: Arc<Resource>,
        delivery: Option<Arc<Inline>>,
        reporter: Arc<Reporter>,
    ) -> Self {
        Self { identities, format, resource, delivery, reporter, second: false }
    }

    /// For reading [`Stats`] later on.
    pub fn handle(&self) -> Handle {
        Handle { delivery: self.delivery.clone() }
    }

    /// What it was built with; the format if there is a socket.
    #[cfg(test)]
    pub(crate) fn settings(&self) -> (Identities, Option<Format>) {
        (self.identities.clone(), self.delivery.is_some().then_some(self.format))
    }

    /// Whether a callback about a span that began earlier has anything to do. `attached` is its
    /// probe, asked last because asking costs a call.
    fn listens(&self, attached: impl FnOnce() -> bool) -> bool {
        !self.second && (span::any_open() || attached())
    }

    fn begin<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>, attributes: &Attributes<'_>) {
        let now = Monotonic::now();
        // A layer below may have made an event in the span already, which gave it an identity.
        let known = span.extensions().get::<SpanState>().map(|state| state.identity);
        let identity = known.unwrap_or_else(|| self.identities.draw(span));
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
        span.extensions_mut().replace(SpanState::new(identity, Some(Timing::start(now)), record));
    }

    /// An enter or an exit: `fire` is its probe, `count` what it does to the times.
    fn step<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
        fire: fn(Option<&probes::Step<'_>>) -> bool,
        count: fn(&mut Timing, Monotonic),
    ) {
        let now = Monotonic::now();
        with_state(span, |state| {
            if let Some(timing) = &mut state.timing {
                count(timing, now);
            }
        });
        if fire(None) {
            fire(Some(&probes::Step {
                span: self.identities.of(span).context,
                name: &callsite::text(span.metadata()).name,
            }));
        }
    }

    fn end<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let now = Monotonic::now();
        let state = with_state(span, SpanState::take);
        let probed = probes::close(None);
        let (identity, timing, record) = match state {
            Some(state) => state,
            // Met for the first time: it has an identity and nothing else.
            None if probed => (self.identities.of(span), None, None),
            None => return,
        };
        let context = identity.context;
        let started = timing.as_ref().map(Timing::started);
        let elapsed = timing.map(|timing| timing.finish(now));
        if probed {
            probes::close(Some(&probes::Close {
                span: context,
                name: &callsite::text(span.metadata()).name,
                duration_ns: elapsed.map_or(0, |elapsed| elapsed.duration_ns),
                busy_ns: elapsed.map_or(0, |elapsed| elapsed.busy_ns),
            }));
        }

        let (Some(start), Some(elapsed)) = (started, elapsed) else { return };
        if let Some(delivery) = self.delivery.as_ref().filter(|_| !context.sampled) {
            delivery.leave_out();
        }
        let delivery = self.delivery.as_ref().filter(|_| context.sampled);
        let emitted = probes::span_emit(None);
        let Some(record) = record.filter(|_| emitted || delivery.is_some()) else { return };
        let closed = encode::Span { identity, start, elapsed, record: &record };
        let json = encode::nul_terminated(self.format.datagram(&closed, &self.resource));
        if emitted {
            let span_id = context.span_id.get();
            probes::span_emit(Some(&probes::SpanEmit { span_id, json: &json }));
        }
        if let Some(delivery) = delivery {
            delivery.send(json.as_bytes());
        }
    }
}

/// Runs `f` on the state of the span, if it has one. Nothing of the user's runs in it.
fn with_state<'a, R: LookupSpan<'a>, T>(
    span: &SpanRef<'a, R>,
    f: impl FnOnce(&mut SpanState) -> T,
) -> Option<T> {
    let mut extensions = span.extensions_mut();
    let state = extensions.get_mut::<SpanState>()?;
    state.notice_fork();
    Some(f(state))
}

/// Whether the span's text is being collected.
fn is_recorded<'a, R: LookupSpan<'a>>(span: &SpanRef<'a, R>) -> bool {
    with_state(span, |state| state.record.is_some()) == Some(true)
}

fn with_record<'a, R: LookupSpan<'a>>(span: &SpanRef<'a, R>, f: impl FnOnce(&mut Record)) {
    with_state(span, |state| state.record.as_deref_mut().map(f));
}

impl<S> Layer<S> for UsdtLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_layer(&mut self, subscriber: &mut S) {
        let subscriber: &dyn Subscriber = subscriber;
        if subscriber.is::<Self>() {
            self.second = true;
            self.reporter.report(Error::SecondLayer);
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        if !self.second && (self.delivery.is_some() || probes::any_attached()) {
            if let Some(span) = ctx.span(id) {
                self.begin(&span, attributes);
            }
        }
    }

    fn on_record(&self, id: &Id, values: &Values<'_>, ctx: Context<'_, S>) {
        if !self.listens(|| probes::record(None)) {
            return;
        }
        let Some(span) = ctx.span(id) else { return };
        let (probed, recorded) = (probes::record(None), is_recorded(&span));
        if !(probed || recorded) {
            return;
        }
        let fields = Fields::visit(|visitor| values.record(visitor));
        if probed {
            probes::record(Some(&probes::Record {
                span: self.identities.of(&span).context,
                name: &callsite::text(span.metadata()).name,
                fields: &encode::fields_object(&fields),
            }));
        }
        if recorded {
            with_record(&span, |record| record.add_fields(fields));
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, ctx: Context<'_, S>) {
        if !self.listens(|| probes::follows_from(None)) {
            return;
        }
        // A span that is closed by now has left no identity to name.
        let (Some(span), Some(follows)) = (ctx.span(id), ctx.span(follows)) else {
            return;
        };
        let (probed, recorded) = (probes::follows_from(None), is_recorded(&span));
        if !(probed || recorded) {
            return;
        }
        let follows = self.identities.of(&follows).context;
        if probed {
            probes::follows_from(Some(&probes::FollowsFrom {
                span: self.identities.of(&span).context,
                name: &callsite::text(span.metadata()).name,
                follows: follows.span_id.get(),
            }));
        }
        if recorded {
            with_record(&span, |record| record.add_link(follows));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        if !self.listens(|| probes::event(None)) {
            return;
        }
        let now = Monotonic::now();
        let span = ctx.event_span(event);
        let recorded = span.as_ref().filter(|span| is_recorded(span));
        let probed = probes::event(None);
        if !probed && recorded.is_none() {
            return;
        }
        let mut fields = Fields::visit(|visitor| event.record(visitor));
        let message = fields.remove("message");
        if probed {
            let span_id = span.as_ref().map_or(0, |span| self.identities.of(span).context.span_id.get());
            let text = message.as_ref().map(|message| encode::value_text(&message.value));
            probes::event(Some(&probes::Event {
                span_id,
                message: &callsite::c_string(&text.unwrap_or_default()),
                target: &callsite::text(event.metadata()).target,
                level: callsite::level_number(event.metadata().level()),
                fields: &encode::fields_object(&fields),
            }));
        }
        if let Some(span) = recorded {
            with_record(span, |record| record.add_event(now, event.metadata(), message, fields));
        }
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        if self.listens(|| probes::enter(None)) {
            if let Some(span) = ctx.span(id) {
                self.step(&span, probes::enter, Timing::enter);
            }
        }
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        if self.listens(|| probes::exit(None)) {
            if let Some(span) = ctx.span(id) {
                self.step(&span, probes::exit, Timing::exit);
            }
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        if self.listens(|| probes::close(None)) {
            if let Some(span) = ctx.span(&id) {
                self.end(&span);
            }
        }
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
