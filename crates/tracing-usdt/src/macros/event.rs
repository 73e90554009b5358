//! The macros that make events.

/// Constructs a new event, like `tracing::event!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __event {
    ($($all:tt)*) => { $crate::__event_parts! { [] [] [] [] $($all)* } };
}

/// Constructs an event at the trace level, like `tracing::trace!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($all:tt)*) => { $crate::__event_parts! { [$crate::macros::tracing::Level::TRACE] [] [] [] $($all)* } };
}

/// Constructs an event at the debug level, like `tracing::debug!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($all:tt)*) => { $crate::__event_parts! { [$crate::macros::tracing::Level::DEBUG] [] [] [] $($all)* } };
}

/// Constructs an event at the info level, like `tracing::info!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($all:tt)*) => { $crate::__event_parts! { [$crate::macros::tracing::Level::INFO] [] [] [] $($all)* } };
}

/// Constructs an event at the warn level, like `tracing::warn!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($all:tt)*) => { $crate::__event_parts! { [$crate::macros::tracing::Level::WARN] [] [] [] $($all)* } };
}

/// Constructs an event at the error level, like `tracing::error!`. It has a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($all:tt)*) => { $crate::__event_parts! { [$crate::macros::tracing::Level::ERROR] [] [] [] $($all)* } };
}

/// Reads `name:`, `target:`, `parent:` and the level: `[level] [name] [target] [parent] rest`. Then come the fields,
/// which may be in braces if a message follows.
#[doc(hidden)]
#[macro_export]
macro_rules! __event_parts {
    ($level:tt [] $target:tt $parent:tt name: $name:expr, $($rest:tt)*) => {
        $crate::__event_parts! { $level [$name] $target $parent $($rest)* }
    };
    ($level:tt $name:tt [] $parent:tt target: $target:expr, $($rest:tt)*) => {
        $crate::__event_parts! { $level $name [$target] $parent $($rest)* }
    };
    ($level:tt $name:tt $target:tt [] parent: $parent:expr, $($rest:tt)*) => {
        $crate::__event_parts! { $level $name $target [$parent] $($rest)* }
    };
    ([] $name:tt $target:tt $parent:tt $level:expr, $($rest:tt)*) => {
        $crate::__event_parts! { [$level] $name $target $parent $($rest)* }
    };
    ($level:tt $name:tt $target:tt $parent:tt { $($fields:tt)* }) => {
        $crate::__fields! { @ __event_of [$level $name $target $parent] [] $($fields)* }
    };
    ($level:tt $name:tt $target:tt $parent:tt { $($fields:tt)* }, $($message:tt)+) => {
        $crate::__fields! {
            @ __event_of [$level $name $target $parent]
            [{ ["message"] [$crate::macros::format_args!($($message)+)] value }]
            $($fields)*
        }
    };
    ($level:tt $name:tt $target:tt $parent:tt $($fields:tt)+) => {
        $crate::__fields! { @ __event_of [$level $name $target $parent] [] $($fields)+ }
    };
}

/// An event of the attribute `instrument`, which is named after the function.
#[doc(hidden)]
#[macro_export]
macro_rules! __event_of_instrument {
    (error of ($name:expr), $($all:tt)*) => { $crate::__event_parts! { [] [@ $name, "__error"] [] [] $($all)* } };
    (return of ($name:expr), $($all:tt)*) => { $crate::__event_parts! { [] [@ $name, "__return"] [] [] $($all)* } };
}

/// The event. Its name may be `@ function, suffix`: those are for the probe alone.
#[doc(hidden)]
#[macro_export]
macro_rules! __event_of {
    (
        [
            [$level:expr]
            [$(@ $function:expr, $suffix:literal)? $($name:expr)?]
            [$($target:expr)?]
            [$($parent:expr)?]
        ]
        [$({ [$field:expr] [$value:expr] $variable:ident })*]
    ) => {{
        $crate::__callsite! {
            name: $crate::macros::first_or(
                &[$($name)?],
                $crate::macros::concat!("event ", $crate::macros::file!(), ":", $crate::macros::line!()),
            ),
            probe: [$crate::macros::first(&[$($function)? $($name)?]), $crate::macros::first_or(&[$($suffix)?], "")],
            kind: EVENT,
            target: $crate::macros::first_or(&[$($target)?], module_path!()),
            level: $level,
            fields: [$($field),*]
        }
        let consumers = $crate::__consumers!($level);
        if consumers.any() || $crate::__is_enabled!($level) {
            #[allow(unused_imports)] // values may use these, as in `tracing`'s macros
            use $crate::macros::tracing::field::{debug, display, Value};
            match ($(&$value,)*) {
                ($($variable,)*) => match ($($parent,)?) {
                    parent => {
                        let parent = $crate::macros::ParentOf::parent(parent);
                        match $crate::__values!($($variable),*) {
                            values if consumers.any() => {
                                $crate::macros::probed_event::<__TracingUsdtSite, _>(
                                    &parent,
                                    &__CALLSITE,
                                    &values,
                                    &$crate::__arguments!($($variable)*),
                                );
                            }
                            values => parent.dispatch(&__METADATA, &values),
                        }
                        $crate::__log! { $level, $crate::__values!($($variable),*) }
                    }
                }
            }
        } else {
            #[allow(unused_imports)]
            use $crate::macros::tracing::field::{debug, display, Value};
            $crate::__log! { $level, $crate::__values!($(&$value),*) }
        }
    }};
}

/// The record for the `log` crate, if `tracing`'s feature `log` is on.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:expr, $values:expr) => {
        #[allow(unused_imports)]
        use $crate::macros::tracing::Callsite as _;
        $crate::macros::tracing::__tracing_log! { $level, __CALLSITE, &$values }
    };
}
