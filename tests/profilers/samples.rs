//! Samples of a thread that enters and exits spans as fast as it can. An interrupt stops it anywhere between two
//! instructions, and bpftrace's eBPF program reads both forms of its context: OpenTelemetry's variable, and the block
//! of `thread_register`. The ids of both must be right at each instruction. (The times, the names and the exits of the block
//! are not read here. It is x86-64's thread pointer that is read.)
#![cfg(target_arch = "x86_64")]

use std::collections::HashMap;
use std::process::Command;

use e2e::{BPFTRACE, Bpftrace, Build, Fixture, Linkage, need, skip};

use crate::offset;

/// How often a second a processor is interrupted.
const HZ: u32 = 20_000;

/// The program runs for this long. Its thread may get only a part of a processor.
const MILLISECONDS: u32 = 10_000;

/// The most that the kernel allows.
const MOST_HZ: &str = "/proc/sys/kernel/perf_event_max_sample_rate";

/// The spans that the thread is in after each enter or exit of the program's `churn`, the outermost first. Before the
/// first it is in none.
const STACKS: [&str; 11] = ["", "a", "ab", "a", "ac", "c", "cd", "cda", "da", "d", ""];

/// At offsets in a thread's block, by docs/wire.md.
const IDS_AT: usize = 8;
const RECORDS_AT: usize = 520;
const RECORD_BYTES: usize = 64;

/// How many levels are read. One more than are used, to see that it is empty.
const LEVELS: usize = 4;

/// What was read in a sample, in this order; the numbers of a record are in the order of bytes of the program's machine.
#[derive(Clone, Debug)]
struct Sample {
    /// Odd: between two enters or exits.
    step: u64,
    /// OpenTelemetry's record: trace id, span id, and the byte that says whether it is valid. All 0 if there is none.
    shown: Record,
    valid: u64,
    /// The word at the beginning of the block; 0 until the reader knows the block.
    word: u64,
    ids: [u64; LEVELS],
    records: [Record; LEVELS],
}

/// A trace id in two parts, and a span id.
type Record = [u64; 3];

const NUMBERS: usize = 6 + LEVELS * 4;

fn script(pid: u32, step: u64, offset: u64) -> String {
    let mut read = vec![format!("$step = *(uint64 *)uptr({step});")];
    let mut key = vec!["$step".to_owned()];
    let mut add = |name: String, at: String| {
        read.push(format!("${name} = *(uint64 *)uptr({at});"));
        key.push(format!("${name}"));
    };
    for (name, at) in [("shown_high", 0), ("shown_low", 8), ("shown_id", 16), ("shown_state", 24)] {
        add(name.to_owned(), format!("$shown + {at}"));
    }
    add("word".to_owned(), "$block".to_owned());
    for level in 0..LEVELS {
        add(format!("id_{level}"), format!("$block + {}", IDS_AT + 8 * level));
    }
    for level in 0..LEVELS {
        for (name, at) in [("high", 0), ("low", 8), ("span", 16)] {
            let at = RECORDS_AT + RECORD_BYTES * level + at;
            add(format!("{name}_{level}"), format!("$block + {at}"));
        }
    }
    format!(
        "profile:hz:{HZ} /pid == {pid}/ {{\n\
         $shown = *(uint64 *)uptr(curtask->thread.fsbase + (uint64){offset});\n\
         $block = @block[tid];\n{}\n@[{}] = count();\n}}\n",
        read.join("\n"),
        key.join(", ")
    )
}

impl Sample {
    /// A line of bpftrace's map, and how often it was counted.
    fn parse(line: &str) -> Option<(Self, u64)> {
        let (key, count) = line.strip_prefix("@[")?.split_once("]: ")?;
        let number =
            |text: &str| text.parse::<u64>().or_else(|_| text.parse().map(|number: i64| number as u64));
        let numbers: Vec<u64> = key.split(", ").map(|text| number(text).unwrap()).collect();
        assert_eq!(numbers.len(), NUMBERS, "{line}");
        let from_big_endian = |at: usize| -> Record { [0, 1, 2].map(|n| u64::from_be(numbers[at + n])) };
        let sample = Self {
            step: numbers[0],
            shown: from_big_endian(1),
            valid: u64::from(numbers[4].to_ne_bytes()[0]),
            word: numbers[5],
            ids: std::array::from_fn(|level| numbers[6 + level]),
            records: std::array::from_fn(|level| from_big_endian(6 + LEVELS + 3 * level)),
        };
        Some((sample, count.parse().unwrap()))
    }

    /// The stacks before and after the enter or exit; both the same between two.
    fn stacks(&self) -> [&'static str; 2] {
        let after = (self.step / 2) as usize;
        let before = if self.step % 2 == 1 { after } else { after - 1 };
        [STACKS[before], STACKS[after]]
    }

    /// Checks OpenTelemetry's form. Returns whether it says that the thread is in a span.
    #[track_caller]
    fn check_shown(&self, spans: &HashMap<char, Record>) -> bool {
        let [before, after] = self.stacks().map(|stack| stack.chars().next_back().map(|name| spans[&name]));
        let shown = (self.valid == 1).then_some(self.shown);
        // It may be null while it changes.
        let is_right = shown == before || shown == after || (self.step % 2 == 0 && shown.is_none());
        assert!(is_right, "{before:x?} or {after:x?}, but {self:x?}");
        shown.is_some()
    }

    /// Checks the block. Returns whether the thread was just changing it.
    #[track_caller]
    fn check_block(&self, spans: &HashMap<char, Record>) -> bool {
        let depth = (self.word & 0xff) as usize;
        assert!(depth < LEVELS && self.word >> 8 & 0xff == 0, "{self:x?}");
        assert!(self.ids[depth..].iter().all(|id| *id == 0), "ids beyond the depth: {self:x?}");
        // A level with the id 0 is just being written.
        let levels = self.ids.iter().zip(&self.records).filter(|(id, _)| **id != 0);
        let mut listed = String::new();
        for (id, record) in levels {
            let name = spans.iter().find(|(_, span)| span[2] == *id).map(|(name, _)| *name);
            let name = name.unwrap_or_else(|| panic!("no span has the id {id:x}: {self:x?}"));
            assert_eq!(*record, spans[&name], "another span's record: {self:x?}");
            listed.push(name);
        }
        let stacks = self.stacks();
        // While a span other than the innermost is exited, those above it may be missing.
        let is_changing = !stacks.contains(&&*listed);
        let is_part = stacks.iter().any(|stack| stack.starts_with(&listed)) && self.is_exit_of_another();
        assert!(!is_changing || is_part, "{stacks:?}, but {listed:?}: {self:x?}");
        is_changing || depth != listed.len()
    }

    fn is_exit_of_another(&self) -> bool {
        let [before, after] = self.stacks();
        self.step % 2 == 0 && after.len() < before.len() && !before.starts_with(after)
    }
}

fn assert_right(build: Build) {
    let executable = build.path(Linkage::Executable, 0);
    let offset = offset(&executable);
    let mut fixture = Fixture::spawn(Command::new(&executable).env("FIXTURE_PROFILED", ""), None);
    // The first run prints the address of the step.
    let address =
        |line: &str| u64::from_str_radix(line.split_once(' ').unwrap().0.trim_start_matches("0x"), 16);
    let step = address(&fixture.run("churn 1")).unwrap();
    let register = Bpftrace::probe(&executable, "thread_register", "@block[tid] = arg0;");
    let script = register + &script(fixture.pid(), step, offset);
    // Readers do not disturb each other.
    let readers = [(); 2].map(|()| Bpftrace::attach(&script, Some(fixture.pid())));
    let before = ran_ns(fixture.pid());
    let line = fixture.run(&format!("churn {MILLISECONDS}"));
    let ran_ns = ran_ns(fixture.pid()) - before;
    let lines = readers.map(Bpftrace::end);
    fixture.end();

    let hex = |text: &str| u128::from_str_radix(text, 16).unwrap();
    let ids: Vec<u128> = line.split_whitespace().skip(1).map(hex).collect();
    let record = |ids: &[u128]| -> Record { [(ids[0] >> 64) as u64, ids[0] as u64, ids[1] as u64] };
    let spans: HashMap<char, Record> = "abcd".chars().zip(ids.chunks_exact(2).map(record)).collect();
    assert_eq!(spans.len(), 4, "{line}");
    assert_eq!((spans[&'a'][0], spans[&'a'][1]), (spans[&'b'][0], spans[&'b'][1]), "one trace");

    for lines in lines {
        let samples = assert_samples_are_right(&format!("{build:?}"), &lines, &spans);
        let due = u64::from(HZ) * ran_ns / 1_000_000_000;
        assert!(samples >= due / 2, "{samples} of {due}; the kernel now allows {:?} Hz", most_hz());
    }
}

/// How long the main thread of the process had a processor.
fn ran_ns(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn most_hz() -> Option<u32> {
    std::fs::read_to_string(MOST_HZ).ok()?.trim().parse().ok()
}

/// Returns how many there were.
fn assert_samples_are_right(build: &str, lines: &[String], spans: &HashMap<char, Record>) -> u64 {
    let (mut samples, mut in_spans, mut changing) = (0, 0, 0);
    for (sample, count) in lines.iter().filter_map(|line| Sample::parse(line)) {
        // Outside of the rounds, or before the reader knew the block.
        if sample.step == 0 || sample.word == 0 {
            continue;
        }
        samples += count;
        in_spans += if sample.check_shown(spans) { count } else { 0 };
        changing += if sample.check_block(spans) { count } else { 0 };
    }
    eprintln!("{build}: {samples} samples, {in_spans} in a span, {changing} amid a change");
    assert!(in_spans > samples / 4, "{in_spans} of {samples}");
    assert!(changing > samples / 1000, "{changing} of {samples}");
    samples
}

#[test]
#[ignore = "deep: twice ten seconds, and an optimised build"]
fn what_a_sampler_finds_is_right_at_each_instruction() {
    // The kernel allows less if samples have taken too long.
    if most_hz().is_none_or(|most| most < HZ) {
        skip(&["samples"]);
    } else if need(&BPFTRACE) && need(&["readelf"]) {
        assert_right(Build::Release);
        assert_right(Build::Debug);
    }
}
