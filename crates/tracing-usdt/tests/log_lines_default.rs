//! The lines of a subscriber that is the global default. It is the only test of its process.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a failing test is a panic

use std::io;
use std::sync::Mutex;

use tracing::{info, info_span};
use tracing_subscriber::{fmt, prelude::*};
use tracing_usdt::{SpanExt, with_trace_ids};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_optional_layer_of_the_default_subscriber_is_found() {
    let layer = tracing_usdt::builder().without_socket().without_remote_parent().build();
    let format = fmt::layer().without_time().with_ansi(false).with_writer(|| Log);
    tracing_subscriber::registry().with(Some(layer)).with(format.map_event_format(with_trace_ids)).init();
    let span = info_span!("span");
    span.in_scope(|| info!("inside"));
    let context = span.trace_context().unwrap();
    let ids = format!("trace_id={} span_id={}", context.trace_id(), context.span_id());
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    assert_eq!(log, format!(" INFO span: log_lines_default: inside {ids}\n"));
}
