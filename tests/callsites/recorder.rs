//! What a subscriber sees, as text, and tests that compare it for code that is compiled twice.

use std::fmt::{self, Debug, Write as _};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use ::tracing::field::{Field, Visit};
use ::tracing::span::{Attributes, Id, Record};
use ::tracing::subscriber::{Interest, with_default};
use ::tracing::{Event, Level, Metadata, Subscriber};

/// Writes down every call of the subscriber.
struct Recorder {
    log: Arc<Mutex<String>>,
    last_id: AtomicU64,
    max_level: Level,
}

impl Recorder {
    fn write(&self, line: fmt::Arguments<'_>) {
        let mut log = self.log.lock().unwrap();
        writeln!(log, "{line}").unwrap();
    }
}

impl Subscriber for Recorder {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // The tests share callsites among threads with other subscribers.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.max_level
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let parent = match (attributes.parent(), attributes.is_root()) {
            (Some(parent), _) => format!("{}", parent.into_u64()),
            (None, true) => "none".to_owned(),
            (None, false) => "current".to_owned(),
        };
        self.write(format_args!(
            "new {id} parent={parent} {} values{}",
            described(attributes.metadata()),
            Values::of(|values| attributes.record(values))
        ));
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.write(format_args!(
            "record {}{}",
            span.into_u64(),
            Values::of(|visitor| values.record(visitor))
        ));
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.write(format_args!("follows {} {}", span.into_u64(), follows.into_u64()));
    }

    fn event(&self, event: &Event<'_>) {
        let values = Values::of(|values| event.record(values));
        self.write(format_args!("event {} values{values}", described(event.metadata())));
    }

    fn enter(&self, span: &Id) {
        self.write(format_args!("enter {}", span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        self.write(format_args!("exit {}", span.into_u64()));
    }

    fn try_close(&self, span: Id) -> bool {
        self.write(format_args!("close {}", span.into_u64()));
        true
    }
}

/// All of the metadata, with the fields in order.
fn described(metadata: &Metadata<'_>) -> String {
    let fields: Vec<&str> = metadata.fields().iter().map(|field| field.name()).collect();
    format!(
        "name={} target={} level={} module={:?} file={:?} line={:?} fields={fields:?}",
        metadata.name(),
        metadata.target(),
        metadata.level(),
        metadata.module_path(),
        metadata.file(),
        metadata.line(),
    )
}

/// Writes fields with the method of the visitor that got them, which tells numbers from formatted values.
#[derive(Default)]
struct Values(String);

impl Values {
    fn of(record: impl FnOnce(&mut Self)) -> String {
        let mut values = Self::default();
        record(&mut values);
        values.0
    }

    fn write(&mut self, field: &Field, method: &str, value: &dyn Debug) {
        write!(self.0, " {field}={method}:{value:?}").unwrap();
    }
}

impl Visit for Values {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write(field, "f64", &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, "i64", &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, "u64", &value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.write(field, "i128", &value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.write(field, "u128", &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, "bool", &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, "str", &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, "debug", value);
    }
}

/// What a subscriber sees of the spans and events up to this level.
pub(crate) fn recorded(max_level: Level, run: impl FnOnce()) -> String {
    let log = Arc::default();
    with_default(Recorder { log: Arc::clone(&log), last_id: AtomicU64::new(0), max_level }, run);
    let log = log.lock().unwrap();
    log.clone()
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

/// A future that is ready when it is polled again, so that spans are left and entered again.
pub(crate) async fn one_wait() {
    let mut waited = false;
    std::future::poll_fn(
        |_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}

/// Tests that compile their code with `tracing` and with `tracing_usdt::tracing`, and compare what a subscriber sees.
macro_rules! same {
    ($($name:ident: $max_level:ident { $($code:tt)* })*) => {$(
        #[test]
        #[allow(
            unused,
            nonstandard_style,
            unsafe_code,
            unsafe_op_in_unsafe_fn,
            clippy::all,
            reason = "the tests need all kinds of syntax, but no code"
        )]
        fn $name() {
            let theirs = {
                use ::tracing::{self, *};
                $crate::recorder::recorded(::tracing::Level::$max_level, || { $($code)* })
            };
            let ours = {
                use ::tracing_usdt::tracing::{self, *};
                $crate::recorder::recorded(::tracing::Level::$max_level, || { $($code)* })
            };
            assert!(!theirs.is_empty() || ::tracing::Level::$max_level != ::tracing::Level::TRACE, "nothing seen");
            assert_eq!(theirs, ours);
        }
    )*};
}
pub(crate) use same;
