//! What a query chooses.

use super::{bare, order};

/// Holds that of these queries the first list chooses the order, and the second does not.
fn check(chosen: &[&str], others: &[&str]) {
    let order = order();
    for query in chosen {
        assert!(order.is_chosen(query), "{query} should choose the order");
    }
    for query in others {
        assert!(!order.is_chosen(query), "{query} should not choose the order");
    }
}

#[test]
fn the_examples_of_the_page_choose() {
    check(
        &[
            r#"duration > 100ms and service == "shop" and kernel.disk > 5ms"#,
            r#"name =~ "^GET /" or error"#,
            r#"name glob "GET *" and not (http.response.status_code < 500)"#,
        ],
        &[r#"name glob "order*" and not (http.response.status_code >= 500)"#],
    );
}

#[test]
fn durations_are_compared_in_any_unit() {
    check(
        &[
            "duration == 150ms",
            "duration == 150 ms",
            "duration == .15s",
            "duration == 150000us",
            "duration == 150000µs",
            "duration == 150000μs",
            "duration < 1m",
            "duration < 1min",
            "duration < 1h30m",
            "duration < 3m 12s",
            "duration < 100d",
            "duration > 0",
            "busy == 100ms",
            "kernel.disk == 6ms",
            "kernel.sleep == 0", // not reported, because it is zero
        ],
        &["duration > 150ms", "duration != 150ms", "busy > 0.1s", "kernel.on_cpu > 94ms"],
    );
}

#[test]
fn an_account_that_is_missing_compares_with_nothing() {
    let bare = bare();
    for query in ["kernel.disk == 0", "kernel.disk < 1h", "kernel.disk != 1s", "busy >= 0"] {
        assert!(!bare.is_chosen(query), "{query}");
    }
}

#[test]
fn numbers_with_the_unit_of_their_key_are_compared_with_durations() {
    check(
        &[
            "waited_ms == 7ms",
            "waited_ms > 6",
            "busy_ns == 100ms",     // a text with a number, as Zipkin sends it
            "busy_ns == 100000000", // without a unit, the number itself
            "elapsed == 1500us",    // a text that is a duration, as Rust prints it
            "timeout == 2ms",       // without a unit, nanoseconds
        ],
        &["waited_ms > 7ms", "elapsed == 1.5", "only == 5ms", "only < 5ms"],
    );
}

#[test]
fn numbers_are_compared_with_numbers_in_texts() {
    check(
        &[
            "http.response.status_code >= 500",
            "http.status_code >= 500",
            "http.status_code == 503.0",
            r#"http.status_code == "503""#,
            r#"http.response.status_code == "503""#,
            "share == 0.25",
            "share > -1e-3",
            "id == 9007199254740993",
            "large > 340282366920938463462",
            "process.pid == 4242",
        ],
        &[
            "http.status_code < 500",
            "id == 9007199254740992",
            "id > 9007199254740993",
            r#"http.status_code == "503.0""#, // two texts are compared as texts
            "only == 5",
            "only > 5",
        ],
    );
}

#[test]
fn texts_are_compared_letter_by_letter() {
    check(
        &[
            r#"name == "GET /orders""#,
            "name == 'GET /orders'",
            r#"name < "H""#,
            r#"service != "stock""#,
            r#"empty == """#,
            r#"target == "shop::orders""#,
            r#"name == "GET \u{2f}orders""#,
            "only != 5", // it exists, and is no number
        ],
        &[r#"name == "get /orders""#, r#"name == "GET""#],
    );
}

#[test]
fn patterns_match() {
    check(
        &[
            r#"name glob "GET *""#,
            r#"name glob "*orders""#,
            r#"name GLOB "GET /[no]rder?""#,
            r#"name =~ "orders""#,
            r#"name =~ "^GET /\w+$""#,
            r#"name =~ "(?i)get""#,
            r#"name !~ "^orders""#,
            r#"http.response.status_code =~ "^5\d\d$""#,
            r#"http.response.status_code glob "5??""#,
            r#"retried =~ "true""#,
            r#"share glob "0.25""#,
            r#"trace_id glob "4bf92f*""#,
            r#"span_id =~ "^b7""#,
            r#"kind =~ "^(server|consumer)$""#,
            r#"level glob "w*""#,
        ],
        &[r#"name glob "orders""#, r#"name glob "get *""#, r#"name =~ "^orders""#, r#"name !~ "GET""#],
    );
}

#[test]
fn words_and_ids_are_compared() {
    check(
        &[
            "status == error",
            r#"status == "ERROR""#,
            "kind == server",
            "kind != client",
            "level >= info",
            "level == Warn",
            "error",
            "error == true",
            "not root",
            "root == false",
            r#"trace_id == "4BF92F3577B34DA6A3CE929D0E0E4736""#,
            r#"parent_id == "00f067aa0ba902b7""#,
            r#"span_id != "00f067aa0ba902b7""#,
        ],
        &["status == ok", "status != error", "level > warn", "root", "error != true", "kind == internal"],
    );
    let bare = bare();
    assert!(bare.is_chosen("root and not error and status == unset and kind == unspecified"));
    assert!(!bare.is_chosen(r#"parent_id != "00f067aa0ba902b7""#));
    assert!(!bare.is_chosen("level != info"));
}

#[test]
fn an_attribute_alone_is_there_and_not_false() {
    check(
        &["retried", "empty", "http.status_code", "process.pid", "service.name", "span.only", "share"],
        &["cached", "hit", "missing", "nothing", "resource.empty", "span.process.pid"],
    );
}

#[test]
fn booleans_are_compared_also_in_texts() {
    check(
        &["cached == false", "hit == false", "retried != false", r#"retried == "true""#, r#"retried != "x""#],
        &["cached == true", "hit != false", "share == true"],
    );
}

#[test]
fn what_is_missing_compares_with_nothing() {
    check(
        &["not missing", "not missing == 1", "not missing != 1", r#"not missing !~ "x""#],
        &[
            "missing == 1",
            "missing != 1",
            r#"missing !~ "x""#,
            "missing < 1s",
            "nothing != 1",
            r#"missing glob "*""#,
        ],
    );
}

#[test]
fn scopes_and_quotes_name_attributes() {
    check(
        &[
            r#"only == "the span's""#,
            r#"span.only == "the span's""#,
            r#"resource.only == "the resource's""#,
            r#"resource.'only' == "the resource's""#,
            r#"`user id` == "7""#,
            r#"span."user id" == 7"#,
            r#"span.name == "the attribute""#,
            r#"`name` == "the attribute""#,
        ],
        &[r#"name == "the attribute""#, r#"resource.`user id` == 7"#],
    );
}

#[test]
fn one_element_of_a_list_is_enough() {
    check(
        &[
            r#"header == "text/html""#,
            r#"header == "text/plain""#,
            r#"header =~ "^text/p""#,
            r#"header != "text/css""#,
            r#"header !~ "css""#,
        ],
        &[r#"header == "text""#, r#"header != "text/html""#, r#"header !~ "html""#],
    );
}

#[test]
fn not_binds_tighter_than_and_and_and_tighter_than_or() {
    check(
        &[
            "error or root and root",
            "root && root || error",
            "not root and error",
            "!root && ! root",
            "not (root and error)",
            "not not error",
            "ERROR_IS_NO_NAME or NOT root AND error",
        ],
        &["(error or root) and root", "not (error or root)", "not error or root"],
    );
}

#[test]
fn a_long_pattern_takes_neither_the_stack_nor_much_time() {
    let mut order = order();
    order.span.name = "a".repeat(20_000);
    assert!(order.is_chosen(&format!("name glob '{}*'", "*a".repeat(4_000))));
    assert!(!order.is_chosen(&format!("name glob '{}b'", "*a".repeat(4_000))));
    assert!(!order.is_chosen(&format!("name =~ '({})*b'", "a*".repeat(1_000))));
}
