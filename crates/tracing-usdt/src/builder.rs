//! Options: what is set in code, then the environment, then the default.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::context::SpanContext;
use crate::delivery::{Carrier, Delivery};
use crate::encode::{Encoder, Format};
use crate::error::{Callback, Error, Reporter};
use crate::identity::Identities;
use crate::layer::UsdtLayer;
use crate::limits::Limits;
use crate::process;
use crate::resource::{Resource, parse_attributes};
use crate::sampler::Sampler;
use crate::spans::Spans;
use crate::trace_state::TraceState;
use crate::vocabulary::Vocabulary;

/// Sets up a [`UsdtLayer`]. What is not set here is read from the environment when
/// [`build`](Builder::build) is called; the [crate documentation](crate#environment) lists the
/// variables.
///
/// ```
/// use std::time::Duration;
/// use tracing_subscriber::prelude::*;
///
/// let layer = tracing_usdt::builder()
///     .socket("/run/my-service/trace.sock")
///     .service_name("my-service")
///     .max_wait(Duration::from_millis(5))
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
    service_name: Option<String>,
    resource_attributes: Option<Vec<(String, String)>>,
    max_attributes: Option<u32>,
    max_characters: Option<usize>,
    vocabulary: Vocabulary,
    no_resource_detection: bool,
    sampler: Option<Sampler>,
    parent: Option<Option<SpanContext>>,
    on_error: Option<Callback>,
}

impl Builder {
    /// Sends every completed span to the `SOCK_DGRAM` socket bound at `path`. The collector may
    /// start later, and may come and go. A relative path is relative to the working directory when the layer is built.
    /// Instead of `TRACING_USDT_SOCKET`.
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Some(Some(path.into()));
        self
    }

    /// Sends no datagrams, whatever `TRACING_USDT_SOCKET` says.
    pub fn no_socket(mut self) -> Self {
        self.socket = Some(None);
        self
    }

    /// What a datagram holds, and `span_emit` with it. Instead of `TRACING_USDT_FORMAT`.
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// How spans get to the socket. Instead of `TRACING_USDT_DELIVERY`.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// How long a thread that closes a span may wait for room, in memory or (with
    /// [`Delivery::Inline`]) in the receiver's queue, before the span is dropped and counted; zero,
    /// the default, for not at all. Instead of `TRACING_USDT_MAX_WAIT_MS`.
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// The service's name in the datagrams. Instead of `OTEL_SERVICE_NAME`; by default
    /// [the program's name](crate#names-of-processes).
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// Adds what every span says of this process, such as `deployment.environment.name`. Instead
    /// of `OTEL_RESOURCE_ATTRIBUTES`.
    pub fn resource_attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let attributes = self.resource_attributes.get_or_insert_default();
        attributes.push((key.into(), value.into()));
        self
    }

    /// How many fields are kept of a span, and of an event. Instead of `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`; by
    /// default 128.
    pub fn max_attributes_per_span(mut self, fields: u32) -> Self {
        self.max_attributes = Some(fields);
        self
    }

    /// How many characters are kept of a value. Instead of `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`; by default as
    /// many as fit into 10 KiB.
    pub fn max_attribute_value_length(mut self, characters: usize) -> Self {
        self.max_characters = Some(characters);
        self
    }

    /// Whether spans and events say their `level`; by default they do.
    pub fn level(mut self, is_said: bool) -> Self {
        self.vocabulary.level = is_said;
        self
    }

    /// Whether spans and events say their `target`; by default they do.
    pub fn target(mut self, is_said: bool) -> Self {
        self.vocabulary.target = is_said;
        self
    }

    /// Whether spans, and records of the `log` crate, say where in the code they are, in `code.*`; by default they do.
    pub fn location(mut self, is_said: bool) -> Self {
        self.vocabulary.location = is_said;
        self
    }

    /// Whether spans say on which thread they were made, in `thread.id` and `thread.name`; by default they do.
    pub fn threads(mut self, is_said: bool) -> Self {
        self.vocabulary.threads = is_said;
        self
    }

    /// Whether spans say how long they were entered and how long not, in `busy_ns` and `idle_ns`; by default
    /// they do.
    pub fn busy_and_idle(mut self, is_said: bool) -> Self {
        self.vocabulary.busy_and_idle = is_said;
        self
    }

    /// Whether the field `otel.kind` says of which kind a span is; by default it does. Otherwise it is a field
    /// like any other.
    pub fn kinds(mut self, is_said: bool) -> Self {
        self.vocabulary.kinds = is_said;
        self
    }

    /// Whether spans have a status, by the fields `otel.status_code` and `otel.status_description`, and by the
    /// events inside of them; by default they do.
    pub fn status(mut self, is_said: bool) -> Self {
        self.vocabulary.status = is_said;
        self
    }

    /// Whether an error value in a field is also an exception, with its sources, in `exception.*`; by default it
    /// is.
    pub fn exceptions(mut self, is_said: bool) -> Self {
        self.vocabulary.exceptions = is_said;
        self
    }

    /// Whether a span has links to those that it follows from; by default it has.
    pub fn links(mut self, is_said: bool) -> Self {
        self.vocabulary.links = is_said;
        self
    }

    /// Whether OTLP's resource has what can be seen of the process and its host, in `process.*`, `host.*`, `os.*`
    /// and `telemetry.sdk.*`; by default it has. What is set as a resource attribute stands.
    pub fn resource_detection(mut self, is_said: bool) -> Self {
        self.no_resource_detection = !is_said;
        self
    }

    /// Which traces are sent. Instead of `OTEL_TRACES_SAMPLER`. Probes fire for all of them.
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = Some(sampler);
        self
    }

    /// The span of another process that this process's root spans continue, or `None` for new
    /// traces. Instead of `TRACEPARENT` and `TRACESTATE`.
    pub fn parent(mut self, parent: Option<SpanContext>) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Takes the problems that are otherwise printed on stderr, each kind once. Called on the
    /// thread that met the problem, so it should be quick. It may log; but it should make no span,
    /// because the registry keeps one that closes while another is closing, with all above it.
    /// At the end of the program it is not called any more, and nothing is printed in its place.
    pub fn on_error(mut self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Box::new(callback));
        self
    }

    /// Reads the environment for what has not been set, and makes the layer. It always succeeds:
    /// what can't be used is reported and left out.
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
        let identities = Identities {
            sampler: self.sampler.unwrap_or_else(|| env.sampler()),
            remote_parent: self.parent.unwrap_or_else(|| env.parent()).map(Arc::new),
        };
        let vocabulary = self.vocabulary;
        let limits = Limits { vocabulary, ..env.limits(self.max_attributes, self.max_characters) };
        let max_wait = self.max_wait.unwrap_or_else(|| env.max_wait());
        let delivery = self.delivery.unwrap_or_else(|| env.delivery());
        // Without a format that is known there are no datagrams: a collector should not get what it
        // didn't ask for.
        let format = self.format.or_else(|| env.format());
        let is_disabled = env.is_disabled();
        let reporter = env.reporter;
        let socket = self.socket.unwrap_or_else(|| socket(read)).filter(|_| format.is_some() && !is_disabled);
        let encoder = Arc::new(Encoder::new(format.unwrap_or_default(), resource, vocabulary));
        let spans = Spans::new();
        let carrier = socket.and_then(|path| {
            let (encoder, reporter) = (Arc::clone(&encoder), Arc::clone(&reporter));
            Carrier::open(delivery, path, max_wait, encoder, reporter, spans.unfinished())
        });
        UsdtLayer::new(identities, limits, encoder, carrier, reporter, spans)
    }
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
            .field("vocabulary", &self.vocabulary)
            .field("sampler", &self.sampler)
            .field("parent", &self.parent)
            .finish_non_exhaustive()
    }
}

fn socket(read: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    read("TRACING_USDT_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The contract's variables. An empty one counts as unset, as everywhere in OpenTelemetry.
struct Environment<'a> {
    read: &'a dyn Fn(&str) -> Option<OsString>,
    reporter: Arc<Reporter>,
}

impl Environment<'_> {
    /// Without the spaces and line ends around it, which come from files and shells.
    fn text(&self, variable: &str) -> Option<String> {
        let value = (self.read)(variable)?;
        let value = value.to_string_lossy();
        Some(value.trim()).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// The variable's value as `parse` understands it; where it doesn't, that is reported.
    fn parsed<T>(
        &self,
        variable: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.text(variable)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.reporter.report(Error::Environment { variable, value, expected });
        }
        parsed
    }

    /// The same of a word that may be written in capitals.
    fn word<T>(
        &self,
        variable: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.parsed(variable, expected, |word| parse(&word.to_ascii_lowercase()))
    }

    /// Whether whoever runs the program wants no telemetry from it, wherever the program itself would send it.
    fn is_disabled(&self) -> bool {
        self.word("OTEL_SDK_DISABLED", "true or false", |word| match word {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
        .unwrap_or(false)
    }

    fn format(&self) -> Option<Format> {
        if self.text("TRACING_USDT_FORMAT").is_none() {
            return Some(Format::default());
        }
        let expected = "zipkin or otlp; no datagrams are sent";
        self.word("TRACING_USDT_FORMAT", expected, |format| match format {
            "zipkin" => Some(Format::Zipkin),
            "otlp" => Some(Format::Otlp),
            _ => None,
        })
    }

    fn delivery(&self) -> Delivery {
        let expected = "background or inline; it is background that is used";
        self.word("TRACING_USDT_DELIVERY", expected, |delivery| match delivery {
            "background" => Some(Delivery::Background),
            "inline" => Some(Delivery::Inline),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// The limit for spans, or else the one for all of OpenTelemetry.
    fn limits(&self, attributes: Option<u32>, characters: Option<usize>) -> Limits {
        let limit = |variables: [&'static str; 2]| {
            variables.into_iter().find_map(|variable| {
                self.parsed(variable, "a whole number, or nothing for no limit", |value| value.parse().ok())
            })
        };
        let standard = Limits::default();
        let attributes = attributes
            .or_else(|| limit(["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"]))
            .unwrap_or(standard.attributes);
        let variables = ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"];
        let characters = characters
            .or_else(|| limit(variables).map(|limit| limit as usize))
            .unwrap_or(standard.characters);
        Limits { attributes, characters, ..standard }
    }

    fn max_wait(&self) -> Duration {
        self.parsed("TRACING_USDT_MAX_WAIT_MS", "a whole number of milliseconds", |value| value.parse().ok())
            .map_or(Duration::ZERO, Duration::from_millis)
    }

    fn resource_attributes(&self) -> Vec<(String, String)> {
        self.parsed(
            "OTEL_RESOURCE_ATTRIBUTES",
            "key=value pairs with commas between, keys and values percent-encoded; none of them is used",
            parse_attributes,
        )
        .unwrap_or_default()
    }

    fn sampler(&self) -> Sampler {
        let name = self.text("OTEL_TRACES_SAMPLER").unwrap_or_default();
        let takes_ratio = name.to_ascii_lowercase().ends_with("traceidratio");
        let ratio = if takes_ratio {
            self.parsed("OTEL_TRACES_SAMPLER_ARG", "a ratio from 0 to 1", |value| {
                value.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
            })
        } else {
            None
        };
        self.word(
            "OTEL_TRACES_SAMPLER",
            "always_on, always_off, traceidratio, or one of these with parentbased_ before it",
            |name| Sampler::from_name(name, ratio.unwrap_or(1.0)),
        )
        .unwrap_or_default()
    }

    fn parent(&self) -> Option<SpanContext> {
        let parent = self.parsed(
            "TRACEPARENT",
            "a W3C trace context such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            SpanContext::from_traceparent,
        )?;
        let state = self.parsed("TRACESTATE", "a W3C trace state such as rojo=00f067aa0ba902b7", |text| {
            TraceState::parse([text])
        });
        Some(parent.with_trace_state(state.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Builds from `variables`, and gives the layer with what was reported.
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
        Identities { sampler, remote_parent: remote_parent.map(Arc::new) }
    }

    #[test]
    fn without_environment_there_is_nothing_to_report() {
        let (layer, errors) = build(Builder::default(), &[]);
        assert_eq!(errors, [""; 0]);
        assert_eq!(layer.settings(), (identities(Sampler::default(), None), Limits::default(), None));
    }

    #[test]
    fn each_unusable_value_is_reported_once_by_name() {
        let cases = [
            ("TRACING_USDT_FORMAT", "xml"),
            ("TRACING_USDT_DELIVERY", "pigeon"),
            ("TRACING_USDT_MAX_WAIT_MS", "-1"),
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
            ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "-1"),
            ("OTEL_RESOURCE_ATTRIBUTES", "no-equals-sign"),
            ("OTEL_RESOURCE_ATTRIBUTES", "fine=1,bad=%zz"),
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("TRACEPARENT", "00-00-00-00"),
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
    fn the_environment_is_read_and_code_wins() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let variables =
            [("TRACEPARENT", traceparent), ("TRACESTATE", "a=1"), ("OTEL_TRACES_SAMPLER", "always_off")];
        let (layer, errors) = build(Builder::default(), &variables);
        let state = TraceState::parse(["a=1"]).expect("a tracestate");
        let parent = SpanContext::from_traceparent(traceparent).map(|parent| parent.with_trace_state(state));
        assert_eq!(layer.settings(), (identities(Sampler::AlwaysOff, parent), Limits::default(), None));
        assert_eq!(errors, [""; 0]);

        let code = Builder::default().parent(None).sampler(Sampler::AlwaysOn);
        let (layer, _) = build(code, &variables);
        assert_eq!(layer.settings(), (identities(Sampler::AlwaysOn, None), Limits::default(), None));
    }

    #[test]
    fn spaces_and_line_ends_around_a_value_are_no_part_of_it_and_capitals_are_words_too() {
        let socket = ("TRACING_USDT_SOCKET", "/nonexistent/trace.sock");
        let format =
            |name| build(Builder::default(), &[socket, ("TRACING_USDT_FORMAT", name)]).0.settings().2;
        assert_eq!([" OTLP\n", "Otlp"].map(format), [Some(Format::Otlp); 2]);
        assert_eq!(
            ["Zipkin", " ", "\n"].map(format),
            [Some(Format::Zipkin); 3],
            "nothing but spaces is nothing"
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
            ("OTEL_SDK_DISABLED", "\n"),
            ("OTEL_RESOURCE_ATTRIBUTES", " "),
            ("OTEL_SERVICE_NAME", " "),
        ];
        let (layer, errors) = build(Builder::default(), &variables);
        assert_eq!(errors, [""; 0]);
        let parent = SpanContext::from_traceparent(traceparent.trim());
        let (found, limits, _) = layer.settings();
        assert_eq!(found, identities(Sampler::TraceIdRatio(0.5), parent));
        assert_eq!(limits.attributes, 7);
    }

    #[test]
    fn a_disabled_sdk_sends_nothing_wherever_the_socket_is_set() {
        let socket = ("TRACING_USDT_SOCKET", "/nonexistent/trace.sock");
        let is_sending = |builder, disabled| {
            let (layer, errors) = build(builder, &[socket, ("OTEL_SDK_DISABLED", disabled)]);
            (layer.settings().2.is_some(), errors.iter().any(|error| error.contains("OTEL_SDK_DISABLED")))
        };
        for disabled in ["true", "TRUE", "True", " true\n"] {
            assert_eq!(is_sending(Builder::default(), disabled), (false, false), "{disabled:?}");
            assert_eq!(
                is_sending(Builder::default().socket("/none"), disabled),
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
    fn a_trace_state_that_can_not_be_used_leaves_the_parent() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let variables = [("TRACEPARENT", traceparent), ("TRACESTATE", "A=1")];
        let (layer, errors) = build(Builder::default(), &variables);
        let parent = SpanContext::from_traceparent(traceparent);
        assert_eq!(layer.settings().0, identities(Sampler::default(), parent));
        assert!(errors.len() == 1 && errors[0].contains("TRACESTATE"), "{errors:?}");
        assert_eq!(build(Builder::default(), &[("TRACESTATE", "A=1")]).1, [""; 0], "of no parent");
    }

    #[test]
    fn the_limits_for_spans_win_over_those_for_all() {
        let variables = [
            ("OTEL_ATTRIBUTE_COUNT_LIMIT", "7"),
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3"),
            ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "20"),
        ];
        let limits = |builder| build(builder, &variables).0.settings().1;
        assert_eq!(limits(Builder::default()), Limits { attributes: 3, characters: 20, ..Limits::default() });
        let code = Builder::default().max_attributes_per_span(5).max_attribute_value_length(9);
        assert_eq!(limits(code), Limits { attributes: 5, characters: 9, ..Limits::default() });
    }

    #[test]
    fn a_socket_nobody_binds_is_reported_with_its_path() {
        let socket = [("TRACING_USDT_SOCKET", "/nonexistent/trace.sock")];
        let (layer, errors) = build(Builder::default(), &socket);
        assert_eq!(layer.settings().2, Some(Format::Zipkin));
        assert!(errors.len() == 1 && errors[0].contains("/nonexistent/trace.sock"), "{errors:?}");

        let (layer, errors) = build(Builder::default().no_socket(), &socket);
        assert_eq!(layer.settings().2, None);
        assert_eq!(errors, [""; 0]);

        let format = |name| {
            let variables = [socket[0], ("TRACING_USDT_FORMAT", name)];
            build(Builder::default(), &variables).0.settings().2
        };
        assert_eq!(format("otlp"), Some(Format::Otlp));
        assert_eq!(format("xml"), None, "zipkin sent to a reader of something else");
    }
}
