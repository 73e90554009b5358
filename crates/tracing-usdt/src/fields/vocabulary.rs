//! Names of attributes and fields that have a meaning to the layer: attributes that it adds to each span, and
//! special fields that it interprets.

/// The switches for these names. All are on unless the application turns one off.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Vocabulary {
    pub(crate) level: bool,
    pub(crate) target: bool,
    pub(crate) location: bool,
    pub(crate) threads: bool,
    pub(crate) busy_and_idle: bool,
    pub(crate) kinds: bool,
    pub(crate) status: bool,
    pub(crate) exceptions: bool,
    pub(crate) links: bool,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self::ALL
    }
}

impl Vocabulary {
    pub(crate) const ALL: Self = Self {
        level: true,
        target: true,
        location: true,
        threads: true,
        busy_and_idle: true,
        kinds: true,
        status: true,
        exceptions: true,
        links: true,
    };

    /// Whether the layer adds the attribute `key`, if it is one of the layer's own. `true` for any other key.
    pub(crate) fn has(&self, key: &str) -> bool {
        match key {
            "level" => self.level,
            "target" => self.target,
            "code.file.path" | "code.line.number" | "code.module.name" => self.location,
            "thread.id" | "thread.name" => self.threads,
            "busy_ns" | "idle_ns" => self.busy_and_idle,
            _ => true,
        }
    }

    /// Whether `name` has any meaning to the layer: a special field, or an attribute or Zipkin tag that the
    /// layer adds. Spans without such fields are encoded on a faster path.
    pub(crate) fn is_reserved(name: &str) -> bool {
        Self::ALL.is_special(name) || LAYER_ATTRIBUTES.contains(&name) || ZIPKIN_TAGS.contains(&name)
    }

    /// Whether a field `name` sets a property of the span, such as its kind, instead of becoming an attribute.
    pub(crate) fn is_special(&self, name: &str) -> bool {
        match name {
            "otel.name" => true,
            "otel.kind" => self.kinds,
            "otel.status_code" | "otel.status_description" => self.status,
            _ => false,
        }
    }
}

/// Attributes that the layer adds to a span, unless the span has a field of the same name.
pub(crate) const LAYER_ATTRIBUTES: [&str; 12] = [
    "level",
    "target",
    "code.file.path",
    "code.line.number",
    "code.module.name",
    "thread.id",
    "thread.name",
    "busy_ns",
    "idle_ns",
    "tracing_usdt.shortened_values_count",
    UNFINISHED,
    BEGAN_BEFORE,
];

/// Marks a span that was still open when the program ended.
pub(crate) const UNFINISHED: &str = "tracing_usdt.unfinished";

/// Marks a span that began before anyone listened.
pub(crate) const BEGAN_BEFORE: &str = "tracing_usdt.began_before";

/// Tags that only Zipkin spans have. In OTLP, the same data are not attributes. They are here, below the encoder
/// that adds them, because `is_reserved` checks for them when a field is recorded.
pub(crate) const ZIPKIN_TAGS: [&str; 6] = [
    "otel.status_code",
    "error",
    "follows_from",
    "otel.dropped_attributes_count",
    "otel.dropped_events_count",
    "otel.dropped_links_count",
];
