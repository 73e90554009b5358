//! What spantap told, and how near it is to what the program measured.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// A span as spantap forwarded it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) trace: String,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) attributes: BTreeMap<String, Value>,
    /// Attributes that it has no more.
    pub(crate) left_out: u64,
    pub(crate) is_kernels: bool,
    pub(crate) service: String,
}

impl Found {
    pub(crate) fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }

    /// None if it has none.
    pub(crate) fn number_of(&self, key: &str) -> Option<u64> {
        self.attributes.get(key).map(|value| match value {
            Value::String(text) => text.parse().unwrap(),
            value => value.as_u64().unwrap_or_else(|| panic!("{key} is {value}")),
        })
    }

    /// 0 if it has none, as of what never happened.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.number_of(key).unwrap_or(0)
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// What one kernel span or several together took.
    pub(crate) fn total_ns(&self) -> u64 {
        if self.attributes.contains_key("kernel.count") {
            self.number("kernel.total_ns")
        } else {
            self.duration_ns()
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.number("kernel.count").max(1)
    }

    pub(crate) fn account(&self) -> BTreeMap<&'static str, u64> {
        PARTS.into_iter().map(|part| (part, self.number(&format!("kernel.{part}_ns")))).collect()
    }
}

pub(crate) const PARTS: [&str; 9] =
    ["on_cpu", "run_queue", "preempted", "throttled", "sleep", "disk", "blocked", "stopped", "unseen"];

/// All spans in the file.
pub(crate) struct Spans(pub(crate) Vec<Found>);

impl Spans {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last line may be written just now.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Self(lines.flat_map(spans_of).collect())
    }

    /// The only one of the program's that is called so.
    #[track_caller]
    pub(crate) fn one(&self, name: &str) -> &Found {
        let found: Vec<&Found> = self.own(name).collect();
        assert_eq!(found.len(), 1, "of {name}: {found:#?}");
        found[0]
    }

    pub(crate) fn own(&self, name: &str) -> impl Iterator<Item = &Found> {
        self.0.iter().filter(move |span| span.name == name && !span.is_kernels)
    }

    /// The kernel's spans below it.
    pub(crate) fn below<'a>(&'a self, parent: &Found, name: &'a str) -> Vec<&'a Found> {
        let (id, trace) = (parent.id.clone(), parent.trace.clone());
        let is_below = move |span: &&Found| span.parent == id && span.trace == trace && span.is_kernels;
        self.0.iter().filter(is_below).filter(|span| span.name == name).collect()
    }
}

fn spans_of(line: &str) -> Vec<Found> {
    let data: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes = |value: &Value| -> BTreeMap<String, Value> {
        let all = value.as_array().into_iter().flatten();
        let value =
            |attribute: &Value| attribute["value"].as_object().unwrap().values().next().unwrap().clone();
        all.map(|attribute| (text(&attribute["key"]), value(attribute))).collect()
    };
    let mut found = Vec::new();
    for resource in data["resourceSpans"].as_array().unwrap() {
        let service = attributes(&resource["resource"]["attributes"]).get("service.name").map(text);
        for scope in resource["scopeSpans"].as_array().unwrap() {
            for span in scope["spans"].as_array().unwrap() {
                found.push(Found {
                    name: text(&span["name"]),
                    id: text(&span["spanId"]),
                    parent: text(&span["parentSpanId"]),
                    trace: text(&span["traceId"]),
                    start_ns: text(&span["startTimeUnixNano"]).parse().unwrap(),
                    end_ns: text(&span["endTimeUnixNano"]).parse().unwrap(),
                    attributes: attributes(&span["attributes"]),
                    left_out: span["droppedAttributesCount"].as_u64().unwrap_or(0),
                    is_kernels: scope["scope"]["name"] == "spantap.kernel",
                    service: service.clone().unwrap_or_default(),
                });
            }
        }
    }
    found
}

pub(crate) fn number(measured: &Value, key: &str) -> u64 {
    measured[key].as_u64().unwrap_or_else(|| panic!("{key} of {measured}"))
}

pub(crate) fn total_ns(spans: &[&Found]) -> u64 {
    spans.iter().map(|span| span.total_ns()).sum()
}

pub(crate) fn count(spans: &[&Found]) -> u64 {
    spans.iter().map(|span| span.count()).sum()
}

#[track_caller]
pub(crate) fn assert_near(what: &str, found_ns: u64, measured_ns: u64) {
    assert_near_of(what, found_ns, measured_ns, measured_ns);
}

/// All that the program measured, but for its waits for a CPU, some of which, or all, may lie before what was found, or
/// behind it.
#[track_caller]
pub(crate) fn assert_lasted(what: &str, found_ns: u64, measured: &Value) {
    let (wall, waited) = (number(measured, "wall_ns"), number(measured, "waited_ns"));
    assert_between(what, found_ns, wall - waited, wall);
}

/// The same margin around both.
#[track_caller]
pub(crate) fn assert_between(what: &str, found_ns: u64, least_ns: u64, most_ns: u64) {
    assert_near_of(what, found_ns, found_ns.max(least_ns).min(most_ns), most_ns);
}

/// Within five percent of `whole_ns`, and what a machine that others use takes to get from one clock to the
/// other.
#[track_caller]
pub(crate) fn assert_near_of(what: &str, found_ns: u64, measured_ns: u64, whole_ns: u64) {
    let margin = whole_ns / 20 + 300_000;
    assert!(
        found_ns.abs_diff(measured_ns) <= margin,
        "{what}: found {found_ns} ns, and the program measured {measured_ns} ns"
    );
}

/// The parts of a span's time in the kernel are all of the time in which it was entered, by the program's own
/// clock: to a hundredth, and the time between that clock and the probes of each enter. Now and then a thread loses
/// the CPU just there: of so many spans or fewer, one may. (Or the kernel tells nothing of it.)
#[track_caller]
pub(crate) fn assert_add_up(spans: &Spans, one_of: usize) {
    let own: Vec<&Found> = spans.0.iter().filter(|span| !span.is_kernels).collect();
    let is_off = |span: &&&Found| {
        let (sum, busy) = (span.account().values().sum::<u64>(), span.number("busy_ns"));
        // For each of its polls, which are one more than it yields, and once more to be dropped.
        let enters = if span.name == "hopper" { 7 } else { 1 };
        sum.abs_diff(busy) > busy / 100 + 15_000 * enters || span.account()["unseen"] > 0
    };
    let off: Vec<_> = own.iter().filter(is_off).collect();
    assert!(off.len() <= own.len().div_ceil(one_of), "{} of {}: {:#?}", off.len(), own.len(), off[0]);
}

/// Also of what the kernel is to tell.
#[track_caller]
pub(crate) fn assert_all_told(stderr: &str) {
    assert!(!stderr.contains("missed"), "{stderr}");
}

/// But for that: of much, the kernel of a virtual machine leaves some out each time.
#[track_caller]
pub(crate) fn assert_none_missed(stderr: &str) {
    let missed: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("missed") && !line.contains("the kernel did not tell"))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
