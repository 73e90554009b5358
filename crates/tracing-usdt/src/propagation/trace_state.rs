//! W3C's `tracestate`: a list of entries in which tracing systems attach their own data to a trace. The layer
//! passes it on.
//!
//! Implements [level 2 of the specification](https://www.w3.org/TR/trace-context-2/#tracestate-header).

use std::fmt;
use std::sync::Arc;

/// A list with more entries is invalid.
const MAX_MEMBERS: usize = 32;
/// The specification asks to pass on at least this much. Entries beyond it are dropped.
const MAX_CHARACTERS: usize = 512;

/// If a list is too long, entries longer than this are dropped first.
const LONG: usize = 128;

/// Maximum length of a key, and of a value.
const MAX_PART: usize = 256;

/// The list of entries of a W3C `tracestate`, such as `rojo=00f067aa0ba902b7,congo=t61rcWkgMzE`. It may be
/// empty.
///
/// The first entry is the newest. A clone is cheap: it only increments a reference count.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TraceState(Option<Arc<str>>);

impl TraceState {
    pub(crate) const NONE: Self = Self(None);

    /// Reads the values of all `tracestate` headers of a request, in order. `None` if they are invalid: then
    /// the whole `tracestate` must be discarded, but the `traceparent` stays valid.
    ///
    /// If the list has more than 512 characters, entries are dropped until it fits: first those of more than
    /// 128 characters, then the last ones.
    pub fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut members: Vec<&str> = Vec::new();
        for member in headers.into_iter().flat_map(|header| header.split(',')) {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            if !is_key(key) || !is_value(value) {
                return None;
            }
            // A sender must not repeat a key. If it does, the first entry, which is the newest, is kept.
            if members.iter().all(|other| key_of(other) != key) {
                members.push(member);
            }
        }
        (members.len() <= MAX_MEMBERS).then(|| Self::of(members, 0))
    }

    /// The value of the entry with this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut entries = self.members().filter_map(|member| member.split_once('='));
        entries.find(|(entry_key, _)| *entry_key == key).map(|(_, value)| value)
    }

    /// A copy with this entry in front, replacing an older one of the same key. `None` if the specification
    /// does not allow `key` or `value`.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> Option<Self> {
        if !is_key(key) || !is_value(value) {
            return None;
        }
        let first = format!("{key}={value}");
        let others = self.members().filter(|member| key_of(member) != key).take(MAX_MEMBERS - 1);
        Some(Self::of([&*first].into_iter().chain(others).collect(), 1))
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn members(&self) -> impl Iterator<Item = &str> {
        self.0.as_deref().into_iter().flat_map(|text| text.split(','))
    }

    /// A list of the members that fit. Keeps the first `kept` in any case.
    fn of(mut members: Vec<&str>, kept: usize) -> Self {
        let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
        while length(&members) > MAX_CHARACTERS + 1 && members.len() > kept {
            match members.iter().skip(kept).rposition(|member| member.len() > LONG) {
                Some(long) => _ = members.remove(kept + long),
                None => _ = members.pop(),
            }
        }
        Self((!members.is_empty()).then(|| members.join(",").into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceState").field(&self.as_str()).finish()
    }
}

fn key_of(member: &str) -> &str {
    member.split_once('=').map_or(member, |(key, _)| key)
}

fn is_key(key: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let more = |byte: u8| first(byte) || b"_-*/@".contains(&byte);
    key.len() <= MAX_PART && key.bytes().next().is_some_and(first) && key.bytes().all(more)
}

fn is_value(value: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=MAX_PART).contains(&value.len()) && value.bytes().all(allowed) && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(headers: &[&str]) -> Option<String> {
        TraceState::parse(headers.iter().copied()).map(|state| state.to_string())
    }

    /// Examples and edge cases of the specification.
    #[test]
    fn reads_tracestate_as_the_specification_requires() {
        let key_256 = format!("{}=1", "k".repeat(256));
        let key_257 = format!("{}=1", "k".repeat(257));
        let value_256 = format!("k={}", "v".repeat(256));
        let value_257 = format!("k={}", "v".repeat(257));
        let members = |count| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        let (members_32, members_33) = (members(32), members(33));
        let same: [(&[&str], &str); 14] = [
            (&["rojo=00f067aa0ba902b7"], "rojo=00f067aa0ba902b7"),
            (&["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"], "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
            // Several headers form one list. Empty members and white space around members are ignored.
            (&["congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7"], "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
            (&["a=1 \t, \tb=2,,", "", "c=3"], "a=1,b=2,c=3"),
            (&[""], ""),
            (&[], ""),
            // Allowed characters of keys and values.
            (&["fw529a3039@dt=FfffffC|12"], "fw529a3039@dt=FfffffC|12"),
            (&["0a_-*/@x=1"], "0a_-*/@x=1"),
            (&["k=!\"#$%&'()*+-./:;<>?@[]^_`{|}~ x"], "k=!\"#$%&'()*+-./:;<>?@[]^_`{|}~ x"),
            (&["k= 1"], "k= 1"),
            (&["a=1,b=1,a=2", "b=1"], "a=1,b=1"),
            (&[&key_256], &key_256),
            (&[&value_256], &value_256),
            (&[&members_32], &members_32),
        ];
        for (headers, expected) in same {
            assert_eq!(parse(headers).as_deref(), Some(expected), "{headers:?}");
        }
        let refused: [&[&str]; 14] = [
            &["a"],
            &["a="],
            &["=1"],
            &["A=1"],
            &["a =1"],
            &["@a=1"],
            &["_a=1"],
            &["a.b=1"],
            &["a=1=2"],
            &["a=\u{e9}"],
            &["a=1\n2"],
            &[&key_257],
            &[&value_257],
            &[&members_33],
        ];
        for headers in refused {
            assert_eq!(parse(headers), None, "{headers:?}");
        }
    }

    #[test]
    fn drops_long_entries_and_then_the_last_ones_if_the_list_is_too_long() {
        let long = format!("long={}", "x".repeat(200));
        let short: Vec<String> = (0..9).map(|n| format!("k{n}={}", "x".repeat(50))).collect();
        let all = [&short[..3], &[long], &short[3..]].concat().join(",");
        let kept = parse(&[&all]).expect("a tracestate");
        assert_eq!(kept, short.join(","), "all short ones fit without the long one");
        let more: Vec<String> = (0..30).map(|n| format!("k{n}={}", "x".repeat(50))).collect();
        let kept = parse(&[&more.join(",")]).expect("a tracestate");
        assert!(kept.len() <= MAX_CHARACTERS && more.join(",").starts_with(&kept), "{kept}");
        assert_eq!(
            parse(&["k=".to_owned() + &"x".repeat(256)].each_ref().map(|s| &**s)).map(|k| k.len()),
            Some(258)
        );
    }

    #[test]
    fn with_puts_the_new_entry_first() {
        let state = TraceState::parse(["a=1,b=2"]).expect("a tracestate");
        assert_eq!((state.get("b"), state.get("c")), (Some("2"), None));
        let with = |key, value| state.with(key, value).map(|state| state.to_string());
        assert_eq!(with("b", "3").as_deref(), Some("b=3,a=1"));
        assert_eq!(with("c", "3").as_deref(), Some("c=3,a=1,b=2"));
        assert_eq!((with("B", "3"), with("b", "")), (None, None));
        assert_eq!(
            TraceState::default().with("a", "1").map(|state| state.to_string()).as_deref(),
            Some("a=1")
        );
        let short: Vec<String> = (0..20).map(|n| format!("k{n}={}", "x".repeat(20))).collect();
        let many = TraceState::parse([&*short.join(",")]).expect("a tracestate");
        let own = many.with("own", &"x".repeat(200)).expect("an entry");
        assert!(own.get("own").is_some() && own.get("k0").is_some() && own.get("k19").is_none(), "{own}");
        let full = TraceState::parse([&*(0..32).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",")]);
        let full = full.and_then(|full| full.with("new", "1")).expect("there is always room for one's own");
        assert_eq!((full.get("new"), full.get("k30"), full.get("k31")), (Some("1"), Some("1"), None));
    }
}
