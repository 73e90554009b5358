//! What a statement or a URL asks for, without the values in it: two that are the same then ask for the same of something else.

/// Words in the keys of attributes that say how far a list was read: the next call needs the answer to the one before.
const PLACES_IN_A_LIST: [&str; 9] =
    ["page", "offset", "cursor", "after", "before", "attempt", "retr", "position", "sequence"];

/// Words of statements that read a list in parts, or take the next of a queue: the next call needs the answer to the one before.
const READS_ON: [&str; 2] = ["OFFSET", "SKIP"];

/// Whether the attribute's value says how far a list was read.
pub(super) fn is_place_in_a_list(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    PLACES_IN_A_LIST.iter().any(|word| key.contains(word))
}

/// Replaces each word with a digit in it by `#`.
pub(super) fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for part in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_alphanumeric());
        if word.contains(|c: char| c.is_numeric()) {
            out.push('#');
            out.push_str(&part[word.len()..]);
        } else {
            out.push_str(part);
        }
    }
    out
}

/// A statement with `?` for each text in quotes and each number, and for a list of them. Names with digits stay.
pub(super) fn of_statement(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let end = |from: usize| rest[from..].find(|c| !is_name(c)).map_or(rest.len(), |at| from + at);
        let (length, is_value) = match first {
            '\'' => (rest[1..].find('\'').map_or(rest.len(), |at| at + 2), true),
            '$' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => (end(1), true),
            '?' => (1, true),
            _ if first.is_ascii_digit() => (end(0), true),
            _ if is_name(first) => (end(0), false),
            _ => (first.len_utf8(), false),
        };
        if is_value {
            let before = out.trim_end_matches(|c: char| c == ',' || c.is_whitespace()).len();
            // One more of a list, or the rest of a text with a quote in it.
            if out[..before].ends_with('?') {
                out.truncate(before);
            } else {
                out.push('?');
            }
        } else {
            out.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out
}

/// Whether the statement gets values that are not in it: it has `?`, `$1`, `:name`, `%s` or `@name`.
pub(super) fn has_placeholder(statement: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    // Not in quotes.
    statement.split('\'').step_by(2).any(|text| {
        let (mut before, mut rest) = (' ', text.chars());
        while let Some(c) = rest.next() {
            let after = rest.as_str();
            let is = match c {
                '?' => !is_name(before) && !after.starts_with(['?', '|', '&']) && before != '?',
                '$' => after.starts_with(|c: char| c.is_ascii_digit()),
                ':' | '@' => before != c && !is_name(before) && after.starts_with(char::is_alphabetic),
                '%' => after.starts_with('s') && !after[1..].starts_with(is_name),
                _ => false,
            };
            if is {
                return true;
            }
            before = c;
        }
        false
    })
}

/// Whether a statement reads the next part of a list.
pub(super) fn reads_on(statement: &str) -> bool {
    let has =
        |word: &str| statement.split(|c: char| !c.is_alphanumeric()).any(|of| of.eq_ignore_ascii_case(word));
    READS_ON.into_iter().any(has) || (has("LIMIT") && statement.contains(['<', '>']))
}

/// A URL, or a part of one, with `#` for the words with digits in its path and for what it asks for.
pub(super) fn of_url(url: &str) -> String {
    let (before, query) = url.split_once('?').map_or((url, None), |(before, query)| (before, Some(query)));
    let path_at = before.find("://").map_or(0, |at| {
        let host = at + 3;
        before[host..].find('/').map_or(before.len(), |at| host + at)
    });
    // The numbers of a host are its own.
    let (host, path) = before.split_at(path_at);
    let mut out = format!("{host}{}", without_numbers(path));
    if let Some(query) = query {
        out.push('?');
        out.push_str(&of_query(query));
    }
    out
}

/// The same for the part after the question mark.
pub(super) fn of_query(query: &str) -> String {
    let keys = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    keys.collect::<Vec<_>>().join("&")
}

/// What a URL, or the part after its question mark, says of the place in a list, such as `page=2`.
pub(super) fn place_in_a_list(url: &str) -> String {
    let mut path = url.split('?').next().unwrap_or_default().split('/');
    let page = path.find(|part| *part == "page").and_then(|_| path.next());
    let query = url.rsplit('?').next().unwrap_or_default().split('&');
    let pairs = query.filter(|pair| {
        pair.split_once('=').is_some_and(|(key, _)| !key.contains('/') && is_place_in_a_list(key))
    });
    page.into_iter().chain(pairs).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_other_ids_are_the_same() {
        for (text, expected) in [
            ("no product 17", "no product #"),
            ("user 5cc26a1b-cdd2-64e7: card declined (402)", "user #-#-#: card declined (#)"),
            ("out of stock", "out of stock"),
            ("é 7é", "é #"),
            ("", ""),
        ] {
            assert_eq!(without_numbers(text), expected);
        }
    }

    #[test]
    fn statements_that_differ_in_values_are_the_same() {
        for (text, expected) in [
            ("SELECT a1 FROM t2 WHERE id = 17", "SELECT a1 FROM t2 WHERE id = ?"),
            ("SELECT * FROM t WHERE n = 'it''s' AND m=$2", "SELECT * FROM t WHERE n = ? AND m=?"),
            ("SELECT * FROM t WHERE id IN (1, 2,3)", "SELECT * FROM t WHERE id IN (?)"),
            ("é 'unfinished", "é ?"),
            ("GET cart:17", "GET cart:?"),
            ("", ""),
        ] {
            assert_eq!(of_statement(text), expected);
        }
    }

    #[test]
    fn values_that_are_not_in_a_statement_are_seen() {
        for text in ["id = ?", "id=$1", "id = :id", "id IN (%s)", "id = @id", "GET ?", "f(?, ?)"] {
            assert!(has_placeholder(text), "{text}");
        }
        for text in ["id = 1", "at = '12:30 ?'", "a::text = b", "a LIKE b%some", "@@version", "a ?| b", ""] {
            assert!(!has_placeholder(text), "{text}");
        }
    }

    #[test]
    fn statements_that_read_on_are_seen() {
        for text in [
            "SELECT * FROM t LIMIT $1 OFFSET $2",
            "SELECT * FROM t WHERE id > $1 ORDER BY id LIMIT 100",
            "SELECT * FROM jobs WHERE kind = $1 LIMIT 1 FOR UPDATE SKIP LOCKED",
        ] {
            assert!(reads_on(text), "{text}");
        }
        for text in ["SELECT * FROM t WHERE id = $1 LIMIT 1", "SELECT * FROM t WHERE id = $1 FOR UPDATE"] {
            assert!(!reads_on(text), "{text}");
        }
    }

    #[test]
    fn urls_that_differ_in_values_are_the_same() {
        for (text, expected) in [
            ("http://10.0.0.1:80/items/17?b=2&c", "http://10.0.0.1:80/items/#?b&c"),
            ("http://a2", "http://a2"),
            ("/users/3f2a/cart", "/users/#/cart"),
            ("", ""),
        ] {
            assert_eq!(of_url(text), expected);
        }
        for (text, expected) in [
            ("http://a/items?page=2&x=1", "page=2"),
            ("/items/page/3", "3"),
            ("cursor=abc", "cursor=abc"),
            ("http://a/items/3?id=5", ""),
        ] {
            assert_eq!(place_in_a_list(text), expected, "{text}");
        }
    }
}
