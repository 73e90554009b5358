//! An OTLP backend that costs little: it reads requests over HTTP/1.1 and answers each with 200. It prints its
//! address, and ends with its stdin.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::net::{TcpListener, TcpStream};
use std::thread;

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(stdout(), "{}", listener.local_addr()?)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Ignores a client that leaves in the middle of a request.
            thread::spawn(move || answer(&stream).is_ok());
        }
    });
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(stream: &TcpStream) -> Result<(), Box<dyn Error>> {
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    let mut line = String::new();
    let mut body = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some((name, value)) = line.split_once(':') {
            if name.eq_ignore_ascii_case("content-length") {
                body = value.trim().parse()?;
            }
        }
        if line == "\r\n" {
            std::io::copy(&mut reader.by_ref().take(body), &mut std::io::sink())?;
            (&*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            body = 0;
        }
    }
}
