//! Reads the spans that spantap forwarded, and compares their times with what the program measured.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// A span that spantap forwarded.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) trace: String,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) attributes: BTreeMap<String, Value>,
    pub(crate) dropped_attributes: u64,
    /// The ids of the spans that it has a link to.
    pub(crate) links: Vec<String>,
    /// Whether spantap made the span from the kernel's events. Others are the program's own.
    pub(crate) is_kernels: bool,
    pub(crate) service: String,
}

impl Found {
    pub(crate) fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }

    /// The number in this attribute, if the span has it.
    pub(crate) fn number_of(&self, key: &str) -> Option<u64> {
        self.attributes.get(key).map(|value| match value {
            Value::String(text) => text.parse().unwrap(),
            value => value.as_u64().unwrap_or_else(|| panic!("{key} is {value}")),
        })
    }

    /// The number in this attribute. spantap leaves an attribute out if it is 0.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.number_of(key).unwrap_or(0)
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The duration of a kernel span, or the total of an aggregated one.
    pub(crate) fn total_ns(&self) -> u64 {
        if self.attributes.contains_key("kernel.count") {
            self.number("kernel.total_ns")
        } else {
            self.duration_ns()
        }
    }

    /// The number of activities that a kernel span stands for.
    pub(crate) fn count(&self) -> u64 {
        self.number("kernel.count").max(1)
    }

    /// Whether the kernel's account of its time came with a span that waited. Without it, all time would count as time on
    /// the CPU.
    pub(crate) fn has_account(&self) -> bool {
        let account = self.account();
        account["on_cpu"] > 0 && account.iter().any(|(part, ns)| *part != "on_cpu" && *ns > 0)
    }

    pub(crate) fn account(&self) -> BTreeMap<&'static str, u64> {
        PARTS.into_iter().map(|part| (part, self.number(&format!("kernel.{part}_ns")))).collect()
    }
}

pub(crate) const PARTS: [&str; 11] = [
    "on_cpu",
    "run_queue",
    "preempted",
    "throttled",
    "sleep",
    "network",
    "lock",
    "disk",
    "blocked",
    "stopped",
    "unseen",
];

/// All spans in the file.
pub(crate) struct Spans(pub(crate) Vec<Found>);

impl Spans {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last line may be incomplete: spantap is still writing it.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Self(lines.flat_map(spans_of).collect())
    }

    /// The program's only span with this name.
    #[track_caller]
    pub(crate) fn one(&self, name: &str) -> &Found {
        let found: Vec<&Found> = self.own(name).collect();
        assert_eq!(found.len(), 1, "of {name}: {found:#?}");
        found[0]
    }

    /// The program's spans with this name.
    pub(crate) fn own(&self, name: &str) -> impl Iterator<Item = &Found> {
        self.0.iter().filter(move |span| span.name == name && !span.is_kernels)
    }

    /// The kernel's spans with this name below `parent`.
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
                    dropped_attributes: span["droppedAttributesCount"].as_u64().unwrap_or(0),
                    links: span["links"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|link| text(&link["spanId"]))
                        .collect(),
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

/// The time that the program measured, with or without its waits for a CPU: these may be before or after the
/// span.
#[track_caller]
pub(crate) fn assert_lasted(what: &str, found_ns: u64, measured: &Value) {
    let (wall, waited) = (number(measured, "wall_ns"), number(measured, "waited_ns"));
    assert_between(what, found_ns, wall - waited, wall);
}

/// At least `least_ns` and at most `most_ns`, with the margin of `assert_near`.
#[track_caller]
pub(crate) fn assert_between(what: &str, found_ns: u64, least_ns: u64, most_ns: u64) {
    assert_near_of(what, found_ns, found_ns.max(least_ns).min(most_ns), most_ns);
}

/// Within five percent of `whole_ns`, plus the time that a busy machine takes between the readings of two
/// clocks.
#[track_caller]
pub(crate) fn assert_near_of(what: &str, found_ns: u64, measured_ns: u64, whole_ns: u64) {
    let margin = whole_ns / 20 + 300_000;
    assert!(
        found_ns.abs_diff(measured_ns) <= margin,
        "{what}: found {found_ns} ns, and the program measured {measured_ns} ns"
    );
}

/// Why a span with time that was not seen is incomplete.
pub(crate) const UNSEEN_TIME: &str =
    "the kernel did not report all switches of its threads, or their memory could not be read";

/// The parts of each span's account add up to the time in which it was entered, by the program's own clock: the kernel has not
/// reported more. (Whether it has reported all, tests find out that measure the parts.) On some
/// virtual machines the kernel does not report a stretch of time; then that is a part, and the span says so.
#[track_caller]
pub(crate) fn assert_add_up(spans: &Spans) {
    for span in spans.0.iter().filter(|span| !span.is_kernels) {
        let account = span.account();
        let (sum, busy) = (account.values().sum::<u64>(), span.number("busy_ns"));
        assert!(sum.abs_diff(busy) <= 1000, "{sum} ns of {busy} ns: {span:#?}");
        let why = if account["unseen"] > 0 { UNSEEN_TIME } else { "" };
        assert_eq!(span.text("kernel.partial"), why, "{span:#?}");
    }
}

/// spantap has missed nothing, and neither has the kernel.
#[track_caller]
pub(crate) fn assert_no_misses(stderr: &str) {
    assert!(!stderr.contains("missed"), "{stderr}");
}

/// spantap has missed nothing. The kernel may have: on a virtual machine, it leaves out some of many events
/// each time.
#[track_caller]
pub(crate) fn assert_no_misses_of_spantap(stderr: &str) {
    let missed: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("missed") && !line.contains("the kernel did not report"))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
