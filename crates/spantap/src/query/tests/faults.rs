//! What the errors say, and where.

use std::error::Error;

use crate::query::parse::{MAX_BYTES, MAX_DEPTH};
use crate::query::{Query, QueryError};

fn fault(query: &str) -> QueryError {
    match query.parse::<Query>() {
        Ok(found) => panic!("{query} was read as {found}"),
        Err(error) => error,
    }
}

/// Each query has the message in the line below it. The line between points at the fault.
const FAULTS: &str = r#"
duration = 100ms
         ^
column 10: to compare, write `==`

name ~ "order*"
     ^
column 6: write `=~` for a regular expression, or `glob` for a pattern with * and ?

error & root
      ^
column 7: write `and` or `&&`

error | root
      ^
column 7: write `or` or `||`

service:"shop"
       ^
column 8: to compare, write `==`; put a key with a colon in backticks

{ duration > 100ms }
^
column 1: queries have no braces; group with parentheses

name == “shop”
        ^
column 9: use straight quotes: " or '

müller@ost == 5
      ^
column 7: unexpected `@`; put text in quotes, and a key with this character in backticks

name == "GET
        ^
column 9: the closing " is missing

名前 == '東京
      ^
column 7: the closing ' is missing

name == "a\u{d800}"
          ^^^^^^^^
column 11: not a character: write its number in hex, such as \u{e9}

duration > 100
           ^^^
column 12: `duration` needs a unit: write 100ms or 100s

duration > 100msec
              ^^^^
column 15: unknown unit `msec`: units are ns, us, ms, s, m, h and d; put text in quotes

duration > 100 seconds
               ^^^^^^^
column 16: unknown unit `seconds`: units are ns, us, ms, s, m, h and d; put text in quotes

duration > 1m 30
              ^^
column 15: `30` needs a unit, such as 30s

duration > 1e3ms
           ^^^
column 12: expected a duration without an exponent, found `1e3`

duration > -5ms
           ^^
column 12: a duration can't be negative

duration > -5
           ^^
column 12: a duration can't be negative

duration > 213504d
           ^^^^^^^
column 12: the duration is longer than 584 years

x > 1e999
    ^^^^^
column 5: the number is too large

trace_id == 4bf92f3577b34da6
             ^^^^^^^^^^^^^^^
column 14: unknown unit `bf92f3577b34da6`: units are ns, us, ms, s, m, h and d; put text in quotes

parent_id == "0x00f067aa0ba902"
             ^^^^^^^^^^^^^^^^^^
column 14: `parent_id` is compared with 16 hex digits in quotes

trace_id == "4bf92f"
            ^^^^^^^^
column 13: `trace_id` is compared with 32 hex digits in quotes

duraton > 100ms
^^^^^^^
column 1: `duraton` is not a known name: did you mean `duration`? For an attribute of this name, write `span.duraton`

error and trace == "4bf92f"
          ^^^^^
column 11: `trace` is not a known name: did you mean `trace_id`? For an attribute of this name, write `span.trace`

duration
^^^^^^^^
column 1: `duration` is not a condition by itself: compare it, such as duration > 100ms

not kind and error
    ^^^^
column 5: `kind` is not a condition by itself: compare it, such as kind == server

duration > "100ms"
           ^^^^^^^
column 12: `duration` is compared with a duration, such as 100ms

duration =~ "1"
         ^^
column 10: `=~` does not apply to `duration`: use ==, !=, <, <=, > or >=

name == shop
        ^^^^
column 9: put text in quotes: "shop"

name == 5
        ^
column 9: `name` is compared with text in quotes

http.request.method == GET
                       ^^^
column 24: put text in quotes: "GET"

status == eror
          ^^^^
column 11: `status` is compared with unset, ok or error

status > ok
       ^
column 8: `>` does not apply to `status`: use == or !=

cached < true
       ^
column 8: `<` does not apply to true and false: use == or !=

error == "yes"
         ^^^^^
column 10: `error` is compared with true or false

status != null
          ^^^^
column 11: `status` is compared with unset, ok or error

user.id != nil
           ^^^
column 12: to ask whether an attribute exists, write its key alone

name =~ 5
        ^
column 9: expected a pattern in quotes after `=~`

name =~ "(GET"
        ^^^^^^
column 9: not a regular expression: unclosed group

name =~ "\w{1000}{1000}"
        ^^^^^^^^^^^^^^^^
column 9: not a regular expression: it is too large

name glob "[a"
          ^^^^
column 11: not a pattern: invalid range pattern at character 1

name glob "GET **"
          ^^^^^^^^
column 11: not a pattern: one `*` stands for any text, write no more of them

"user id" == 5
^^^^^^^^^
column 1: expected a name, found text; for an attribute of this name, write span."user id"

`` == 5
^^
column 1: the key is empty

span. == 5
^^^^^
column 1: the key is empty

true
^^^^
column 1: expected a name, found `true`

error and
         ^
column 10: expected a condition, found the end

error or or root
         ^^
column 10: expected a name, found `or`

name ==
       ^
column 8: expected a value, found the end

name == and
        ^^^
column 9: expected a value, found `and`

name "GET"
     ^^^^^
column 6: expected `and`, `or` or an operator such as `==`, found `"GET"`

name not glob "GET"
     ^^^
column 6: write `not` before the name

name contains "GET"
     ^^^^^^^^
column 6: `contains` is not an operator: write glob "*...*"

error root
      ^^^^
column 7: expected `and`, `or` or an operator such as `==`, found `root`

(error) root
        ^^^^
column 9: expected `and`, `or` or the end, found `root`

error)
     ^
column 6: expected `and`, `or` or the end, found `)`

root and (error or x
         ^
column 10: the closing parenthesis is missing

(error (root))
       ^
column 8: expected `and`, `or` or an operator such as `==`, found `(`

((error) root)
         ^^^^
column 10: expected `and`, `or` or a closing parenthesis, found `root`
"#;

#[test]
fn each_error_points_at_its_column_and_says_what_to_do() {
    for example in FAULTS.trim_matches('\n').split("\n\n") {
        let (query, rest) = example.split_once('\n').unwrap();
        let (_, message) = rest.split_once('\n').unwrap();
        let error = fault(query);
        assert_eq!(error.to_string(), message, "{query}");
        let (line, pointer) =
            error.pointer(query).split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(line, query);
        // The pointer counts the columns of a terminal, in which some characters take two.
        if query.is_ascii() {
            assert_eq!(pointer, rest.split_once('\n').unwrap().0, "{query}");
        }
        assert!(error.source().is_none() && message.lines().count() == 1);
    }
}

#[test]
fn an_empty_query_is_an_error() {
    for query in ["", " ", "()", "\n\t"] {
        assert!(fault(query).to_string().contains("expected a"), "{query:?}: {}", fault(query));
    }
}

#[test]
fn the_depth_is_bounded() {
    let nested =
        |open: &str, close: &str, depth: usize| format!("{}error{}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [("(", ")"), ("not ", ""), ("!", ""), ("(!", ")")] {
        let deepest = MAX_DEPTH / open.trim().replace("not", "!").len();
        let found: Query = nested(open, close, deepest).parse().unwrap();
        assert!(found.to_string().parse::<Query>().is_ok());
        let error = fault(&nested(open, close, deepest + 1));
        assert!(error.to_string().contains("inside each other"), "{error}");
        assert_eq!(error.range().start, open.len() * deepest);
    }
    assert!(fault(&"(".repeat(8_000)).to_string().contains("inside each other"));
    assert!(fault(&"(".repeat(100_000)).to_string().contains("longer than 8192 bytes"));
}

#[test]
fn the_length_and_the_patterns_are_bounded() {
    let long = format!("name == \"{}\"", "é".repeat(MAX_BYTES));
    let error = fault(&long);
    assert_eq!((error.range().start, long.is_char_boundary(error.range().start)), (MAX_BYTES - 1, true));
    let fits = format!("name == \"{}\"", "x".repeat(MAX_BYTES - 10));
    assert!(fits.parse::<Query>().is_ok());
    let patterns = vec!["name =~ 'x'"; 65].join(" or ");
    assert_eq!(fault(&patterns).column(), 64 * 15 + 6);
}

#[test]
fn a_message_has_no_control_characters_and_fits_on_a_line() {
    for query in ["name == \u{1b}[31m", "x == \u{202e}", "\u{7}", "\u{0}", "x == 1\u{1b}", "a\u{1b}"] {
        let error = fault(query);
        let shown = format!("{error}{}", error.pointer(query).replace('\n', ""));
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
    }
    let long = format!("{} x {}", "error or ".repeat(300), "y ".repeat(1000));
    let error = fault(&long);
    assert_eq!(error.column(), 2 + 9 * 300 + 2);
    assert!(error.pointer(&long).lines().all(|line| line.chars().count() < 160), "{}", error.pointer(&long));
    assert!(fault(&"y".repeat(3000).repeat(2).replacen('y', "5", 1)).to_string().len() < 200);
}
