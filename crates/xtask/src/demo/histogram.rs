//! bpftrace at the service's `close` probe: the same spans, as the kernel sees them.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::spans::Spans;
use crate::process::{Started, lines};
use crate::setup;
use crate::terminal::{Colour, Terminal};

/// The names whose histograms are shown; there is one for each name.
const SHOWN: [&str; 2] = ["request", "sqlite"];

const ATTACHED: [&str; 2] = ["the first probe is attached", "the last probe is attached"];

pub(crate) struct Bpftrace {
    process: Started,
    output: Receiver<String>,
    errors: JoinHandle<String>,
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

impl Bpftrace {
    /// Starts it and waits until its probes are attached. An error is the reason to do without it.
    pub(crate) fn attach(binary: &Path, root: &Path) -> Result<Self> {
        if !setup::is_root() {
            bail!("bpftrace needs root; run: sudo -E env \"PATH=$PATH\" cargo xtask demo");
        }
        if let [missing, ..] = &setup::ensure(&[setup::BPFTRACE])[..] {
            bail!("{missing}");
        }
        let binary = binary.strip_prefix(root).unwrap_or(binary).display();
        let program = format!("usdt:{binary}:tracing:close {{\n    @us[str(arg1)] = hist(arg2 / 1000); }}");
        // bpftrace attaches in the order of the script: once the first and the last probe fire, the
        // one between them is attached as well.
        let [first, last] =
            ["first", "last"].map(|name| format!("interval:ms:10 /!@{name}/ {{ @{name} = 1; "));
        let script = format!(
            "{first} printf(\"{}\\n\"); }} {program} {last} printf(\"{}\\n\"); }}",
            ATTACHED[0], ATTACHED[1]
        );
        let mut command = Command::new("bpftrace");
        command
            .args(["-B", "line", "-e", &script])
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Started::spawn("bpftrace", &mut command)?;
        let (stdout, stderr) = process.output()?;
        let errors = thread::spawn(|| {
            let mut text = Vec::new();
            let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut bpftrace = Self { process, output: lines(stdout), errors, program };

        let deadline = Instant::now() + Duration::from_secs(30);
        let mut waiting_for = ATTACHED.to_vec();
        while !waiting_for.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match bpftrace.output.recv_timeout(left) {
                Ok(line) => waiting_for.retain(|marker| *marker != line),
                Err(RecvTimeoutError::Timeout) => bail!("bpftrace did not attach within 30 s"),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = bpftrace.process.wait(Duration::from_secs(5))?;
                    bail!("bpftrace could not attach ({status}): {}", bpftrace.last_error());
                }
            }
        }
        Ok(bpftrace)
    }

    /// Stops it, and takes what it prints at the end.
    pub(crate) fn finish(mut self) -> Result<Histograms> {
        self.process.signal(Signal::SIGINT)?;
        let status = self.process.wait(Duration::from_secs(20))?;
        let output: Vec<String> = self.output.iter().collect();
        let maps = parse(&output);
        if maps.is_empty() {
            bail!("bpftrace saw no span ({status}): {}", self.last_error());
        }
        Ok(Histograms { program: self.program, maps })
    }

    /// Of one that has ended.
    fn last_error(self) -> String {
        let errors = self.errors.join().unwrap_or_default();
        let line = errors.lines().rfind(|line| line.contains("ERROR")).or(errors.lines().last());
        line.unwrap_or("it said nothing").to_owned()
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
    spans: &Spans,
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
        "  a span has in the code. bpftrace counted {counted} spans, and {} came as",
        spans.spans.len()
    )?;
    writeln!(out, "  datagrams.")?;
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
