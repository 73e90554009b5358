//! The value of `--to`: a kind of backend and its address.
//!
//! Everything else (headers, certificates, ...) comes from the variables of OpenTelemetry, see
//! [`super::environment`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use reqwest::Url;

/// Where spans go: `otlp`, `otlp=URL`, `zipkin=URL`, `jsonl=FILE` or `capture=FILE`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// OTLP, to the address in `OTEL_EXPORTER_OTLP_ENDPOINT` and the other variables.
    Otlp,
    /// OTLP over HTTP, to exactly this URL.
    OtlpHttp(Url),
    /// OTLP over gRPC; the scheme is `http` or, for TLS, `https`.
    OtlpGrpc(Url),
    /// Zipkin's version 2 API, to exactly this URL.
    Zipkin(Url),
    /// A file of OTLP JSON, with one span per line.
    Jsonl(PathBuf),
    /// A capture.
    Capture(PathBuf),
    /// The memory of the flight recorder. It has no form as a value of `--to`.
    FlightRecorder,
}

/// An unusable value of `--to`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetError {
    given: String,
    cause: String,
}

impl std::error::Error for TargetError {}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't send spans to `{}`: {}", self.given, self.cause)
    }
}

const FORMS: &str = "write otlp, otlp=http://HOST:4318, otlp=grpc://HOST:4317, zipkin=http://HOST:9411, \
                     jsonl=FILE or capture=FILE";

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(given: &str) -> Result<Self, TargetError> {
        let target = match given.split_once('=') {
            None if given == "otlp" => Ok(Self::Otlp),
            Some(("otlp", url)) => otlp(url),
            Some(("zipkin", url)) => http_url(url, "zipkin=http://HOST:9411")
                .map(|url| Self::Zipkin(with_path(url, "api/v2/spans"))),
            Some(("jsonl", "")) => Err("the file name is missing: write jsonl=FILE".into()),
            Some(("jsonl", file)) => Ok(Self::Jsonl(file.into())),
            Some(("capture", "")) => Err("the file name is missing: write capture=FILE".into()),
            Some(("capture", file)) => Ok(Self::Capture(file.into())),
            None if given == "zipkin" => Err("the address is missing: write zipkin=http://HOST:9411".into()),
            None if given == "jsonl" => Err("the file name is missing: write jsonl=FILE".into()),
            None if given == "capture" => Err("the file name is missing: write capture=FILE".into()),
            _ => Err(format!("unknown kind of target: {FORMS}")),
        };
        target.map_err(|cause| TargetError { given: given.to_owned(), cause })
    }
}

fn otlp(given: &str) -> Result<Target, String> {
    let ways = "otlp=http://HOST:4318 or otlp=grpc://HOST:4317";
    for (scheme, http) in [("grpc://", "http://"), ("grpcs://", "https://")] {
        if let Some(rest) = given.strip_prefix(scheme) {
            return grpc_url(&format!("{http}{rest}"), ways).map(Target::OtlpGrpc);
        }
    }
    http_url(given, ways).map(|url| Target::OtlpHttp(with_path(url, "v1/traces")))
}

/// Parses an absolute URL with `http` or `https`; `way_out` says what to write instead.
pub(super) fn http_url(given: &str, way_out: &str) -> Result<Url, String> {
    let url =
        Url::parse(given).map_err(|cause| format!("`{given}` is not a URL ({cause}): write {way_out}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        // `127.0.0.1:4318` has no scheme, `localhost:4318` has the scheme `localhost`.
        scheme => Err(format!("the scheme `{scheme}:` is not supported: write {way_out}")),
    }
}

/// Like `http_url`, for a server without path and user: gRPC uses the path for the method, and has no users.
pub(super) fn grpc_url(given: &str, way_out: &str) -> Result<Url, String> {
    let url = http_url(given, way_out)?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(format!("a gRPC address has no path: write {way_out}"));
    }
    if !url.username().is_empty() {
        let instead = "set OTEL_EXPORTER_OTLP_HEADERS=authorization=...";
        return Err(format!("a gRPC address has no user: {instead}"));
    }
    Ok(url)
}

/// Appends `path` to the path of `url`, unless that already ends with it.
pub(super) fn with_path(mut url: Url, path: &str) -> Url {
    let base = url.path().trim_end_matches('/');
    if base.strip_suffix(path).is_none_or(|before| !before.ends_with('/')) {
        let whole = format!("{base}/{path}");
        url.set_path(&whole);
    }
    url
}

/// As a user would write it, without secrets: it appears in notices.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Otlp => write!(f, "otlp"),
            Self::OtlpHttp(url) => write!(f, "otlp={}", shown(url)),
            Self::OtlpGrpc(url) => {
                let shown = shown(url);
                write!(f, "otlp={}", shown.replacen("http", "grpc", 1).trim_end_matches('/'))
            }
            Self::Zipkin(url) => write!(f, "zipkin={}", shown(url)),
            Self::Jsonl(path) => write!(f, "jsonl={}", path.display()),
            Self::Capture(path) => write!(f, "capture={}", path.display()),
            Self::FlightRecorder => write!(f, "flight recorder"),
        }
    }
}

/// The URL without possible secrets: passwords, and keys in the query.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // Fails only for a URL without a host.
        let _ = url.set_password(Some("***"));
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.to_string()
}

impl Target {
    /// The name of this target's folder in a spool: unique to the target, with a readable part.
    pub(super) fn folder(&self) -> PathBuf {
        let name = self.to_string();
        let readable: String =
            name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).take(64).collect();
        Path::new(&format!("{readable}-{:08x}", crc32fast::hash(name.as_bytes()))).to_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed() {
        let cases = [
            ("otlp", "otlp"),
            ("otlp=http://127.0.0.1:4318", "otlp=http://127.0.0.1:4318/v1/traces"),
            ("otlp=http://127.0.0.1:4318/", "otlp=http://127.0.0.1:4318/v1/traces"),
            ("otlp=https://h/base/", "otlp=https://h/base/v1/traces"),
            ("otlp=https://h/base/v1/traces", "otlp=https://h/base/v1/traces"),
            ("otlp=https://h/v1/traces/", "otlp=https://h/v1/traces/"),
            ("otlp=https://h/nov1/traces", "otlp=https://h/nov1/traces/v1/traces"),
            ("otlp=https://h/in?key=1", "otlp=https://h/in/v1/traces?***"),
            ("otlp=https://me:secret@h/", "otlp=https://me:***@h/v1/traces"),
            ("otlp=grpc://127.0.0.1:4317", "otlp=grpc://127.0.0.1:4317"),
            ("otlp=grpcs://h:4317/", "otlp=grpcs://h:4317"),
            ("zipkin=http://127.0.0.1:9411", "zipkin=http://127.0.0.1:9411/api/v2/spans"),
            ("zipkin=http://127.0.0.1:9411/api/v2/spans", "zipkin=http://127.0.0.1:9411/api/v2/spans"),
            ("jsonl=spans.jsonl", "jsonl=spans.jsonl"),
            ("jsonl=/a=b", "jsonl=/a=b"),
            ("capture=a.spans", "capture=a.spans"),
        ];
        for (given, expected) in cases {
            assert_eq!(given.parse::<Target>().unwrap().to_string(), expected, "{given}");
        }
    }

    #[test]
    fn errors_name_the_value_the_cause_and_the_way_out() {
        let cases = [
            ("", "unknown kind of target", "otlp=http://HOST:4318"),
            ("jaeger=http://h", "unknown kind of target", "otlp=http://HOST:4318"),
            ("otlp=", "is not a URL", "otlp=grpc://HOST:4317"),
            ("otlp=127.0.0.1:4318", "is not a URL", "otlp=http://HOST:4318"),
            ("otlp=localhost:4318", "`localhost:`", "otlp=http://HOST:4318"),
            ("otlp=grpc://h:1/v1/traces", "no path", "otlp=grpc://HOST:4317"),
            ("otlp=grpc://me:x@h:1", "no user", "OTEL_EXPORTER_OTLP_HEADERS"),
            ("otlp=http://", "is not a URL", "otlp=http://HOST:4318"),
            ("zipkin", "address is missing", "zipkin=http://HOST:9411"),
            ("zipkin=grpc://h:1", "`grpc:`", "zipkin=http://HOST:9411"),
            ("jsonl", "file name is missing", "jsonl=FILE"),
            ("jsonl=", "file name is missing", "jsonl=FILE"),
        ];
        for (given, cause, way_out) in cases {
            let error = given.parse::<Target>().unwrap_err().to_string();
            for part in [&format!("`{given}`"), cause, way_out] {
                assert!(error.contains(part), "{given}: {error}");
            }
        }
    }

    #[test]
    fn different_targets_have_different_folders() {
        let folder = |given: &str| given.parse::<Target>().unwrap().folder();
        assert_eq!(folder("otlp=http://h:1"), folder("otlp=http://h:1/v1/traces"));
        assert_ne!(folder("jsonl=a.b"), folder("jsonl=a-b"));
        assert_eq!(folder("jsonl=../../etc").components().count(), 1);
    }
}
