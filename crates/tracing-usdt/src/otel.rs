//! What `tracing-opentelemetry`, the layer beside ours, calls a span: its ids are taken over.
//!
//! They are drawn when it starts the span: at the first enter, at the first child, when somebody asks for
//! them, or at the close. To ask is to start, and what is started can be given no other parent any more. So
//! a span is asked for where it would be started anyway, once, and until then has ids of our own, which no
//! probe tells if it can wait.
//!
//! Whoever asks waits for the lock of that span, and the start runs the user's sampler and span processors
//! under it. Hence nobody asks on a thread that is starting one, and for the current span only its enter
//! does: until that has been here, it may be what is being started.
#![cfg_attr(not(feature = "tracing-opentelemetry"), allow(dead_code))]

use crate::context::{Ids, SpanId};
use crate::trace_state::TraceState;

pub(crate) use asked::OpenTelemetry;
#[cfg(feature = "tracing-opentelemetry")]
pub use tracer::OtelTracer;

/// A constant, so that without the feature there is nothing left of what asks for it.
pub(crate) const IS_ON: bool = cfg!(feature = "tracing-opentelemetry");

/// Where a span's identity is from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Origin {
    /// It is ours until OpenTelemetry has been asked.
    #[default]
    Undecided,
    /// It is ours: OpenTelemetry has no such span.
    Own,
    OpenTelemetry,
}

/// A span by what OpenTelemetry says.
pub(crate) struct Told {
    pub(crate) ids: Ids,
    /// `None`: it doesn't say.
    pub(crate) parent: Option<Parent>,
    pub(crate) trace_state: TraceState,
}

#[derive(Clone, Copy)]
pub(crate) struct Parent {
    /// `None`: the span is a root.
    pub(crate) id: Option<SpanId>,
    pub(crate) remote: bool,
}

pub(crate) enum Answer {
    /// It can't be asked here.
    Later,
    /// It has no such span: a filter left it out, or there is no such layer.
    Unknown,
    Known(Told),
}

#[cfg(not(feature = "tracing-opentelemetry"))]
mod asked {
    use tracing_core::Dispatch;
    use tracing_core::span::Id;

    use super::Answer;

    #[derive(Default)]
    pub(crate) struct OpenTelemetry(());

    impl OpenTelemetry {
        pub(crate) fn is_within_reach(&self) -> bool {
            false
        }

        pub(crate) fn register(&self, _: &Dispatch) {}

        pub(crate) fn ask(&self, _: &Id) -> Answer {
            Answer::Later
        }

        pub(crate) fn closes_first(&self) -> Option<bool> {
            None
        }

        pub(crate) fn set_closes_first(&self, _: bool) {}
    }
}

#[cfg(feature = "tracing-opentelemetry")]
mod asked {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use opentelemetry::trace::{SpanContext, TraceContextExt};
    use tracing_core::Dispatch;
    use tracing_core::dispatcher::WeakDispatch;
    use tracing_core::span::Id;

    use super::{Answer, Told, tracer};
    use crate::context::{Ids, SpanId, TraceId};
    use crate::trace_state::TraceState;

    /// How to ask it.
    #[derive(Default)]
    pub(crate) struct OpenTelemetry {
        dispatch: OnceLock<WeakDispatch>,
        closes_first: OnceLock<bool>,
    }

    impl OpenTelemetry {
        /// The subscriber that both layers are in.
        pub(crate) fn register(&self, dispatch: &Dispatch) {
            let _ = self.dispatch.set(dispatch.downgrade());
        }

        pub(crate) fn is_within_reach(&self) -> bool {
            self.dispatch.get().is_some()
        }

        /// May run user code. To be called without any lock.
        pub(crate) fn ask(&self, id: &Id) -> Answer {
            let Some(dispatch) = self.dispatch.get().and_then(WeakDispatch::upgrade) else {
                return Answer::Later;
            };
            if STARTING.get() {
                return Answer::Later;
            }
            let context = starting(|| tracing_opentelemetry::get_otel_context(id, &dispatch));
            let told = context.and_then(|context| {
                let span = context.span();
                let context = span.span_context();
                let ids = ids(context)?;
                let parent = tracer::parent(ids.span_id);
                Some(Told { ids, parent, trace_state: trace_state(context) })
            });
            told.map_or(Answer::Unknown, Answer::Known)
        }

        /// Whether its layer hears of a close before ours, if that is known: then nothing can be asked at
        /// the end of a span.
        pub(crate) fn closes_first(&self) -> Option<bool> {
            self.closes_first.get().copied()
        }

        pub(crate) fn set_closes_first(&self, first: bool) {
            let _ = self.closes_first.set(first);
        }
    }

    thread_local! {
        /// A span is being started here.
        static STARTING: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `f`, which starts a span.
    pub(super) fn starting<T>(f: impl FnOnce() -> T) -> T {
        struct Restore(bool);
        impl Drop for Restore {
            fn drop(&mut self) {
                STARTING.set(self.0);
            }
        }
        let _restore = Restore(STARTING.replace(true));
        f()
    }

    /// `None` where it has none, as of a tracer that is shut down.
    fn ids(of: &SpanContext) -> Option<Ids> {
        let flags = of.trace_flags();
        Some(Ids {
            trace_id: TraceId::new(u128::from_be_bytes(of.trace_id().to_bytes()))?,
            span_id: span_id(of)?,
            sampled: flags.is_sampled(),
            random: flags.to_u8() & 2 != 0,
        })
    }

    pub(super) fn span_id(of: &SpanContext) -> Option<SpanId> {
        SpanId::new(u64::from_be_bytes(of.span_id().to_bytes()))
    }

    fn trace_state(of: &SpanContext) -> TraceState {
        let header = of.trace_state().header();
        if header.is_empty() { TraceState::NONE } else { TraceState::parse([&*header]).unwrap_or_default() }
    }
}

/// Makes a span, before it has started there, a child of one in another process.
#[cfg(all(feature = "tracing-opentelemetry", feature = "tower"))]
pub(crate) fn set_parent(span: &tracing::Span, parent: &crate::SpanContext) {
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let parent = SpanContext::new(
        TraceId::from(parent.ids.trace_id.get()),
        SpanId::from(parent.ids.span_id.get()),
        TraceFlags::new(parent.ids.flags()),
        true,
        parent.trace_state.as_str().parse().unwrap_or(TraceState::NONE),
    );
    // It fails where that layer is not there, or has started the span: then there is nothing to be done.
    let _ = span.set_parent(opentelemetry::Context::current().with_remote_span_context(parent));
}

#[cfg(feature = "tracing-opentelemetry")]
mod tracer {
    use std::borrow::Cow;
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex};
    use std::time::SystemTime;

    use opentelemetry::trace::{Span, SpanBuilder, SpanContext, Status, TraceContextExt, Tracer};
    use opentelemetry::{Context, KeyValue};

    use super::Parent;
    use super::asked::{span_id, starting};
    use crate::context::SpanId;
    use crate::process;

    /// An OpenTelemetry tracer that lets the layer know whose child each span is.
    ///
    /// `tracing-opentelemetry` tells a span's own ids, but not its parent's, where that is not a span of the
    /// same subscriber: one of another process, given by `OpenTelemetrySpanExt::set_parent`, or one that was
    /// made without `tracing`. See [the crate documentation](crate#beside-tracing-opentelemetry) for an example.
    #[derive(Clone, Debug)]
    pub struct OtelTracer<T> {
        inner: T,
    }

    impl<T> OtelTracer<T> {
        /// The same tracer, which is known to the layer.
        pub fn new(tracer: T) -> Self {
            Self { inner: tracer }
        }
    }

    impl<T: Tracer> Tracer for OtelTracer<T> {
        type Span = OtelSpan<T::Span>;

        fn build_with_context(&self, builder: SpanBuilder, parent_cx: &Context) -> Self::Span {
            let inner = starting(|| self.inner.build_with_context(builder, parent_cx));
            let id = span_id(inner.span_context());
            if let Some(id) = id {
                let parent = parent_cx.span();
                let parent = parent.span_context();
                let remote = parent.is_valid() && parent.is_remote();
                let parent = Parent { id: span_id(parent).filter(|_| parent.is_valid()), remote };
                if let Some(mut parents) = process::lock_for_a_moment(&PARENTS) {
                    parents.insert(id.get(), parent);
                }
            }
            OtelSpan { inner, id }
        }
    }

    /// The parents of the spans that are open. OpenTelemetry's own context keeps nothing of a parent once
    /// the child is in it.
    static PARENTS: LazyLock<Mutex<HashMap<u64, Parent>>> = LazyLock::new(Mutex::default);

    pub(super) fn parent(of: SpanId) -> Option<Parent> {
        process::lock_for_a_moment(&PARENTS)?.get(&of.get()).copied()
    }

    /// A span of an [`OtelTracer`].
    #[derive(Debug)]
    pub struct OtelSpan<S> {
        inner: S,
        id: Option<SpanId>,
    }

    impl<S> Drop for OtelSpan<S> {
        fn drop(&mut self) {
            if let (Some(id), Some(mut parents)) = (self.id, process::lock_for_a_moment(&PARENTS)) {
                parents.remove(&id.get());
            }
        }
    }

    impl<S: Span> Span for OtelSpan<S> {
        fn add_event_with_timestamp<T: Into<Cow<'static, str>>>(
            &mut self,
            name: T,
            timestamp: SystemTime,
            attributes: Vec<KeyValue>,
        ) {
            self.inner.add_event_with_timestamp(name, timestamp, attributes);
        }

        fn span_context(&self) -> &SpanContext {
            self.inner.span_context()
        }

        fn is_recording(&self) -> bool {
            self.inner.is_recording()
        }

        fn set_attribute(&mut self, attribute: KeyValue) {
            self.inner.set_attribute(attribute);
        }

        fn set_status(&mut self, status: Status) {
            self.inner.set_status(status);
        }

        fn update_name<T: Into<Cow<'static, str>>>(&mut self, new_name: T) {
            self.inner.update_name(new_name);
        }

        fn add_link(&mut self, span_context: SpanContext, attributes: Vec<KeyValue>) {
            self.inner.add_link(span_context, attributes);
        }

        fn end_with_timestamp(&mut self, timestamp: SystemTime) {
            self.inner.end_with_timestamp(timestamp);
        }
    }
}
