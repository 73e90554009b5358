//! The outcome of a request, and whether it is worth another attempt, by the OTLP specification, "Failures".

use std::time::{Duration, SystemTime};

/// The outcome of one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::sink) enum Outcome {
    /// The backend has answered for the batch, and rejected `rejected` of its spans.
    Done { rejected: u64, message: Option<String> },
    /// The backend refused the request, and would refuse it again.
    Refused { why: String },
    /// The backend refused the request as too large; it may accept less.
    TooLarge { why: String },
    /// The connection broke before the answer.
    Broken { why: String },
    /// The backend may accept it later, and perhaps named a time.
    Failed { why: String, after: Option<Duration> },
}

impl Outcome {
    pub(super) const ACCEPTED: Self = Self::Done { rejected: 0, message: None };
}

/// The longest delay that a server can ask for: it may be mistaken, or its clock wrong.
const MAX_SERVER_DELAY: Duration = Duration::from_secs(60);
/// Longer messages of a server are cut.
const MAX_MESSAGE_CHARS: usize = 300;

/// The delay that a server asks for; `None` for no delay.
pub(super) fn server_delay(asked: Option<Duration>) -> Option<Duration> {
    asked.filter(|asked| !asked.is_zero()).map(|asked| asked.min(MAX_SERVER_DELAY))
}

/// `Retry-After`: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

/// Makes one line of a server's message, without control characters and not too long.
pub(super) fn one_line(message: &str) -> String {
    let parts = message.split(|char: char| char.is_whitespace() || char.is_control());
    let line = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// The innermost cause of an error: libraries wrap it in descriptions of their own layers.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    one_line(&chain.last().unwrap_or(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", None), // in the past
            ("-1", None),
            ("soon", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
        assert_eq!(server_delay(Some(Duration::ZERO)), None);
        assert_eq!(server_delay(Some(SECOND)), Some(SECOND));
        assert_eq!(server_delay(Some(Duration::MAX)), Some(MAX_SERVER_DELAY));
    }

    #[test]
    fn messages_become_one_short_line() {
        assert_eq!(one_line("a\r\n\u{1b}[31m  b\0c"), "a [31m b c");
        let long = one_line(&"ä".repeat(1_000));
        assert_eq!(long.chars().count(), MAX_MESSAGE_CHARS + 3);
    }
}
