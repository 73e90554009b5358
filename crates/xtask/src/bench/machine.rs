//! Describes the machine, because times of different machines can't be compared.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::programs::{self, Programs};

/// Names and values.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or(UNKNOWN);
    vec![
        ("CPU", model.map_or(UNKNOWN.to_owned(), |(_, model)| model.trim().to_owned())),
        ("cores", format!("{}, load {load} at the start", cores())),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("rustc", rustc.unwrap_or(UNKNOWN.to_owned())),
        ("clocksource", read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        ("max_dgram_qlen", read("/proc/sys/net/unix/max_dgram_qlen")),
    ]
}

const UNKNOWN: &str = "unknown";

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or(UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The one-way latency between two cores in nanoseconds; none if there is one core.
pub(crate) fn core_to_core(programs: &Programs) -> Result<Option<f64>> {
    let mut command = programs::command(programs.path("core_latency"));
    Ok(programs::run("core_latency", &mut command)?.json["one_way_ns"].as_f64())
}
