//! When a request is worth another attempt, and after how long: the OTLP specification, "Failures".

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Of one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The backend has answered for the batch, and refused `rejected` of its spans.
    Done { rejected: u64, message: Option<String> },
    /// It refused all of it, and will refuse it again.
    Refused { why: String },
    /// It refused all of it because the request was too large, and may take less.
    TooLarge { why: String },
    /// The connection broke before it answered.
    Broken { why: String },
    /// It may take it another time, and perhaps said when.
    Failed { why: String, after: Option<Duration> },
}

impl Outcome {
    pub(super) const ACCEPTED: Self = Self::Done { rejected: 0, message: None };
}

/// A server that asks for more is asked again after this: it may have been mistaken, or its clock wrong.
const MAX_SERVER_DELAY: Duration = Duration::from_secs(60);
/// Longer words of a server are cut here.
const MAX_WORDS: usize = 300;

/// The delays between attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) first: Duration,
    /// Small, so that a backend that is there again is noticed soon; an attempt costs it little.
    pub(super) longest: Duration,
}

impl Pace {
    /// For one batch. It never ends; each delay is up to twice as long as its place in the row, by
    /// chance, so that senders that failed together do not come again together.
    pub(super) fn delays(self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_max_delay(self.longest / 2)
            .without_max_times()
            .with_jitter()
            .build()
    }
}

/// What a server asks for, if that is a time to wait at all.
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

/// A server's words for a line on the terminal: no control characters, and not too many.
pub(super) fn words(said: &str) -> String {
    let said = said.split(|char: char| char.is_whitespace() || char.is_control());
    let line = said.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// What an error came from in the end: libraries wrap it in words that say where in them it passed.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    words(&chain.last().unwrap_or(error).to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_grow_up_to_the_longest_and_never_end() {
        let pace = Pace { first: SECOND / 2, longest: 5 * SECOND };
        let delays: Vec<Duration> = pace.delays().take(1_000).collect();
        assert_eq!(delays.len(), 1_000);
        assert!(delays[0] >= SECOND / 2 && delays[0] <= SECOND, "{:?}", delays[0]);
        assert!(delays.iter().all(|delay| *delay <= 5 * SECOND));
        assert!(delays[10..].iter().all(|delay| *delay >= 5 * SECOND / 2));
        assert_ne!(delays, pace.delays().take(1_000).collect::<Vec<_>>());
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", None), // over
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
    fn words_are_one_bounded_line() {
        assert_eq!(words("a\r\n\u{1b}[31m  b\0c"), "a [31m b c");
        let long = words(&"ä".repeat(1_000));
        assert_eq!(long.chars().count(), MAX_WORDS + 3);
    }
}
