//! Adds the ids of a span to the lines that `tracing_subscriber::fmt` writes for events inside of it, so that a log can
//! be searched by trace.
//!
//! `line` puts the ids into a line while it is written. `source` finds the layer that knows them.

mod line;
mod source;

use std::fmt;

use tracing_core::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Compact, Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::layer::{self, Logged};
use crate::propagation::Ids;
use line::{Line, Style};
use source::Source;

/// Adds `trace_id` and `span_id` to the lines of a format of `tracing_subscriber::fmt`. Meant for
/// `fmt::Layer::map_event_format`:
///
/// ```
/// use tracing_subscriber::{fmt, prelude::*};
/// use tracing_usdt::with_trace_ids;
///
/// tracing_subscriber::registry()
///     .with(tracing_usdt::layer())
///     .with(fmt::layer().compact().map_event_format(with_trace_ids))
///     .init();
///
/// let _request = tracing::info_span!("request").entered();
/// tracing::info!(n = 3, "found");
/// // ... INFO request: my_app: found n=3 trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7
/// ```
///
/// The ids are those of [`SpanExt::trace_context`](crate::SpanExt::trace_context) for the span of the event. While
/// nobody listens, a span gets them with the first event in it. They are at the end of the line, dimmed if the writer has
/// colours. In JSON they are the last members of the object, as [OpenTelemetry] names them. The rest of the line stays
/// as it is. The whole line does if the event is outside of all spans, if the subscriber does not have the layer, or if
/// the event has a field `trace_id` or `span_id` of its own.
///
/// For the lines of events, it does not matter which of the two layers is added first. The lines of `FmtSpan` only have
/// ids that the span has by then. A span that is sent has them from its creation on if this crate's layer is added first;
/// with [`with_opentelemetry_ids`](crate::Builder::with_opentelemetry_ids), from its first enter on. A span that is not
/// sent has them after the first event in it, or the first call of `trace_context`.
///
/// A filter of the `fmt` layer hides spans from it. A line then has the ids of the nearest span above that the filter
/// shows, and none if there is no such span.
///
/// A layer in an `Option` or in a `Vec` is found if its subscriber is the global default. A layer in `reload` is not
/// found.
///
/// The formats are the full one and the compact one; with the feature `fmt-json` that of `json()`, and with the feature
/// `fmt-pretty` that of `pretty()`, where the ids have a line of their own. Colours are those of the `fmt` layer:
/// `Format::with_ansi(false)` does not turn them off where that layer turns them on. Escape sequences in values are
/// always made safe in lines with ids, also with `with_ansi_sanitization(false)`.
///
/// [OpenTelemetry]: https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
pub fn with_trace_ids<L: LineFormat + Clone, T: Clone>(format: Format<L, T>) -> WithTraceIds<L, T> {
    layer::prepare_to_log();
    WithTraceIds { coloured: format.clone().with_ansi(true), format, source: Source::default() }
}

/// A format of `tracing_subscriber::fmt` whose lines have the ids of their spans. Made by [`with_trace_ids`].
pub struct WithTraceIds<L, T> {
    format: Format<L, T>,
    /// The same with colours. A format learns from its writer whether to use them, but a writer that is made here
    /// can't say so.
    coloured: Format<L, T>,
    source: Source,
}

impl<L, T> fmt::Debug for WithTraceIds<L, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithTraceIds").finish_non_exhaustive()
    }
}

impl<S, N, L, T> FormatEvent<S, N> for WithTraceIds<L, T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    L: LineFormat,
    Format<L, T>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(ids) = self.ids(ctx, event) else { return self.format.format_event(ctx, writer, event) };
        let format = if writer.has_ansi_escapes() { &self.coloured } else { &self.format };
        let mut line = Line::new(&mut writer, L::STYLE);
        format.format_event(ctx, Writer::new(&mut line), event)?;
        line.finish(ids)
    }
}

impl<L, T> WithTraceIds<L, T> {
    /// The ids for the line of this event.
    fn ids<S, N>(&self, ctx: &FmtContext<'_, S, N>, event: &Event<'_>) -> Option<Ids>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
    {
        let span = ctx.parent_span()?;
        if event.fields().any(|field| matches!(field.name(), "trace_id" | "span_id")) {
            return None;
        }
        // The `fmt` layer gives its lines about a span the metadata of the span.
        let logged = if event.metadata().is_span() { Logged::Span } else { Logged::Event };
        self.source.ids::<FormattedFields<N>>(&span.id(), logged, |read| read(&span.extensions()))
    }
}

/// The formats of `tracing_subscriber` that [`with_trace_ids`] knows: `Full` and `Compact`, and with cargo features
/// `Json` and `Pretty`.
pub trait LineFormat: sealed::Sealed {}

impl<L: sealed::Sealed> LineFormat for L {}

mod sealed {
    use super::Style;

    #[allow(unnameable_types)] // other crates can't implement what they can't name
    pub trait Sealed {
        const STYLE: Style;
    }
}

impl sealed::Sealed for Full {
    const STYLE: Style = Style::Text;
}

impl sealed::Sealed for Compact {
    const STYLE: Style = Style::Text;
}

#[cfg(feature = "fmt-json")]
impl sealed::Sealed for tracing_subscriber::fmt::format::Json {
    const STYLE: Style = Style::Json;
}

#[cfg(feature = "fmt-pretty")]
impl sealed::Sealed for tracing_subscriber::fmt::format::Pretty {
    const STYLE: Style = Style::Lines;
}
