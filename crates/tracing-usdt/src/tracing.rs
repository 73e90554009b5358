//! The macros and the attribute of `tracing`, with a USDT probe at each place where they are used.
//!
//! ```
//! use tracing_usdt::tracing; // instead of the crate
//!
//! #[tracing::instrument(fields(order.id = id))]
//! fn place_order(id: u64, items: &[&str]) {
//!     tracing::debug!(items = items.len(), "placed");
//! }
//! # place_order(7, &["book"]);
//! ```
//!
//! Everything else is `tracing`'s own, and subscribers see the same spans and events. But the program has more probes:
//!
//! ```text
//! # bpftrace -l 'usdt:./target/debug/shop:*'
//! usdt:./target/debug/shop:shop:debug_5
//! usdt:./target/debug/shop:shop:place_order
//! usdt:./target/debug/shop:shop:place_order__exit
//! # bpftrace -e 'usdt:./target/debug/shop:shop:place_order { @[arg1] = count(); }'
//! ```
//!
//! They work **whatever subscribers want**: also for a span or event that all filters disable, and without any
//! subscriber. While nobody looks at a probe, it costs a load and a branch, and no field is evaluated. What
//! `tracing`'s features `max_level_*` and `release_max_level_*` leave out of the program never fires.
//!
//! # The names
//!
//! The provider is the path of the module, with `__` for `::`. The name of a probe is that of the span, or what `name:`
//! says. An event without a name has its level and its line: `debug_41`. A character that a probe can't have becomes
//! `_`. A span's second probe has `__exit` after its name, and the events of `#[instrument(err, ret)]` have `__error` and
//! `__return`. Callsites of the same name in one module are one probe with several locations, all of which fire; so is a
//! callsite in a generic or an inlined function.
//!
//! # The arguments
//!
//! | probe | arg0 | arg1 and on |
//! |---|---|---|
//! | of a span | span id | the fields in their order |
//! | of a span, `__exit` | span id | arg1: nanoseconds since the span was created |
//! | of an event | id of the span that it is in | the message, then the fields in their order |
//!
//! The **span id** is the same as in the layer's own probes and in the datagrams. It is 0 if there is no span, or no
//! layer in the subscriber.
//!
//! | type of the field | arguments |
//! |---|---|
//! | integers up to 64 bits, `NonZero`, `Wrapping`, `bool` | one: the value, with its size and sign |
//! | `&str`, `String` | two: address and length, for bpftrace's `str(arg1, arg2)` |
//! | everything else: floats, `%` and `?`, `Option`, errors, messages | one: the address of a text with a NUL after it, for `str(arg1)` |
//!
//! References and boxes count as what they point to. A formatted text is at most 1023 bytes long; a longer one ends
//! with `...`. If formatting panics, the text says so, and the program goes on (not with `panic = "abort"`). There are
//! ten arguments at most; bpftrace before 0.24 reads six on x86-64. Fields that have no room are not in the probe.
//! `docs/wire.md` in the repository defines all of it.
//!
//! # Spans that only a probe wants
//!
//! If someone looks at a span that no subscriber wants, and the subscriber has the [layer](crate::layer()), the span
//! gets its ids, its parent and its trace as if everyone wanted it. The layer's other probes and its datagrams have it
//! too. Other layers don't see it. What to know:
//!
//! * It is not disabled: `is_disabled` and `or_current` see a span. [`Span::current`] in it is the span around it.
//! * No span should follow it (`follows_from`), and it should be no `parent:` where code uses `tracing`'s own macros: other
//!   layers have not seen it, and `fmt`'s JSON and pretty formats panic at a span that they have not seen. The macros here
//!   take care of `parent:`.
//! * Fields are evaluated while someone looks, and an expression that panics then panics.
//! * [`enabled!`] asks subscribers only. A filter of the layer itself hides spans from it that another layer wants.
//! * `__exit` fires when the span closes, if someone looked when it began. A subscriber that is not built on
//!   `tracing_subscriber`'s [`Registry`](tracing_subscriber::Registry) does not say when.
//!
//! The attribute names this crate `::tracing_usdt`, so the dependency can't be renamed.

pub use ::tracing::*;
#[cfg(feature = "attributes")]
#[doc(inline)]
pub use tracing_usdt_attributes::instrument;

#[doc(inline)]
pub use crate::{
    __debug as debug, __debug_span as debug_span, __error as error, __error_span as error_span,
    __event as event, __info as info, __info_span as info_span, __span as span, __trace as trace,
    __trace_span as trace_span, __warn as warn, __warn_span as warn_span,
};

#[doc(hidden)]
pub use crate::__level_enabled as level_enabled;
