//! Which of OpenTelemetry's words are used of a span.

/// All of them, unless its user says otherwise.
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

    /// Whether what we would say under this key is said.
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

    /// Whether a field of this name says something about the span, instead of being an attribute of it.
    pub(crate) fn interprets(&self, name: &str) -> bool {
        match name {
            "otel.name" => true,
            "otel.kind" => self.kinds,
            "otel.status_code" | "otel.status_description" => self.status,
            _ => false,
        }
    }
}
