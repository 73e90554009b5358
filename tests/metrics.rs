//! `--metrics` with many clients that misbehave, and the forms of addresses that it takes.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Spantap, free_address, get, need, program, wait_until};

/// Starts spantap, which serves its metrics at the address.
fn start() -> (Spantap, SocketAddr) {
    let address = free_address();
    let spantap = Spantap::listen(&["--quiet", "--metrics", &address.to_string()]);
    wait_until("spantap serves its metrics", || get(address, "/metrics").is_some());
    (spantap, address)
}

/// How long a good request takes. If this thread is off the CPU for too long, spantap closes the connection,
/// and the request is repeated.
fn time_a_request(address: SocketAddr) -> Duration {
    let start = Instant::now();
    loop {
        match request(address) {
            Ok(answer) if answer.ends_with("# EOF\n") => {
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                return start.elapsed();
            }
            unanswered => assert!(start.elapsed() < Duration::from_secs(20), "{unanswered:?}"),
        }
    }
}

fn request(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// How a client misbehaves.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Idle,
    HalfAHead,
    OneByteASecond,
    NeverReads,
    /// Connects again whenever its connection is closed.
    Reconnects,
}

const BAD: usize = 500;

/// Times good requests while 500 clients have this fault.
fn good_requests_under(fault: Fault) -> Vec<Duration> {
    let (_spantap, address) = start();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    let mut good = Vec::new();
    for number in 0..BAD {
        let mut stream = TcpStream::connect(address).unwrap();
        match fault {
            Fault::HalfAHead => stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap(),
            Fault::NeverReads => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap(),
            Fault::Idle | Fault::OneByteASecond | Fault::Reconnects => {}
        }
        clients.push(stream);
        if number % 50 == 0 {
            good.push(time_a_request(address));
        }
    }
    // One thread acts for all of these clients.
    let over = Arc::clone(&is_over);
    let slow = thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            for stream in &mut clients {
                match fault {
                    Fault::OneByteASecond => _ = stream.write(b"G"),
                    Fault::Reconnects => {
                        stream.set_nonblocking(true).unwrap();
                        // The connection is closed or reset.
                        if !stream
                            .read(&mut [0])
                            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
                        {
                            *stream = TcpStream::connect(address).unwrap();
                        }
                    }
                    _ => {}
                }
            }
            let pause = if matches!(fault, Fault::Reconnects) { 1 } else { 1000 };
            thread::sleep(Duration::from_millis(pause));
        }
    });
    for _ in 0..10 {
        good.push(time_a_request(address));
        thread::sleep(Duration::from_millis(100));
    }
    is_over.store(true, Ordering::Relaxed);
    slow.join().unwrap();
    good
}

#[test]
fn a_good_request_is_answered_within_a_second_under_500_bad_ones() {
    let faults = [Fault::Idle, Fault::HalfAHead, Fault::OneByteASecond, Fault::NeverReads, Fault::Reconnects];
    for fault in faults {
        let good = good_requests_under(fault);
        let longest = good.iter().max().unwrap();
        assert!(*longest < Duration::from_secs(1), "{fault:?}: {good:?}");
    }
}

/// The page about 800 senders does not fit into a socket's buffers.
#[test]
fn clients_that_never_read_a_large_page_do_not_delay_others() {
    if !need(&["python3"]) {
        return;
    }
    let address = free_address();
    let args = ["--quiet", "--to", "jsonl=/dev/null", "--metrics", &address.to_string()];
    let spantap = Spantap::listen(&args);
    let script = r#"
import os, socket, sys
for n in range(800):
    if os.fork() == 0:
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        span = b'[{"traceId":"%032x","id":"%016x","name":"n","timestamp":1767225600000000,"duration":7}]' % (n + 1, n + 1)
        sender.sendto(span, sys.argv[1])
        os._exit(0)
    os.wait()
"#;
    let mut python = Command::new("python3");
    assert!(python.args(["-c", script]).arg(spantap.socket()).status().unwrap().success());
    let size = || get(address, "/metrics").unwrap_or_default().len();
    wait_until("there is a large page", || size() > 500_000);
    let mut clients = Vec::new();
    let mut good = Vec::new();
    for number in 0..BAD {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        clients.push(stream);
        if number % 50 == 0 {
            good.push(time_a_request(address));
        }
    }
    good.push(time_a_request(address));
    let longest = good.iter().max().unwrap();
    assert!(*longest < Duration::from_secs(1), "a page of {} bytes: {good:?}", size());
}

#[test]
fn an_incomplete_request_is_closed_after_a_timeout() {
    let (_spantap, address) = start();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let start = Instant::now();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn takes_the_forms_of_addresses_that_other_exporters_take() {
    for form in [":PORT", "localhost:PORT", "[::]:PORT", "0.0.0.0:PORT", "PORT"] {
        let address = free_address();
        let given = form.replace("PORT", &address.port().to_string());
        let _spantap = Spantap::listen(&["--quiet", "--metrics", &given]);
        wait_until("spantap serves its metrics", || {
            get(address, "/metrics").is_some_and(|page| page.contains("# EOF"))
        });
    }
    let output = Command::new(program("spantap"))
        .args(["listen", "/tmp/unused.sock", "--metrics", "localhost"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("the port is missing: write HOST:PORT, such as localhost:9464"), "{stderr}");
}
