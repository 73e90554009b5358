//! The layer together with other layers and filters.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::io;
use std::sync::{Arc, Mutex};

use collector::{Collector, text};
use tracing::{debug_span, info, info_span, subscriber::with_default};
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, registry, reload};

/// Keeps what `fmt` writes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'a> registry::LookupSpan<'a>,
    {
        let log = self.clone();
        fmt::layer().without_time().with_ansi(false).with_writer(move || log.clone())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn traffic() {
    let outer = info_span!("outer", n = 1);
    let _outer = outer.enter();
    let detail = debug_span!("detail");
    let _detail = detail.enter();
    let inner = info_span!("inner");
    inner.in_scope(|| info!("hello"));
}

/// The name of each sent span, and the name of its parent.
fn sent(collector: &Collector) -> Vec<(String, Option<String>)> {
    let spans = collector.drain();
    let name_of = |id: &str| {
        let span = spans.iter().find(|span| text(span, "id") == id);
        span.map(|span| text(span, "name").to_owned())
    };
    let mut all: Vec<_> = spans
        .iter()
        .map(|span| {
            let parent = span.get("parentId").map(|id| name_of(id.as_str().unwrap()));
            (text(span, "name").to_owned(), parent.map(|name| name.expect("the parent was not sent")))
        })
        .collect();
    all.sort();
    all
}

fn tree(edges: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    edges.iter().map(|(name, parent)| ((*name).to_owned(), parent.map(str::to_owned))).collect()
}

const ALL: [(&str, Option<&str>); 3] =
    [("detail", Some("outer")), ("inner", Some("detail")), ("outer", None)];

const INFO_ONLY: [(&str, Option<&str>); 2] = [("inner", Some("outer")), ("outer", None)];

#[test]
fn fmt_writes_the_same_with_and_without_our_layer() {
    let alone = Log::default();
    with_default(registry().with(alone.layer()), traffic);
    let expected = alone.text();
    assert!(expected.contains("outer{n=1}:detail:inner: "), "{expected}");

    let collector = Collector::bind();
    let (before, after) = (Log::default(), Log::default());
    with_default(registry().with(collector.builder().build()).with(before.layer()), traffic);
    with_default(registry().with(after.layer()).with(collector.builder().build()), traffic);
    assert_eq!(before.text(), expected);
    assert_eq!(after.text(), expected);
    let both: Vec<_> = ALL.iter().flat_map(|edge| [*edge, *edge]).collect();
    assert_eq!(sent(&collector), tree(&both));
}

#[test]
fn the_layer_obeys_a_global_env_filter() {
    let collector = Collector::bind();
    with_default(registry().with(collector.builder().build()).with(EnvFilter::new("info")), traffic);
    assert_eq!(sent(&collector), tree(&INFO_ONLY));
    with_default(registry().with(EnvFilter::new("debug")).with(collector.builder().build()), traffic);
    assert_eq!(sent(&collector), tree(&ALL));
}

#[test]
fn a_filter_of_our_layer_hides_spans_from_no_other() {
    let collector = Collector::bind();
    let log = Log::default();
    let layer = collector.builder().build().with_filter(LevelFilter::INFO);
    with_default(registry().with(layer).with(log.layer()), traffic);
    assert_eq!(sent(&collector), tree(&INFO_ONLY), "a hidden span became a parent");
    assert!(log.text().contains("outer{n=1}:detail:inner: "), "{}", log.text());
}

#[test]
fn filters_of_other_layers_hide_nothing_from_ours() {
    let collector = Collector::bind();
    let log = Log::default();
    let stack = registry()
        .with(collector.builder().build())
        .with(log.layer().with_filter(EnvFilter::new("info")))
        .with(Log::default().layer().with_filter(filter_fn(|_| false)));
    with_default(stack, traffic);
    assert_eq!(sent(&collector), tree(&ALL));
    assert!(log.text().contains("outer{n=1}:inner: "), "{}", log.text());
}

#[test]
fn a_filter_can_be_reloaded() {
    let collector = Collector::bind();
    let targets = Targets::new().with_default(LevelFilter::OFF);
    let (filter, reload) = reload::Layer::new(targets);
    with_default(registry().with(collector.builder().build().with_filter(filter)), || {
        traffic();
        assert_eq!(sent(&collector), tree(&[]));
        reload.modify(|targets| *targets = Targets::new().with_default(LevelFilter::TRACE)).unwrap();
        traffic();
        assert_eq!(sent(&collector), tree(&ALL));
    });
}

#[test]
fn the_layer_can_be_reloaded_itself() {
    let collector = Collector::bind();
    let (layer, reload) = reload::Layer::new(None::<tracing_usdt::UsdtLayer>);
    // While our layer is `None`, only the other layer enables the early span.
    with_default(registry().with(layer).with(Log::default().layer()), || {
        let early = info_span!("early");
        reload.reload(Some(collector.builder().build())).unwrap();
        early.in_scope(traffic);
        drop(early);
        let spans = collector.drain();
        let names: Vec<_> = spans.iter().map(|span| text(span, "name")).collect();
        assert_eq!(names, ["inner", "detail", "outer"], "`early` has no recorded fields");
        // It is still the parent, and all spans are in one trace.
        assert!(spans[2].contains_key("parentId"));
        assert_eq!(text(&spans[0], "traceId"), text(&spans[2], "traceId"));

        let half = info_span!("half");
        reload.reload(None).unwrap();
        drop(half);
        assert_eq!(
            sent(&collector),
            [("tracing_usdt.dropped".to_owned(), None)],
            "an incomplete span was sent"
        );
    });
}

#[test]
fn options_vectors_and_boxes_are_layers_too() {
    let collector = Collector::bind();
    let vec: Vec<Box<dyn Layer<Registry> + Send + Sync>> =
        vec![Log::default().layer().boxed(), collector.builder().build().boxed()];
    with_default(registry().with(vec), traffic);
    assert_eq!(sent(&collector), tree(&ALL));
    with_default(registry().with(Some(collector.builder().build())), traffic);
    assert_eq!(sent(&collector), tree(&ALL));
}

#[test]
fn a_second_layer_is_reported_and_does_nothing() {
    let collector = Collector::bind();
    let errors = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&errors);
    let first = collector.builder().build().with_filter(LevelFilter::INFO);
    let report = move |error: &tracing_usdt::Error| sink.lock().unwrap().push(error.to_string());
    let second = collector.builder().on_error(report).build();
    let handle = second.handle();
    with_default(registry().with(first).with(Log::default().layer()).with(second), traffic);
    assert_eq!(sent(&collector), tree(&INFO_ONLY));
    assert_eq!(handle.stats().closed, 0);
    let errors = errors.lock().unwrap();
    assert!(errors.len() == 1 && errors[0].contains("second"), "{errors:?}");
}

/// Only the layer that is taken out knows these spans, so it reports them as lost.
#[test]
fn spans_that_are_open_when_the_layer_is_taken_out_are_counted_as_lost() {
    let collector = Collector::bind();
    let before = collector.builder().build();
    let handle = before.handle();
    let (layer, reload) = reload::Layer::new(Some(before));
    with_default(registry().with(layer), || {
        let open = info_span!("open");
        let entered = open.enter();
        let later = collector.builder().build();
        reload.reload(Some(later)).unwrap();
        drop(info_span!("below"));
        drop(entered);
        drop(open);
    });
    let stats = handle.stats();
    assert_eq!((stats.closed, stats.sent, stats.dropped.abandoned), (1, 0, 1));
    let spans = collector.drain();
    assert_eq!(collector::tag(&spans[0], "tracing_usdt.dropped.abandoned"), Some("1"));
    assert_eq!(collector::text(&spans[1], "name"), "below", "{spans:?}");
    assert_eq!(spans.len(), 2, "an incomplete span was sent");
}

#[test]
fn nested_subscribers_have_separate_spans() {
    let collector = Collector::bind();
    let one = registry().with(collector.builder().build());
    let other = registry().with(collector.builder().build());
    with_default(one, || with_default(other, traffic));
    assert_eq!(sent(&collector), tree(&ALL));
}
