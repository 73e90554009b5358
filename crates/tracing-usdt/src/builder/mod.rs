//! The builder. For each option it takes the value set in code, else the environment's, else the default.
//!
//! `environment` reads the variables and reports values that can't be used.

mod environment;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use environment::Environment;

use crate::clock;
use crate::delivery::{Batches, Delivery, Exporter};
use crate::encode::{Encoder, Format, Resource};
use crate::error::{Callback, Error, Reporter};
use crate::fields::{Limits, Vocabulary};
use crate::layer::{BaggageSettings, Identities, UsdtLayer};
use crate::otel::OpenTelemetry;
use crate::process;
use crate::propagation::SpanContext;
use crate::sampler::Sampler;
use crate::span::{OpenSpans, Origin};
use crate::thread_context;

/// Builds a [`UsdtLayer`]. Options that are not set here are read from the environment by
/// [`build`](Builder::build); the [crate documentation](crate#environment) lists the variables.
///
/// ```
/// use std::time::Duration;
/// use tracing_subscriber::prelude::*;
///
/// let layer = tracing_usdt::builder()
///     .with_socket("/run/my-service/trace.sock")
///     .with_service_name("my-service")
///     .with_max_wait(Duration::from_millis(5))
///     .on_error(|error| eprintln!("tracing: {error}"))
///     .build();
/// let handle = layer.handle();
/// let subscriber = tracing_subscriber::registry().with(layer);
/// # drop(subscriber);
/// assert_eq!(handle.stats().closed, 0);
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    socket: Option<Option<PathBuf>>,
    format: Option<Format>,
    delivery: Option<Delivery>,
    max_wait: Option<Duration>,
    open_spans: Option<Duration>,
    service_name: Option<String>,
    resource_attributes: Option<Vec<(String, String)>>,
    max_attributes: Option<u32>,
    max_characters: Option<usize>,
    baggage_attributes: Option<Vec<String>>,
    vocabulary: Vocabulary,
    no_resource_detection: bool,
    sampler: Option<Sampler>,
    remote_parent: Option<Option<SpanContext>>,
    publishes_thread_context: bool,
    uses_opentelemetry_ids: bool,
    on_error: Option<Callback>,
}

/// After what time consumers of the probe `batch_emit` are told of an open span, unless the program sets another time.
const OPEN_SPANS_THRESHOLD: Duration = Duration::from_secs(1);

impl Builder {
    /// Sends every closed span to the `SOCK_DGRAM` socket that a receiver has bound at `path`. The receiver
    /// may start later, and may be restarted. A relative path is relative to the working directory when the
    /// layer is built. Takes precedence over `TRACING_USDT_SOCKET`.
    pub fn with_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Some(Some(path.into()));
        self
    }

    /// Sends no datagrams, even if `TRACING_USDT_SOCKET` is set.
    pub fn without_socket(mut self) -> Self {
        self.socket = Some(None);
        self
    }

    /// The format of datagrams and of the probe `span_emit`, which has OTLP/JSON instead of protobuf. Takes
    /// precedence over `TRACING_USDT_FORMAT`.
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// How spans get to the socket. Takes precedence over `TRACING_USDT_DELIVERY`.
    pub fn with_delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// How long a thread that closes a span may wait for room before the span is dropped and counted: for
    /// room in memory, or with [`Delivery::Inline`] in the receiver's queue. By default it does not wait.
    /// Takes precedence over `TRACING_USDT_MAX_WAIT_MS`.
    pub fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// Reports spans that are open for longer than `threshold`, while they are open, so that a hang is visible while it
    /// hangs. Takes precedence over `TRACING_USDT_OPEN_SPANS`. By default, only consumers of the probe `batch_emit` get
    /// reports, of spans that are open for more than a second.
    ///
    /// The sender thread looks at the open spans twice in the time of `threshold`, but not more often than every 50 ms, and
    /// sends a report of those that it finds. It then starts before the first span. A span pays nothing for it. Only
    /// [`Delivery::Background`] and the formats of OTLP have reports. [The crate documentation](crate#open-spans) describes them.
    pub fn with_open_spans(mut self, threshold: Duration) -> Self {
        self.open_spans = Some(threshold);
        self
    }

    /// The service's name in the datagrams; by default [the program's name](crate#names-of-processes). Takes
    /// precedence over `OTEL_SERVICE_NAME`.
    pub fn with_service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// Adds a resource attribute, which describes the process, such as `deployment.environment.name`. If any
    /// is added, `OTEL_RESOURCE_ATTRIBUTES` is not read.
    pub fn with_resource_attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let attributes = self.resource_attributes.get_or_insert_default();
        attributes.push((key.into(), value.into()));
        self
    }

    /// How many fields of a span, and of an event, are kept; by default 128. Takes precedence over
    /// `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`.
    pub fn with_max_attributes_per_span(mut self, fields: u32) -> Self {
        self.max_attributes = Some(fields);
        self
    }

    /// How many characters of a value are kept; by default as many as fit into 10 KiB. Takes precedence over
    /// `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`.
    pub fn with_max_attribute_value_length(mut self, characters: usize) -> Self {
        self.max_characters = Some(characters);
        self
    }

    /// Records these entries of a span's [`Baggage`](crate::Baggage) as attributes of the span, with the key as the
    /// name; by default none. Takes precedence over `TRACING_USDT_BAGGAGE_ATTRIBUTES`.
    ///
    /// They are those of the baggage that the span had at its creation, or that
    /// [`SpanExt::set_baggage`](crate::SpanExt::set_baggage) or `set_remote_parent` gave it last. A field or an attribute
    /// of the program with the same name takes precedence, whenever it is recorded. The attributes are added when the
    /// span ends, so the probe `new_span` does not have them, and neither has a span that was not recorded from its
    /// creation on. Baggage comes from outside: choose keys whose values may be stored.
    ///
    /// ```
    /// let layer = tracing_usdt::builder().with_baggage_attributes(["user.id", "tier"]).build();
    /// # drop(layer);
    /// ```
    pub fn with_baggage_attributes(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.baggage_attributes = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    /// Records the `level` of spans and events; on by default.
    pub fn with_level(mut self, enabled: bool) -> Self {
        self.vocabulary.level = enabled;
        self
    }

    /// Records the `target` of spans and events; on by default.
    pub fn with_target(mut self, enabled: bool) -> Self {
        self.vocabulary.target = enabled;
        self
    }

    /// Records the source location of spans, and of records of the `log` crate, in `code.*`; on by default.
    pub fn with_location(mut self, enabled: bool) -> Self {
        self.vocabulary.location = enabled;
        self
    }

    /// Records the thread that created a span, in `thread.id` and `thread.name`; on by default.
    pub fn with_threads(mut self, enabled: bool) -> Self {
        self.vocabulary.threads = enabled;
        self
    }

    /// Records how long a span was entered and how long it was not, in `busy_ns` and `idle_ns`; on by default.
    pub fn with_tracked_inactivity(mut self, enabled: bool) -> Self {
        self.vocabulary.busy_and_idle = enabled;
        self
    }

    /// Takes a span's kind from its field `otel.kind`; on by default. When off, `otel.kind` is a field like
    /// any other.
    pub fn with_kinds(mut self, enabled: bool) -> Self {
        self.vocabulary.kinds = enabled;
        self
    }

    /// Takes a span's status from its fields `otel.status_code` and `otel.status_description` and from the
    /// events inside it; on by default.
    pub fn with_status(mut self, enabled: bool) -> Self {
        self.vocabulary.status = enabled;
        self
    }

    /// Records an error value in a field also as an exception, with its chain of sources, in `exception.*`;
    /// on by default.
    pub fn with_error_fields_to_exceptions(mut self, enabled: bool) -> Self {
        self.vocabulary.exceptions = enabled;
        self
    }

    /// Records the spans that a span follows from as links; on by default.
    pub fn with_links(mut self, enabled: bool) -> Self {
        self.vocabulary.links = enabled;
        self
    }

    /// Detects the process and its host, and adds them to OTLP's resource as `process.*`, `host.*`, `os.*` and
    /// `telemetry.sdk.*`; on by default. Resource attributes that are set take precedence.
    pub fn with_resource_detection(mut self, enabled: bool) -> Self {
        self.no_resource_detection = !enabled;
        self
    }

    /// Publishes each thread's current span for profilers that read OpenTelemetry's [OTEP 4947], such as its eBPF
    /// profiler; off by default. `spantap attach` does not need it.
    ///
    /// Only for executables, and only on Linux on x86-64 and AArch64. The executable must export the variable:
    ///
    /// ```toml
    /// # .cargo/config.toml
    /// [target.'cfg(target_os = "linux")']
    /// rustflags = ["-C", "link-arg=-Wl,--export-dynamic-symbol=otel_thread_ctx_v1"]
    /// ```
    ///
    /// A profiler may look at any time, so every span costs what it costs while a consumer is attached, also those
    /// that are not sampled; and [`on_demand()`](crate::on_demand) enables all spans. The process tells of itself once,
    /// when the layer is built, and a forked child at its first enter: with `memfd_create`, `mmap`, `madvise` and `prctl`,
    /// which a sandbox has to allow. Only the first layer of a process does so.
    ///
    /// [OTEP 4947]: https://github.com/open-telemetry/opentelemetry-specification/blob/main/oteps/profiles/4947-thread-ctx.md
    pub fn with_thread_context(mut self, enabled: bool) -> Self {
        self.publishes_thread_context = enabled;
        self
    }

    /// Which traces are sent. Probes fire for all traces. Takes precedence over `OTEL_TRACES_SAMPLER`.
    pub fn with_sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = Some(sampler);
        self
    }

    /// Takes over the ids, parents and sampling decisions of `tracing-opentelemetry`, another layer of the
    /// subscriber; off by default. See [the crate documentation](crate#beside-tracing-opentelemetry).
    #[cfg(feature = "tracing-opentelemetry")]
    pub fn with_opentelemetry_ids(mut self, enabled: bool) -> Self {
        self.uses_opentelemetry_ids = enabled;
        self
    }

    /// The span of another process that the root spans of this process continue, with its baggage. Takes precedence
    /// over `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`.
    pub fn with_remote_parent(mut self, parent: SpanContext) -> Self {
        self.remote_parent = Some(Some(parent));
        self
    }

    /// The root spans of this process begin new traces without baggage, even if `TRACEPARENT` or `BAGGAGE` is set.
    pub fn without_remote_parent(mut self) -> Self {
        self.remote_parent = Some(None);
        self
    }

    /// Reports errors to `callback`, each kind once, and not on stderr.
    ///
    /// The callback runs on the thread that met the error, so it should be quick. It may log events. It
    /// should not make spans: the registry never frees a span that closes while another one is closing, nor
    /// the spans above it. At the end of the program the callback is not called any more, and nothing is
    /// printed in its place.
    pub fn on_error(mut self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Box::new(callback));
        self
    }

    /// Builds the layer, and reads the environment for options that are not set. This always succeeds: a
    /// value that can't be used is reported and not used.
    pub fn build(self) -> UsdtLayer {
        self.build_with(&|variable| std::env::var_os(variable))
    }

    fn build_with(self, read: &dyn Fn(&str) -> Option<OsString>) -> UsdtLayer {
        process::watch_forks();
        clock::prepare();
        let env = Environment { read, reporter: Arc::new(Reporter::new(self.on_error)) };
        let service_name = self.service_name.or_else(|| env.text("OTEL_SERVICE_NAME"));
        let attributes = self.resource_attributes.unwrap_or_else(|| env.resource_attributes());
        let resource = Resource::new(service_name, attributes, !self.no_resource_detection, &env.reporter);
        let (remote_parent, baggage) = match self.remote_parent {
            Some(parent) => {
                let baggage = parent.as_ref().map(|parent| parent.baggage.clone());
                (parent, baggage.unwrap_or_default())
            }
            None => (env.parent(), env.baggage()),
        };
        let identities = Identities::new(self.sampler.unwrap_or_else(|| env.sampler()), remote_parent);
        let keys = self.baggage_attributes.unwrap_or_else(|| env.baggage_attributes());
        let attributes = keys.into_iter().map(String::into_boxed_str).collect();
        let baggage = BaggageSettings { of_process: baggage, attributes };
        let vocabulary = self.vocabulary;
        let limits = Limits { vocabulary, ..env.limits(self.max_attributes, self.max_characters) };
        let max_wait = self.max_wait.unwrap_or_else(|| env.max_wait());
        let open_spans = self.open_spans.or_else(|| env.open_spans());
        let delivery = self.delivery.unwrap_or_else(|| env.delivery());
        // An unknown format means no datagrams: a collector should not get a format that it does not expect.
        let format = self.format.or_else(|| env.format());
        let is_disabled = env.is_disabled();
        let socket = self.socket.unwrap_or_else(|| env.socket()).filter(|_| format.is_some() && !is_disabled);
        let reporter = env.reporter;
        let encoder = Arc::new(Encoder::new(format.unwrap_or_default(), Arc::new(resource), vocabulary));
        if self.publishes_thread_context {
            publish_thread_context(&encoder, &reporter);
        }
        let otel = otel(self.uses_opentelemetry_ids);
        let origin = if otel.is_some() { Origin::Undecided } else { Origin::Own };
        let mut spans = OpenSpans::new(origin);
        let exporter = socket.and_then(|path| {
            let (encoder, reporter) = (Arc::clone(&encoder), Arc::clone(&reporter));
            Exporter::open(delivery, path, max_wait, encoder, reporter, spans.view(), open_spans)
        });
        if let Some(exporter) = exporter.clone().filter(|_| open_spans.is_some()) {
            spans.on_child(move || exporter.watch());
        }
        let threshold = open_spans.unwrap_or(OPEN_SPANS_THRESHOLD);
        let batches =
            Batches::new(Arc::clone(&encoder), Arc::clone(&reporter), max_wait, spans.view(), threshold);
        UsdtLayer::new(identities, limits, encoder.for_text(), (exporter, batches), reporter, spans, otel)
            .with_baggage(baggage)
    }
}

fn publish_thread_context(encoder: &Arc<Encoder>, reporter: &Arc<Reporter>) {
    let tell = {
        let (encoder, reporter) = (Arc::clone(encoder), Arc::clone(reporter));
        move || {
            if let Err(source) = process::publish_context(&encoder.process_context()) {
                reporter.report(Error::ThreadContext { source });
            }
        }
    };
    if let Err(why) = thread_context::publish_always(tell) {
        reporter.report(Error::ThreadContext { source: io::Error::other(why) });
    }
}

#[cfg(feature = "tracing-opentelemetry")]
fn otel(is_wanted: bool) -> Option<OpenTelemetry> {
    is_wanted.then(OpenTelemetry::default)
}

#[cfg(not(feature = "tracing-opentelemetry"))]
fn otel(_: bool) -> Option<OpenTelemetry> {
    None
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("socket", &self.socket)
            .field("format", &self.format)
            .field("delivery", &self.delivery)
            .field("max_wait", &self.max_wait)
            .field("service_name", &self.service_name)
            .field("resource_attributes", &self.resource_attributes)
            .field("max_attributes", &self.max_attributes)
            .field("max_characters", &self.max_characters)
            .field("baggage_attributes", &self.baggage_attributes)
            .field("vocabulary", &self.vocabulary)
            .field("resource_detection", &!self.no_resource_detection)
            .field("sampler", &self.sampler)
            .field("remote_parent", &self.remote_parent)
            .field("thread_context", &self.publishes_thread_context)
            .field("opentelemetry_ids", &self.uses_opentelemetry_ids)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propagation::TraceState;
    use std::sync::Mutex;

    /// Builds from `variables`. Returns the layer and the errors that were reported.
    fn build(builder: Builder, variables: &[(&str, &str)]) -> (UsdtLayer, Vec<String>) {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&errors);
        let layer = builder
            .on_error(move |error| sink.lock().expect("no panic inside").push(error.to_string()))
            .build_with(&|variable| {
                let (_, value) = variables.iter().find(|(name, _)| *name == variable)?;
                Some(value.into())
            });
        let errors = errors.lock().expect("no panic inside").clone();
        (layer, errors)
    }

    fn identities(sampler: Sampler, remote_parent: Option<SpanContext>) -> Identities {
        Identities::new(sampler, remote_parent)
    }

    #[test]
    fn an_empty_environment_gives_the_defaults_and_no_error() {
        let (layer, errors) = build(Builder::default(), &[]);
        assert_eq!(errors, [""; 0]);
        assert_eq!(layer.settings(), (identities(Sampler::default(), None), Limits::default(), None));
    }

    #[test]
    fn each_unusable_value_is_reported_once_with_its_variable() {
        let cases = [
            ("TRACING_USDT_FORMAT", "xml"),
            ("TRACING_USDT_DELIVERY", "pigeon"),
            ("TRACING_USDT_MAX_WAIT_MS", "-1"),
            ("TRACING_USDT_OPEN_SPANS", "1"),
            ("TRACING_USDT_OPEN_SPANS", "0s"),
            ("TRACING_USDT_OPEN_SPANS", "1.5s"),
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
            ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "-1"),
            ("OTEL_RESOURCE_ATTRIBUTES", "no-equals-sign"),
            ("OTEL_RESOURCE_ATTRIBUTES", "fine=1,bad=%zz"),
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("TRACEPARENT", "00-00-00-00"),
            ("BAGGAGE", "no-equals-sign"),
            ("TRACING_USDT_BAGGAGE_ATTRIBUTES", "user.id,not a key"),
        ];
        for (variable, value) in cases {
            let (_, errors) = build(Builder::default(), &[(variable, value)]);
            assert_eq!(errors.len(), 1, "{variable}: {errors:?}");
            assert!(errors[0].contains(variable) && errors[0].contains(value), "{errors:?}");
        }
        let ratio = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "7")];
        let (_, errors) = build(Builder::default(), &ratio);
        assert!(errors.len() == 1 && errors[0].contains("SAMPLER_ARG"), "{errors:?}");
    }

    #[test]
    fn options_set_in_code_take_precedence_over_the_environment() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let variables =
            [("TRACEPARENT", traceparent), ("TRACESTATE", "a=1"), ("OTEL_TRACES_SAMPLER", "always_off")];
        let (layer, errors) = build(Builder::default(), &variables);
        let state = TraceState::parse(["a=1"]).expect("a tracestate");
        let parent = SpanContext::from_traceparent(traceparent).map(|parent| parent.with_trace_state(state));
        assert_eq!(layer.settings(), (identities(Sampler::AlwaysOff, parent), Limits::default(), None));
        assert_eq!(errors, [""; 0]);

        let code = Builder::default().without_remote_parent().with_sampler(Sampler::AlwaysOn);
        let (layer, _) = build(code, &variables);
        assert_eq!(layer.settings(), (identities(Sampler::AlwaysOn, None), Limits::default(), None));
    }

    #[test]
    fn spaces_around_values_and_capitals_are_accepted() {
        let socket = ("TRACING_USDT_SOCKET", "/nonexistent/trace.sock");
        let format =
            |name| build(Builder::default(), &[socket, ("TRACING_USDT_FORMAT", name)]).0.settings().2;
        assert_eq!([" OTLP\n", "Otlp", "OTLP-json"].map(format), [Some(Format::OtlpJson); 3]);
        assert_eq!(format("\tOtlp-Protobuf "), Some(Format::OtlpProtobuf));
        assert_eq!(
            ["Zipkin", " ", "\n"].map(format),
            [Some(Format::Zipkin); 3],
            "a value of spaces counts as unset"
        );
        let traceparent = " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
        let variables = [
            ("TRACEPARENT", traceparent),
            ("TRACESTATE", "\t"),
            ("OTEL_TRACES_SAMPLER", "\tTraceIdRatio "),
            ("OTEL_TRACES_SAMPLER_ARG", " 0.5\n"),
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "7\n"),
            ("TRACING_USDT_DELIVERY", "INLINE "),
            ("TRACING_USDT_MAX_WAIT_MS", " 5"),
            ("TRACING_USDT_OPEN_SPANS", " 500 MS"),
            ("OTEL_SDK_DISABLED", "\n"),
            ("OTEL_RESOURCE_ATTRIBUTES", " "),
            ("OTEL_SERVICE_NAME", " "),
            ("BAGGAGE", " a=1 "),
            ("TRACING_USDT_BAGGAGE_ATTRIBUTES", " a, b,\n"),
        ];
        let (layer, errors) = build(Builder::default(), &variables);
        assert_eq!(errors, [""; 0]);
        let parent = SpanContext::from_traceparent(traceparent.trim());
        let (found, limits, _) = layer.settings();
        assert_eq!(found, identities(Sampler::TraceIdRatio(0.5), parent));
        assert_eq!(limits.attributes, 7);
    }

    #[test]
    fn a_disabled_sdk_sends_nothing_even_if_code_sets_the_socket() {
        let socket = ("TRACING_USDT_SOCKET", "/nonexistent/trace.sock");
        let is_sending = |builder, disabled| {
            let (layer, errors) = build(builder, &[socket, ("OTEL_SDK_DISABLED", disabled)]);
            (layer.settings().2.is_some(), errors.iter().any(|error| error.contains("OTEL_SDK_DISABLED")))
        };
        for disabled in ["true", "TRUE", "True", " true\n"] {
            assert_eq!(is_sending(Builder::default(), disabled), (false, false), "{disabled:?}");
            assert_eq!(
                is_sending(Builder::default().with_socket("/none"), disabled),
                (false, false),
                "{disabled:?}"
            );
        }
        for (enabled, is_reported) in
            [("false", false), ("FALSE", false), ("", false), ("1", true), ("yes", true)]
        {
            assert_eq!(is_sending(Builder::default(), enabled), (true, is_reported), "{enabled:?}");
        }
    }

    #[test]
    fn an_invalid_trace_state_is_reported_and_the_parent_kept() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let variables = [("TRACEPARENT", traceparent), ("TRACESTATE", "A=1")];
        let (layer, errors) = build(Builder::default(), &variables);
        let parent = SpanContext::from_traceparent(traceparent);
        assert_eq!(layer.settings().0, identities(Sampler::default(), parent));
        assert!(errors.len() == 1 && errors[0].contains("TRACESTATE"), "{errors:?}");
        assert_eq!(
            build(Builder::default(), &[("TRACESTATE", "A=1")]).1,
            [""; 0],
            "not read without a parent"
        );
    }

    #[test]
    fn baggage_and_its_attributes_are_read_from_the_environment() {
        let variables = [("BAGGAGE", "a=1, b=%20"), ("TRACING_USDT_BAGGAGE_ATTRIBUTES", "a,b")];
        let settings = |builder| {
            let (layer, errors) = build(builder, &variables);
            assert_eq!(errors, [""; 0]);
            layer.baggage_settings()
        };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(settings(Builder::default()), ("a=1,b=%20".to_owned(), texts(&["a", "b"])));
        let code = Builder::default().without_remote_parent().with_baggage_attributes(["c"]);
        assert_eq!(settings(code), (String::new(), texts(&["c"])));
        let none = Builder::default().with_baggage_attributes([""; 0]);
        assert_eq!(settings(none).1, texts(&[]));
        let parent = SpanContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let parent = parent.expect("a traceparent").with_baggage(crate::Baggage::parse(["k=v"]));
        assert_eq!(settings(Builder::default().with_remote_parent(parent)).0, "k=v");
    }

    #[test]
    fn limits_for_spans_take_precedence_over_those_for_all_attributes() {
        let variables = [
            ("OTEL_ATTRIBUTE_COUNT_LIMIT", "7"),
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3"),
            ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "20"),
        ];
        let limits = |builder| build(builder, &variables).0.settings().1;
        assert_eq!(limits(Builder::default()), Limits { attributes: 3, characters: 20, ..Limits::default() });
        let code = Builder::default().with_max_attributes_per_span(5).with_max_attribute_value_length(9);
        assert_eq!(limits(code), Limits { attributes: 5, characters: 9, ..Limits::default() });
    }

    #[test]
    fn a_socket_without_a_receiver_is_reported_with_its_path() {
        let socket = [("TRACING_USDT_SOCKET", "/nonexistent/trace.sock")];
        let (layer, errors) = build(Builder::default(), &socket);
        assert_eq!(layer.settings().2, Some(Format::Zipkin));
        assert!(errors.len() == 1 && errors[0].contains("/nonexistent/trace.sock"), "{errors:?}");

        let (layer, errors) = build(Builder::default().without_socket(), &socket);
        assert_eq!(layer.settings().2, None);
        assert_eq!(errors, [""; 0]);

        let format = |name| {
            let variables = [socket[0], ("TRACING_USDT_FORMAT", name)];
            build(Builder::default(), &variables).0.settings().2
        };
        assert_eq!(["otlp", "otlp-json"].map(format), [Some(Format::OtlpJson); 2]);
        assert_eq!(format("otlp-protobuf"), Some(Format::OtlpProtobuf));
        assert_eq!(format("xml"), None, "an unknown format must not send Zipkin");
    }
}
