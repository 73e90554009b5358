//! W3C's `baggage`: keys and values that a program attaches to a trace, for itself and for the programs it calls.
//!
//! Implements [the specification](https://www.w3.org/TR/baggage/). It defines the format and lower limits. Where it
//! leaves a choice, this follows OpenTelemetry: a member that can't be read is left out and the others stay, and of
//! members with the same key the last one counts.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// How many members every implementation must pass on. Members beyond that are dropped.
const MAX_MEMBERS: usize = 64;
/// How many bytes every implementation must pass on. Members that do not fit are dropped.
const MAX_BYTES: usize = 8192;

/// What is encoded in a value: everything that is not a `baggage-octet`, and the escape character itself. So are two
/// characters that need not be encoded, but that readers of OpenTelemetry get wrong: that for Rust splits a member at
/// each `=`, and that for Python reads `+` as a space. Characters beyond ASCII are always encoded.
const ENCODED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'%').add(b'+').add(b',').add(b';').add(b'=').add(b'\\');

/// The entries of a W3C `baggage`, such as `user.id=7,tier=gold;ttl=60`. It may be empty.
///
/// Baggage travels with the trace, to every program that a request reaches: it must not hold secrets, and what
/// comes from outside is not to be trusted. A span has the baggage of the span above it, see
/// [`SpanExt::baggage`](crate::SpanExt::baggage). Keys are case-sensitive. A clone is cheap: it only increments a
/// reference count.
///
/// ```
/// use tracing_usdt::Baggage;
///
/// let mut baggage = Baggage::parse(["user.id=7, city=K%C3%B6ln;source=form"]);
/// assert_eq!(baggage.get("city").as_deref(), Some("Köln"));
/// assert!(baggage.insert("tier", "gold, or more"));
/// assert!(baggage.remove("user.id"));
/// assert_eq!(baggage.to_string(), "city=K%C3%B6ln;source=form,tier=gold%2C%20or%20more");
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Baggage(Option<Arc<str>>);

/// A member of the list, in the form in which it is written.
#[derive(Clone, Copy)]
struct Member<'a> {
    key: &'a str,
    /// The value, percent-encoded, and the properties after it: `value;property;property=value`.
    rest: &'a str,
}

impl Baggage {
    pub(crate) const NONE: Self = Self(None);

    /// Reads the values of all `baggage` headers of a request, in order.
    ///
    /// Members that the specification does not allow are left out, and so are members beyond 64, and members that
    /// would make the list longer than 8192 bytes. If a key occurs more than once, the last one for which there is room
    /// counts.
    pub fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut list = List::default();
        for text in headers.into_iter().flat_map(|header| header.split(',')) {
            if let Some((key, rest)) = read_member(text) {
                list.replace(key, rest);
            }
        }
        list.finish()
    }

    /// The value of the entry with this key, decoded. Bytes that are not UTF-8 become U+FFFD.
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        self.members().find(|member| member.key == key).map(Member::value)
    }

    /// The properties of the entry with this key, as they were written: `property` or `property=value`.
    pub fn properties(&self, key: &str) -> impl Iterator<Item = &str> {
        let member = self.members().find(|member| member.key == key);
        member.into_iter().flat_map(|member| member.rest.split(';').skip(1))
    }

    /// The keys and decoded values of all entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        self.members().map(|member| (member.key, member.value()))
    }

    /// Adds an entry without properties at the end, in place of an older one of the same key. `value` may be any
    /// text; it is encoded.
    ///
    /// If there are too many entries, or they are too long, the first ones of the list are dropped until there is room:
    /// what came with a request can't keep the program from adding its own.
    ///
    /// Returns `false` if the entry is refused: the specification does not allow `key` (it must consist of letters,
    /// digits and ``!#$%&'*+-.^_`|~``), or the entry alone is longer than 8192 bytes. Then there is no entry of this key,
    /// and the others stay.
    #[must_use = "if this is `false`, the entry was not added"]
    pub fn insert(&mut self, key: &str, value: &str) -> bool {
        if !is_token(key) {
            return false;
        }
        let mut list = List::without(self, key);
        let value = utf8_percent_encode(value, ENCODED).to_string();
        let is_added = list.push_making_room(key.into(), value.into());
        *self = list.finish();
        is_added
    }

    /// Removes the entry with this key. Returns whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        let is_present = self.members().any(|member| member.key == key);
        if is_present {
            *self = List::without(self, key).finish();
        }
        is_present
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let members = self.0.as_deref().into_iter().flat_map(|text| text.split(','));
        members.filter_map(|member| member.split_once('=')).map(|(key, rest)| Member { key, rest })
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Baggage").field(&self.as_str()).finish()
    }
}

impl<'a> Member<'a> {
    fn value(self) -> Cow<'a, str> {
        let value = self.rest.split(';').next().unwrap_or_default();
        percent_decode_str(value).decode_utf8_lossy()
    }
}

/// A list within the limits, while it is put together.
#[derive(Default)]
struct List<'a> {
    members: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Length of the list as text, with a comma after each member.
    bytes: usize,
}

impl<'a> List<'a> {
    /// All members of `baggage` except the one of this key.
    fn without(baggage: &'a Baggage, key: &str) -> Self {
        let mut list = Self::default();
        for member in baggage.members().filter(|member| member.key != key) {
            list.push(member.key.into(), member.rest.into());
        }
        list
    }

    /// Adds a member, unless there is no room for it.
    fn push(&mut self, key: Cow<'a, str>, rest: Cow<'a, str>) -> bool {
        let fits = self.has_room_for(size(&key, &rest));
        if fits {
            self.bytes += size(&key, &rest);
            self.members.push((key, rest));
        }
        fits
    }

    /// Adds a member in place of an older one of the same key, unless there is no room for it.
    fn replace(&mut self, key: Cow<'a, str>, rest: Cow<'a, str>) {
        let old = self.members.iter().position(|(known, _)| *known == key).map(|at| (at, self.remove(at)));
        if !self.push(key, rest) {
            if let Some((at, (key, rest))) = old {
                self.bytes += size(&key, &rest);
                self.members.insert(at, (key, rest));
            }
        }
    }

    /// Adds a member, and drops the first members until there is room for it. Changes nothing if it would have none
    /// even alone.
    fn push_making_room(&mut self, key: Cow<'a, str>, rest: Cow<'a, str>) -> bool {
        let size = size(&key, &rest);
        let can_fit = Self::default().has_room_for(size);
        while can_fit && !self.has_room_for(size) {
            self.remove(0);
        }
        self.push(key, rest)
    }

    fn has_room_for(&self, size: usize) -> bool {
        // The last member has no comma after it.
        self.members.len() < MAX_MEMBERS && self.bytes + size <= MAX_BYTES + ",".len()
    }

    fn remove(&mut self, at: usize) -> (Cow<'a, str>, Cow<'a, str>) {
        let (key, rest) = self.members.remove(at);
        self.bytes -= size(&key, &rest);
        (key, rest)
    }

    fn finish(self) -> Baggage {
        let mut text = String::with_capacity(self.bytes);
        for (n, (key, rest)) in self.members.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{key}={rest}");
        }
        Baggage((!text.is_empty()).then(|| text.into()))
    }
}

/// Length of a member, with a comma after it.
fn size(key: &str, rest: &str) -> usize {
    key.len() + "=".len() + rest.len() + ",".len()
}

/// The key of a member, and its value and properties without optional white space. `None` if the member is not
/// valid. Empty properties are left out.
fn read_member(text: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (first, properties) = text.split_once(';').map_or((text, None), |(first, more)| (first, Some(more)));
    let (key, value) = first.split_once('=')?;
    let (key, value) = (trim(key), trim(value));
    if !is_token(key) || !is_value(value) {
        return None;
    }
    let Some(properties) = properties else { return Some((key.into(), value.into())) };
    let mut rest = value.to_owned();
    for property in properties.split(';').map(trim).filter(|property| !property.is_empty()) {
        let (key, value) =
            property.split_once('=').map_or((property, None), |(k, v)| (trim(k), Some(trim(v))));
        if !is_token(key) || !value.is_none_or(is_value) {
            return None;
        }
        let _ = match value {
            Some(value) => write!(rest, ";{key}={value}"),
            None => write!(rest, ";{key}"),
        };
    }
    Some((key.into(), rest.into()))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Whether `key` is a `token` of RFC 7230.
pub(crate) fn is_token(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !key.is_empty() && key.bytes().all(allowed)
}

/// Whether `value` consists of the specification's `baggage-octet`s. It may be empty.
fn is_value(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(headers: &[&str]) -> Baggage {
        Baggage::parse(headers.iter().copied())
    }

    /// Examples and edge cases of the specification and of its tests: headers, and the list that is passed on.
    #[test]
    fn reads_baggage_as_the_specification_requires() {
        let cases: [(&[&str], &str); 33] = [
            (&["SomeKey=SomeValue"], "SomeKey=SomeValue"),
            (
                &["userId=alice,serverNode=DF%2028,isProduction=false"],
                "userId=alice,serverNode=DF%2028,isProduction=false",
            ),
            (
                &["userId=alice", "serverNode=DF%2028,isProduction=false"],
                "userId=alice,serverNode=DF%2028,isProduction=false",
            ),
            (
                &["userId =   alice", "serverNode = DF%2028, isProduction = false"],
                "userId=alice,serverNode=DF%2028,isProduction=false",
            ),
            (
                &["key1=value1;property1;property2, key2 = value2, key3=value3; propertyKey=propertyValue"],
                "key1=value1;property1;property2,key2=value2,key3=value3;propertyKey=propertyValue",
            ),
            (&["k \t = \t v \t ; \t p \t ; \t q \t = \t w \t , \t l=u"], "k=v;p;q=w,l=u"),
            (&["SomeKey=SomeValue=equals"], "SomeKey=SomeValue=equals"),
            (&["k==="], "k==="),
            // A value may be empty, and so may a property's.
            (&["k="], "k="),
            (&["k=;p="], "k=;p="),
            // Keys are case-sensitive, and may have all characters of a token.
            (&["k=1,K=2"], "k=1,K=2"),
            (&["!#$%&'*+-.^_`|~0aZ=1"], "!#$%&'*+-.^_`|~0aZ=1"),
            (&["k=!#$%&'()*+-./0:<=>?@AZ[]^_`az{|}~"], "k=!#$%&'()*+-./0:<=>?@AZ[]^_`az{|}~"),
            // Properties stay as they are, also the same one twice.
            (&["k=v;p=%20%2C;p;p=2"], "k=v;p=%20%2C;p;p=2"),
            // Of the same key, the last one counts.
            (&["k=1,l=2,k=3;p"], "l=2,k=3;p"),
            (&["k=1", "k=2"], "k=2"),
            // Empty headers, members and properties.
            (&[], ""),
            (&[""], ""),
            (&[" , ,,", "k=v;;", ",l=u; "], "k=v,l=u"),
            // Members that are not valid are left out, and the others stay.
            (&["k"], ""),
            (&["=v"], ""),
            (&["k,l=u"], "l=u"),
            (&["k;p=v,l=u"], "l=u"),
            (&["k y=v,l=u"], "l=u"),
            (&["k=v w,l=u"], "l=u"),
            (&["k(=v,l=u"], "l=u"),
            (&["k=\"v\",l=u"], "l=u"),
            (&["k=v\\,l=u"], "l=u"),
            (&["k=\u{e9},\u{e9}=v,l=u"], "l=u"),
            (&["k=v\u{7f},l=u"], "l=u"),
            (&["k=v;p q,l=u"], "l=u"),
            (&["k=v;=p,l=u"], "l=u"),
            (&["k=v;p=\"q\",\u{fffd},l=u"], "l=u"),
        ];
        for (headers, expected) in cases {
            let read = parse(headers);
            assert_eq!(read.to_string(), expected, "{headers:?}");
            assert_eq!(read.is_empty(), expected.is_empty(), "{headers:?}");
        }
    }

    #[test]
    fn values_are_decoded() {
        let cases = [
            ("DF%2028", "DF 28"),
            ("%09%20%22%27%3B%3Dasdf%21%40%23%24%25%5E%26%2A%28%29", "\t \"';=asdf!@#$%^&*()"),
            ("K%C3%B6ln", "K\u{f6}ln"),
            ("a+b", "a+b"),
            // Not UTF-8, and not an escape.
            ("%ffx%C3", "\u{fffd}x\u{fffd}"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
        ];
        for (written, value) in cases {
            let baggage = parse(&[&format!("k={written};p=%20")]);
            assert_eq!(baggage.get("k").as_deref(), Some(value));
            assert_eq!(baggage.properties("k").collect::<Vec<_>>(), ["p=%20"]);
            assert_eq!(baggage.to_string(), format!("k={written};p=%20"), "it is passed on as it came");
        }
    }

    #[test]
    fn entries_are_inserted_and_removed() {
        let mut baggage = Baggage::default();
        assert!(baggage.is_empty() && baggage.iter().next().is_none());
        assert!(baggage.insert("a", "1") && baggage.insert("b", "") && baggage.insert("A", "100% \u{1f980}"));
        assert_eq!(baggage.to_string(), "a=1,b=,A=100%25%20%F0%9F%A6%80");
        let before = baggage.clone();
        assert!(baggage.insert("a", "2"));
        assert_eq!((before.get("a").as_deref(), baggage.get("a").as_deref()), (Some("1"), Some("2")));
        let entries: Vec<_> =
            baggage.iter().map(|(key, value)| (key.to_owned(), value.into_owned())).collect();
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(entries, [entry("b", ""), entry("A", "100% \u{1f980}"), entry("a", "2")]);
        for key in ["", "a b", "a=", "\u{e9}", "a,b", "(a)"] {
            assert!(!baggage.insert(key, "1"), "{key:?}");
        }
        assert!(!baggage.remove("c") && baggage.remove("b") && baggage.remove("A") && baggage.remove("a"));
        assert_eq!((baggage.is_empty(), baggage.get("a")), (true, None));
        // The new entry has no properties.
        let mut baggage = parse(&["k=1;p"]);
        assert!(baggage.insert("k", "2"));
        assert_eq!(baggage.to_string(), "k=2");
    }

    #[test]
    fn members_beyond_the_limits_are_dropped_whole() {
        let members = |count| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&[&members(64)]).to_string(), members(64));
        assert_eq!(parse(&[&members(300)]).to_string(), members(64));

        let longest = format!("a={}", "0123456789".repeat(819));
        assert_eq!((longest.len(), parse(&[&longest]).to_string()), (MAX_BYTES, longest.clone()));
        assert_eq!(parse(&["b=1", &longest, "c=1"]).to_string(), "b=1,c=1");
        assert_eq!(parse(&[&longest, "c=1"]).to_string(), longest);
        assert!(parse(&[&format!("{longest}0")]).is_empty());
        // 128 bytes each, with the comma: both limits at once.
        let many = (0..64).map(|n| format!("{n:03}={}", "x".repeat(123))).collect::<Vec<_>>().join(",");
        assert_eq!((many.len(), parse(&[&many]).to_string()), (MAX_BYTES - 1, many.clone()));
        assert_eq!(parse(&[&format!("{many}y")]).to_string(), format!("{many}y"));
        assert_eq!(parse(&[&format!("{many}yy")]).iter().count(), 63);
        let long = (0..20).map(|n| format!("k{n}={}", "x".repeat(1000))).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&[&long]).iter().count(), 8);
        // A later member of the same key counts only if there is room for it.
        assert_eq!(parse(&["a=1;p,b=1", &format!("{longest}0")]).to_string(), "a=1;p,b=1");
        assert_eq!(parse(&["a=1", &longest]).to_string(), longest);
        assert_eq!(parse(&[&members(64), "k3=2"]).get("k3").as_deref(), Some("2"));
    }

    /// A caller can send as much as the limits allow, and any key.
    #[test]
    fn a_full_list_makes_room_for_an_entry_of_the_program() {
        let members =
            |numbers: std::ops::Range<u32>| numbers.map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        let mut full = parse(&[&members(0..64)]);
        assert!(full.insert("new", "1"));
        assert_eq!(full.to_string(), format!("{},new=1", members(1..64)));
        assert!(full.insert("new", "2") && full.insert("k3", "2"));
        assert_eq!(full.iter().count(), 64, "replacing one needs no room");

        let mut long =
            parse(&[&format!("a={}", "x".repeat(4000)), &format!("b={}", "x".repeat(4000)), "c=1"]);
        assert!(long.insert("d", &"y".repeat(4000)));
        assert_eq!(long.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b", "c", "d"]);
        assert!(long.insert("e", &"y".repeat(MAX_BYTES - 2)));
        assert_eq!(long.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["e"]);

        // The old value would be wrong by now.
        let mut refused = parse(&["user.id=theirs,k=1"]);
        assert!(!refused.insert("user.id", &"y".repeat(MAX_BYTES)));
        assert_eq!(refused.to_string(), "k=1");
    }

    /// OpenTelemetry for Rust splits a member at each `=`; that for Python reads `+` as a space.
    #[test]
    fn inserted_values_have_no_characters_that_others_misread() {
        let mut baggage = Baggage::default();
        assert!(baggage.insert("token", "a+b=c=="));
        assert_eq!(baggage.to_string(), "token=a%2Bb%3Dc%3D%3D");
        assert_eq!(baggage.get("token").as_deref(), Some("a+b=c=="));
    }

    proptest! {
        #[test]
        fn entries_survive_the_way_to_another_process(
            entries in prop::collection::vec(("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", any::<String>()), 0..20),
        ) {
            let (mut baggage, mut model) = (Baggage::default(), Vec::new());
            for (key, value) in &entries {
                if baggage.insert(key, value) {
                    model.retain(|(known, _)| known != key);
                    model.push((key.clone(), value.clone()));
                }
            }
            let text = baggage.to_string();
            let read = Baggage::parse([&*text]);
            prop_assert_eq!(&read, &baggage);
            let found: Vec<_> = read.iter().map(|(key, value)| (key.to_owned(), value.into_owned())).collect();
            prop_assert_eq!(found, model);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{}", text);
        }

        #[test]
        fn what_is_read_is_valid_and_within_the_limits(
            headers in prop::collection::vec("([a-h\u{e9}]{0,2}[ \t]?=?[ \tv%\"\\\\=]{0,3}(;p|;q=[12 ]|;)?,?){0,90}", 0..4),
            members in prop::collection::vec((0..200u8, 0..200usize), 0..120),
        ) {
            // Enough keys and bytes to reach both limits.
            let members = members.iter().map(|(key, length)| format!("k{key}={}", "v".repeat(*length)));
            let headers: Vec<String> = headers.into_iter().chain(members).collect();
            let read = Baggage::parse(headers.iter().map(|header| &**header));
            let text = read.to_string();
            prop_assert!(text.len() <= MAX_BYTES && read.iter().count() <= MAX_MEMBERS);
            prop_assert_eq!(Baggage::parse([&*text]), read);
        }
    }
}
