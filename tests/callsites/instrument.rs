//! `tracing_usdt::tracing::instrument` against `tracing::instrument`: what a subscriber sees of both is the same.
//!
//! Each test of `same!` compiles its code twice, with either attribute. The attributes are the
//! same tokens of the source, so even the lines in the metadata are equal.

use std::fmt::{self, Debug};
use std::task::{Context, Waker};

use ::tracing::Level;

use crate::recorder::{block_on, one_wait, recorded};

/// A type for each copy of a test, since the tests give it methods.
macro_rules! point {
    () => {
        #[derive(Debug, Clone, Copy)]
        struct Point {
            x: u8,
            y: u8,
        }
    };
}

/// Tests of both attributes, with the type.
macro_rules! same {
    ($($name:ident: $max_level:ident { $($code:tt)* })*) => {
        crate::recorder::same! { $($name: $max_level { point!(); $($code)* })* }
    };
}

const NAME: &str = "name_of_a_constant";
const TARGET: &str = "target_of_a_constant";
const FIELD: &str = "field.of.a.constant";
const LEVEL: Level = Level::WARN;

const fn field_name() -> &'static str {
    "field.of.a.function"
}

#[derive(Debug)]
#[expect(dead_code, reason = "read by `Debug`")]
struct Pair(u8, &'static str);

/// No `Debug`.
struct Opaque;

// Names, targets and levels.
same! {
    no_arguments: TRACE { #[instrument] fn f() {} f() }
    empty_arguments: TRACE { #[instrument()] fn f() {} f() }
    name: TRACE { #[instrument(name = "other")] fn f() {} f() }
    name_without_key: TRACE { #[instrument("other", level = "warn")] fn f() {} f() }
    name_of_constant: TRACE { #[instrument(name = NAME)] fn f() {} f() }
    raw_names: TRACE { #[instrument] fn r#match(r#type: u8, r#in: Point) {} r#match(1, Point { x: 1, y: 2 }) }
    target: TRACE { #[instrument(target = "elsewhere")] fn f() {} f() }
    target_of_constant: TRACE { #[instrument(target = TARGET, ret, err)] fn f() -> Result<u8, u8> { Ok(1) } f().unwrap(); }
    level_names: TRACE {
        #[instrument(level = "trace")] fn a() {}
        #[instrument(level = "DEBUG")] fn b() {}
        #[instrument(level = "Info")] fn c() {}
        #[instrument(level = "warn")] fn d() {}
        #[instrument(level = "error")] fn e() {}
        a(); b(); c(); d(); e()
    }
    level_numbers: TRACE {
        #[instrument(level = 1)] fn a() {}
        #[instrument(level = 2)] fn b() {}
        #[instrument(level = 3)] fn c() {}
        #[instrument(level = 4)] fn d() {}
        #[instrument(level = 5)] fn e() {}
        a(); b(); c(); d(); e()
    }
    level_paths: TRACE {
        #[instrument(level = LEVEL)] fn a() {}
        #[instrument(level = Level::DEBUG)] fn b() {}
        #[instrument(level = tracing::Level::TRACE)] fn c() {}
        a(); b(); c()
    }
    arguments_without_commas: TRACE { #[instrument(level = "warn" skip_all fields(a = 1) name = "b")] fn f(x: u8) {} f(1) }
    arguments_with_many_commas: TRACE { #[instrument(, level = "warn",, skip_all,)] fn f(x: u8) {} f(1) }
}

// Parents and causes.
same! {
    root: TRACE { #[instrument(parent = None)] fn f() {} tracing::info_span!("outer").in_scope(f) }
    parent_of_parameter: TRACE {
        #[instrument(parent = &parent, skip(parent))] fn f(parent: tracing::Span) {}
        f(tracing::info_span!("outer"))
    }
    parent_of_self: TRACE {
        struct Owner { span: tracing::Span }
        impl Owner { #[instrument(parent = &self.span, skip(self), level = "debug")] fn f(&self, x: u8) {} }
        Owner { span: tracing::info_span!("outer") }.f(1)
    }
    follows_from: TRACE {
        #[instrument(follows_from = causes, skip(causes))] fn f(causes: &[tracing::Id]) {}
        f(&[tracing::Id::from_u64(100), tracing::Id::from_u64(200)])
    }
    follows_from_spans_async: TRACE {
        #[instrument(follows_from = [&cause], skip_all)] async fn f(cause: tracing::Span) { one_wait().await }
        block_on(f(tracing::info_span!("cause")))
    }
    repeated_arguments: TRACE {
        #[instrument(
            parent = None, parent = parent, follows_from = [parent], follows_from = [Id::from_u64(8)],
            err, err(Debug), ret(level = "warn"), ret, skip(), skip(parent)
        )]
        fn f(parent: &Span, x: u8) -> Result<u8, String> { if x > 0 { Ok(x) } else { Err("zero".into()) } }
        f(&tracing::info_span!("outer"), 0).unwrap_err();
        f(&tracing::info_span!("outer"), 1).unwrap();
    }
    parent_and_follows_from: TRACE {
        #[instrument(parent = None, follows_from = [tracing::Span::current()])] fn f() {}
        tracing::info_span!("outer").in_scope(f)
    }
}

// Parameters.
same! {
    values: TRACE {
        #[instrument]
        fn f(a: bool, b: u8, c: i64, d: u128, e: f64, f: &str, g: String, h: usize, i: &&u32, j: &mut i16, k: i128) {}
        f(true, 1, -1, 2, 0.5, "s", "t".to_owned(), 3, &&4, &mut 5, 6)
    }
    values_by_path: TRACE {
        #[instrument]
        fn f(a: std::string::String, b: std::num::NonZeroU8, c: std::num::NonZeroIsize, d: std::num::Wrapping<u16>) {}
        f(String::new(), 1.try_into().unwrap(), 2.try_into().unwrap(), std::num::Wrapping(3))
    }
    debugged: TRACE {
        #[instrument]
        fn f(a: Point, b: Option<u8>, c: &[u8], d: (), e: std::num::NonZero<u8>, f: char, g: Box<str>) {}
        f(Point { x: 1, y: 2 }, None, &[1], (), 1.try_into().unwrap(), 'c', "s".into())
    }
    patterns: TRACE {
        #[instrument]
        fn f((a, (b, _)): (u8, (u8, u8)), Point { x, y: z }: Point, Pair(c, ..): Pair, &d: &u8, mut e: u8, _: u8, [g, _]: [u8; 2]) {
            e += 1;
        }
        f((1, (2, 3)), Point { x: 4, y: 5 }, Pair(6, "seven"), &8, 9, 10, [11, 12])
    }
    underscored: TRACE { #[instrument] fn f(_a: u8, _b: Point) {} f(1, Point { x: 1, y: 2 }) }
    skip: TRACE { #[instrument(skip(b, c,))] fn f(a: u8, b: Opaque, c: Opaque) {} f(1, Opaque, Opaque) }
    skip_in_pattern: TRACE { #[instrument(skip(a))] fn f((a, b): (Opaque, u8)) {} f((Opaque, 1)) }
    skip_all: TRACE { #[instrument(skip_all)] fn f(a: u8, b: Opaque) {} f(1, Opaque) }
    impl_trait_parameters: TRACE { #[instrument] fn f(a: impl Debug, b: &impl Debug) {} f(1, &"s") }
    generics: TRACE {
        #[instrument(skip(b))]
        fn f<'a, T: Debug, U, const N: usize>(a: &'a T, b: U, c: [u8; N]) -> &'a T where U: Into<String> { a }
        f(&1, "s", [1, 2]);
    }
}

// Fields.
same! {
    fields: TRACE { #[instrument(fields(a = 1, b = "s", c = true, d = x + 1,))] fn f(x: u64) {} f(1) }
    formatted_fields: TRACE { #[instrument(fields(a = %x, b = ?x, c = ?x.len()))] fn f(x: &str) {} f("s") }
    fields_short: TRACE { #[instrument(skip_all, fields(%a, ?b))] fn f(a: u8, b: Point) {} f(1, Point { x: 1, y: 2 }) }
    fields_short_and_dotted: TRACE { #[instrument(skip_all, fields(%p.x, ?p.y))] fn f(p: Point) {} f(Point { x: 1, y: 2 }) }
    fields_with_format_before_name: TRACE { #[instrument(fields(%a = 1, ?b = "s"))] fn f() {} f() }
    empty_fields: TRACE {
        #[instrument(fields(a, b.c, d = tracing::field::Empty))]
        fn f() { tracing::Span::current().record("a", 1).record("b.c", "s").record("d", true); }
        f()
    }
    dotted_fields: TRACE { #[instrument(fields(a.b = 1, http.request.method = %"GET", keywords.impl.type.fn = 2))] fn f() {} f() }
    constant_fields: TRACE {
        #[instrument(fields({ FIELD } = x, {field_name()} = %x, {"literal"} = ?x, last = 1))] fn f(x: u8) {}
        f(1)
    }
    fields_replace_parameters: TRACE { #[instrument(fields(a = %a.x, b, c.d = 1))] fn f(a: Point, b: Opaque, c: u8) {} f(Point { x: 1, y: 2 }, Opaque, 1) }
    constant_fields_replace_none: TRACE { #[instrument(fields({"a"} = 2))] fn f(a: u8) {} f(1) }
    fields_of_self: TRACE {
        impl Point { #[instrument(skip(self), fields(self.x = self.x, kind = std::any::type_name::<Self>()))] fn f(&self) {} }
        Point { x: 1, y: 2 }.f()
    }
    fields_of_macros_and_closures: TRACE {
        #[instrument(fields(a = format!("{x}-{}", x + 1), b = (|y: u64| y + 1)(2), c = if x > 0 { 1 } else { 2 }))]
        fn f(x: u64) {}
        f(1)
    }
}

// Events.
same! {
    err: TRACE { #[instrument(err)] fn f(x: u8) -> Result<u8, String> { Err("bad".to_owned()) } f(1).unwrap_err(); }
    err_of_ok: TRACE { #[instrument(err)] fn f() -> Result<u8, String> { Ok(1) } f().unwrap(); }
    err_formats: TRACE {
        #[instrument(err(Debug))] fn a() -> Result<(), &'static str> { Err("bad") }
        #[instrument(err(Display))] fn b() -> Result<(), &'static str> { Err("bad") }
        #[instrument(err(level = "warn"))] fn c() -> Result<(), &'static str> { Err("bad") }
        #[instrument(err(Debug, level = Level::INFO))] fn d() -> Result<(), &'static str> { Err("bad") }
        #[instrument(err(level = 2, Debug))] fn e() -> Result<(), &'static str> { Err("bad") }
        a(); b(); c(); d(); e();
    }
    err_after_question_mark: TRACE {
        #[instrument(err)]
        fn f(text: &str) -> Result<u8, Box<dyn std::error::Error>> { let number: u8 = text.parse()?; Ok(number) }
        f("x").unwrap_err();
        f("1").unwrap();
    }
    err_after_return: TRACE { #[instrument(err)] fn f() -> Result<(), String> { if true { return Err("bad".into()); } Ok(()) } f(); }
    ret: TRACE { #[instrument(ret)] fn f() -> Point { Point { x: 1, y: 2 } } f(); }
    ret_of_unit: TRACE { #[instrument(ret)] fn f() {} f(); }
    ret_formats: TRACE {
        #[instrument(ret(Debug))] fn a() -> &'static str { "s" }
        #[instrument(ret(Display))] fn b() -> &'static str { "s" }
        #[instrument(ret(level = "warn"), level = "trace")] fn c() -> u8 { 1 }
        #[instrument(level = "debug", ret(Display, level = LEVEL))] fn d() -> u8 { 1 }
        #[instrument(level = "debug", ret)] fn e() -> u8 { 1 }
        a(); b(); c(); d(); e();
    }
    ret_of_result: TRACE { #[instrument(ret)] fn f() -> Result<u8, u8> { Err(1) } f().unwrap_err(); }
    ret_and_err: TRACE {
        #[instrument(ret, err, target = "elsewhere")] fn f(x: u8) -> Result<u8, String> { if x > 0 { Ok(x) } else { Err("zero".into()) } }
        f(0).unwrap_err();
        f(1).unwrap();
    }
    ret_of_impl_trait: TRACE { #[instrument(ret)] fn f() -> impl Debug + Copy { 1 } f(); }
    err_of_impl_trait: TRACE { #[instrument(err, ret)] fn f() -> Result<impl Debug, impl fmt::Display> { if true { Err("bad") } else { Ok(1) } } f().err(); }
    ret_of_borrowed: TRACE { #[instrument(ret)] fn f<'a>(x: &'a str, y: &str) -> Option<&'a str> { x.strip_suffix(y) } f("ab", "b"); }
}

// Async functions and functions that return futures.
same! {
    async_fn: TRACE { #[instrument] async fn f(x: u8, p: Point) -> u8 { one_wait().await; tracing::info!("inside"); x } block_on(f(1, Point { x: 1, y: 2 })); }
    async_err_and_ret: TRACE {
        #[instrument(err, ret, fields(double = x * 2))]
        async fn f(x: u64) -> Result<u64, Box<dyn std::error::Error>> { one_wait().await; if x == 0 { Err("zero")?; } Ok(x) }
        block_on(f(0)).unwrap_err();
        block_on(f(1)).unwrap();
    }
    async_ret: TRACE { #[instrument(ret)] async fn f() -> impl Debug { one_wait().await; [1] } block_on(f()); }
    async_err: TRACE { #[instrument(err(Debug))] async fn f() -> Result<(), u8> { Err(1)? } block_on(f()).unwrap_err(); }
    async_dropped: TRACE { #[instrument] async fn f() { one_wait().await } drop(f()); let mut f = Box::pin(f()); _ = f.as_mut().poll(&mut Context::from_waker(Waker::noop())); }
    async_block: TRACE {
        #[instrument(ret)] fn f(x: u8) -> impl Future<Output = u8> { tracing::info!("before"); async move { one_wait().await; x } }
        block_on(f(1));
    }
    async_block_without_move: TRACE { #[instrument] fn f() -> impl Future<Output = ()> { async { one_wait().await } } block_on(f()); }
    async_block_pinned: TRACE {
        #[instrument(err)]
        fn f<'a>(x: &'a str) -> std::pin::Pin<Box<dyn Future<Output = Result<u8, std::num::ParseIntError>> + Send + 'a>> {
            tracing::info!("before");
            Box::pin(async move { one_wait().await; x.parse() })
        }
        block_on(f("x")).unwrap_err();
    }
    async_block_pinned_by_path: TRACE {
        #[instrument] fn f(x: u8) -> std::pin::Pin<Box<dyn Future<Output = u8>>> { std::boxed::Box::pin(async move { x }) }
        block_on(f(1));
    }
    pinned_call_of_inner_function_that_is_not_async: TRACE {
        #[instrument]
        fn f(x: u8) -> std::pin::Pin<Box<dyn Future<Output = u8>>> {
            fn inner(x: u8) -> impl Future<Output = u8> { async move { one_wait().await; x } }
            Box::pin(inner(x))
        }
        block_on(f(1));
    }
    future_made_otherwise: TRACE {
        #[instrument] fn f(x: u8) -> impl Future<Output = u8> { let future = async move { one_wait().await; x }; future }
        block_on(f(1));
    }
    pinned_call_of_other_function: TRACE {
        #[instrument] fn f() -> std::pin::Pin<Box<dyn Future<Output = ()>>> { Box::pin(one_wait()) }
        block_on(f());
    }
    async_trait_since_0_1_44: TRACE {
        trait Service { fn call<'a>(&'a self, x: u8) -> std::pin::Pin<Box<dyn Future<Output = Result<u8, String>> + 'a>>; }
        impl Service for Point {
            #[instrument(err, ret, fields(me = self.x, kind = std::any::type_name::<Self>()))]
            fn call<'a>(&'a self, x: u8) -> std::pin::Pin<Box<dyn Future<Output = Result<u8, String>> + 'a>> {
                Box::pin(async move {
                    if let Some(__ret) = None::<Result<u8, String>> { return __ret; }
                    let __self = self;
                    let x = x;
                    let __ret: Result<u8, String> = { one_wait().await; if x > __self.x { Err("big".to_owned())?; } Ok(x) };
                    __ret
                })
            }
        }
        block_on(Point { x: 1, y: 2 }.call(3)).unwrap_err();
        block_on(Point { x: 3, y: 2 }.call(3)).unwrap();
    }
    async_trait_until_0_1_43: TRACE {
        trait Service { fn call<'a>(&'a self, x: u8) -> std::pin::Pin<Box<dyn Future<Output = u8> + 'a>>; }
        impl Service for Point {
            #[instrument(ret, fields(me = self.x, kind = std::any::type_name::<Self>(), z = %self.y))]
            fn call<'a>(&'a self, x: u8) -> std::pin::Pin<Box<dyn Future<Output = u8> + 'a>> {
                async fn __call(_self: &Point, x: u8) -> u8 { one_wait().await; x + _self.x }
                Box::pin(__call(self, x))
            }
        }
        block_on(Point { x: 1, y: 2 }.call(3));
    }
    async_trait_until_0_1_43_skipping_self: TRACE {
        impl Point {
            #[instrument(skip(self))]
            fn call<'a>(&'a mut self, x: u8) -> std::pin::Pin<Box<dyn Future<Output = u8> + 'a>> {
                async fn call<T: Debug>(_self: &mut Point, x: T) -> T { one_wait().await; x }
                Box::pin(call::<u8>(self, x))
            }
        }
        block_on(Point { x: 1, y: 2 }.call(3));
    }
}

// Methods and other kinds of functions.
same! {
    methods: TRACE {
        impl Point {
            #[instrument] fn by_ref(&self, x: u8) -> u8 { self.x }
            #[instrument] fn by_mut(&mut self) -> &mut Self { self.x += 1; self }
            #[instrument(ret)] fn by_value(self) -> Self { self }
            #[instrument] fn boxed(self: Box<Self>) {}
            #[instrument(ret)] fn made() -> Self { Self { x: 1, y: 2 } }
            #[instrument(skip(self))] async fn waits(&mut self, x: &mut u8) -> u8 { one_wait().await; *x += 1; self.x += *x; self.x }
        }
        let mut point = Point::made();
        point.by_ref(1);
        block_on(point.by_mut().waits(&mut 1));
        Box::new(point.by_value()).boxed()
    }
    mutable_borrow_returned: TRACE {
        impl Point { #[instrument] fn f(&mut self) -> &mut u8 { &mut self.x } }
        Point { x: 1, y: 2 }.f();
    }
    default_methods: TRACE {
        trait Named { #[instrument(skip(self))] fn name(&self, x: u8) -> String where Self: Debug { "name".to_owned() } #[instrument(ret)] fn made() -> u8 { 1 } }
        impl Named for Point {}
        Point { x: 1, y: 2 }.name(1);
        Point::made();
    }
    unsafe_and_extern: TRACE {
        #[instrument(ret)] unsafe extern "C" fn f(x: u8) -> u8 { x }
        #[instrument] async unsafe fn g(x: u8) -> u8 { x }
        // SAFETY: the functions ask nothing of their callers.
        unsafe { f(1); block_on(g(2)); }
    }
    recursion: TRACE { #[instrument(ret)] fn f(n: u64) -> u64 { if n == 0 { 1 } else { n * f(n - 1) } } f(3); }
    inner_attributes: TRACE { #[instrument] fn f(x: u8) -> u8 { #![allow(clippy::let_and_return)] //! Documented.
        let y = x; y } f(1); }
    shadowed_type: TRACE {
        type Foo = ();
        enum Bar { Foo }
        #[instrument] fn f() -> Foo { use Bar::*; }
        #[instrument(ret)] fn g() -> Foo { use Bar::*; }
        #[instrument(err)] async fn h() -> Result<Foo, String> { use Bar::*; Ok(()) }
        f(); g(); block_on(h());
    }
    functions_from_macros: TRACE {
        {
            macro_rules! twice { ($value:expr, $ty:ty) => {
                #[instrument(ret)] fn f(x: $ty) -> $ty { let y = $value; x + y }
                f($value);
            } }
            twice!(1 + 1, u8);
        }
        {
            macro_rules! function {
                ($text:literal, $level:literal, $constant:expr, $value:expr, $ty:ty, $out:ty, $field:ident, $body:block) => {
                    #[instrument(level = $level, name = $text, target = $constant, fields($field = $value), err(level = $level), ret)]
                    fn f($field: $ty, parameter: $ty) -> $out $body
                    #[instrument($text, level = $level, skip($field))]
                    async fn g($field: $ty, parameter: &$ty) -> $out { one_wait().await; $body }
                };
            }
            function!("text", "warn", "target", 1 + 1, u8, Result<u8, String>, field, { Ok(1) });
            f(1, 2);
            block_on(g(1, &2));
        }
    }
    names_of_variables_in_generated_code: TRACE {
        #[instrument(ret, err, fields(sum = span + value))]
        fn f(span: u8, value: u8, error: u8, result: u8) -> Result<u8, u8> { let cause = span; Ok(cause + value + error + result) }
        f(1, 2, 3, 4);
    }
    futures_stay_send: TRACE {
        fn run<T>(future: impl Future<Output = T> + Send) -> T { block_on(future) }
        #[instrument] async fn f() -> std::rc::Rc<u8> { one_wait().await; 1.into() }
        #[instrument(ret)] async fn g() -> std::rc::Rc<u8> { one_wait().await; 1.into() }
        #[instrument(err, ret)] async fn h() -> Result<std::rc::Rc<u8>, Box<dyn std::error::Error>> { one_wait().await; Err("bad")? }
        run(f()); run(g()); run(h()).unwrap_err();
    }
    return_in_the_middle: TRACE { #[instrument] fn f(x: u8) -> u8 { if x > 0 { return x; } tracing::info!("zero"); 0 } f(1); f(0); }
}

// Levels that the subscriber has disabled.
same! {
    disabled: WARN {
        #[instrument(level = "info", err, ret)] fn f(x: u8) -> Result<u8, String> { Err("bad".into()) }
        f(1).unwrap_err();
    }
    disabled_async: WARN {
        #[instrument(ret(level = "warn"), follows_from = [panics()])] async fn f() -> u8 { one_wait().await; tracing::error!("inside"); 1 }
        fn panics() -> tracing::Span { panic!("evaluated for a disabled span") }
        block_on(f());
    }
    disabled_async_events: WARN { #[instrument(ret, err)] async fn f() -> Result<u8, u8> { Err(1) } block_on(f()).unwrap_err(); }
}

/// A value that is dropped where an uninstrumented function drops it.
#[test]
fn order_of_drops() {
    use tracing_usdt::tracing::instrument;

    struct Noisy(&'static str);
    impl Noisy {
        fn len(&self) -> usize {
            self.0.len()
        }
    }
    impl Drop for Noisy {
        fn drop(&mut self) {
            ::tracing::info!("{}", self.0);
        }
    }
    fn plain(_parameter: Noisy) -> usize {
        let _local = Noisy("local");
        Noisy("temporary").len()
    }
    #[instrument(skip_all)]
    fn entered(_parameter: Noisy) -> usize {
        let _local = Noisy("local");
        Noisy("temporary").len()
    }
    #[instrument(skip_all, ret)]
    fn with_event(_parameter: Noisy) -> usize {
        let _local = Noisy("local");
        Noisy("temporary").len()
    }
    #[instrument(skip_all)]
    async fn awaited(_parameter: Noisy) -> usize {
        let _local = Noisy("local");
        Noisy("temporary").len()
    }
    fn order(run: impl FnOnce(Noisy)) -> Vec<String> {
        let seen = recorded(Level::TRACE, || run(Noisy("parameter")));
        let messages = seen.lines().filter_map(|line| line.split_once(" message=debug:"));
        messages.map(|(_, message)| message.to_owned()).collect()
    }
    let expected = order(|noisy| _ = plain(noisy));
    assert_eq!(expected.len(), 3);
    assert_eq!(order(|noisy| _ = entered(noisy)), expected);
    assert_eq!(order(|noisy| _ = with_event(noisy)), expected);
    assert_eq!(order(|noisy| _ = block_on(awaited(noisy))), expected);
}

// What `tracing::instrument` rejects.

#[test]
fn events_of_borrows() {
    use tracing_usdt::tracing::instrument;

    #[derive(Debug)]
    struct Counter(u8);
    impl Counter {
        #[instrument(ret, skip(self))]
        fn add(&mut self) -> &mut u8 {
            self.0 += 1;
            &mut self.0
        }

        #[instrument(err, skip(self))]
        fn checked(&mut self) -> Result<&mut Self, String> {
            if self.0 > 1 {
                return Err("too many".to_owned());
            }
            Ok(self)
        }
    }
    let seen = recorded(Level::TRACE, || {
        *Counter(1).checked().unwrap().add() += 1;
        Counter(2).checked().unwrap_err();
    });
    assert_eq!(seen.matches("return=debug:2\n").count(), 1, "{seen}");
    assert_eq!(seen.matches("error=debug:too many\n").count(), 1, "{seen}");
}

#[test]
fn target_before_parent_and_follows_from() {
    use tracing_usdt::tracing::{Id, instrument};

    #[instrument(target = "elsewhere", parent = None, follows_from = [Id::from_u64(9)])]
    fn f() {}

    let seen = recorded(Level::TRACE, f);
    assert!(seen.starts_with("new 1 parent=none name=f target=elsewhere "), "{seen}");
    assert!(seen.contains("\nfollows 1 9\n"), "{seen}");
}

#[test]
fn quoted_field_names() {
    use tracing_usdt::tracing::instrument;

    #[instrument(fields("content-type" = %kind, "kind" = 1, "later"))]
    fn f(kind: &str) {
        assert!(!kind.is_empty());
    }

    let seen = recorded(Level::TRACE, || f("text"));
    assert!(
        seen.contains(
            r#"fields=["content-type", "kind", "later"] values content-type=debug:text kind=i64:1"#
        ),
        "{seen}"
    );
}

#[test]
fn names_of_any_constant_expression() {
    use tracing_usdt::tracing::instrument;

    struct Names;
    impl Names {
        const SPAN: &str = "span of names";
        #[instrument(name = Names::SPAN, target = concat!("a", "b"), level = { LEVEL })]
        fn f() {}
    }
    let seen = recorded(Level::TRACE, Names::f);
    assert!(seen.contains("name=span of names target=ab level=WARN"), "{seen}");
}

#[test]
fn functions_that_never_return() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use tracing_usdt::tracing::instrument;

    #[instrument(ret)]
    fn stops() -> ! {
        std::panic::resume_unwind(Box::new(1))
    }
    #[instrument]
    async fn stops_later() -> ! {
        one_wait().await;
        std::panic::resume_unwind(Box::new(1))
    }
    let seen = recorded(Level::TRACE, || {
        catch_unwind(|| -> () { stops() }).unwrap_err();
        catch_unwind(AssertUnwindSafe(|| -> () { block_on(stops_later()) })).unwrap_err();
    });
    assert_eq!(seen.matches("close").count(), 2, "{seen}");
}

#[test]
fn fields_of_self_in_macros_of_moved_functions() {
    use tracing_usdt::tracing::instrument;

    #[derive(Debug)]
    struct Point {
        x: u8,
    }
    impl Point {
        const KIND: &str = "point";
        // The code of `async-trait` until 0.1.43.
        #[instrument(skip(self), fields(text = format!("{}/{}", self.x, Self::KIND), %self))]
        fn call(&self) -> std::pin::Pin<Box<dyn Future<Output = u8> + '_>> {
            async fn call(_self: &Point) -> u8 {
                _self.x
            }
            Box::pin(call(self))
        }
    }
    impl fmt::Display for Point {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at {}", self.x)
        }
    }
    let seen = recorded(Level::TRACE, || _ = block_on(Point { x: 1 }.call()));
    assert!(seen.contains("values text=str:\"1/point\" self=debug:at 1\n"), "{seen}");
}
