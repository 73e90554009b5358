//! What a macro for a span and one for an event have in common: the fields, and the static data of the callsite.

/// Reads the fields, in all their forms, and calls the macro `$then` with `$with` and a list of them. Each is
/// `{ [name] [value] variable }`. The variables all have the same name; as each comes from an expansion of its own, the
/// compiler keeps them apart.
#[doc(hidden)]
#[macro_export]
macro_rules! __fields {
    (@ $then:ident $with:tt $done:tt $(,)*) => {
        $crate::$then! { $with $done }
    };

    (@ $then:ident $with:tt [$($done:tt)*] $($name:ident).+ = ?$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$crate::macros::tracing::field::debug(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $($name:ident).+ = %$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$crate::macros::tracing::field::display(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $($name:ident).+ = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$value] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] ?$($name:ident).+ $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$crate::macros::tracing::field::debug(&$($name).+)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] %$($name:ident).+ $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$crate::macros::tracing::field::display(&$($name).+)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $($name:ident).+ $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$($name).+] value }] $($($rest)*)? }
    };

    // Names in quotes.
    (@ $then:ident $with:tt [$($done:tt)*] $name:literal = ?$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$crate::macros::tracing::field::debug(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $name:literal = %$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$crate::macros::tracing::field::display(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $name:literal = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$value] value }] $($($rest)*)? }
    };

    // Constants as names.
    (@ $then:ident $with:tt [$($done:tt)*] { $name:expr } = ?$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$crate::macros::tracing::field::debug(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] { $name:expr } = %$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$crate::macros::tracing::field::display(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] { $name:expr } = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$value] value }] $($($rest)*)? }
    };

    // Anything else is the message, which is the first field.
    (@ $then:ident $with:tt [$($done:tt)*] $($message:tt)+) => {
        $crate::__fields! { @ $then $with [{ ["message"] [$crate::macros::format_args!($($message)+)] value } $($done)*] }
    };
}

/// The name of a field, without the `r#` of raw identifiers.
#[doc(hidden)]
#[macro_export]
macro_rules! __field_name {
    ($($name:ident).+) => {{
        const SOURCE: &$crate::macros::str = $crate::macros::stringify!($($name).+);
        const NAME: [$crate::macros::u8; $crate::macros::field_name_len(SOURCE)] =
            $crate::macros::field_name(SOURCE);
        $crate::macros::as_text(&NAME)
    }};
}

/// The static data of a callsite: what `tracing` needs, and what its probes need.
///
/// Macros are expanded here rather than deeper down: each field and each macro in a macro counts towards
/// `recursion_limit`, and there has to be room for as many fields as `tracing` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __callsite {
    (
        name: $name:expr,
        probe: [$probe:expr, $suffix:expr],
        kind: $kind:ident,
        target: $target:expr,
        level: $level:expr,
        fields: [$($field:expr),*]
    ) => {
        const __TRACING_USDT_TEXTS: &[&$crate::macros::str] =
            &[$name, $target, $crate::macros::file!(), $($field),*];

        static __METADATA: $crate::macros::tracing::Metadata<'static> = $crate::macros::metadata! {
            name: __TRACING_USDT_TEXTS[0],
            target: __TRACING_USDT_TEXTS[1],
            level: $level,
            fields: __TRACING_USDT_TEXTS.split_at(3).1,
            callsite: &__CALLSITE,
            kind: $crate::macros::tracing::metadata::Kind::$kind,
        };
        static __CALLSITE: $crate::macros::DefaultCallsite = $crate::macros::DefaultCallsite::new(&__METADATA);

        struct __TracingUsdtSite;
        impl $crate::macros::Site for __TracingUsdtSite {
            const MODULE: &'static $crate::macros::str = module_path!();
            const NAME: $crate::macros::Option<&'static $crate::macros::str> = $probe;
            const SUFFIX: &'static $crate::macros::str = $suffix;
            const LEVEL: $crate::macros::tracing::Level = $level;
            const LINE: $crate::macros::u32 = $crate::macros::line!();
            const PLACE: $crate::macros::u64 =
                $crate::macros::place(__TRACING_USDT_TEXTS, $crate::macros::line!(), $crate::macros::column!());
        }

        #[cfg_attr(any(target_os = "linux", target_os = "android"), unsafe(link_section = ".note.tracing_usdt_fields"))]
        #[used]
        static __TRACING_USDT_DESCRIPTION: $crate::macros::Description<
            { $crate::macros::text_len(__TRACING_USDT_TEXTS) },
        > = $crate::macros::Description::new::<__TracingUsdtSite>(
            $crate::macros::Kind::$kind,
            __TRACING_USDT_TEXTS,
        );
    };
}

/// Whether a subscriber wants the callsite, as `tracing`'s own macros ask.
#[doc(hidden)]
#[macro_export]
macro_rules! __is_enabled {
    ($level:expr) => {
        $level <= $crate::macros::tracing::level_filters::STATIC_MAX_LEVEL
            && $level <= $crate::macros::tracing::level_filters::LevelFilter::current()
            && {
                let interest = __CALLSITE.interest();
                !interest.is_never() && $crate::macros::is_enabled(&__METADATA, interest)
            }
    };
}

/// Who looks at the probes of the callsite. What `tracing` leaves out of the program has none.
#[doc(hidden)]
#[macro_export]
macro_rules! __consumers {
    ($level:expr) => {
        if $level <= $crate::macros::tracing::level_filters::STATIC_MAX_LEVEL {
            $crate::macros::consumers::<__TracingUsdtSite>()
        } else {
            $crate::macros::Consumers::NONE
        }
    };
}

/// The values of the fields, as `tracing` passes them on.
#[doc(hidden)]
#[macro_export]
macro_rules! __values {
    ($($value:expr),*) => {
        __METADATA.fields().value_set_all(&[
            $($crate::macros::Option::Some($value as &dyn $crate::macros::tracing::field::Value)),*
        ])
    };
}

/// The values of the fields as arguments of a probe, which has no room for more than ten.
#[doc(hidden)]
#[macro_export]
macro_rules! __arguments {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $i:ident $j:ident $($more:ident)+) => {
        $crate::__arguments!($a $b $c $d $e $f $g $h $i $j)
    };
    ($($value:ident)*) => {{
        use $crate::macros::{Arguments as _, ViaKnown as _, ViaValue as _};
        $crate::macros::NoArguments $(.and((&$crate::macros::Value($value)).argument()))*
    }};
}

/// The attribute `instrument` asks this before it makes a span. A probe may want a span that no subscriber wants, so
/// only what `tracing` leaves out of the program is not enabled.
#[doc(hidden)]
#[macro_export]
macro_rules! __level_enabled {
    ($level:expr) => {
        $level <= $crate::macros::tracing::level_filters::STATIC_MAX_LEVEL
    };
}
