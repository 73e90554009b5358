//! Who sends: the service's name and what else OpenTelemetry's resource says of the process.

use crate::error::{Error, Reporter};
use crate::executable::Executable;
use crate::fields::{MAX_NAME_BYTES, Value, floor_char_boundary, text_cost};

/// The same on every span of the process.
pub(crate) struct Resource {
    service_name: String,
    attributes: Vec<(String, String)>,
    executable: Executable,
    /// Whether to say what we see ourselves of the process and its host.
    detects: bool,
}

/// Room for the attributes in every datagram, and for what they are escaped to.
pub(crate) const MAX_RESOURCE_BYTES: usize = 4 * 1024;

impl Resource {
    /// `service_name` wins over a `service.name` among the attributes, as in OpenTelemetry; without
    /// either it is the executable's name. Attributes beyond the limit are reported and left out.
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
        let named = names.into_iter().next_back().map(|(_, name)| name);
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
        let executable = Executable::this();
        let by_file = || match &*executable.name {
            "" => "unknown_service".to_owned(),
            name => name.to_owned(),
        };
        let mut service_name = service_name.or(named).unwrap_or_else(by_file);
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
    /// Gives what can be seen of the process and its host to `write`, unless its user said it.
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

/// As OpenTelemetry names them.
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

/// Reads `OTEL_RESOURCE_ATTRIBUTES`: `key=value` pairs with commas between, keys and values percent-encoded.
/// `None` where a pair has no `=` or a part doesn't decode; the specification then drops the whole.
pub(crate) fn parse_attributes(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let key = percent_decode(key.trim()).filter(|key| !key.is_empty())?;
            Some((key, percent_decode(value.trim())?))
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            bytes.push((digit()? * 16 + digit()?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_opentelemetry_says() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let cases = [
            ("", Some(vec![])),
            ("a=1, b = 2 ", Some(vec![pair("a", "1"), pair("b", "2")])),
            ("a=x%2Cy%3D%20z", Some(vec![pair("a", "x,y= z")])),
            ("a=b=c", Some(vec![pair("a", "b=c")])),
            ("team%2Cname%3D=core", Some(vec![pair("team,name=", "core")])),
            ("caf%C3%A9=1", Some(vec![pair("caf\u{e9}", "1")])),
            ("a%=1", None),
            ("%zz=1", None),
            ("a%ff=1,b=2", None),
            ("a", None),
            ("=1", None),
            ("a=%2", None),
            ("a=%ff", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_attributes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn attributes_beyond_the_limit_are_left_out() {
        let attributes = (0..1000).map(|n| (format!("key {n}"), "value".to_owned())).collect();
        let resource = Resource::new(None, attributes, true, &Reporter::default());
        let kept = resource.attributes().count();
        assert!((50..150).contains(&kept), "{kept} kept");
    }

    #[test]
    fn the_service_is_named_by_its_own_setting_first() {
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
