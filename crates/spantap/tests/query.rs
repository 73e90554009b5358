//! `docs/query.md` agrees with the code: its examples can be read, and its table has the names that queries know.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use spantap::query::{Query, names};

const PAGE: &str = include_str!("../../../docs/query.md");

/// The rows of the table below this heading, each as its cells.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = PAGE.split_once(&format!("\n## {heading}\n")).unwrap();
    let lines = rest.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_examples_of_query_md_can_be_read() {
    let blocks = PAGE.split("\n```text\n").skip(1).map(|rest| rest.split_once("\n```").unwrap().0);
    let examples: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert!(examples.len() > 10, "only {} examples were found", examples.len());
    for example in examples {
        let query: Query = example.parse().unwrap_or_else(|error| panic!("{example}: {error}"));
        assert_eq!(query.to_string().parse::<Query>().unwrap().to_string(), query.to_string());
    }
}

#[test]
fn the_table_of_query_md_has_all_names() {
    let of_the_code: Vec<[String; 3]> = names()
        .iter()
        .map(|name| [format!("`{}`", name.as_str()), name.values(), name.meaning().to_owned()])
        .collect();
    assert_eq!(table("Names"), of_the_code);
}

#[test]
fn the_operators_of_query_md_can_be_read() {
    let operators = table("Conditions").into_iter().flat_map(|row| row[0].split(", ").collect::<Vec<_>>());
    let operators: Vec<&str> = operators.map(|operator| operator.trim_matches('`')).collect();
    assert_eq!(operators, ["==", "!=", "<", "<=", ">", ">=", "=~", "!~", "glob"]);
    for operator in operators {
        assert!(format!("name {operator} \"x\"").parse::<Query>().is_ok(), "{operator}");
    }
}
