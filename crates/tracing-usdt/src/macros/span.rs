//! The macros that make spans.

/// Constructs a new span, like `tracing::span!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __span {
    ($($all:tt)*) => { $crate::__span_parts! { [] [] [] $($all)* } };
}

/// Constructs a span at the trace level, like `tracing::trace_span!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace_span {
    ($($all:tt)*) => { $crate::__span_parts! { [$crate::macros::tracing::Level::TRACE] [] [] $($all)* } };
}

/// Constructs a span at the debug level, like `tracing::debug_span!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug_span {
    ($($all:tt)*) => { $crate::__span_parts! { [$crate::macros::tracing::Level::DEBUG] [] [] $($all)* } };
}

/// Constructs a span at the info level, like `tracing::info_span!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __info_span {
    ($($all:tt)*) => { $crate::__span_parts! { [$crate::macros::tracing::Level::INFO] [] [] $($all)* } };
}

/// Constructs a span at the warn level, like `tracing::warn_span!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn_span {
    ($($all:tt)*) => { $crate::__span_parts! { [$crate::macros::tracing::Level::WARN] [] [] $($all)* } };
}

/// Constructs a span at the error level, like `tracing::error_span!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __error_span {
    ($($all:tt)*) => { $crate::__span_parts! { [$crate::macros::tracing::Level::ERROR] [] [] $($all)* } };
}

/// Reads `target:`, `parent:`, the level and the name: `[level] [target] [parent] rest`.
#[doc(hidden)]
#[macro_export]
macro_rules! __span_parts {
    ($level:tt [] $parent:tt target: $target:expr, $($rest:tt)*) => {
        $crate::__span_parts! { $level [$target] $parent $($rest)* }
    };
    ($level:tt $target:tt [] parent: $parent:expr, $($rest:tt)*) => {
        $crate::__span_parts! { $level $target [$parent] $($rest)* }
    };
    ([] $target:tt $parent:tt $level:expr, $($rest:tt)*) => {
        $crate::__span_parts! { [$level] $target $parent $($rest)* }
    };
    ($level:tt [] $parent:tt $name:expr $(, $($fields:tt)*)?) => {
        $crate::__fields! { @ __span_of [$level [module_path!()] $parent [$name]] [] $($($fields)*)? }
    };
    ($level:tt $target:tt $parent:tt $name:expr $(, $($fields:tt)*)?) => {
        $crate::__fields! { @ __span_of [$level $target $parent [$name]] [] $($($fields)*)? }
    };
}

/// The span.
#[doc(hidden)]
#[macro_export]
macro_rules! __span_of {
    (
        [[$level:expr] [$target:expr] [$($parent:expr)?] [$name:expr]]
        [$({ [$field:expr] [$value:expr] $variable:ident })*]
    ) => {{
        #[allow(unused_imports)] // values may use these, as in `tracing`'s macros
        use $crate::macros::tracing::field::{debug, display, Value};
        $crate::__callsite! {
            name: $name,
            probe: [$crate::macros::Option::Some($name), ""],
            kind: SPAN,
            target: $target,
            level: $level,
            fields: [$($field),*]
        }
        let enabled = $crate::__is_enabled!($level);
        let consumers = $crate::__consumers!($level);
        if enabled || consumers.any() {
            match ($(&$value,)*) {
                ($($variable,)*) => {
                    let span = $crate::__new_span!(enabled, $crate::__values!($($variable),*), $($parent)?);
                    if consumers.any() {
                        $crate::macros::span_begins::<__TracingUsdtSite, _>(
                            consumers,
                            &span,
                            &$crate::__arguments!($($variable)*),
                        );
                    }
                    span
                }
            }
        } else {
            let span = $crate::macros::tracing::__macro_support::__disabled_span(&__METADATA);
            $crate::macros::tracing::if_log_enabled! { $level, {
                span.record_all(&$crate::__values!($(&$value),*));
            }};
            span
        }
    }};
}

/// A span for its subscriber, or for its probes alone.
#[doc(hidden)]
#[macro_export]
macro_rules! __new_span {
    ($enabled:expr, $values:expr,) => {
        if $enabled {
            $crate::macros::tracing::Span::new(&__METADATA, &$values)
        } else {
            $crate::macros::probe_only_span(&__METADATA, &$values)
        }
    };
    ($enabled:expr, $values:expr, $parent:expr) => {
        if $enabled {
            $crate::macros::span_below($parent, &__METADATA, &$values)
        } else {
            $crate::macros::probe_only_span_below($parent, &__METADATA, &$values)
        }
    };
}
