//! The lines of a subscriber that is the global default. Only such a subscriber gets events that are made while it
//! handles another one. It is the only test of its process.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a failing test is a panic

use std::io;
use std::sync::Mutex;

use tracing::{Span, info, info_span};
use tracing_subscriber::{fmt, prelude::*};
use tracing_usdt::{Sampler, SamplingRequest, SpanExt, with_trace_ids};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn log() -> String {
    String::from_utf8(std::mem::take(&mut *LOG.lock().unwrap())).unwrap()
}

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ids(span: &Span) -> String {
    let context = span.trace_context().unwrap();
    format!("trace_id={} span_id={}", context.trace_id(), context.span_id())
}

/// Logs, and makes a span, while it is formatted.
struct Chatty;

impl std::fmt::Debug for Chatty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        info!("value");
        info_span!("inner").in_scope(|| info!("value"));
        f.write_str("chatty")
    }
}

#[test]
fn the_layer_is_found_and_user_code_may_log_while_a_line_is_written() {
    let sampler = Sampler::custom(|_: &SamplingRequest| {
        info!("sampler");
        true
    });
    let layer =
        tracing_usdt::builder().without_socket().without_remote_parent().with_sampler(sampler).build();
    let format = fmt::layer().without_time().with_target(false).with_ansi(false).with_writer(|| Log);
    // An `Option` does not tell the layer of its subscriber.
    tracing_subscriber::registry().with(Some(layer)).with(format.map_event_format(with_trace_ids)).init();

    // The span gets its ids with its first line, for which the sampler is asked.
    let span = info_span!("span");
    span.in_scope(|| info!("inside"));
    assert_eq!(log(), format!(" INFO span: sampler\n INFO span: inside {}\n", ids(&span)));

    span.in_scope(|| info!(value = ?Chatty, "outer"));
    let written = log();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(lines.len(), 3, "{written}");
    assert_eq!(lines[0], format!(" INFO span: value {}", ids(&span)));
    assert!(lines[1].starts_with(" INFO span:inner: value trace_id="), "{written}");
    assert_eq!(lines[2], format!(" INFO span: outer value=chatty {}", ids(&span)));

    // The span is created while its parent is current, and its line is not about it.
    let _other = span.in_scope(|| info_span!("other", value = ?Chatty));
    let written = log();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(lines.len(), 2, "{written}");
    assert_eq!(lines[0], format!(" INFO span: value {}", ids(&span)));
    let (trace_id, inner) = (ids(&span).split(' ').next().unwrap().to_owned(), " INFO span:inner: value ");
    assert!(lines[1].starts_with(&format!("{inner}{trace_id} span_id=")), "{written}");
    assert!(!lines[1].ends_with(ids(&span).split(' ').next_back().unwrap()), "{written}");
}
