//! Our layer does not change what other layers see: for each kind of layer, above or below ours, and for each
//! way to add ours.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use e2e::Collector;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span as OtelSpan, SpanData, SpanProcessor};
use tracing::field::{Empty, Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, debug, debug_span, error, info, info_span, trace_span};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

/// Text of what another layer has seen.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn line(&self, line: &str) {
        writeln!(self.0.lock().unwrap(), "{line}").unwrap();
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A layer like tokio-console's that records every callback. If `hides` is set, it disables one span for all
/// layers.
struct Recorder {
    log: Log,
    hides: bool,
}

struct Shown(String);

impl Visit for Shown {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Recorder {
    fn on<S: Subscriber + for<'a> LookupSpan<'a>>(&self, what: &str, id: &Id, ctx: &Context<'_, S>) {
        let span = ctx.span(id).expect("it is open");
        let path: Vec<_> = span.scope().from_root().map(|span| span.name()).collect();
        self.log.line(&format!("{what} {}", path.join("/")));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !self.hides || metadata.name() != "hidden by the recorder"
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut shown = Shown(String::new());
        attributes.record(&mut shown);
        self.on(&format!("new{}", shown.0), id, &ctx);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let mut shown = Shown(String::new());
        values.record(&mut shown);
        self.on(&format!("record{}", shown.0), id, &ctx);
    }

    fn on_follows_from(&self, id: &Id, _: &Id, ctx: Context<'_, S>) {
        self.on("follows", id, &ctx);
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut shown = Shown(String::new());
        event.record(&mut shown);
        let span = ctx.event_span(event).map_or("", |span| span.name());
        self.log.line(&format!("event{} in {span}", shown.0));
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        self.on("enter", id, &ctx);
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        self.on("exit", id, &ctx);
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        self.on("close", &id, &ctx);
    }
}

/// Receives the spans of tracing-opentelemetry.
#[derive(Debug)]
struct Exporter(Log);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl SpanProcessor for Exporter {
    fn on_start(&self, _: &mut OtelSpan, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        let attributes: Vec<String> = span
            .attributes
            .iter()
            // These differ from run to run.
            .filter(|pair| !pair.key.as_str().ends_with("_ns") && !pair.key.as_str().starts_with("thread."))
            .map(|pair| format!("{}={}", pair.key, pair.value))
            .collect();
        let events: Vec<_> = span.events.iter().map(|event| event.name.clone()).collect();
        self.0.line(&format!("{} {attributes:?} {events:?} {:?}", span.name, span.status));
    }

    fn force_flush(&self) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
}

const NEIGHBOURS: [&str; 7] =
    ["fmt", "global EnvFilter", "EnvFilter of its own", "reload", "opentelemetry", "console", "targets"];

fn neighbour<S>(kind: &str, log: &Log) -> (Boxed<S>, Box<dyn FnOnce()>)
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let fmt = || {
        let log = log.clone();
        fmt::layer()
            .without_time()
            .with_ansi(false)
            .with_span_events(FmtSpan::FULL)
            .with_writer(move || log.clone())
    };
    let nothing: Box<dyn FnOnce()> = Box::new(|| ());
    match kind {
        // NEW only: other span events carry times.
        "fmt" => (Box::new(fmt().with_span_events(FmtSpan::NEW)), nothing),
        "global EnvFilter" => {
            let filter = EnvFilter::new("warn,neighbours=debug");
            (Box::new(filter.and_then(fmt().with_span_events(FmtSpan::ACTIVE))), nothing)
        }
        "EnvFilter of its own" => {
            let filter = EnvFilter::new("neighbours[outer]=debug,neighbours=info");
            (Box::new(fmt().with_span_events(FmtSpan::ACTIVE).with_filter(filter)), nothing)
        }
        "reload" => {
            let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
            let reload = move || handle.reload(LevelFilter::DEBUG).unwrap();
            (Box::new(fmt().with_span_events(FmtSpan::ACTIVE).with_filter(filter)), Box::new(reload))
        }
        "opentelemetry" => {
            let provider = SdkTracerProvider::builder().with_span_processor(Exporter(log.clone())).build();
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("neighbours"));
            (Box::new(layer), nothing)
        }
        "console" => (Box::new(Recorder { log: log.clone(), hides: true }), nothing),
        _ => {
            let targets = Targets::new().with_target("neighbours", Level::DEBUG);
            (Box::new(Recorder { log: log.clone(), hides: false }.with_filter(targets)), nothing)
        }
    }
}

const OURS: [&str; 8] = [
    "plain",
    "sending",
    "in the background",
    "filtered",
    "filtered and sending",
    "on demand",
    "on demand, open",
    "gate, open",
];

fn ours<S>(kind: &str, collector: &Collector) -> Boxed<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let sending =
        |delivery| tracing_usdt::builder().with_socket(collector.path()).with_delivery(delivery).build();
    let idle = || tracing_usdt::builder().without_socket().build();
    match kind {
        "plain" => Box::new(idle()),
        "sending" => Box::new(sending(tracing_usdt::Delivery::Inline)),
        "in the background" => Box::new(sending(tracing_usdt::Delivery::Background)),
        "filtered" => Box::new(idle().with_filter(LevelFilter::DEBUG)),
        "filtered and sending" => {
            Box::new(sending(tracing_usdt::Delivery::Inline).with_filter(LevelFilter::TRACE))
        }
        // Enabled because another layer sends, see `seen`.
        "gate, open" => Box::new(tracing_usdt::on_demand().and_then(idle())),
        _ => Box::new(idle().with_filter(tracing_usdt::on_demand())),
    }
}

/// Causes every callback, at several levels. A filter changes in the middle.
///
/// With `asks`, `enabled!` is called too. If any layer enables it, the next event is lost to layers whose
/// filters rejected it (tracing issue 2519).
fn traffic(reload: Box<dyn FnOnce()>, asks: bool) {
    let round = || {
        let outer = info_span!("outer", n = 1, late = Empty);
        outer.in_scope(|| {
            info!(answer = 42, "inside");
            outer.record("late", "now");
            let detail = debug_span!("detail", text = "x");
            detail.follows_from(&outer);
            detail.in_scope(|| {
                debug!("in detail");
                trace_span!("finest").in_scope(|| error!(code = 7, "failed"));
                info_span!("hidden by the recorder").in_scope(|| info!("under what is hidden"));
            });
        });
        if asks {
            let _ = tracing::enabled!(target: "elsewhere", Level::TRACE);
        }
        info!("outside");
    };
    round();
    reload();
    round();
}

fn seen(kind: &str, ours_kind: Option<(&str, bool)>, collector: &Collector, asks: bool) -> String {
    let log = Log::default();
    // A layer with a socket that is in no subscriber enables the callsites.
    let sends = ours_kind.is_some_and(|(kind, _)| kind.ends_with("open"));
    let _sends = sends.then(|| tracing_usdt::builder().with_socket(collector.path()).build());
    match ours_kind {
        None => {
            let (theirs, reload) = neighbour::<Registry>(kind, &log);
            tracing::subscriber::with_default(Registry::default().with(theirs), || traffic(reload, asks));
        }
        Some((ours_kind, true)) => {
            let (theirs, reload) = neighbour(kind, &log);
            let stack = Registry::default().with(ours::<Registry>(ours_kind, collector)).with(theirs);
            tracing::subscriber::with_default(stack, || traffic(reload, asks));
        }
        Some((ours_kind, false)) => {
            let (theirs, reload) = neighbour::<Registry>(kind, &log);
            let stack = Registry::default().with(theirs).with(ours(ours_kind, collector));
            tracing::subscriber::with_default(stack, || traffic(reload, asks));
        }
    }
    let text = log.0.lock().unwrap().clone();
    assert!(text.lines().count() > 4, "{kind} saw next to nothing with {ours_kind:?}: {text}");
    text
}

#[test]
fn other_layers_see_the_same_with_and_without_ours() {
    let collector = Collector::start();
    for kind in NEIGHBOURS {
        for ours_kind in OURS {
            let asks = ["filtered", "on demand"].contains(&ours_kind);
            let alone = seen(kind, None, &collector, asks);
            for first in [true, false] {
                let with_ours = seen(kind, Some((ours_kind, first)), &collector, asks);
                assert_eq!(with_ours, alone, "{kind}, with ours {ours_kind}, first: {first}");
            }
        }
    }
    // Our layer did send.
    assert!(collector.spans().len() > 100);
}
