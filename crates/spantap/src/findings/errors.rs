//! Errors that did not occur before: a span of a name fails, with a message, although many of that name did not in the first part.
//!
//! Some errors are rare, and come late by chance. So there is a finding only if such an error would have come before with near
//! certainty, had it been as frequent.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::evidence::{Evidence, Groups};
use super::finding::{Finding, Kind};
use super::looked::Looked;
use super::names::{NameId, Names, shortened};
use super::shape::without_numbers;
use crate::span::attributes::find_text;
use crate::text::{counted, grouped, local_time};
use crate::trace::EncodedSpan;

/// How often it has to occur.
const LEAST_TIMES: u64 = 3;
/// How many spans of the name there have to be before the first one.
const LEAST_BEFORE: u64 = 20;
/// How likely it may be, at most, that it came late by chance.
const MOST_CHANCE: f64 = 0.001;

/// The messages of a name that are told apart. Of others, only the name counts.
const MAX_MESSAGES: usize = 32;

/// A name and a message.
type Key = (NameId, u64);

/// The errors that were seen.
#[derive(Default, Debug)]
pub(super) struct Errors {
    /// By name, whatever the message. There are only so many names.
    names: HashMap<NameId, OfName>,
    messages: Groups<Key, Failed>,
    left_out: u64,
}

#[derive(Default, Debug)]
struct OfName {
    any: Failed,
    messages: usize,
}

#[derive(Default, Debug)]
struct Failed {
    evidence: Evidence,
    first_ns: Option<u64>,
    /// The first one.
    message: String,
}

impl Failed {
    fn add(&mut self, trace_id: u128, span: &EncodedSpan, message: &str) {
        self.evidence.add(trace_id, span.duration_ns());
        if self.first_ns.is_none_or(|first_ns| span.times.0 < first_ns) {
            self.first_ns = Some(span.times.0);
            message.clone_into(&mut self.message);
        }
    }
}

impl Errors {
    pub(super) fn look(&mut self, looked: &Looked<'_>) {
        // The child that failed first may be missing.
        if !looked.is_whole {
            return;
        }
        for (place, name) in looked.named() {
            let span = &looked.spans[place];
            // What fails because a child did is not where it began.
            if !span.is_error || looked.children(place).any(|child| looked.spans[child].is_error) {
                continue;
            }
            let message = message(span);
            let mut hasher = DefaultHasher::new();
            message.hash(&mut hasher);
            let key = (name, hasher.finish());
            let of_name = self.names.entry(name).or_default();
            of_name.any.add(looked.trace_id, span, &message);
            let is_new = self.messages.get(&key).is_none();
            if is_new && of_name.messages >= MAX_MESSAGES {
                self.left_out += 1;
                continue;
            }
            let Some(failed) = self.messages.of(key) else { continue };
            of_name.messages += usize::from(is_new);
            failed.add(looked.trace_id, span, &message);
        }
    }

    pub(super) fn found(&self, names: &Names) -> Vec<Finding> {
        let any = self.names.iter().map(|(name, of)| (*name, finding(*name, &of.any, names)));
        let of_names: HashMap<NameId, Option<Finding>> = any.collect();
        // If no span of the name failed before, that says enough. Of its messages, the first is named.
        let is_named = |name: &NameId| of_names.get(name).is_some_and(Option::is_some);
        let of_messages = self.messages.iter().filter(|((name, _), _)| !is_named(name));
        let of_messages = of_messages.filter_map(|((name, _), failed)| finding(*name, failed, names));
        let mut found: Vec<Finding> = of_messages.collect();
        found.extend(of_names.into_values().flatten());
        found
    }

    pub(super) fn examples(&self, each: &mut dyn FnMut(u128)) {
        let any = self.names.values().map(|of| &of.any);
        any.chain(self.messages.iter().map(|(_, failed)| failed))
            .for_each(|failed| failed.evidence.example(each));
    }

    pub(super) fn left_out(&self) -> u64 {
        self.messages.left_out() + self.left_out
    }
}

fn finding(name: NameId, failed: &Failed, names: &Names) -> Option<Finding> {
    let Failed { evidence, first_ns, message } = failed;
    let (named, first_ns) = (names.of(name), (*first_ns)?);
    let before = named.spans.before(first_ns);
    let since = named.spans.all().saturating_sub(before).max(1);
    let rate = (evidence.times as f64 / since as f64).min(1.0);
    let chance = (1.0 - rate).powf(before as f64);
    if evidence.times < LEAST_TIMES || before < LEAST_BEFORE || chance > MOST_CHANCE {
        return None;
    }
    let time = local_time(first_ns);
    let time = time.get(11..).unwrap_or_default();
    let with = if message.is_empty() { String::new() } else { format!(" with \"{message}\"") };
    Some(Finding {
        kind: Kind::NewError,
        service: Arc::clone(&named.service),
        name: Arc::clone(&named.name),
        what: format!(
            "{} fails{with} since {time}: {} of about {} from then on",
            named.name,
            grouped(evidence.times),
            counted(since, "span", "spans")
        ),
        why: format!("none of {} before that failed so", counted(before, "span", "spans")),
        cost_ns: evidence.cost_ns,
        times: evidence.times,
        traces: evidence.traces,
        trace_ids: evidence.trace_ids(),
        details: [
            ("message".to_owned(), message.clone().into()),
            ("first_unix_nano".to_owned(), first_ns.to_string().into()),
            ("spans_before".to_owned(), before.into()),
            ("spans_since".to_owned(), since.into()),
        ]
        .into_iter()
        .collect(),
    })
}

/// What the span says about its error, with `#` for each number, so that the same error of another user is the same.
fn message(span: &EncodedSpan) -> String {
    let Some(of) = span.decode() else { return String::new() };
    let status = of.span.status.as_ref().map(|status| &*status.message).filter(|text| !text.is_empty());
    let text = status
        .or_else(|| find_text(&of.span.attributes, "error.type"))
        .or_else(|| find_text(&of.span.attributes, "exception.message"))
        .unwrap_or_default();
    without_numbers(shortened(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Found;
    use crate::findings::made::{MS, found, sentences, span};

    /// 200 requests, of which some of the second half fail.
    fn failing(first: u64, fails: impl Fn(u64) -> bool, message: impl Fn(u64) -> String) -> Found {
        found(200, 100 * MS, |number, at| {
            let id = |of: u64| number << 16 | of;
            let child = span(id(2), id(1), "charge", (at, at + MS)).client();
            let root = span(id(1), 0, "POST /orders", (at, at + 2 * MS));
            match number > first && fails(number) {
                true => vec![root.failed("the card service failed"), child.failed(&message(number))],
                false => vec![root, child],
            }
        })
    }

    #[test]
    fn an_error_that_did_not_occur_before_is_found_where_it_begins() {
        let found = failing(100, |number| number % 3 == 0, |number| format!("no answer to request {number}"));
        assert_eq!(found.findings.len(), 1, "{:?}", sentences(&found));
        let finding = &found.findings[0];
        assert!(
            finding.what.starts_with("charge fails with \"no answer to request #\" since "),
            "{}",
            finding.what
        );
        assert_eq!((finding.kind, finding.times, finding.traces), (Kind::NewError, 33, 33));
    }

    #[test]
    fn errors_that_are_not_new_are_not_found() {
        let none = |what: &str, found: Found| assert_eq!(sentences(&found), [""; 0], "{what}");
        none("from the beginning", failing(0, |number| number % 3 == 0, |_| "no".into()));
        none("too few before", failing(15, |_| true, |_| "no".into()));
        none(
            "rare, and late by chance",
            failing(100, |number| [120, 150, 190].contains(&number), |_| "no".into()),
        );
        none(
            "other words each time",
            failing(0, |number| number % 2 == 0, |number| "x".repeat(number as usize)),
        );
    }

    #[test]
    fn a_new_message_is_found_among_old_errors() {
        let found = failing(
            0,
            |number| number % 3 == 0,
            |number| {
                if number < 100 { "declined".into() } else { "no answer".into() }
            },
        );
        assert!(
            sentences(&found)[0].contains("charge fails with \"no answer\" since"),
            "{:?}",
            sentences(&found)
        );
        assert_eq!(found.findings.len(), 1);
    }

    #[test]
    fn many_messages_do_not_hide_a_name_that_fails_anew() {
        // Texts without digits, which are all different.
        let words =
            |number: u64| number.to_string().bytes().map(|byte| (byte + 49) as char).collect::<String>();
        let found = found(3_000, 100 * MS, |number, at| {
            let name = format!("lookup {}", number % 40);
            let mut spans = vec![span(number << 16 | 1, 0, &name, (at, at + MS)).failed(&words(number))];
            if number % 10 == 0 {
                let charge = span(number << 16 | 2, 0, "charge", (at, at + MS));
                spans.push(if number > 2_000 { charge.failed("no answer") } else { charge });
            }
            spans
        });
        assert_eq!(found.findings.len(), 1, "{:?}", sentences(&found));
        assert!(found.findings[0].what.starts_with("charge fails with \"no answer\""));
        assert!(found.lacks[0].starts_with("2,100 observations were not counted"), "{:?}", found.lacks);
    }
}
