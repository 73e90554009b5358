//! What holds for every query and for every text.

use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use proptest::prelude::*;

use super::{Sample, bare, number, order};
use crate::query::{Query, Subject, names};

/// Parts of which queries are made, right and wrong ones.
const PARTS: &[&str] = &[
    "duration",
    "busy",
    "name",
    "error",
    "root",
    "kind",
    "level",
    "kernel.disk",
    "trace_id",
    "http.status_code",
    "span.only",
    "`user id`",
    "resource.\"x\"",
    "and",
    "or",
    "not",
    "&&",
    "||",
    "!",
    "(",
    ")",
    "(",
    ")",
    "==",
    "!=",
    "<",
    ">=",
    "glob",
    "=~",
    "!~",
    "=",
    "~",
    "5",
    "-1.5",
    "100ms",
    "3m 12s",
    "1e3",
    "\"GET\"",
    "'a\\'b'",
    "\"^a\"",
    "true",
    "server",
    "warn",
    "\"",
    "µ",
    "é",
    "\\",
    "\u{1b}",
    " ",
];

fn any_query() -> impl Strategy<Value = String> {
    let joined = prop::collection::vec(prop::sample::select(PARTS), 0..20);
    joined.prop_map(|parts| parts.join(" "))
}

/// A condition that can be read.
fn condition() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        "[a-zé_][a-z0-9é_./-]{0,8}".prop_map(|key| format!("span.{key}")),
        "[a-z \"'`\\\\é\u{0}-\u{1f}\u{202e}]{1,8}".prop_map(|key| format!("`{}`", escaped(&key))),
        Just("resource.only".to_owned()),
        Just("http.status_code".to_owned()),
    ];
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        prop::num::f64::NORMAL.prop_map(|number| format!("{number:?}")),
        any::<u64>().prop_map(|ns| format!("{ns}ns")),
        (0..1_000_u32, 0..100_u32).prop_map(|(whole, part)| format!("{whole}.{part:02} s")),
        any::<String>().prop_map(|text| format!("\"{}\"", escaped(&text))),
    ];
    let operator = prop::sample::select(&["==", "!=", "<", "<=", ">", ">="][..]);
    let compared =
        (key, operator, value).prop_map(|(key, operator, value)| format!("{key} {operator} {value}"));
    let others = [
        "error",
        "not root",
        "kind == client",
        "duration > 1.5h",
        "name =~ '\\d+'",
        "retried",
        "level < info",
        "level =~ 'w'",
        "level >= warn",
        "busy >= 7ns",
        "kernel.disk == 6ms",
        "kernel.sleep < 1ns",
        "status != ok",
        "target glob 'shop*'",
        "trace_id =~ '^4b'",
        "parent_id == \"00f067aa0ba902b7\"",
        "header == \"text/plain\"",
        "nothing",
        "empty == ''",
        "only",
    ];
    prop_oneof![compared, prop::sample::select(others.to_vec()).prop_map(str::to_owned)]
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('`', "\\`")
}

/// A query that can be read, with parentheses in any places.
fn readable() -> impl Strategy<Value = String> {
    condition().prop_recursive(4, 32, 4, |inner| {
        let joined = |word: &'static str| move |parts: Vec<String>| format!("({})", parts.join(word));
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(joined(" and ")),
            prop::collection::vec(inner.clone(), 1..4).prop_map(joined(" || ")),
            inner.prop_map(|inner| format!("not ({inner})")),
        ]
    })
}

/// An order with any of its attributes in any order, also twice, and with other fields.
fn sample() -> impl Strategy<Value = Sample> {
    let order = order();
    let mut attributes = order.span.attributes.clone();
    attributes.push(number("busy_ns", 7));
    attributes.push(number("level", 7));
    let attributes = prop::collection::vec(prop::sample::select(attributes), 0..30);
    let fields = (attributes, any::<String>(), -1..9_i32, prop::option::of(-1..4_i32), any::<bool>());
    fields.prop_map(|(attributes, name, kind, status, is_root)| {
        let Sample { mut span, process } = self::order();
        span.status = status.map(|code| Status { code, ..Status::default() });
        if is_root {
            span.parent_span_id.clear();
        }
        Sample { span: Span { attributes, name, kind, ..span }, process }
    })
}

/// What a query of letters is, each a condition that is true or false: found by other means than the parser.
fn value_of(letters: &str) -> bool {
    let unary = |unary: &str| unary.ends_with('t') == unary.matches('!').count().is_multiple_of(2);
    letters.split('|').any(|all| all.split('&').all(unary))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        check_any(&text)?;
    }

    #[test]
    fn no_tokens_make_the_parser_panic(text in any_query()) {
        check_any(&text)?;
    }

    #[test]
    fn a_query_is_printed_so_that_it_is_read_again(text in readable()) {
        let query: Query = text.parse().map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let printed = query.to_string();
        let again: Query = printed.parse().map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(format!("{query:?}"), format!("{again:?}"));
        prop_assert_eq!(&printed, &again.to_string());
        prop_assert!(!printed.chars().any(char::is_control), "{:?}", printed);
        for sample in [order(), bare()] {
            let subject = Subject::new(&sample.span, &sample.process);
            prop_assert_eq!(query.matches(&subject), again.matches(&subject));
        }
    }

    #[test]
    fn an_encoded_span_gets_the_same_answer(text in readable(), sample in sample()) {
        // Checks both.
        sample.is_chosen(&text);
    }

    #[test]
    fn operators_have_the_usual_precedence(letters in "!{0,3}[tf]([&|]!{0,3}[tf]){0,12}") {
        let words = letters.chars().map(|letter| match letter {
            't' => "error",
            'f' => "root",
            '&' => " and ",
            '|' => " or ",
            _ => "not ",
        });
        let query: String = words.collect();
        prop_assert_eq!(order().is_chosen(&query), value_of(&letters), "{}", query);
    }
}

fn check_any(text: &str) -> Result<(), TestCaseError> {
    match text.parse::<Query>() {
        Ok(query) => {
            let printed = query.to_string();
            prop_assert!(printed.parse::<Query>().is_ok(), "{} was printed as {}", text, printed);
            let sample = order();
            query.matches(&Subject::new(&sample.span, &sample.process));
        }
        Err(error) => {
            let range = error.range();
            prop_assert!(text.get(range.clone()).is_some(), "{:?} in {:?}", range, text);
            prop_assert_eq!(error.column(), text[..range.start].chars().count() + 1);
            prop_assert_eq!(error.to_string().lines().count(), 1);
            prop_assert_eq!(error.pointer(text).lines().count(), 2);
        }
    }
    Ok(())
}

#[test]
fn each_name_has_a_meaning_on_one_line() {
    for name in names() {
        assert!(!name.meaning().is_empty() && !name.meaning().contains('\n'), "{}", name.as_str());
        let condition = format!("{} == {}", name.as_str(), name.words().first().unwrap_or(&"x"));
        let parsed = condition.parse::<Query>();
        assert!(parsed.is_ok() != name.words().is_empty(), "{condition}: {parsed:?}");
    }
}
