//! The least that a receiver can do: `count <path>` counts datagrams. An empty datagram ends it.

use std::error::Error;

use bench_collector::{arguments, print, receive};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments();
    let [path] = &arguments[..] else { return Err("usage: count <path>".into()) };
    let mut datagrams = 0;
    receive(path, |_| {
        datagrams += 1;
        Ok(())
    })?;
    print(&json!({ "datagrams": datagrams }))
}
