//! HTTP requests on loopback.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Names and values of headers.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// An address on which no socket listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The answer to a GET, if a server listens there.
pub fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Some(answer)
}

/// Asks the service at `address` to call us `calls` times, as W3C's harness does. Returns the headers of each
/// call, with names in lower case.
pub fn receive_posts(
    address: &str,
    path: &str,
    headers: Headers<'_>,
    calls: usize,
) -> Vec<HashMap<String, String>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let called = std::thread::spawn(move || {
        (0..calls).map(|_| answer_one(&listener.accept().unwrap().0)).collect::<Vec<_>>()
    });
    let body = serde_json::json!(vec![serde_json::json!({ "url": url, "arguments": [] }); calls]).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n").unwrap();
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n").unwrap();
    }
    write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    called.join().unwrap()
}

/// Answers the request on the stream with 200, and returns its headers.
fn answer_one(mut stream: &TcpStream) -> HashMap<String, String> {
    let mut request = BufReader::new(stream);
    let mut headers: HashMap<String, String> = HashMap::new();
    let mut line = String::new();
    request.read_line(&mut line).unwrap();
    loop {
        line.clear();
        request.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    request.read_exact(&mut vec![0; length]).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    headers
}
