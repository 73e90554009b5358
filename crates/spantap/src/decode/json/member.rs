//! The macro `members!` declares the members of a JSON object as an enum.

/// The known members of an object.
pub(in crate::decode) trait Member: Copy {
    /// The member with this name; `None` if it is unknown.
    fn named(key: &str) -> Option<Self>;

    /// The usual name.
    fn name(self) -> &'static str;

    /// A distinct bit for each member, to detect duplicates.
    fn bit(self) -> u32;
}

/// Declares an enum of members, each with its usual name and possibly other names:
/// `members! { Link { TraceId = "traceId" | "trace_id" } }`.
macro_rules! members {
    ($visibility:vis $name:ident { $($member:ident = $key:literal $(| $other:literal)*),+ $(,)? }) => {
        #[derive(Clone, Copy)]
        #[allow(dead_code)] // Rust 1.85 takes a type for unused that only its own trait's functions construct
        $visibility enum $name {
            $($member),+
        }

        impl $crate::decode::json::member::Member for $name {
            fn named(key: &str) -> Option<Self> {
                match key {
                    $($key $(| $other)* => Some(Self::$member),)+
                    _ => None,
                }
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$member => $key,)+
                }
            }

            fn bit(self) -> u32 {
                1 << self as u32
            }
        }
    };
}
pub(in crate::decode) use members;
