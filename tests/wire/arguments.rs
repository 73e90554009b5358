//! The probes' arguments have the order and the types of the table in `docs/wire.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use e2e::{Build, Collector, Document, Linkage, Span, need, quoted, text};
use serde_json::Value;

/// A hit: its arguments, each with its name in the table, and the span in the datagrams of the same run.
struct Hit<'a> {
    probe: &'a str,
    arguments: Vec<(&'a str, &'a str)>,
    span: Option<&'a Span>,
}

impl Hit<'_> {
    fn check(&self) {
        self.arguments.iter().for_each(|(argument, value)| {
            assert!(
                self.is_right(argument, value),
                "{}: {argument} is {value:?}, of {:?}",
                self.probe,
                self.span
            );
        });
    }

    fn is_right(&self, argument: &str, value: &str) -> bool {
        let number = || value.parse::<u64>().unwrap();
        let hex = |digits: &str| u64::from_str_radix(digits, 16).unwrap();
        let of_span = |key: &str| text(self.span.unwrap(), key);
        let tags = || &self.span.unwrap()["tags"];
        let object = || serde_json::from_str::<Span>(value).unwrap();
        match argument {
            // The span was found by this id, so it only must not be 0.
            "span id" => number() != 0 && number() == hex(of_span("id")),
            "current span id (0: none)" => number() == self.span.map_or(0, |span| hex(text(span, "id"))),
            "parent id (0: root)" => {
                number() == self.span.unwrap().get("parentId").map_or(0, |id| hex(id.as_str().unwrap()))
            }
            "id of the span it follows" => {
                tags()["follows_from"].as_str().unwrap().ends_with(&format!("-{:016x}", number()))
            }
            "trace id high" => number() == hex(&of_span("traceId")[..16]),
            "trace id low" => number() == hex(&of_span("traceId")[16..]),
            "name" => value == of_span("name"),
            "message" => {
                value == if self.span.is_some() { "something happened" } else { "outside of any span" }
            }
            "target" => value == "fixture",
            "level" => {
                let of_event = if self.span.is_some() { "WARN" } else { "INFO" };
                let expected =
                    if self.probe == "event" { of_event } else { tags()["level"].as_str().unwrap() };
                ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"][number() as usize - 1] == expected
            }
            "duration (0: unknown)" => {
                (number() / 1000).abs_diff(self.span.unwrap()["duration"].as_u64().unwrap()) <= 1
            }
            "busy" => value == tags()["busy_ns"].as_str().unwrap(),
            "fields, a JSON object" if self.probe == "event" => {
                object().contains_key("code") == self.span.is_some()
            }
            "fields, a JSON object" => {
                let is_tag = |(key, value): (&String, &Value)| {
                    tags()[key] == value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                };
                let has_fields = of_span("name") == "parent";
                object().iter().all(is_tag) && object().len() == if has_fields { 3 } else { 0 }
            }
            "fields added, a JSON object" => object().keys().eq(["late"]),
            "the span's JSON, as in a datagram of its own but without `tracingUsdt`" => {
                let mut datagram = self.span.unwrap().clone();
                datagram.remove("tracingUsdt").unwrap();
                serde_json::from_str::<Vec<Span>>(value).unwrap() == [datagram]
            }
            "a batch, as a datagram of OTLP in protobuf" => value.starts_with("0x"),
            "bytes of the batch" => number() > 100,
            "address of the thread's context" => value.starts_with("0x") && value.ends_with('0'),
            "layout of the context" => number() == 1,
            "spans of the batch" => (1..=3).contains(&number()),
            "its length in bytes" => {
                let (_, json) = self.arguments[self.arguments.len() - 2];
                number() == json.len() as u64
            }
            unknown => panic!("docs/wire.md has an argument that this test does not know: {unknown}"),
        }
    }
}

#[test]
fn gdb_reads_each_argument_of_the_table() {
    if !need(&["gdb"]) {
        return;
    }
    let page = Document::wire();
    let types: BTreeMap<String, String> =
        page.table("### Arguments").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let table = page.table("## Probes");
    let probes: BTreeMap<&str, Vec<&str>> = table
        .iter()
        .map(|row| {
            (
                quoted(&row[0]).next().unwrap(),
                row[1..].iter().map(|cell| &**cell).filter(|cell| !cell.is_empty()).collect(),
            )
        })
        .collect();
    let used: BTreeSet<&str> = probes.values().flatten().copied().collect();
    assert_eq!(
        used,
        types.keys().map(|argument| &**argument).collect(),
        "left: used in the table of probes; right: in the table of arguments"
    );

    let mut script = String::from("set breakpoint pending on\nset print thread-events off\n");
    for (probe, arguments) in &probes {
        let format = |argument: &&str| match &*types[*argument] {
            "`u64`" => "\\t%lu",
            "`char *`" => "\\t%s",
            "`u8 *`" => "\\t%p",
            other => panic!("{argument} is of type {other}"),
        };
        let format: String = arguments.iter().map(format).collect();
        let values: String = (0..arguments.len()).map(|at| format!(", $_probe_arg{at}")).collect();
        script += &format!(
            "break -probe-stap tracing:{probe}\ncommands\nsilent\nprintf \"@{probe}{format}\\n\"{values}\ncontinue\nend\n"
        );
    }
    script += "run < /dev/stdin\n";
    let folder = tempfile::tempdir().unwrap();
    let [script_file, input] = ["script", "input"].map(|name| folder.path().join(name));
    std::fs::write(&script_file, script).unwrap();
    std::fs::write(&input, "tree\n").unwrap();

    let collector = Collector::start();
    let path = Build::Debug.path(Linkage::Executable, 0);
    let mut gdb = Command::new("gdb");
    gdb.args(["--batch", "--nx", "-x"])
        .arg(script_file)
        .arg(&path)
        .stdin(std::fs::File::open(input).unwrap());
    gdb.env("TRACING_USDT_SOCKET", collector.path()).env("TRACING_USDT_DELIVERY", "inline");
    let output = gdb.env("TRACING_USDT_MAX_WAIT_MS", "10000").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let spans = collector.spans();
    assert_eq!(spans.len(), 3, "{printed}\n{}", String::from_utf8_lossy(&output.stderr));

    let mut hit = BTreeSet::new();
    for line in printed.lines().filter_map(|line| line.strip_prefix('@')) {
        let mut words = line.split('\t');
        let probe = words.next().unwrap();
        let arguments: Vec<_> = probes[probe].iter().copied().zip(words).collect();
        assert_eq!(arguments.len(), probes[probe].len(), "{line}");
        let has_no_span = ["batch_emit", "thread_register"].contains(&probe);
        let id = if has_no_span {
            String::new()
        } else {
            format!("{:016x}", arguments[0].1.parse::<u64>().unwrap())
        };
        let span = spans.iter().find(|span| text(span, "id") == id);
        Hit { probe, arguments, span }.check();
        hit.insert(probe);
    }
    assert!(hit.iter().eq(probes.keys()), "{hit:?}: {printed}");
}
