//! Other layers, each with a far end. They really record their spans, and pass them to an exporter that only
//! counts them.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fastrace::collector::{Config, Reporter, SpanRecord};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use tracing::Subscriber;
use tracing_chrome::{ChromeLayer, ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::registry::LookupSpan;

use crate::far_end::{BURST, FarEnd};

#[derive(Clone, Default, Debug)]
struct Count(Arc<AtomicU64>);

impl Count {
    fn add(&self, spans: usize) {
        self.0.fetch_add(spans as u64, Ordering::Release);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// opentelemetry_sdk with its batch processor, with default settings.
pub(crate) struct OpenTelemetry {
    provider: SdkTracerProvider,
    exported: Count,
}

impl OpenTelemetry {
    pub(crate) fn new() -> (Self, SdkTracer) {
        let exported = Count::default();
        let provider = SdkTracerProvider::builder().with_batch_exporter(Exporter(exported.clone())).build();
        let tracer = provider.tracer("bench");
        (Self { provider, exported }, tracer)
    }
}

impl FarEnd for OpenTelemetry {
    fn burst(&self) -> Option<u64> {
        Some(BURST)
    }

    fn settle(&self) {
        let _ = self.provider.force_flush(); // after an error, spans are missing in `arrived`
    }

    fn arrived(&self) -> Option<u64> {
        Some(self.exported.get())
    }
}

#[derive(Debug)]
struct Exporter(Count);

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.add(batch.len());
        Ok(())
    }
}

/// fastrace with its collector, with default settings.
pub(crate) struct Fastrace(Count);

impl Fastrace {
    pub(crate) fn new() -> Self {
        let reported = Count::default();
        fastrace::set_reporter(NamedRequest(reported.clone()), Config::default());
        Self(reported)
    }
}

impl FarEnd for Fastrace {
    fn burst(&self) -> Option<u64> {
        Some(BURST)
    }

    fn settle(&self) {
        fastrace::flush();
    }

    fn arrived(&self) -> Option<u64> {
        Some(self.0.get())
    }
}

/// Counts the measured spans, but not the roots around them.
struct NamedRequest(Count);

impl Reporter for NamedRequest {
    fn report(&mut self, spans: Vec<SpanRecord>) {
        self.0.add(spans.iter().filter(|span| span.name == "request").count());
    }
}

/// `fmt` with a line of JSON for each closed span.
#[derive(Default)]
pub(crate) struct JsonLines(Count);

impl JsonLines {
    pub(crate) fn writer(&self) -> impl Fn() -> Lines + Send + Sync + 'static {
        let lines = self.0.clone();
        move || Lines(lines.clone())
    }
}

impl FarEnd for JsonLines {
    fn arrived(&self) -> Option<u64> {
        Some(self.0.get())
    }
}

/// tracing-chrome with fields, which are optional, and with its writer thread.
pub(crate) struct Chrome {
    guard: Mutex<FlushGuard>,
    lines: Count,
    flushes: Count,
}

impl Chrome {
    pub(crate) fn new<S>() -> (Self, ChromeLayer<S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let (lines, flushes) = (Count::default(), Count::default());
        let writer = FlushedLines { lines: Lines(lines.clone()), flushes: flushes.clone() };
        let (layer, guard) = ChromeLayerBuilder::new().include_args(true).writer(writer).build();
        (Self { guard: Mutex::new(guard), lines, flushes }, layer)
    }
}

impl FarEnd for Chrome {
    /// Its queue has no bound and its writer is slower than its callers, so longer bursts would exhaust the
    /// memory.
    fn burst(&self) -> Option<u64> {
        Some(BURST)
    }

    fn settle(&self) {
        let Ok(guard) = self.guard.lock() else { return };
        let before = self.flushes.get();
        guard.flush();
        while self.flushes.get() == before {
            thread::sleep(Duration::from_micros(50));
        }
    }

    /// A span that is entered once has two lines: its begin and its end.
    fn arrived(&self) -> Option<u64> {
        Some(self.lines.get() / 2)
    }
}

/// A sink that counts the lines.
pub(crate) struct Lines(Count);

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.add(text.iter().filter(|byte| **byte == b'\n').count());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts lines and flushes. After a flush, all lines before it are written.
struct FlushedLines {
    lines: Lines,
    flushes: Count,
}

impl Write for FlushedLines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.lines.write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushes.add(1);
        Ok(())
    }
}
