//! OpenTelemetry's resource: the service's name, and attributes of the process and its host.

use crate::bounds::{MAX_NAME_BYTES, MAX_RESOURCE_BYTES, floor_char_boundary, text_cost};
use crate::error::{Error, Reporter};
use crate::fields::Value;
use crate::process::Executable;

/// The attributes that all spans of the process share.
pub(crate) struct Resource {
    service_name: String,
    attributes: Vec<(String, String)>,
    executable: Executable,
    /// Whether to add attributes that are detected, such as the pid.
    detects: bool,
}

impl Resource {
    /// `service_name` takes precedence over a `service.name` among the attributes, as in OpenTelemetry.
    /// Without either, the service is named after the executable. Attributes beyond the size limit are left
    /// out, which is reported.
    pub(crate) fn new(
        service_name: Option<String>,
        attributes: Vec<(String, String)>,
        detects: bool,
        reporter: &Reporter,
    ) -> Self {
        let mut kept: Vec<(String, String)> = Vec::new();
        let mut bytes = 0;
        let (names, others): (Vec<_>, Vec<_>) =
            attributes.into_iter().partition(|(key, _)| key == "service.name");
        let named_attribute = names.into_iter().next_back().map(|(_, name)| name);
        for (key, value) in others {
            bytes += text_cost(&key) + text_cost(&value);
            if bytes > MAX_RESOURCE_BYTES {
                reporter.report(Error::ResourceTooLarge { left_out: key });
                break;
            }
            match kept.iter_mut().find(|(known, _)| *known == key) {
                Some(known) => known.1 = value,
                None => kept.push((key, value)),
            }
        }
        let executable = Executable::current();
        let executable_name = || match &*executable.name {
            "" => "unknown_service".to_owned(),
            name => name.to_owned(),
        };
        let mut service_name = service_name.or(named_attribute).unwrap_or_else(executable_name);
        service_name.truncate(floor_char_boundary(&service_name, MAX_NAME_BYTES));
        Self { service_name, attributes: kept, executable, detects }
    }

    pub(crate) fn service_name(&self) -> &str {
        &self.service_name
    }

    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl Resource {
    /// Calls `write` with each detected attribute that the user has not set.
    pub(crate) fn detected(&self, write: &mut dyn FnMut(&str, Value<'_>)) {
        if !self.detects {
            return;
        }
        let path = self.executable.path.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default();
        let host = host_name().unwrap_or_default();
        let detected = [
            ("process.pid", Value::U64(std::process::id().into())),
            ("process.executable.name", Value::Text(&self.executable.name)),
            ("process.executable.path", Value::Text(&path)),
            ("host.name", Value::Text(&host)),
            ("host.arch", Value::Text(HOST_ARCH)),
            ("os.type", Value::Text(os_type())),
            ("telemetry.sdk.name", Value::Text(env!("CARGO_PKG_NAME"))),
            ("telemetry.sdk.language", Value::Text("rust")),
            ("telemetry.sdk.version", Value::Text(env!("CARGO_PKG_VERSION"))),
        ];
        for (key, value) in detected {
            let value = match value {
                Value::Text(text) => Value::Text(&text[..floor_char_boundary(text, MAX_NAME_BYTES)]),
                other => other,
            };
            if value != Value::Text("") && !self.attributes.iter().any(|(known, _)| known == key) {
                write(key, value);
            }
        }
    }
}

/// The architecture by OpenTelemetry's names.
const HOST_ARCH: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    b"arm" => "arm32",
    b"powerpc" => "ppc32",
    b"powerpc64" => "ppc64",
    _ => std::env::consts::ARCH,
};

fn os_type() -> &'static str {
    match std::env::consts::OS {
        "macos" | "ios" => "darwin",
        "dragonfly" => "dragonflybsd",
        other => other,
    }
}

#[cfg(unix)]
fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

#[cfg(not(unix))]
fn host_name() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_beyond_the_limit_are_left_out() {
        let attributes = (0..1000).map(|n| (format!("key {n}"), "value".to_owned())).collect();
        let resource = Resource::new(None, attributes, true, &Reporter::default());
        let kept = resource.attributes().count();
        assert!((50..150).contains(&kept), "{kept} kept");
    }

    #[test]
    fn the_services_own_setting_takes_precedence() {
        let attributes = || vec![("service.name".to_owned(), "inner".to_owned())];
        let name = |own: Option<&str>| {
            Resource::new(own.map(str::to_owned), attributes(), true, &Reporter::default())
        };
        assert_eq!(name(Some("own")).service_name(), "own");
        assert_eq!(name(None).service_name(), "inner");
        assert_eq!(name(None).attributes().count(), 0);
        let default = Resource::new(None, vec![], true, &Reporter::default());
        assert!(default.service_name().starts_with("tracing_usdt"), "the test executable");
    }
}
