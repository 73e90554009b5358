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
    ($level:tt $target:tt $parent:tt $name:expr $(, $($fields:tt)*)?) => {
        $crate::__fields! { @ __span_of [$level $target $parent [$name]] [] $($($fields)*)? }
    };
}

/// The span. Its parent is evaluated before the values, as in `tracing`'s macros.
#[doc(hidden)]
#[macro_export]
macro_rules! __span_of {
    (
        [[$level:expr] [$($target:expr)?] [$($parent:expr)?] [$name:expr]]
        [$({ [$field:expr] [$value:expr] $variable:ident })*]
    ) => {{
        $crate::__callsite! {
            name: $name,
            probe: [$crate::macros::Option::Some($name), ""],
            kind: SPAN,
            target: $crate::macros::first_or(&[$($target)?], module_path!()),
            level: $level,
            fields: [$($field),*]
        }
        let consumers = $crate::__consumers!($level);
        if consumers.any() || $crate::__is_enabled!($level) {
            match ($($parent,)?) {
                parent => {
                    #[allow(unused_imports)] // values may use these, as in `tracing`'s macros
                    use $crate::macros::tracing::field::{debug, display, Value};
                    match ($(&$value,)*) {
                        ($($variable,)*) => {
                            let parent = $crate::macros::ParentOf::parent(parent);
                            match $crate::__values!($($variable),*) {
                                values if consumers.any() => {
                                    let arguments = $crate::__arguments!($($variable)*);
                                    let probed = $crate::macros::probed_span(
                                        parent,
                                        consumers,
                                        &__CALLSITE,
                                        &values,
                                        $crate::macros::exit::<__TracingUsdtSite>,
                                        &arguments,
                                    );
                                    $crate::macros::hit_entry::<__TracingUsdtSite, _>(&probed.1, &arguments);
                                    probed.0
                                }
                                values => parent.wanted_span(&__METADATA, &values),
                            }
                        }
                    }
                }
            }
        } else {
            let span = $crate::macros::tracing::__macro_support::__disabled_span(&__METADATA);
            $crate::macros::tracing::if_log_enabled! { $level, {
                #[allow(unused_imports)]
                use $crate::macros::tracing::field::{debug, display, Value};
                span.record_all(&$crate::__values!($(&$value),*));
            }};
            span
        }
    }};
}
