//! The variables `OTEL_EXPORTER_OTLP_*`, by the OpenTelemetry specification, "OpenTelemetry Protocol Exporter":
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.
//!
//! Each has a general form and one for traces, which wins. An empty variable counts as unset, and keywords may be in
//! upper or lower case. An unusable value is an error, not a warning as in an SDK: a program started to forward spans
//! should rather not start than forward them to the wrong place.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::target::{Target, grpc_url, http_url, with_path};

/// Looks up a variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The default of the specification, "Timeout".
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The options for an OTLP backend.
#[derive(Clone, Debug)]
pub(super) struct Otlp {
    pub(super) headers: HeaderMap,
    /// For a whole request; `None` for no limit.
    pub(super) timeout: Option<Duration>,
    pub(super) gzip: bool,
    pub(super) tls: Tls,
}

/// What TLS trusts and presents, as PEM.
#[derive(Clone, Default, Debug)]
pub(super) struct Tls {
    /// The only certificates to trust; `None` for those of the system.
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) client: Option<Client>,
}

#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// A value and its variable.
struct Found {
    name: String,
    value: String,
}

impl Found {
    fn unusable(&self, why: &str) -> anyhow::Error {
        anyhow!("{}={}: {why}", self.name, self.value)
    }

    fn read_file(&self) -> Result<Vec<u8>> {
        let context = || format!("{}={}: can't read this file", self.name, self.value);
        std::fs::read(&self.value).with_context(context)
    }
}

fn find(lookup: Lookup<'_>, option: &str) -> Option<Found> {
    ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].into_iter().find_map(|prefix| {
        let name = format!("{prefix}{option}");
        let value = lookup(&name).filter(|value| !value.trim().is_empty())?;
        Some(Found { name, value: value.trim().to_owned() })
    })
}

/// All options except the address.
pub(super) fn options(lookup: Lookup<'_>) -> Result<Otlp> {
    Ok(Otlp { headers: headers(lookup)?, timeout: timeout(lookup)?, gzip: gzip(lookup)?, tls: tls(lookup)? })
}

/// The address of plain `otlp`: an `OtlpHttp` or an `OtlpGrpc`.
pub(super) fn endpoint(lookup: Lookup<'_>) -> Result<Target> {
    match find(lookup, "PROTOCOL") {
        None => http_endpoint(lookup),
        Some(protocol) => match &*protocol.value.to_ascii_lowercase() {
            "http/protobuf" => http_endpoint(lookup),
            "grpc" => grpc_endpoint(lookup),
            "http/json" => bail!(protocol.unusable(
                "OTLP as JSON is not supported: set it to http/protobuf, which every backend accepts on the same \
                 port"
            )),
            _ => bail!(protocol.unusable("unknown protocol: set it to http/protobuf or grpc")),
        },
    }
}

fn http_endpoint(lookup: Lookup<'_>) -> Result<Target> {
    let url = match find(lookup, "ENDPOINT") {
        None => Url::parse("http://localhost:4318/v1/traces")?,
        Some(found) => {
            let url = http_url(&found.value, "http://HOST:4318").map_err(|why| found.unusable(&why))?;
            // The specification says "The URL MUST be used as-is" for the variables of one signal.
            if found.name.contains("TRACES") { url } else { with_path(url, "v1/traces") }
        }
    };
    Ok(Target::OtlpHttp(url))
}

fn grpc_endpoint(lookup: Lookup<'_>) -> Result<Target> {
    let Some(found) = find(lookup, "ENDPOINT") else {
        return Ok(Target::OtlpGrpc(Url::parse("http://localhost:4317")?));
    };
    // The scheme wins; INSECURE is for addresses without one.
    let scheme = match found.value.contains("://") {
        true => "",
        false if insecure(lookup)? => "http://",
        false => "https://",
    };
    let url = grpc_url(&format!("{scheme}{}", found.value), "http://HOST:4317");
    Ok(Target::OtlpGrpc(url.map_err(|why| found.unusable(&why))?))
}

fn insecure(lookup: Lookup<'_>) -> Result<bool> {
    match find(lookup, "INSECURE") {
        None => Ok(false),
        Some(found) => match &*found.value.to_ascii_lowercase() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => bail!(found.unusable("set it to true or false")),
        },
    }
}

fn timeout(lookup: Lookup<'_>) -> Result<Option<Duration>> {
    let Some(found) = find(lookup, "TIMEOUT") else { return Ok(Some(DEFAULT_TIMEOUT)) };
    match found.value.parse() {
        // "Common specification, Timeout": zero means no limit.
        Ok(0) => Ok(None),
        Ok(milliseconds) => Ok(Some(Duration::from_millis(milliseconds))),
        Err(_) => bail!(found.unusable("set it to a number of milliseconds, such as 10000")),
    }
}

fn gzip(lookup: Lookup<'_>) -> Result<bool> {
    match find(lookup, "COMPRESSION") {
        None => Ok(false),
        Some(found) => match &*found.value.to_ascii_lowercase() {
            "gzip" => Ok(true),
            "none" => Ok(false),
            _ => bail!(found.unusable("unknown compression: set it to gzip or none")),
        },
    }
}

fn tls(lookup: Lookup<'_>) -> Result<Tls> {
    let certificates = |found: Found| {
        let pem = found.read_file()?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match read {
            Ok(certificates) if !certificates.is_empty() => Ok(pem),
            _ => Err(found.unusable("this file has no certificate in PEM")),
        }
    };
    let key = |found: Found| {
        let pem = found.read_file()?;
        let read = PrivateKeyDer::from_pem_slice(&pem).map(|_| ());
        read.map(|()| pem).map_err(|_| found.unusable("this file has no private key in PEM"))
    };
    let authorities = find(lookup, "CERTIFICATE").map(certificates).transpose()?;
    let client = match (find(lookup, "CLIENT_CERTIFICATE"), find(lookup, "CLIENT_KEY")) {
        (None, None) => None,
        (Some(found), Some(of_key)) => Some(Client { certificate: certificates(found)?, key: key(of_key)? }),
        (Some(found), None) => {
            bail!(found.unusable("a certificate needs its key: set OTEL_EXPORTER_OTLP_CLIENT_KEY too"))
        }
        (None, Some(found)) => {
            bail!(
                found.unusable("a key needs its certificate: set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE too")
            )
        }
    };
    Ok(Tls { authorities, client })
}

/// `key1=value1,key2=value2`, as in W3C Baggage without properties. Keys and values may be percent-encoded.
fn headers(lookup: Lookup<'_>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let Some(found) = find(lookup, "HEADERS") else { return Ok(headers) };
    for pair in found.value.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        // The values are often secret, so they are not shown.
        let Some((name, value)) = pair.split_once('=') else {
            bail!("{}: an entry has no `=`: write name=value,name=value", found.name);
        };
        let unusable =
            |why: &str| anyhow!("{}: the header `{name}` {why}: write name=value,name=value", found.name);
        let decoded: Vec<u8> = percent_decode_str(name.trim()).collect();
        let name = HeaderName::from_bytes(&decoded).map_err(|_| unusable("is not a valid name"))?;
        let value: Vec<u8> = percent_decode_str(value.trim()).collect();
        let mut value =
            HeaderValue::from_bytes(&value).map_err(|_| unusable("has a value with invalid characters"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Resolves plain `otlp` to the address in the environment, which also names it to the user.
pub(super) fn resolve(target: &Target, environment: Lookup<'_>) -> Result<Target> {
    match target {
        Target::Otlp => endpoint(environment),
        target => Ok(target.clone()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn with<T>(variables: Variables<'_>, read: impl Fn(Lookup<'_>) -> T) -> T {
        read(&|name| {
            let short = name.strip_prefix("OTEL_EXPORTER_OTLP_").unwrap();
            variables.iter().find(|(known, _)| *known == short).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_endpoint_follows_the_specification() {
        let cases: &[(Variables<'_>, &str)] = &[
            (&[], "otlp=http://localhost:4318/v1/traces"),
            (&[("ENDPOINT", "")], "otlp=http://localhost:4318/v1/traces"),
            (&[("ENDPOINT", "http://c:4318")], "otlp=http://c:4318/v1/traces"),
            (&[("ENDPOINT", "http://c:4318/mycollector/")], "otlp=http://c:4318/mycollector/v1/traces"),
            (&[("TRACES_ENDPOINT", "http://c:4318")], "otlp=http://c:4318/"),
            (&[("TRACES_ENDPOINT", "http://c/v1/in/")], "otlp=http://c/v1/in/"),
            (&[("TRACES_ENDPOINT", "http://t"), ("ENDPOINT", "http://g")], "otlp=http://t/"),
            (&[("TRACES_ENDPOINT", " "), ("ENDPOINT", "http://g")], "otlp=http://g/v1/traces"),
            (&[("PROTOCOL", "grpc")], "otlp=grpc://localhost:4317"),
            (&[("PROTOCOL", " GRPC ")], "otlp=grpc://localhost:4317"),
            (
                &[("PROTOCOL", ""), ("TRACES_PROTOCOL", "HTTP/Protobuf")],
                "otlp=http://localhost:4318/v1/traces",
            ),
            (&[("PROTOCOL", "grpc"), ("ENDPOINT", "http://g:4317")], "otlp=grpc://g:4317"),
            (&[("PROTOCOL", "grpc"), ("ENDPOINT", "https://g:4317")], "otlp=grpcs://g:4317"),
            (&[("PROTOCOL", "grpc"), ("ENDPOINT", "https://g:1"), ("INSECURE", "true")], "otlp=grpcs://g:1"),
            (&[("PROTOCOL", "grpc"), ("ENDPOINT", "g:1"), ("INSECURE", "True")], "otlp=grpc://g:1"),
            (&[("PROTOCOL", "grpc"), ("ENDPOINT", "g:1")], "otlp=grpcs://g:1"),
            (
                &[("PROTOCOL", "grpc"), ("TRACES_PROTOCOL", "http/protobuf")],
                "otlp=http://localhost:4318/v1/traces",
            ),
        ];
        for (variables, expected) in cases {
            let found = with(variables, endpoint).unwrap();
            assert_eq!(found.to_string(), *expected, "{variables:?}");
        }
    }

    #[test]
    fn other_options_are_read() {
        let none = with(&[], options).unwrap();
        assert_eq!((none.timeout, none.gzip, none.headers.len()), (Some(DEFAULT_TIMEOUT), false, 0));
        assert!(none.tls.authorities.is_none() && none.tls.client.is_none());
        let variables: Variables<'_> = &[
            ("HEADERS", "ignored=1"),
            ("TRACES_HEADERS", "api-key=a%20b%2Cc=, X-Other = 2,"),
            ("TIMEOUT", "250"),
            ("COMPRESSION", "gzip"),
        ];
        let read = with(variables, options).unwrap();
        assert_eq!((read.timeout, read.gzip), (Some(Duration::from_millis(250)), true));
        let header = |name| read.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            (header("api-key"), header("x-other"), header("ignored")),
            (Some("a b,c="), Some("2"), None)
        );
        let headers = |text: &str| with(&[("HEADERS", text)], options).unwrap().headers;
        for text in ["x%2Dtenant=a%3Db", " %78-tenant\t= a=b ,", "X%2dTENANT=a=b,,other=%20"] {
            assert_eq!(headers(text)["x-tenant"], "a=b", "{text}");
        }
        // A `%` need not begin an encoded character.
        assert_eq!(headers("a=100%,b=50%zz,c=%C3%A9")["a"], "100%");
        assert_eq!(headers("a=,b=1")["a"], "");
        assert!(with(&[("COMPRESSION", "GZIP")], options).unwrap().gzip);
        assert_eq!(with(&[("TIMEOUT", "0")], options).unwrap().timeout, None);
        assert!(!with(&[("TRACES_COMPRESSION", "none"), ("COMPRESSION", "gzip")], options).unwrap().gzip);
    }

    #[test]
    fn certificates_are_read_from_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = |name: &str, contents: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, contents).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let certificate = file("certificate", &pair.cert.pem());
        let (key, nonsense) = (file("key", &pair.signing_key.serialize_pem()), file("nonsense", "no PEM"));
        let variables: Variables<'_> = &[
            ("CERTIFICATE", &certificate),
            ("TRACES_CLIENT_CERTIFICATE", &certificate),
            ("CLIENT_KEY", &key),
        ];
        let tls = with(variables, options).unwrap().tls;
        assert_eq!(tls.authorities.unwrap(), pair.cert.pem().as_bytes());
        let client = tls.client.unwrap();
        assert_eq!(client.certificate, pair.cert.pem().as_bytes());
        assert_eq!(client.key, pair.signing_key.serialize_pem().as_bytes());

        let cases: [Variables<'_>; 3] = [
            &[("CERTIFICATE", &nonsense)],
            &[("CLIENT_CERTIFICATE", &nonsense), ("CLIENT_KEY", &key)],
            &[("CLIENT_KEY", &nonsense), ("CLIENT_CERTIFICATE", &certificate)],
        ];
        for variables in cases {
            let error = format!("{:#}", with(variables, options).unwrap_err());
            let expected = format!("OTEL_EXPORTER_OTLP_{}={nonsense}: this file has no", variables[0].0);
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn an_unusable_value_is_an_error_that_names_the_variable() {
        let both = |lookup: Lookup<'_>| endpoint(lookup).and_then(|_| options(lookup));
        let cases: &[(Variables<'_>, &str)] = &[
            (
                &[("ENDPOINT", "collector:4318")],
                "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318: the scheme `collector:`",
            ),
            (&[("TRACES_ENDPOINT", "x y")], "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=x y: "),
            (&[("PROTOCOL", "grpc"), ("ENDPOINT", "http://g/x")], "OTEL_EXPORTER_OTLP_ENDPOINT=http://g/x: "),
            (&[("PROTOCOL", "http/json")], "OTEL_EXPORTER_OTLP_PROTOCOL=http/json: OTLP as JSON"),
            (&[("TRACES_PROTOCOL", "thrift")], "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=thrift: "),
            (
                &[("PROTOCOL", "grpc"), ("ENDPOINT", "g:1"), ("INSECURE", "yes")],
                "OTEL_EXPORTER_OTLP_INSECURE=yes: ",
            ),
            (&[("TIMEOUT", "10s")], "OTEL_EXPORTER_OTLP_TIMEOUT=10s: "),
            (&[("TIMEOUT", "-1")], "OTEL_EXPORTER_OTLP_TIMEOUT=-1: "),
            (&[("COMPRESSION", "zstd")], "OTEL_EXPORTER_OTLP_COMPRESSION=zstd: "),
            (&[("CERTIFICATE", "/nowhere")], "OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere: "),
            (&[("CLIENT_KEY", "/nowhere")], "OTEL_EXPORTER_OTLP_CLIENT_KEY=/nowhere: a key needs"),
            (&[("TRACES_CLIENT_CERTIFICATE", "/n")], "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE=/n: "),
            (&[("HEADERS", "secret")], "OTEL_EXPORTER_OTLP_HEADERS: an entry has no `=`"),
            (&[("HEADERS", "a b=1")], "OTEL_EXPORTER_OTLP_HEADERS: the header `a b`"),
            (&[("HEADERS", "a%20b=1")], "OTEL_EXPORTER_OTLP_HEADERS: the header `a%20b`"),
            (&[("HEADERS", "=1")], "OTEL_EXPORTER_OTLP_HEADERS: the header ``"),
            (&[("HEADERS", "a=%0a")], "OTEL_EXPORTER_OTLP_HEADERS: the header `a`"),
        ];
        for (variables, expected) in cases {
            let error = format!("{:#}", with(variables, both).unwrap_err());
            assert!(error.starts_with(expected), "{variables:?}: {error}");
        }
    }
}
