//! bpftrace at the service's `close` probe: the same spans, as the kernel sees them.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};

use crate::bpftrace::Bpftrace;
use crate::terminal::{Colour, Terminal};

/// The names whose histograms are shown; there is one for each name.
const SHOWN: [&str; 2] = ["request", "sqlite"];

/// bpftrace at the `close` probe, with the program it runs.
pub(crate) struct Watch {
    bpftrace: Bpftrace,
    program: String,
}

pub(crate) struct Histograms {
    program: String,
    maps: Vec<Map>,
}

/// What bpftrace prints of one `@us[name]`.
struct Map {
    name: String,
    lines: Vec<String>,
}

impl Watch {
    /// An error is the reason to do without it.
    pub(crate) fn attach(binary: &Path, root: &Path) -> Result<Self> {
        let binary = binary.strip_prefix(root).unwrap_or(binary).display();
        let program = format!("usdt:{binary}:tracing:close {{\n    @us[str(arg1)] = hist(arg2 / 1000); }}");
        Ok(Self { bpftrace: Bpftrace::attach(&program, root, "demo")?, program })
    }

    pub(crate) fn finish(self) -> Result<Histograms> {
        let output = self.bpftrace.finish()?;
        let maps = parse(&output.lines);
        if maps.is_empty() {
            bail!("bpftrace saw no span ({})", output.end);
        }
        Ok(Histograms { program: self.program, maps })
    }
}

/// The maps in bpftrace's output, which also holds empty lines and whatever else it has to say.
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
    writeln!(out, "{}", terminal.heading("The same by bpftrace, from the probe tracing:close"))?;
    let Histograms { program, maps } = match histograms {
        Ok(histograms) => histograms,
        Err(why) => {
            writeln!(out, "  Skipped: {why:#}")?;
            return Ok(());
        }
    };
    for line in format!("bpftrace -e '{program}'").lines() {
        writeln!(out, "  {}", terminal.paint(Colour::Green, line))?;
    }
    // Not indented, because bpftrace's lines are just short of 80 columns.
    for map in maps.iter().filter(|map| SHOWN.contains(&map.name.as_str())) {
        writeln!(out, "\n{}", terminal.paint(Colour::Bold, &format!("@us[{}]:", map.name)))?;
        for line in &map.lines {
            writeln!(out, "{line}")?;
        }
    }
    let counted: usize = maps.iter().map(Map::count).sum();
    writeln!(
        out,
        "\n  These are {} of {} histograms, in microseconds; one for each name that",
        SHOWN.len(),
        maps.len()
    )?;
    writeln!(
        out,
        "  a span has in the code. bpftrace counted {counted} spans, and {spans} came to spantap."
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_maps_are_taken_from_the_output_of_bpftrace() {
        let output = "Attaching 3 probes...\n\n@first: 1\n@last: 1\n\n@us[sqlite]: \n\
            [0]                    3 |@@@       |\n[2K, 4K)              40 |@@@@@@@@@@|\n\n\
            @us[a ]: b]:\n[1]                    1 |@@@@@@@@@@|\nERROR: could not | detach\n";
        let output: Vec<String> = output.lines().map(str::to_owned).collect();
        let maps = parse(&output);
        let seen: Vec<_> = maps.iter().map(|map| (map.name.as_str(), map.lines.len(), map.count())).collect();
        assert_eq!(seen, [("sqlite", 2, 43), ("a ]: b", 1, 1)]);
    }
}
