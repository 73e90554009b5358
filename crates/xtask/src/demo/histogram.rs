//! bpftrace at the service's `close` probe: histograms of the same spans.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};

use crate::bpftrace::Bpftrace;
use crate::terminal::{Colour, Terminal};

/// There is a histogram for each span name. The demo shows those of these names.
const SHOWN: [&str; 2] = ["request", "sqlite"];

/// bpftrace at the `close` probe, and its script.
pub(crate) struct Watch {
    bpftrace: Bpftrace,
    program: String,
}

pub(crate) struct Histograms {
    program: String,
    maps: Vec<Map>,
}

impl Histograms {
    /// The number of spans in all histograms.
    pub(crate) fn count(&self) -> usize {
        self.maps.iter().map(Map::count).sum()
    }
}

/// The lines that bpftrace prints for one `@us[name]`.
struct Map {
    name: String,
    lines: Vec<String>,
}

impl Watch {
    /// The error is the reason why there are no histograms.
    pub(crate) fn attach(binary: &Path, root: &Path) -> Result<Self> {
        let binary = binary.strip_prefix(root).unwrap_or(binary).display();
        let program = format!("usdt:{binary}:tracing:close {{\n    @us[str(arg1)] = hist(arg2 / 1000); }}");
        Ok(Self { bpftrace: Bpftrace::attach(&program, root, "demo")?, program })
    }

    pub(crate) fn finish(self) -> Result<Histograms> {
        let output = self.bpftrace.finish()?;
        let maps = parse(&output.lines);
        if maps.is_empty() {
            bail!("bpftrace counted no span ({})", output.end);
        }
        Ok(Histograms { program: self.program, maps })
    }
}

/// The maps in bpftrace's output, which also has empty lines and messages.
fn parse(output: &[String]) -> Vec<Map> {
    let mut maps: Vec<Map> = Vec::new();
    let mut inside = false;
    for line in output {
        let name = line.strip_prefix("@us[").and_then(|line| line.trim_end().strip_suffix("]:"));
        if let Some(name) = name {
            maps.push(Map { name: name.to_owned(), lines: Vec::new() });
        }
        inside = name.is_some() || (inside && line.ends_with('|'));
        if let Some(map) = maps.last_mut().filter(|_| inside && name.is_none()) {
            map.lines.push(line.clone());
        }
    }
    maps
}

impl Map {
    fn count(&self) -> usize {
        // [32, 64)              17 |@@@@@@@@@@                         |
        let counts = self.lines.iter().filter_map(|line| line.split('|').next()?.split_whitespace().last());
        counts.filter_map(|count| count.parse::<usize>().ok()).sum()
    }
}

pub(crate) fn show(
    out: &mut impl Write,
    terminal: Terminal,
    histograms: &Result<Histograms>,
    spans: usize,
) -> Result<()> {
    writeln!(out, "{}", terminal.heading("The same spans, counted by bpftrace at the probe tracing:close"))?;
    let (counted, Histograms { program, maps }) = match histograms {
        Ok(histograms) => (histograms.count(), histograms),
        Err(why) => {
            writeln!(out, "  Skipped: {why:#}")?;
            return Ok(());
        }
    };
    for line in format!("bpftrace -e '{program}'").lines() {
        writeln!(out, "  {}", terminal.paint(Colour::Green, line))?;
    }
    // Not indented, because bpftrace's lines are almost 80 columns wide.
    for map in maps.iter().filter(|map| SHOWN.contains(&map.name.as_str())) {
        writeln!(out, "\n{}", terminal.paint(Colour::Bold, &format!("@us[{}]:", map.name)))?;
        for line in &map.lines {
            writeln!(out, "{line}")?;
        }
    }
    writeln!(
        out,
        "\n  These are {} of {} histograms, in microseconds: one for each span name in the",
        SHOWN.len(),
        maps.len()
    )?;
    writeln!(out, "  code. bpftrace counted {counted} spans, and {spans} reached spantap.")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_the_maps_in_the_output_of_bpftrace() {
        let output = "Attaching 3 probes...\n\n@first: 1\n@last: 1\n\n@us[sqlite]: \n\
            [0]                    3 |@@@       |\n[2K, 4K)              40 |@@@@@@@@@@|\n\n\
            @us[a ]: b]:\n[1]                    1 |@@@@@@@@@@|\nERROR: could not | detach\n";
        let output: Vec<String> = output.lines().map(str::to_owned).collect();
        let maps = parse(&output);
        let seen: Vec<_> = maps.iter().map(|map| (map.name.as_str(), map.lines.len(), map.count())).collect();
        assert_eq!(seen, [("sqlite", 2, 43), ("a ]: b", 1, 1)]);
    }
}
