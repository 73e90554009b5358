//! Which service calls which.

use std::collections::HashMap;
use std::sync::Arc;

use super::halves::Halves;
use super::series::Window;
use crate::graph::Measure;
use crate::stats::shortened;
use crate::trace::EncodedSpan;

/// The most pairs of services.
const MAX_PAIRS: usize = 500;

/// The calls between services.
#[derive(Default, Debug)]
pub(super) struct Calls {
    pairs: HashMap<Pair, Calling>,
    /// The calls of pairs for which there was no room.
    others: u64,
}

/// Who calls, `None` for what is outside, and who is called.
type Pair = (Option<Arc<str>>, Arc<str>);

#[derive(Debug)]
struct Calling {
    all: Measure,
    recent: Halves<Measure>,
}

/// The calls of a pair of services.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Call {
    /// `None`: spans without a parent.
    pub(crate) from: Option<Arc<str>>,
    pub(crate) to: Arc<str>,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) average_ns: u64,
    pub(crate) p95_ns: u64,
    pub(crate) total_ns: u128,
}

impl Calls {
    /// Counts the calls of the spans from `first` on.
    pub(super) fn add(&mut self, spans: &[EncodedSpan], first: usize, now_ns: u64) {
        let services: HashMap<u64, &str> =
            spans.iter().map(|span| (span.span_id, &*span.process.service)).collect();
        for span in spans.get(first..).unwrap_or_default().iter().filter(|span| !span.is_kernel) {
            let to = &*span.process.service;
            let from = match span.parent_id {
                None => None,
                // Without its parent, a span may be one of many within its own service.
                Some(parent) => match services.get(&parent) {
                    Some(from) if *from != to => Some(*from),
                    _ => continue,
                },
            };
            self.count(from, to, span, now_ns);
        }
    }

    fn count(&mut self, from: Option<&str>, to: &str, span: &EncodedSpan, now_ns: u64) {
        let pair: Pair = (from.map(|from| shortened(from).into()), shortened(to).into());
        if self.pairs.len() >= MAX_PAIRS && !self.pairs.contains_key(&pair) {
            self.others += 1;
            return;
        }
        let new = || Calling { all: Measure::default(), recent: Halves::new(now_ns) };
        let calling = self.pairs.entry(pair).or_insert_with(new);
        for measure in [&mut calling.all, calling.recent.at(now_ns)] {
            measure.add(span.duration_ns(), span.is_error);
        }
    }

    /// The calls in a window, those with the most time first, and how many others there were since the start.
    pub(super) fn list(&self, window: Window, now_ns: u64) -> (Vec<Call>, u64) {
        let call = |((from, to), calling): (&Pair, &Calling)| {
            let mut recent = Measure::default();
            let measure = match window {
                Window::All => &calling.all,
                Window::Recent => {
                    calling.recent.recent(now_ns).for_each(|measure| recent.merge(measure));
                    &recent
                }
            };
            (measure.calls > 0).then(|| Call {
                from: from.clone(),
                to: Arc::clone(to),
                calls: measure.calls,
                errors: measure.errors,
                average_ns: measure.average_ns(),
                p95_ns: measure.percentile_ns(95),
                total_ns: measure.total_ns,
            })
        };
        let mut calls: Vec<Call> = self.pairs.iter().filter_map(call).collect();
        calls.sort_by(|one, other| {
            let names = |call: &Call| (call.from.clone(), Arc::clone(&call.to));
            other.total_ns.cmp(&one.total_ns).then_with(|| names(one).cmp(&names(other)))
        });
        (calls, self.others)
    }
}
