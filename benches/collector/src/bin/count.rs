//! The least that a receiver can do: `count datagrams <path>` counts what it receives, `count spans
//! <path>` also the spans in it, by a search for a text that each has once. An empty datagram ends it.

use std::error::Error;

use bench_collector::recording::TRACE_ID;
use bench_collector::{print, receive, words};
use memchr::memmem::Finder;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let words = words();
    let (finder, path) = match &words[..] {
        [what, path] if what == "datagrams" => (None, path),
        [what, path] if what == "spans" => (Some(Finder::new(TRACE_ID)), path),
        _ => return Err("usage: count datagrams|spans <path>".into()),
    };
    let (mut datagrams, mut spans) = (0, 0);
    receive(path, |datagram| {
        datagrams += 1;
        spans += finder.as_ref().map_or(0, |finder| finder.find_iter(datagram).count());
        Ok(())
    })?;
    print(&json!({ "datagrams": datagrams, "spans": finder.map(|_| spans) }))
}
