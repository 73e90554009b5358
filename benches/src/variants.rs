//! The variants to measure, and how each is installed.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use fastrace::collector::SpanContext;
use fastrace_tracing::FastraceCompatLayer;
use tracing::subscriber::set_global_default;
use tracing::{Subscriber, span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{DefaultFields, FmtSpan, Format};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{fmt, registry};

use crate::allocations;
use crate::far_end::{FarEnd, Nowhere};
use crate::floors;
use crate::peers;
use crate::spans::{self, Burst, Shape};
use crate::usdt;

/// A variant; `NAMES` has the names that `span` takes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Variant {
    NoSubscriber,
    Base,
    Probed,
    ProbedUsdt,
    Usdt,
    UsdtContext,
    UsdtGate,
    Fmt,
    FmtUsdt,
    FmtUsdtFilter,
    FmtInfo,
    FmtInfoUsdt,
    FmtInfoUsdtFilter,
    FmtJson,
    OpenTelemetry,
    FastraceLocal,
    FastraceRoot,
    FastraceTracing,
    Chrome,
    FloorSend,
    FloorProbe,
    FloorClock,
}

use Variant::*;

const NAMES: [(&str, Variant); 22] = [
    ("no-subscriber", NoSubscriber),
    ("base", Base),
    ("probed", Probed),
    ("probed+usdt", ProbedUsdt),
    ("usdt", Usdt),
    ("usdt-context", UsdtContext),
    ("usdt-gate", UsdtGate),
    ("fmt", Fmt),
    ("fmt+usdt", FmtUsdt),
    ("fmt+usdt-filter", FmtUsdtFilter),
    ("fmt-info", FmtInfo),
    ("fmt-info+usdt", FmtInfoUsdt),
    ("fmt-info+usdt-filter", FmtInfoUsdtFilter),
    ("fmt-json", FmtJson),
    ("opentelemetry", OpenTelemetry),
    ("fastrace-local", FastraceLocal),
    ("fastrace-root", FastraceRoot),
    ("fastrace-tracing", FastraceTracing),
    ("chrome", Chrome),
    ("floor-send", FloorSend),
    ("floor-probe", FloorProbe),
    ("floor-clock", FloorClock),
];

type Installed = (Box<dyn FarEnd>, Burst);

impl Variant {
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(known, _)| *known == name).map(|(_, variant)| *variant);
        found.ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("no variant {name:?}; there are {}", names.join(", "))
        })
    }

    /// Installs the variant for the whole process, and returns its far end and a function that makes spans of
    /// that shape.
    pub(crate) fn install(self, shape: Shape) -> Result<Installed, Box<dyn Error>> {
        Ok(match self {
            FastraceLocal => (Box::new(peers::Fastrace::new()), spans::fastrace_local(shape)),
            FastraceRoot => (Box::new(peers::Fastrace::new()), spans::fastrace_root(shape)),
            FloorSend => {
                let path = std::env::var_os("TRACING_USDT_SOCKET").map(PathBuf::from);
                let path = path.ok_or("TRACING_USDT_SOCKET is not set, the receiver's socket")?;
                let (taken, burst) = floors::send(&path)
                    .map_err(|error| format!("can't connect to {}: {error}", path.display()))?;
                (Box::new(taken), burst)
            }
            FloorProbe => (Box::new(Nowhere), floors::probe()),
            FloorClock => (Box::new(Nowhere), floors::clock()),
            FastraceTracing => {
                let far_end = self.subscribe()?;
                (far_end, spans::within_fastrace_root(spans::tracing(shape, false)?))
            }
            Probed | ProbedUsdt => (self.subscribe()?, spans::probed(shape)?),
            _ => (
                self.subscribe()?,
                spans::tracing(shape, matches!(self, FmtInfo | FmtInfoUsdt | FmtInfoUsdtFilter))?,
            ),
        })
    }

    /// Makes its subscriber the global one.
    fn subscribe(self) -> Result<Box<dyn FarEnd>, Box<dyn Error>> {
        // Each stack has its own type, as in a user's program. Boxed layers would cost something at every call.
        Ok(match self {
            Base => {
                set_global_default(registry().with(Nothing))?;
                Box::new(Nowhere)
            }
            Usdt | ProbedUsdt => {
                let (far_end, layer) = usdt::layer();
                set_global_default(registry().with(layer))?;
                Box::new(far_end)
            }
            UsdtContext => {
                let (far_end, layer) = usdt::with_far_end(usdt::with_thread_context()?);
                set_global_default(registry().with(layer))?;
                Box::new(far_end)
            }
            UsdtGate => {
                let (far_end, layer) = usdt::layer();
                set_global_default(registry().with(tracing_usdt::on_demand()).with(layer))?;
                Box::new(far_end)
            }
            Fmt => {
                set_global_default(registry().with(to_sink()))?;
                Box::new(Nowhere)
            }
            FmtUsdt => {
                let (far_end, layer) = usdt::layer();
                set_global_default(registry().with(layer).with(to_sink()))?;
                Box::new(far_end)
            }
            FmtUsdtFilter => {
                let (far_end, layer) = usdt::layer();
                let layer = layer.with_filter(tracing_usdt::on_demand());
                set_global_default(registry().with(layer).with(to_sink()))?;
                Box::new(far_end)
            }
            FmtInfo => {
                set_global_default(registry().with(to_sink().with_filter(LevelFilter::INFO)))?;
                Box::new(Nowhere)
            }
            FmtInfoUsdt => {
                let (far_end, layer) = usdt::layer();
                set_global_default(registry().with(layer).with(to_sink().with_filter(LevelFilter::INFO)))?;
                Box::new(far_end)
            }
            FmtInfoUsdtFilter => {
                let (far_end, layer) = usdt::layer();
                let layer = layer.with_filter(tracing_usdt::on_demand());
                set_global_default(registry().with(layer).with(to_sink().with_filter(LevelFilter::INFO)))?;
                Box::new(far_end)
            }
            FmtJson => {
                let far_end = peers::JsonLines::default();
                let layer = fmt::layer().json().with_span_events(FmtSpan::CLOSE);
                set_global_default(registry().with(layer.with_writer(far_end.writer())))?;
                Box::new(far_end)
            }
            OpenTelemetry => {
                let (far_end, tracer) = peers::OpenTelemetry::new();
                set_global_default(registry().with(tracing_opentelemetry::layer().with_tracer(tracer)))?;
                Box::new(far_end)
            }
            FastraceTracing => {
                set_global_default(registry().with(FastraceCompatLayer::new()))?;
                Box::new(peers::Fastrace::new())
            }
            Chrome => {
                let (far_end, layer) = peers::Chrome::new();
                set_global_default(registry().with(layer))?;
                Box::new(far_end)
            }
            // These do not use `tracing`, or have no subscriber.
            NoSubscriber | Probed | FastraceLocal | FastraceRoot | FloorSend | FloorProbe | FloorClock => {
                Box::new(Nowhere)
            }
        })
    }

    /// The memory that a span takes while `open` spans are open.
    pub(crate) fn bytes_of_open(self, open: u64) -> Result<f64, Box<dyn Error>> {
        let bytes = || allocations::live_bytes().ok_or("that needs the program span_counted");
        let one = Shape { fields: 2, depth: 1, polls: 0 };
        let (far_end, burst) = self.install(one)?;
        burst(1000); // allocates what the callsite and the thread need once
        far_end.settle();
        let grown = if self == FastraceRoot {
            let root = fastrace::Span::root("root", SpanContext::random());
            let mut kept = Vec::with_capacity(open as usize);
            let before = bytes()?;
            spans::open_fastrace(open, &root, &mut kept);
            bytes()? - before
        } else {
            let mut kept = Vec::with_capacity(open as usize);
            let before = bytes()?;
            spans::open_tracing(open, &mut kept);
            bytes()? - before
        };
        Ok(grown as f64 / open as f64)
    }
}

fn to_sink<S>() -> fmt::Layer<S, DefaultFields, Format, fn() -> io::Sink> {
    fmt::Layer::default().with_writer(io::sink)
}

/// The layer of `Base`. A `Registry` without any layer would keep every span for ever.
struct Nothing;

impl<S: Subscriber> Layer<S> for Nothing {
    fn on_close(&self, id: span::Id, _: Context<'_, S>) {
        std::hint::black_box(id);
    }
}
