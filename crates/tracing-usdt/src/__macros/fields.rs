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
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$crate::tracing::field::debug(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $($name:ident).+ = %$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$crate::tracing::field::display(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $($name:ident).+ = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$value] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] ?$($name:ident).+ $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$crate::tracing::field::debug(&$($name).+)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] %$($name:ident).+ $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$crate::tracing::field::display(&$($name).+)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $($name:ident).+ $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$crate::__field_name!($($name).+)] [$($name).+] value }] $($($rest)*)? }
    };

    // Names in quotes.
    (@ $then:ident $with:tt [$($done:tt)*] $name:literal = ?$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$crate::tracing::field::debug(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $name:literal = %$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$crate::tracing::field::display(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] $name:literal = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$value] value }] $($($rest)*)? }
    };

    // Constants as names.
    (@ $then:ident $with:tt [$($done:tt)*] { $name:expr } = ?$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$crate::tracing::field::debug(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] { $name:expr } = %$value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$crate::tracing::field::display(&$value)] value }] $($($rest)*)? }
    };
    (@ $then:ident $with:tt [$($done:tt)*] { $name:expr } = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__fields! { @ $then $with [$($done)* { [$name] [$value] value }] $($($rest)*)? }
    };

    // Anything else is the message, which is the first field.
    (@ $then:ident $with:tt [$($done:tt)*] $($message:tt)+) => {
        $crate::__fields! { @ $then $with [{ ["message"] [$crate::__macros::format_args!($($message)+)] value } $($done)*] }
    };
}

/// The name of a field, without the `r#` of raw identifiers.
#[doc(hidden)]
#[macro_export]
macro_rules! __field_name {
    ($($name:ident).+) => {{
        const SOURCE: &$crate::__macros::str = $crate::__macros::stringify!($($name).+);
        const NAME: [$crate::__macros::u8; $crate::__macros::field_name_len(SOURCE)] =
            $crate::__macros::field_name(SOURCE);
        $crate::__macros::as_text(&NAME)
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
        const __TRACING_USDT_TEXTS: &[&$crate::__macros::str] =
            &[$name, $target, $crate::__macros::file!(), $($field),*];

        static __METADATA: $crate::tracing::Metadata<'static> = $crate::__macros::metadata! {
            name: __TRACING_USDT_TEXTS[0],
            target: __TRACING_USDT_TEXTS[1],
            level: $level,
            fields: __TRACING_USDT_TEXTS.split_at(3).1,
            callsite: &__CALLSITE,
            kind: $crate::tracing::metadata::Kind::$kind,
        };
        static __CALLSITE: $crate::__macros::DefaultCallsite = $crate::__macros::DefaultCallsite::new(&__METADATA);

        struct __TracingUsdtSite;
        impl $crate::__macros::Site for __TracingUsdtSite {
            const MODULE: &'static $crate::__macros::str = module_path!();
            const NAME: $crate::__macros::Option<&'static $crate::__macros::str> = $probe;
            const SUFFIX: &'static $crate::__macros::str = $suffix;
            const LEVEL: $crate::tracing::Level = $level;
            const LINE: $crate::__macros::u32 = $crate::__macros::line!();
        }

        #[cfg_attr(any(target_os = "linux", target_os = "android"), unsafe(link_section = ".note.tracing_usdt_fields"))]
        #[used]
        static __TRACING_USDT_DESCRIPTION: $crate::__macros::Description<
            { $crate::__macros::text_len(__TRACING_USDT_TEXTS) },
        > = $crate::__macros::Description::new::<__TracingUsdtSite>(
            $crate::__macros::Kind::$kind,
            __TRACING_USDT_TEXTS,
        );
    };
}

/// Whether a subscriber wants the callsite, as `tracing`'s own macros ask.
#[doc(hidden)]
#[macro_export]
macro_rules! __is_enabled {
    ($level:expr) => {
        $level <= $crate::tracing::level_filters::STATIC_MAX_LEVEL
            && $level <= $crate::tracing::level_filters::LevelFilter::current()
            && {
                let interest = __CALLSITE.interest();
                !interest.is_never() && $crate::__macros::is_enabled(&__METADATA, interest)
            }
    };
}

/// Who looks at the probes of the callsite. What `tracing` leaves out of the program has none.
#[doc(hidden)]
#[macro_export]
macro_rules! __consumers {
    ($level:expr) => {
        if $level <= $crate::tracing::level_filters::STATIC_MAX_LEVEL {
            $crate::__macros::consumers::<__TracingUsdtSite>()
        } else {
            $crate::__macros::Consumers::NONE
        }
    };
}

/// The values of the fields, as `tracing` passes them on.
#[doc(hidden)]
#[macro_export]
macro_rules! __values {
    ($($value:expr),*) => {
        __METADATA.fields().value_set_all(&[
            $($crate::__macros::Option::Some($value as &dyn $crate::tracing::field::Value)),*
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
        use $crate::__macros::{Arguments as _, ViaKnown as _, ViaValue as _};
        $crate::__macros::NoArguments $(.and((&$crate::__macros::Value($value)).argument()))*
    }};
}

/// The attribute `instrument` asks this before it makes a span. A probe may want a span that no subscriber wants, so
/// only what `tracing` leaves out of the program is not enabled.
#[doc(hidden)]
#[macro_export]
macro_rules! __level_enabled {
    ($level:expr) => {
        $level <= $crate::tracing::level_filters::STATIC_MAX_LEVEL
    };
}
