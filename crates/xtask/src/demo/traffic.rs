//! Sends requests of all kinds, mixed, over several connections at once, to the shop of `examples/`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// So many requests at once that some wait for others.
pub(crate) const CONNECTIONS: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(20);

/// A kind of request and the expected status.
pub(crate) struct Kind {
    pub(crate) requests: usize,
    pub(crate) method: &'static str,
    /// `{}` stands for the number of a product.
    pub(crate) path: &'static str,
    body: &'static str,
    pub(crate) status: u16,
    /// A short description for the terminal.
    pub(crate) what: &'static str,
}

#[rustfmt::skip] // a table
pub(crate) static KINDS: [Kind; 8] = [
    kind(60, "GET",  "/products",     "", 200, "a list"),
    kind(90, "GET",  "/products/{}",  "", 200, "three queries at once"),
    kind(10, "GET",  "/products/999", "", 404, "no such product"),
    kind(60, "POST", "/orders",       r#"{"product": {}, "quantity": 1}"#, 201, "an order"),
    kind(10, "POST", "/orders",       r#"{"product": {}, "quantity": 1000}"#, 409, "more than in stock"),
    kind( 5, "POST", "/orders",       r#"{"product": {}, "quantity": 0}"#, 500, "an unexpected error"),
    kind(10, "GET",  "/report",       "", 200, "a slow query"),
    kind( 5, "GET",  "/no-such-page", "", 404, "no such page"),
];

const fn kind(
    requests: usize,
    method: &'static str,
    path: &'static str,
    body: &'static str,
    status: u16,
    what: &'static str,
) -> Kind {
    Kind { requests, method, path, body, status, what }
}

pub(crate) struct Report {
    pub(crate) requests: usize,
    pub(crate) connections: usize,
    pub(crate) took: Duration,
}

/// Sends one request of each kind, with a pause after each.
pub(crate) fn one_of_each(address: SocketAddr, pause: Duration) -> Result<()> {
    let mut connection = Connection::open(address)?;
    for (number, kind) in KINDS.iter().enumerate() {
        connection.request(kind, 1 + number)?;
        thread::sleep(pause);
    }
    Ok(())
}

/// Sends all requests. A response with an unexpected status is an error.
pub(crate) fn drive(address: SocketAddr, connections: usize) -> Result<Report> {
    let requests = mixed();
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        let client = || -> Result<()> {
            let mut connection = Connection::open(address)?;
            while let Some(number) =
                Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < requests.len())
            {
                connection.request(requests[number], 1 + number % 50)?;
            }
            Ok(())
        };
        let clients: Vec<_> = (0..connections).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
    })?;
    Ok(Report { requests: requests.len(), connections, took: began.elapsed() })
}

/// All requests, with each kind spread evenly over the run.
fn mixed() -> Vec<&'static Kind> {
    let mut placed: Vec<(f64, &Kind)> = Vec::new();
    for kind in &KINDS {
        let spread = (0..kind.requests).map(|number| ((number as f64 + 0.5) / kind.requests as f64, kind));
        placed.extend(spread);
    }
    placed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    placed.into_iter().map(|(_, kind)| kind).collect()
}

struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)
            .with_context(|| format!("can't connect to the service at {address}"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    fn request(&mut self, kind: &Kind, product: usize) -> Result<()> {
        let Kind { method, .. } = kind;
        let path = kind.path.replace("{}", &product.to_string());
        let (status, response) = self
            .exchange(method, &path, &kind.body.replace("{}", &product.to_string()))
            .with_context(|| format!("{method} http://{}{path} got no response", self.address))?;
        if status != kind.status {
            bail!("{method} {path} got status {status} instead of {}: {response}", kind.status);
        }
        Ok(())
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no status in {first:?}"))?;
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().with_context(|| format!("bad header {line:?}"))?;
            }
        }
        let mut response = vec![0; length];
        self.stream.read_exact(&mut response)?;
        Ok((status, String::from_utf8_lossy(&response).into_owned()))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the service closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_each_kind_over_the_run() {
        let mixed = mixed();
        assert_eq!(mixed.len(), 250);
        for half in [&mixed[..125], &mixed[125..]] {
            assert!(KINDS.iter().all(|kind| half.iter().any(|other| std::ptr::eq(kind, *other))));
        }
    }
}
