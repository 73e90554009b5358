//! Makes the spans, with `tracing` or with fastrace's own functions. Number of fields, depth and polls are
//! options.

use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use fastrace::collector::SpanContext;
use fastrace::future::FutureExt;
use fastrace::local::LocalSpan;
use tracing::{Instrument, Level, Span, span};
use tracing_usdt::tracing::span as span_with_probe;

/// A function that makes the given number of spans, counting nested ones.
pub type Burst = Box<dyn Fn(u64) + Sync>;

/// The shape of a scenario's spans.
#[derive(Clone, Copy)]
pub struct Shape {
    /// 2, 8 or 32 fields. Half of them are `u64`, half of them a `&str` of 20 bytes.
    pub fields: usize,
    /// The number of spans nested in each other.
    pub depth: u64,
    /// The number of polls of the future in the span; 0: a function enters the span once.
    pub polls: u32,
}

const TEXT: &str = "twenty bytes of text";
const NAMES: [&str; 32] = [
    "n1", "t1", "n2", "t2", "n3", "t3", "n4", "t4", "n5", "t5", "n6", "t6", "n7", "t7", "n8", "t8", "n9",
    "t9", "n10", "t10", "n11", "t11", "n12", "t12", "n13", "t13", "n14", "t14", "n15", "t15", "n16", "t16",
];

/// Numbers of seven digits, so that formatting takes the same time for each.
fn numbers(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|n| 1_000_000 + n)
}

/// Spans of `tracing`, at DEBUG or at INFO.
pub fn tracing(shape: Shape, debug: bool) -> Result<Burst, String> {
    Ok(match (shape.fields, debug) {
        (2, false) => burst::<ByTracing<2, false>>(shape),
        (2, true) => burst::<ByTracing<2, true>>(shape),
        (8, false) => burst::<ByTracing<8, false>>(shape),
        (8, true) => burst::<ByTracing<8, true>>(shape),
        (32, false) => burst::<ByTracing<32, false>>(shape),
        (32, true) => burst::<ByTracing<32, true>>(shape),
        (fields, _) => return Err(format!("--fields {fields}: give 2, 8 or 32")),
    })
}

/// Spans of our macros, at INFO. The probe is `bench__spans:request`.
pub(crate) fn probed(shape: Shape) -> Result<Burst, String> {
    Ok(match shape.fields {
        2 => burst::<Probed<2>>(shape),
        8 => burst::<Probed<8>>(shape),
        32 => burst::<Probed<32>>(shape),
        fields => return Err(format!("--fields {fields}: give 2, 8 or 32")),
    })
}

/// One span, by the macro `$span`.
macro_rules! one {
    ($span:ident, $level:expr, $n:ident, $t:ident) => {
        match FIELDS {
            2 => $span!($level, "request", n1 = $n, t1 = $t),
            8 => $span!(
                $level,
                "request",
                n1 = $n,
                t1 = $t,
                n2 = $n,
                t2 = $t,
                n3 = $n,
                t3 = $t,
                n4 = $n,
                t4 = $t
            ),
            _ => $span!(
                $level,
                "request",
                n1 = $n,
                t1 = $t,
                n2 = $n,
                t2 = $t,
                n3 = $n,
                t3 = $t,
                n4 = $n,
                t4 = $t,
                n5 = $n,
                t5 = $t,
                n6 = $n,
                t6 = $t,
                n7 = $n,
                t7 = $t,
                n8 = $n,
                t8 = $t,
                n9 = $n,
                t9 = $t,
                n10 = $n,
                t10 = $t,
                n11 = $n,
                t11 = $t,
                n12 = $n,
                t12 = $t,
                n13 = $n,
                t13 = $t,
                n14 = $n,
                t14 = $t,
                n15 = $n,
                t15 = $t,
                n16 = $n,
                t16 = $t
            ),
        }
    };
}

/// Makes the spans. A trait instead of a closure, because the macro of a program is in the code that enters the span,
/// and the compiler does not inline every closure.
trait Make: 'static {
    fn make(n: u64, t: &str) -> Span;
}

/// By `tracing`'s macro. A callsite has one level, so each level has its own.
struct ByTracing<const FIELDS: usize, const DEBUG: bool>;

impl<const FIELDS: usize, const DEBUG: bool> Make for ByTracing<FIELDS, DEBUG> {
    #[inline(always)]
    fn make(n: u64, t: &str) -> Span {
        if DEBUG { one!(span, Level::DEBUG, n, t) } else { one!(span, Level::INFO, n, t) }
    }
}

/// By our macro, with a probe of its own.
struct Probed<const FIELDS: usize>;

impl<const FIELDS: usize> Make for Probed<FIELDS> {
    #[inline(always)]
    fn make(n: u64, t: &str) -> Span {
        one!(span_with_probe, Level::INFO, n, t)
    }
}

fn burst<M: Make>(shape: Shape) -> Burst {
    let Shape { depth, polls, .. } = shape;
    match polls {
        0 => Box::new(move |spans| {
            for n in numbers(spans / depth) {
                nested::<M>(depth, black_box(n), black_box(TEXT));
            }
        }),
        _ => Box::new(move |spans| {
            for n in numbers(spans) {
                poll_through(Polls(polls).instrument(M::make(black_box(n), black_box(TEXT))));
            }
        }),
    }
}

fn nested<M: Make>(depth: u64, n: u64, text: &str) {
    let span = M::make(n, text);
    let _inside = span.enter();
    if depth > 1 {
        nested::<M>(depth - 1, n, text);
    }
}

/// Opens `spans` spans, and keeps them in `kept`.
pub(crate) fn open_tracing(spans: u64, kept: &mut Vec<Span>) {
    kept.extend(numbers(spans).map(|n| ByTracing::<2, false>::make(n, black_box(TEXT))));
}

/// fastrace's local spans, which stay in their thread. All spans of a burst are in one trace.
pub(crate) fn fastrace_local(shape: Shape) -> Burst {
    Box::new(move |spans| {
        let root = fastrace::Span::root("burst", SpanContext::random());
        let _parent = root.set_local_parent();
        if shape.polls > 0 {
            for n in numbers(spans) {
                let span = fastrace::Span::enter_with_local_parent("request");
                let span = span.with_properties(|| properties(shape.fields, black_box(n), black_box(TEXT)));
                poll_through(Polls(shape.polls).in_span(span));
            }
            return;
        }
        for n in numbers(spans / shape.depth) {
            nested_local(shape.depth, shape.fields, black_box(n), black_box(TEXT));
        }
    })
}

fn nested_local(depth: u64, fields: usize, n: u64, text: &str) {
    let span = LocalSpan::enter_with_local_parent("request");
    let _inside = span.with_properties(|| properties(fields, n, text));
    if depth > 1 {
        nested_local(depth - 1, fields, n, text);
    }
}

/// Puts a root of fastrace around spans of `tracing`. Without it, each would be a trace.
pub(crate) fn within_fastrace_root(burst: Burst) -> Burst {
    Box::new(move |spans| {
        let root = fastrace::Span::root("burst", SpanContext::random());
        let _parent = root.set_local_parent();
        burst(spans);
    })
}

/// fastrace's root spans. Each begins a trace, so none is nested.
pub(crate) fn fastrace_root(shape: Shape) -> Burst {
    let make = move |n| {
        let span = fastrace::Span::root("request", SpanContext::random());
        span.with_properties(|| properties(shape.fields, black_box(n), black_box(TEXT)))
    };
    Box::new(move |spans| {
        for n in numbers(spans) {
            let span = make(n);
            if shape.polls > 0 {
                poll_through(Polls(shape.polls).in_span(span));
            } else {
                let _inside = span.set_local_parent();
            }
        }
    })
}

/// Opens `spans` spans below a root, and keeps them in `kept`.
pub(crate) fn open_fastrace(spans: u64, root: &fastrace::Span, kept: &mut Vec<fastrace::Span>) {
    kept.extend(numbers(spans).map(|n| {
        let span = fastrace::Span::enter_with_parent("request", root);
        span.with_properties(|| properties(2, n, black_box(TEXT)))
    }));
}

/// fastrace takes text that is owned or `'static`, so borrowed text is copied.
fn properties(fields: usize, n: u64, text: &str) -> impl Iterator<Item = (&'static str, String)> {
    let value = move |field| if field % 2 == 0 { n.to_string() } else { text.to_owned() };
    NAMES.iter().take(fields).enumerate().map(move |(field, name)| (*name, value(field)))
}

/// A future that is ready at its last poll.
struct Polls(u32);

impl Future for Polls {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.0 -= 1;
        if black_box(self.0) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn poll_through(future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut context).is_pending() {}
}
