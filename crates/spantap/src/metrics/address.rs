//! The address of `--metrics` and of `--otlp`.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::{TcpListener, lookup_host};

/// `HOST:PORT` in the forms of other exporters: `localhost:9464`, `10.0.0.7:9464`, `[::1]:9464`. Without a host,
/// `:9464`, it means every address of this machine. A port alone, `9464`, means `localhost`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Empty means every address.
    host: String,
    port: u16,
}

impl Address {
    /// The port; 0 lets the system choose one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Listens on the first usable address of the host. IPv4 comes first, as elsewhere, so that a request to
    /// `127.0.0.1` reaches a server on `localhost`.
    pub(crate) async fn listen(&self) -> io::Result<TcpListener> {
        if !self.host.is_empty() {
            let mut addresses: Vec<SocketAddr> = lookup_host((&*self.host, self.port)).await?.collect();
            addresses.sort_by_key(SocketAddr::is_ipv6);
            return TcpListener::bind(&*addresses).await;
        }
        // `::` accepts IPv4 connections, too, but some machines have no IPv6.
        match TcpListener::bind(("::", self.port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(("0.0.0.0", self.port)).await
            }
            bound => bound,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        Self::parse(given, 9464)
    }
}

impl Address {
    /// Reads an address. An error has examples with the port `usual`.
    pub(crate) fn parse(given: &str, usual: u16) -> Result<Self, String> {
        let forms = format!("write HOST:PORT, such as localhost:{usual}, or :{usual} for every address");
        let given = given.trim();
        let (host, port) = match given.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None if given.parse::<u16>().is_ok() => ("localhost", given),
            None => return Err(format!("the port is missing: {forms}")),
        };
        if host.contains('/') || given.contains("://") {
            return Err(format!("an address has no scheme and no path: {forms}"));
        }
        if given.parse::<Ipv6Addr>().is_ok() {
            return Err(format!("an IPv6 address needs brackets and a port: {forms}"));
        }
        // `+80` parses as a number.
        let number = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten();
        let port = number.ok_or_else(|| format!("`{port}` is not a port from 0 to 65535: {forms}"))?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            // An interface may follow, as in `fe80::1%eth0`.
            Some(inner) if inner.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()) => inner,
            None if is_name(host) => host,
            _ => return Err(format!("`{host}` is not a host: {forms}")),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Also accepts an IPv4 address or an empty name.
fn is_name(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_forms_of_other_exporters() {
        let cases = [
            (":9464", ":9464"),
            ("localhost:9464", "localhost:9464"),
            ("[::]:9464", "[::]:9464"),
            ("[::1]:0", "[::1]:0"),
            ("[fe80::1%eth0]:9464", "[fe80::1%eth0]:9464"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
            ("127.0.0.1:09464", "127.0.0.1:9464"),
            ("my-host.example:1", "my-host.example:1"),
            ("9464", "localhost:9464"),
            (" :9464 ", ":9464"),
        ];
        for (given, expected) in cases {
            assert_eq!(given.parse::<Address>().unwrap().to_string(), expected, "{given}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        let cases = [
            ("", "port is missing"),
            ("localhost", "port is missing"),
            ("127.0.0.1", "port is missing"),
            ("70000", "port is missing"),
            ("localhost:", "`` is not a port"),
            (":http", "`http` is not a port"),
            (":65536", "`65536` is not a port"),
            (":-1", "`-1` is not a port"),
            (":+80", "`+80` is not a port"),
            ("::", "needs brackets"),
            ("::1", "needs brackets"),
            ("::1:9464", "needs brackets"),
            ("[::1]", "`1]` is not a port"),
            ("[localhost]:9464", "`[localhost]` is not a host"),
            ("a b:9464", "`a b` is not a host"),
            ("*:9464", "`*` is not a host"),
            ("http://localhost:9464/metrics", "no scheme and no path"),
            ("http://localhost:9464", "no scheme and no path"),
        ];
        for (given, cause) in cases {
            let error = given.parse::<Address>().unwrap_err();
            assert!(error.contains(cause) && error.contains("localhost:9464"), "{given}: {error}");
        }
    }

    #[tokio::test]
    async fn every_address_is_reached_over_ipv4_too() {
        for (given, reached) in
            [(":0", "127.0.0.1"), ("localhost:0", "127.0.0.1"), ("0", "127.0.0.1"), ("[::]:0", "127.0.0.1")]
        {
            let listener = given.parse::<Address>().unwrap().listen().await.unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(tokio::net::TcpStream::connect((reached, port)).await.is_ok(), "{given}");
        }
    }
}
