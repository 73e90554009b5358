//! The spans in the datagrams (Zipkin v2), and the traces that they make up.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};
use serde_json::Value;

/// The span that tells of losses.
const DROPPED: &str = "tracing_usdt.dropped";

pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) name: String,
    pub(crate) start_us: u64,
    pub(crate) duration_us: u64,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Span {
    fn from_json(json: &Value) -> Option<Self> {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let tags = json["tags"].as_object()?.iter();
        Some(Self {
            trace: text("traceId")?,
            id: text("id")?,
            parent: text("parentId"),
            name: text("name")?,
            start_us: json["timestamp"].as_u64()?,
            duration_us: json["duration"].as_u64()?,
            tags: tags.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        })
    }

    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        self.tags.get(key).map(String::as_str)
    }

    pub(crate) fn is_error(&self) -> bool {
        self.tag("otel.status_code") == Some("ERROR")
    }

    /// How much of its duration the span was being worked on, in percent.
    pub(crate) fn busy_percent(&self) -> Option<f64> {
        let busy: f64 = self.tag("busy_ns")?.parse().ok()?;
        let idle: f64 = self.tag("idle_ns")?.parse().ok()?;
        Some(100.0 * busy / (busy + idle).max(1.0))
    }
}

/// All that has arrived.
#[derive(Default)]
pub(crate) struct Spans {
    pub(crate) datagrams: usize,
    pub(crate) spans: Vec<Span>,
    /// Spans that were lost on the way, by reason, as the service itself tells.
    pub(crate) dropped: BTreeMap<String, u64>,
}

impl Spans {
    pub(crate) fn parse(datagrams: &[Vec<u8>]) -> Result<Self> {
        let mut all = Self { datagrams: datagrams.len(), ..Self::default() };
        for datagram in datagrams {
            let text = String::from_utf8_lossy(datagram);
            let not_zipkin = || format!("not a Zipkin v2 datagram: {text}");
            let array: Vec<Value> = serde_json::from_slice(datagram).with_context(not_zipkin)?;
            for json in &array {
                all.add(Span::from_json(json).with_context(not_zipkin)?);
            }
        }
        Ok(all)
    }

    fn add(&mut self, span: Span) {
        if span.name != DROPPED {
            self.spans.push(span);
            return;
        }
        for (tag, count) in &span.tags {
            if let Some(reason) = tag.strip_prefix("tracing_usdt.dropped.") {
                *self.dropped.entry(reason.to_owned()).or_default() += count.parse().unwrap_or(0);
            }
        }
    }

    pub(crate) fn traces(&self) -> Vec<Trace<'_>> {
        let mut by_id: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        for span in &self.spans {
            by_id.entry(&span.trace).or_default().push(span);
        }
        by_id.into_values().filter_map(Trace::new).collect()
    }
}

/// The spans of one trace that has a root.
pub(crate) struct Trace<'a> {
    pub(crate) root: &'a Span,
    children: HashMap<&'a str, Vec<&'a Span>>,
    pub(crate) complete: bool,
}

impl<'a> Trace<'a> {
    pub(crate) fn new(spans: Vec<&'a Span>) -> Option<Self> {
        let root = spans.iter().find(|span| span.parent.is_none())?;
        let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
        let mut children: HashMap<&str, Vec<&Span>> = HashMap::new();
        let mut complete = true;
        for span in &spans {
            if let Some(parent) = &span.parent {
                children.entry(parent).or_default().push(span);
                complete &= ids.contains(parent.as_str());
            }
        }
        for siblings in children.values_mut() {
            siblings.sort_by_key(|span| span.start_us);
        }
        Some(Self { root, children, complete })
    }

    pub(crate) fn children(&self, span: &Span) -> &[&'a Span] {
        self.children.get(span.id.as_str()).map_or(&[], Vec::as_slice)
    }

    /// From the root's start to the end of whatever ends last.
    pub(crate) fn interval_us(&self) -> (u64, u64) {
        let spans = self.children.values().flatten().chain([&self.root]);
        let end = spans.map(|span| span.start_us + span.duration_us).max();
        (self.root.start_us, end.unwrap_or(self.root.start_us))
    }

    /// Whether its root follows from a span of `other`.
    pub(crate) fn follows_from(&self, other: &Trace<'_>) -> bool {
        let mut links = self.root.tag("follows_from").unwrap_or_default().split(',');
        links.any(|link| link.split_once('-').is_some_and(|(trace, _)| trace == other.root.trace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted_by_reason_and_are_no_span() {
        let datagram = br#"[{"traceId":"a","id":"b","name":"tracing_usdt.dropped","timestamp":1,"duration":1,
            "tags":{"tracing_usdt.dropped.queue_full":"3","other":"1"}}]"#;
        let spans = Spans::parse(&[datagram.to_vec(), datagram.to_vec()]).expect("valid datagrams");
        assert_eq!(spans.dropped, BTreeMap::from([("queue_full".to_owned(), 6)]));
        assert_eq!(spans.spans.len(), 0);
    }

    #[test]
    fn a_datagram_that_is_no_zipkin_is_shown_in_the_error() {
        let error = Spans::parse(&[b"[{\"id\":1}]".to_vec()]).err().expect("no span in it");
        assert!(error.to_string().contains("[{\"id\":1}]"), "{error}");
    }
}
