//! The macros of `tracing_usdt::tracing` against those of `tracing`: what a subscriber sees of both is the same.
//!
//! The tests go through the documentation of `tracing`'s macros: prefixes, fields, messages, types of values, and the
//! places where a macro can stand.

use std::fmt;

use ::tracing::Level;

use crate::recorder::{block_on, one_wait, recorded, same};

const NAME: &str = "name of a constant";
const TARGET: &str = "target of a constant";
const FIELD: &str = "field.of.a.constant";
const LEVEL: Level = Level::WARN;

const fn field() -> &'static str {
    "field.of.a.function"
}

#[derive(Debug, Clone)]
struct User {
    id: u64,
    name: &'static str,
    address: Address,
}

#[derive(Debug, Clone)]
struct Address {
    city: &'static str,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.id)
    }
}

const USER: User = User { id: 7, name: "anna", address: Address { city: "Oslo" } };

/// An event of each macro, without a prefix.
macro_rules! each_event {
    ($($rest:tt)*) => {{
        tracing::event!(tracing::Level::INFO, $($rest)*);
        tracing::trace!($($rest)*);
        tracing::debug!($($rest)*);
        tracing::info!($($rest)*);
        tracing::warn!($($rest)*);
        tracing::error!($($rest)*);
    }};
}

/// An event of each macro, with each combination of prefixes.
macro_rules! each_event_with_prefixes {
    (@ $macro:ident, [$($level:tt)*] $($rest:tt)*) => {{
        let parent = tracing::trace_span!("parent");
        tracing::$macro!(name: "n", $($level)* $($rest)*);
        tracing::$macro!(target: "t", $($level)* $($rest)*);
        tracing::$macro!(parent: &parent, $($level)* $($rest)*);
        tracing::$macro!(name: NAME, target: TARGET, $($level)* $($rest)*);
        tracing::$macro!(name: concat!("n", 1), parent: None, $($level)* $($rest)*);
        tracing::$macro!(target: concat!("t", 1), parent: parent.id(), $($level)* $($rest)*);
        tracing::$macro!(name: "n", target: "t", parent: Span::none(), $($level)* $($rest)*);
    }};
    ($($rest:tt)*) => {{
        each_event!($($rest)*);
        each_event_with_prefixes!(@ event, [tracing::Level::INFO,] $($rest)*);
        each_event_with_prefixes!(@ trace, [] $($rest)*);
        each_event_with_prefixes!(@ debug, [] $($rest)*);
        each_event_with_prefixes!(@ info, [] $($rest)*);
        each_event_with_prefixes!(@ warn, [] $($rest)*);
        each_event_with_prefixes!(@ error, [] $($rest)*);
    }};
}

/// A span of each macro, with each combination of prefixes.
macro_rules! each_span {
    (@ $macro:ident, [$($level:tt)*] $($rest:tt)*) => {{
        let parent = tracing::trace_span!("parent");
        tracing::$macro!($($level)* $($rest)*);
        tracing::$macro!(target: "t", $($level)* $($rest)*);
        tracing::$macro!(parent: &parent, $($level)* $($rest)*);
        tracing::$macro!(target: TARGET, parent: None, $($level)* $($rest)*);
    }};
    ($($rest:tt)*) => {{
        each_span!(@ span, [tracing::Level::INFO,] $($rest)*);
        each_span!(@ trace_span, [] $($rest)*);
        each_span!(@ debug_span, [] $($rest)*);
        each_span!(@ info_span, [] $($rest)*);
        each_span!(@ warn_span, [] $($rest)*);
        each_span!(@ error_span, [] $($rest)*);
    }};
}

/// The same with one event and one span, for each list of fields.
macro_rules! each_list {
    ($([$($fields:tt)*])*) => {{$(
        tracing::info!($($fields)*);
        tracing::event!(tracing::Level::WARN, $($fields)*);
        tracing::info_span!("s", $($fields)*);
        tracing::span!(tracing::Level::WARN, "s", $($fields)*);
    )*}};
}

// The macros, prefixes and parents.
same! {
    events_with_message: TRACE { each_event_with_prefixes!("done") }
    events_with_arguments: TRACE { let n = 2; each_event_with_prefixes!("{} of {n:>4} {what}", 1, what = "parts") }
    events_with_field: TRACE { each_event_with_prefixes!(a = 1) }
    events_with_fields_and_message: TRACE { let user = USER; each_event_with_prefixes!(a = 1, b.c = ?user, d = %user, "done {}", 1) }
    events_with_shorthand: TRACE { let (a, user) = (1, USER); each_event_with_prefixes!(a, user.id, ?user.address, %user, "done"); }
    events_with_debug_first: TRACE { let user = USER; each_event_with_prefixes!(?user, a = 1) }
    events_with_display_first: TRACE { let user = USER; each_event_with_prefixes!(%user, a = 1) }
    events_with_fields_in_braces: TRACE { let user = USER; each_event_with_prefixes!({ a = 1, ?user, }, "done {}", 1) }
    events_with_trailing_comma: TRACE { each_event_with_prefixes!(a = 1, b = 2,) }
    events_with_braces_alone: TRACE {
        event!(name: "n", Level::INFO, { a = 1 });
        event!(target: "t", Level::INFO, { a = 1, });
        event!(name: "n", target: "t", Level::INFO, { a = 1 });
        event!(target: "t", parent: None, Level::INFO, {});
        event!(name: "n", parent: None, Level::INFO, { a = 1 });
        event!(name: "n", target: "t", parent: None, Level::INFO, { "a" = 1 });
        info!({ a = 1 });
        info!({}, "done");
    }
    spans_with_name: TRACE { each_span!("s"); each_span!("s",); each_span!(NAME); each_span!(concat!("s", 1)) }
    spans_with_fields: TRACE { let user = USER; each_span!("s", a.b = 1, ?user, %user.name, c = ?user.id, d = %user, "e f" = 2, { FIELD } = 3) }
    spans_with_shorthand_and_comma: TRACE { let a = 1; each_span!("s", a, ) }
    spans_with_message: TRACE { each_span!("s", "done {}", 1); each_span!("s", a = 1, "done") }
    levels: TRACE {
        event!(LEVEL, "done");
        span!(LEVEL, "s");
        span!({ Level::DEBUG }, "s");
        event!(levels::LEVEL, a = 1);
        mod levels { pub(super) const LEVEL: super::Level = if cfg!(unix) { super::Level::DEBUG } else { super::Level::INFO }; }
        event!(target: "t", tracing::Level::ERROR, "done");
    }
    parents: TRACE {
        let parent = info_span!("parent");
        let entered = info_span!("entered").entered();
        macro_rules! with { ($($parent:expr),*) => {$(
            info!(parent: $parent, "done");
            event!(parent: $parent, Level::INFO, a = 1);
            info_span!(parent: $parent, "s", a = 1);
            span!(parent: $parent, Level::INFO, "s");
        )*} }
        with!(
            &parent, parent.clone(), &parent.clone(), parent.id(), &parent.id().unwrap(), parent.id().unwrap(),
            Id::from_u64(9), &entered, entered.id(), None, None::<Id>, Some(Id::from_u64(9)), Span::none(),
            &Span::none(), Span::current(), &Span::current(), &info_span!("temporary"), info_span!("temporary"),
            if true { Some(Id::from_u64(8)) } else { None }
        );
        info!("in the current span");
        info_span!("s");
    }
    names_with_any_character: TRACE {
        info_span!("GET /orders/{id} \"\\ \u{e4}\n", "a{b} \"c\" \u{20ac}" = 1);
        info!(name: "{} \"\u{e4}", target: "{t} \"", { "%?{}" = 1 }, "{{}} \"\u{e4}");
        info!(name: "", target: "", "");
        info_span!("");
    }
    enabled: INFO {
        error!(
            a = enabled!(Level::INFO), b = enabled!(Level::DEBUG), c = event_enabled!(Level::INFO),
            d = span_enabled!(Level::DEBUG), e = enabled!(target: "t", Level::WARN, a, b.c), f = event_enabled!(Level::INFO, a),
            g = span_enabled!(target: "t", Level::TRACE), h = enabled!(kind: tracing::metadata::Kind::SPAN, Level::INFO),
        );
    }
    types: TRACE {
        let span: Span = info_span!("s");
        let entered: span::EnteredSpan = debug_span!("s").entered();
        let () = info!("done");
        let value: u8 = info_span!("s").in_scope(|| 7);
        match value { 0 => warn!("zero"), 7 if true => info!(value), _ => {} }
        if true { error!("done") } else { debug!("not done") }
        let f = |x: u8| trace!(x);
        f(1)
    }
}

// Fields and messages.
same! {
    fields: TRACE {
        let (a, user) = (1, USER);
        each_list! {
            [a] [a,] [a, user.id] [?user] [%user] [?user,] [%user,] [?user.address.city] [%user.name, a]
            [a = a] [a.b.c = a,] [a = ?user] [a = %user,] [a = ?user.address.city, b = %user.name, c = user.id]
            ["a" = 1] ["a b" = ?user,] ["a-b" = %user, "c" = a] ["a.b" = 1, "done {}", 1]
            [{ FIELD } = 1] [{ FIELD } = ?user,] [{ field() } = %user, a] [{ concat!("a", "b") } = 1, { FIELD } = 2, "done"] [{"lit"} = 1]
            [type = 1] [r#type = 1, r#fn.r#match = 2] [r#in.x = ?3, self_ = 4, r#async.await = 5]
            [message = "done"] [message = %user, a] [a, message = "done"] [message = format_args!("{a}")]
            [name = 1, target = 2, parent = 3, level = 4, fields = 5, kind = 6, callsite = 7]
            [name.a = 1] [span = 1, event = 2, value = 3, enabled = 4, consumers = 5, debug = 6, display = 7, x = 8]
            [a = 1, a = 2]
        }
    }
    keywords_as_variables: TRACE { let (r#type, r#match) = (1, USER); each_list! { [r#type] [?r#type, r#match.id] [%r#match, "done"] } }
    fields_of_self: TRACE {
        #[derive(Debug)]
        struct User { id: u64, name: &'static str, address: Address }
        impl fmt::Display for User { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("user") } }
        impl User { fn log(&self) { each_list! { [self.id, ?self.address.city] [%self.name] [?self] [%self, "done"] [id = self.id] } } }
        User { id: 1, name: "n", address: USER.address }.log()
    }
    raw_fields_of_self: TRACE {
        struct Raw { r#type: u8 }
        impl Raw { fn log(&self) { each_list! { [self.r#type, ?self.r#type] } } }
        Raw { r#type: 1 }.log()
    }
    names_that_the_macros_import: TRACE {
        each_list! { [a = debug(USER), b = display(&USER)] [a = display(1).to_string(), b = ?debug("x")] }
        let value: &dyn Value = &3;
        each_list! { [a = &7 as &dyn Value] [a = value] }
    }
    names_that_the_macros_import_shadow_nothing_else: TRACE {
        use fake::{Value, debug, display};
        mod fake {
            pub(super) struct Value;
            impl Value { pub(super) const NAME: &'static str = "n"; pub(super) const LEVEL: tracing::Level = tracing::Level::WARN; }
            pub(super) const fn debug() -> &'static str { "debug" }
            pub(super) const fn display() -> &'static str { "display" }
        }
        span!(target: debug(), Value::LEVEL, Value::NAME, a = 1);
        event!(name: Value::NAME, target: display(), Value::LEVEL, { display() } = 1);
        let parent = info_span!("parent");
        {
            let display = &parent;
            info_span!(parent: display, "s", a = 1);
        }
    }
    empty_fields: TRACE {
        let span = info_span!("s", a = field::Empty, b.c = tracing::field::Empty, "d e" = field::Empty, { FIELD } = field::Empty);
        span.record("a", 1).record("b.c", "x").record("d e", true).record(FIELD, field::debug(USER)).record("none", 1);
        record_all!(span, a = 2, b.c = ?USER, "d e" = %USER);
        info!(a = field::Empty, b = None::<u8>, "done");
        info!(a = tracing::field::Empty);
    }
    messages: TRACE {
        let (a, width, user) = (1, 6, USER);
        each_list! {
            ["done"] ["done",] ["{}", a] ["{a}"] ["{a:>width$} {0:?} {0}", user] ["{a:#06x} {:>1$} {:.*}", a, width, 1.5]
            ["{x} {y:?}", x = a, y = user] ["{user:?} {{}} {}", user.name] [concat!("d", "one {}"), 1] ["a\nb\u{e4}\"\\"]
            [a, "{a}"] [?user, "{} {}", user, a] [%user, a.b = 1, "{width}",] ["{}", { let b = a + 1; b }] ["{}", format!("{a}")]
            ["{}", stringify!(a b)] ["{0} {0}", a] ["{}" , if a > 0 { "some" } else { "none" }] [std::concat!("d", "one")]
        }
        let no = ();
        info!("{:?} {no:?}", ());
    }
    braces_and_messages: TRACE {
        let user = USER;
        info!({ a = 1, b.c = ?user, "d" = %user, { FIELD } = 2, ?user.address, user.id }, "{} {x}", 1, x = 2);
        warn!(target: "t", { user.id }, "done");
        error!(parent: None, { ?user }, "done");
        debug!(name: "n", { %user, }, "done",);
        event!(Level::INFO, { a = 1 }, "{user}");
    }
}

// Values.
same! {
    types_of_values: TRACE {
        use std::num::{NonZero, NonZeroI128, NonZeroU8, NonZeroUsize, Wrapping};
        let io = std::io::Error::other("broken");
        let parse: Box<dyn std::error::Error + Send + Sync> = "x".parse::<u8>().unwrap_err().into();
        let (text, boxed): (String, Box<str>) = ("owned".into(), "boxed".into());
        let mut number = 5;
        each_list! {
            [a = 1u8, b = 2u16, c = 3u32, d = 4u64, e = 5usize, f = 6u128] [a = -1i8, b = -2i16, c = -3i32, d = -4i64, e = -5isize, f = -6i128]
            [a = 1, b = -1, c = 1.5, d = 1.5f32, e = f64::NAN, f = true, g = u64::MAX, h = i128::MIN, i = u128::MAX]
            [a = "text", b = &"text", c = &&"text", d = text, e = &text, f = &*text, g = text.as_str(), h = boxed, i = Box::new(1)]
            [a = Some(1), b = None::<&str>, c = Some("text"), d = &Some(text.clone()), e = Some(true), f = Some(Some(1))]
            [a = NonZeroU8::MIN, b = NonZeroI128::MAX, c = NonZero::new(3u64).unwrap(), d = Wrapping(7u8), e = Some(NonZeroUsize::MIN)]
            [a = &io as &dyn std::error::Error, b = &io as &(dyn std::error::Error + Send + Sync + 'static), c = &*parse, d = parse]
            [a = format_args!("{}", 1), b = &format_args!("{text}"), c = &mut number, d = field::Empty, e = Box::new("x")]
            [a = b"bytes" as &[u8], b = &[1u8, 2][..]]
            [a = 1 as f64, b = 'c' as u32, c = 1 + 2 * 3, d = !false && true, e = -number, f = 1 << 4 | 1, g = number == 5, h = (1..2) == (1..2)]
            [a = field::debug(1), b = field::display("x"), c = &field::debug([1])]
        }
    }
    generic_values: TRACE {
        fn log<T: Value, U: fmt::Debug + ?Sized, const N: usize>(a: T, b: &U, c: [u8; N], d: &dyn Value, e: impl fmt::Display) {
            each_list! { [a, b = ?b, c = ?c, n = N, d, %e] [a = &a, ?b, "{e} {N} {:?}", c] }
        }
        log(1, "text", [1, 2], &true, 1.5);
        log("text", &[1][..], [], &"x", "e");
        log(Some(1.5), &(), [1], &1u8, 'e');
    }
    values_are_evaluated_once_and_in_order: TRACE {
        fn number(what: &str) -> u8 { tracing_of_values::info!("{what}"); 1 }
        use tracing as tracing_of_values;
        each_list! {
            [a = number("a"), b = ?number("b"), c = %number("c"), "d" = number("d"), { FIELD } = number("e"), "{}", number("message")]
        }
        info!({ a = number("a"), b = number("b") }, "{}{}", number("1"), number("2"));
        info_span!(parent: { number("parent"); None }, "s", a = number("a"));
        info!(parent: { number("parent"); None }, a = number("a"));
        info!(a = { info!(b = { warn!("inner"); 1 }, "middle"); 2 }, "outer");
        info_span!("outer", a = ?info_span!("inner").id(), b = info_span!("next").in_scope(|| 1));
    }
    values_of_disabled_callsites_are_not_evaluated: WARN {
        fn never() -> u8 { panic!("evaluated") }
        info!(a = never(), b = ?never(), "{}", never());
        event!(parent: { never(); None }, Level::DEBUG, { a = never() }, "done");
        info_span!(parent: { never(); None }, "s", a = never(), b = %never());
        trace!("{}", never());
        warn!("done");
    }
    spans_of_disabled_callsites: WARN {
        let span = info_span!("s", a = 1);
        error!(
            disabled = span.is_disabled(), none = span.is_none(), id = ?span.id(), metadata = ?span.metadata().map(|m| m.name()),
            field = span.has_field("a"), text = ?span
        );
        span.record("a", 2).follows_from(Id::from_u64(3));
        warn_span!(parent: &span, "below");
        error!(parent: &span, "below");
        span.in_scope(|| warn!("inside"));
    }
    spans_of_enabled_callsites: TRACE {
        let span = info_span!("s", a = 1, b = field::Empty);
        error!(
            disabled = span.is_disabled(), none = span.is_none(), id = ?span.id(), metadata = ?span.metadata().map(|m| m.name()),
            field = span.has_field("b"), text = ?span
        );
    }
    temporary_values_are_dropped_at_the_end: TRACE {
        struct Noisy(&'static str);
        impl Noisy { fn len(&self) -> usize { self.0.len() } fn text(&self) -> &str { self.0 } }
        use tracing as tracing_of_drop;
        impl Drop for Noisy { fn drop(&mut self) { tracing_of_drop::info!("dropped {}", self.0) } }
        each_list! { [a = Noisy("a").len(), b = Noisy("b").text(), c = %Noisy("c").text(), "{}", Noisy("m").text()] }
        let outer = (Noisy("first").len(), info!(a = Noisy("second").len()), Noisy("third").len());
        let span = info_span!(parent: &info_span!("temporary", a = Noisy("p").len()), "s", a = Noisy("v").text());
        info!(parent: &info_span!("temporary"), "done");
        info!("last");
    }
    values_are_borrowed: TRACE {
        let (text, user) = (String::from("text"), USER);
        let numbers = vec![1, 2];
        each_list! { [text, a = text, b = ?numbers, c = numbers[0], d = *&text.len(), %user, "{text}"] }
        let moved = move || { info!(text, ?numbers); info_span!("s", a = text.clone(), b = { text }) };
        moved();
        drop(user);
        let reference: &mut u8 = &mut 3;
        info!(a = reference, b = *reference);
        *reference += 1;
        info!(a = { let taken = std::mem::take(reference); taken });
    }
}

// Where a macro can stand, and what its values can do.
same! {
    question_mark_return_and_break: TRACE {
        fn question(text: &str) -> Result<u8, Box<dyn std::error::Error>> {
            tracing_of_values::info!(a = text.parse::<u8>()?, "{}", text.parse::<i8>()?);
            tracing_of_values::info_span!("s", a = ?text.parse::<u8>()?);
            Ok(1)
        }
        fn option(x: Option<u8>) -> Option<()> { tracing_of_values::info!(a = x?); Some(()) }
        fn returns(x: bool) -> u8 {
            tracing_of_values::info!(a = if x { return 1 } else { 2 });
            tracing_of_values::info_span!("s", a = match x { true => 1, false => return 3 });
            4
        }
        use tracing as tracing_of_values;
        question("x").unwrap_err();
        question("200").unwrap_err();
        question("1").unwrap();
        (option(None), option(Some(1)), returns(true), returns(false));
        let found = loop { info!(a = if true { break 5 } else { 6 }); };
        for x in 0..3 { info_span!("s", a = if x == 1 { continue } else { x }); }
        let labelled = 'a: { info!("{}", if found == 5 { break 'a 1 } else { 2 }); 3 };
    }
    values_that_wait: TRACE {
        fn run<T>(future: impl Future<Output = T> + Send) -> T { block_on(future) }
        async fn number(x: u8) -> u8 { one_wait().await; x }
        run(async {
            let user = USER;
            info!(a = number(1).await);
            info_span!("s", a = number(1).await);
            info!(?user, "between");
            number(2).await;
            let span = info_span!("held", x = 1);
            number(3).await;
            info!(parent: &span, "after");
            async { info!("inside"); one_wait().await }.instrument(span).await;
        });
        block_on(async {
            info!(a = number(1).await, b = ?number(2).await, "{}", number(3).await);
            info_span!("s", a = number(1).await, b = number(2).await);
        });
    }
    blocks_closures_and_macros: TRACE {
        macro_rules! three { () => { 3 } }
        each_list! {
            [a = { let x = 1; x + 1 }] [a = (|x: u8| x + 1)(2)] [a = three!(), b = ?vec![1, 2], c = %format!("{}", three!())]
            [a = match 1 { 1 => "one", _ => "more" }, b = if let Some(x) = Some(1) { x } else { 0 }, c = 'l: { break 'l 1 }]
            [a = User { id: 1, ..USER }.id, b = ?User { id: 2, ..USER }, c = [1, 2].iter().map(|x| x * 2).sum::<i32>()]
            [a = { static N: u8 = 1; N }, b = { const M: u8 = 2; fn f() -> u8 { M } f() }, c = "a,b", d = Vec::<(u8, u8)>::new().len()]
        }
    }
    functions_of_all_kinds: TRACE {
        use tracing as macros;
        const fn array<const N: usize>() -> [u8; N] { [0; N] }
        fn of_const<const N: usize>() -> usize { macros::info_span!("s", N, a = array::<N>().len()).in_scope(|| macros::info!("{N}")); N }
        trait Named { const KIND: &'static str; fn log(&self) where Self: fmt::Debug { macros::info!(?self, kind = Self::KIND); macros::info_span!("s", ?self); } }
        impl Named for User { const KIND: &'static str = "user"; }
        impl Named for u8 { const KIND: &'static str = "u8"; }
        of_const::<1>();
        of_const::<2>();
        USER.log();
        1u8.log();
        unsafe fn not_safe() { macros::info!("not safe") }
        extern "C" fn foreign(x: u8) { macros::info!(x) }
        // SAFETY: the function asks nothing of its callers.
        unsafe { not_safe() };
        foreign(1);
        let once = std::sync::OnceLock::new();
        once.get_or_init(|| info!("once"));
        [1, 2].iter().for_each(|x| info!(x));
        static LAZY: std::sync::LazyLock<u8> = std::sync::LazyLock::new(|| 1);
        info!(lazy = *LAZY);
    }
    macros_of_the_user: TRACE {
        macro_rules! all { ($($all:tt)*) => { info!($($all)*); info_span!("s", $($all)*); } }
        macro_rules! log { ($level:expr, $name:literal, $field:ident = $value:expr, $format:literal $(, $argument:expr)*) => {
            event!($level, $field = $value, $format $(, $argument)*);
            event!(name: $name, target: $name, $level, { $field = ?$value }, $format $(, $argument)*);
            span!(target: $name, $level, $name, $field = %$value, $name = 1);
        } }
        macro_rules! of_tokens { ($a:ident . $b:ident, $text:expr, $constant:expr, $block:block, $ty:ty, $path:path, $lifetime:lifetime) => {
            info!(target: $constant, x = 1, $a.$b, ?$a, { $constant } = $block, n = <$ty>::MAX, p = ?$path(1), l = $lifetime: { break $lifetime 1 }, $text);
            info!($text);
            warn!("{}", $text);
        } }
        macro_rules! level { ($($macro:ident)*) => {$( $macro!("{}", stringify!($macro)); tracing::$macro!(a = 1); )*} }
        let user = USER;
        all!(a = 1, ?user, "done {}", 1);
        log!(Level::INFO, "n", a = user.id, "{} {}", 1, "two");
        log!(tracing::Level::TRACE, "n m", b = "x", "done");
        of_tokens!(user.id, "done", TARGET, { 1 + 1 }, u8, Some, 'a);
        level!(trace debug info warn error);
    }
    names_that_shadow_those_of_the_standard_library: TRACE {
        mod std {}
        mod core {}
        mod alloc {}
        mod log {}
        mod tracing_core {}
        mod tracing_usdt {}
        macro_rules! concat { () => { compile_error!("concat") } }
        macro_rules! format_args { () => { compile_error!("format_args") } }
        macro_rules! stringify { () => { compile_error!("stringify") } }
        macro_rules! file { () => { compile_error!("file") } }
        macro_rules! line { () => { compile_error!("line") } }
        macro_rules! debug { () => { compile_error!("debug") } }
        macro_rules! metadata { () => { compile_error!("metadata") } }
        struct Option;
        struct Some;
        struct None;
        struct Result;
        struct String;
        struct Site;
        struct Metadata;
        struct Callsite;
        type str = ();
        type u8 = ();
        type u32 = ();
        type usize = ();
        type bool = ();
        let (enabled, consumers, parent, value, span, level) = (1, 2, 3, 4, 5, 6);
        each_list! { [enabled, consumers, parent, value, span, level] [a = enabled, b = ?parent, "{span}{}", level] [a.b = 1, "c" = 2] }
        each_event_with_prefixes_but_none!();
    }
}

/// The prefixes where `None` is a type of the user.
macro_rules! each_event_with_prefixes_but_none {
    () => {
        let parent = tracing::info_span!("parent");
        tracing::info!(name: "n", target: "t", parent: &parent, a = 1, "done");
        tracing::info_span!(target: "t", parent: &parent, "s", a = 1);
    };
}
use each_event_with_prefixes_but_none;

/// A module of its own, so that it can have attributes, with `tracing` or with `tracing_usdt::tracing`.
macro_rules! same_module {
    ($($name:ident: [$($attribute:tt)*] { $($code:tt)* })*) => {$(
        #[test]
        fn $name() {
            let theirs = {
                mod module { $($attribute)* use ::tracing; $($code)* }
                recorded(Level::TRACE, module::run)
            };
            let ours = {
                mod module { $($attribute)* use ::tracing_usdt::tracing; $($code)* }
                recorded(Level::TRACE, module::run)
            };
            assert!(!theirs.is_empty());
            assert_eq!(theirs, ours);
        }
    )*};
}

same_module! {
    without_unsafe_code_and_warnings: [#![forbid(unsafe_code)] #![deny(warnings)] #![deny(clippy::all)]] {
        use tracing::{Level, debug, debug_span, error, event, info, info_span, span, trace, warn};

        pub(super) fn run() {
            let user = super::USER;
            info!(a = 1, ?user, "done {}", 1);
            info!("done");
            warn!(target: "t", a = user.id);
            error!(name: "n", parent: None, { %user }, "done");
            trace!({ super::FIELD } = 1, "a b" = 2);
            event!(Level::INFO, a = 1);
            debug!(a = ?1);
            let _span = span!(Level::WARN, "s", a = tracing::field::Empty);
            let _guard = info_span!("s", ?user).entered();
            debug_span!(parent: None, "s").in_scope(|| info!(parent: &_span, "inside"));
        }
    }
    without_prelude: [#![no_implicit_prelude] #![allow(dead_code)]] {
        use tracing::{Level, debug, error, event, info, info_span, span, trace, warn};
        use ::std::clone::Clone as _;
        use ::std::module_path;

        pub(super) fn run() {
            let user = super::USER;
            info!(a = 1, ?user, %user.name, "done {} {user}", 1);
            info!("done");
            warn!(target: "t", a = user.id);
            error!(name: "n", target: "t", parent: ::std::option::Option::None, { %user }, "done");
            trace!("a b" = 2, a.b = ?1);
            event!(target: "t", Level::INFO, a = 1);
            debug!(r#type = 1);
            span!(target: "t", Level::INFO, "s", a = 1, b = ?user.clone());
            let span = info_span!("s", ?user, "c" = ::std::option::Option::Some(1));
            let _entered = span.enter();
        }
    }
}

/// `f0 = 0, f1 = 1`, and so on: 20 fields to a letter.
macro_rules! with_many_fields {
    ($count:literal $macro:ident!($($before:tt)*) $($letter:ident)*) => {
        with_many_fields!(@ $macro [$($before)*] [] $([$letter])*)
    };
    (@ $macro:ident [$($before:tt)*] [$($done:tt)*]) => { tracing::$macro!($($before)* $($done)*) };
    (@ $macro:ident $before:tt [$($done:tt)*] [$l:ident] $($rest:tt)*) => {
        with_many_fields!(@ $macro $before [
            $($done)* $l.a = 1, $l.b = 2, $l.c = ?3, $l.d = %4, $l.e = "5", $l.f = 6, $l.g = 7, $l.h = 8, $l.i = 9, $l.j = 10,
            $l.k = 1, $l.l = 2, $l.m = ?3, $l.n = %4, $l.o = "5", $l.p = 6, $l.q = 7, $l.r = 8, $l.s = 9, $l.t = 10,
        ] $($rest)*)
    };
}

same! {
    many_fields: TRACE {
        with_many_fields!(40 info!() a b);
        with_many_fields!(60 info!() a b c);
        with_many_fields!(60 info_span!("s",) a b c);
        with_many_fields!(100 event!(Level::INFO,) a b c d e);
        with_many_fields!(100 span!(target: "t", parent: None, Level::INFO, "s",) a b c d e);
    }
}
