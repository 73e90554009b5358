//! The enters and exits of a span.

use tracing_core::Subscriber;
use tracing_core::span::Id;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::usdt_layer::UsdtLayer;
use crate::callsite;
use crate::clock::Monotonic;
use crate::probes::{self, Probe};
use crate::span::{OpenSpan, Timing};
use crate::thread_context::{self, Entered, ThreadContext};

impl UsdtLayer {
    /// The enter of a span, if a probe has a consumer for it, or it may decide the span's ids.
    #[inline(never)]
    pub(super) fn enter<S>(&self, id: &Id, ctx: Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let probes = [Probe::Enter, Probe::ThreadRegister];
        if !self.is_active_for(probes, || self.spans.may_need_enter_exit(id)) {
            return;
        }
        let ctx = &ctx;
        if self.is_undecided(id) {
            if let Some(span) = ctx.span(id) {
                self.adopt_opentelemetry_identity(&span);
            }
        }
        // A thread that is ending may have no context any more.
        let context = if probes::attached(Probe::ThreadRegister) { thread_context::own() } else { None };
        match context {
            Some(context) => self.enter_published(id, ctx, context),
            None => self.spans.time(id, Timing::enter),
        }
        if probes::attached(Probe::Enter) {
            self.fire(probes::enter, id, ctx);
        }
    }

    /// Enters a span, and says so in the thread's context. A span that was created while nobody listened counts its times
    /// from here on.
    #[inline(never)]
    fn enter_published<S>(&self, id: &Id, ctx: &Context<'_, S>, context: ThreadContext)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let publish = |span: &mut OpenSpan| {
            let timing = span.timing.as_mut()?;
            let now = Monotonic::now();
            timing.enter(now);
            let name = span.callsite.map(|callsite| &*callsite.name);
            let entered = Entered { ids: span.identity.ids, began: timing.began(), name };
            context.enter(id, &entered, now);
            Some(now)
        };
        let now = self.spans.with(id, publish).flatten().or_else(|| {
            self.identity(&ctx.span(id)?);
            self.spans.with(id, |span| {
                // Another thread may have entered it in the meantime.
                if span.timing.is_none() {
                    span.began_before = true;
                    span.timing = Some(Timing::start(Monotonic::now()));
                }
            });
            self.spans.with(id, publish).flatten()
        });
        if let Some(now) = now {
            context.register(now);
        }
    }

    /// The exit of a span, if a probe has a consumer for it, or the thread's context may have the span.
    #[inline(never)]
    pub(super) fn exit<S>(&self, id: &Id, ctx: Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let probes = [Probe::Exit, Probe::ThreadRegister];
        if !self.is_active_for(probes, || self.spans.may_need_enter_exit(id)) {
            return;
        }
        let ctx = &ctx;
        if thread_context::exists() {
            self.exit_published(id);
        } else {
            self.spans.time(id, Timing::exit);
        }
        if probes::attached(Probe::Exit) {
            self.fire(probes::exit, id, ctx);
        }
    }

    /// Exits a span that the thread's context may have.
    #[inline(never)]
    fn exit_published(&self, id: &Id) {
        // Before the clock is read, so that the kernel counts no more time in the span than is counted here.
        let exited = thread_context::current().and_then(|context| context.exit(id));
        let now = Monotonic::now();
        if let Some(exited) = &exited {
            exited.finish(now);
        }
        self.spans.with(id, |span| {
            let Some(timing) = &mut span.timing else { return };
            timing.exit(now);
            if let Some(exited) = exited {
                timing.add_entered(now.since(exited.since));
            }
        });
    }

    #[cold]
    fn fire<S>(&self, fire: fn(&probes::Step<'_>), id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if let Some(span) = ctx.span(id) {
            let name = &callsite::of(span.metadata()).name;
            fire(&probes::Step { span: self.identity(&span).ids, name });
        }
    }
}
