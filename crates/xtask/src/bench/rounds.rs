//! Measures times. Each variant runs once in each round, and runs are short, so a disturbance of the machine affects
//! all variants alike.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::programs::{self, number};
use super::rows::{BASE, Row, SCENARIOS, Scenario};
use super::stage::Stage;
use super::statistics::{median, median_and_spread};

/// The runs of a row in a scenario.
#[derive(Default)]
struct Runs {
    /// One time per round.
    ns: Vec<f64>,
    spans: u64,
    arrived: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Rounds {
    runs: HashMap<(&'static str, &'static str), Runs>,
    /// Messages of the programs on stderr, each once.
    pub(crate) warnings: Vec<String>,
}

/// Spans of a trial run, which shows that the variant works and how long it takes.
const TRIAL: u64 = 3000;

impl Rounds {
    pub(crate) fn measure(stage: &mut Stage, rounds: usize, run_ms: f64) -> Result<Self> {
        let mut all = Self::default();
        let mut plan: Vec<(&Row, &Scenario, u64)> = Vec::new();
        for row in stage.rows() {
            for scenario in SCENARIOS.iter().take(if row.is_floor { 1 } else { SCENARIOS.len() }) {
                stage.progress(&format!("trying {}, {}", row.name, scenario.name));
                let trial = run(stage, row, scenario, TRIAL)?;
                // A variant that warns runs without some of its work, so its time would be wrong.
                if let [warning, ..] = &trial.warnings[..] {
                    stage.leave_out(row, warning);
                    break;
                }
                // Half of a run may be spent waiting for the receiver.
                let spans = (run_ms * 1e6 / trial.ns.max(trial.elapsed_ns / 2.0)) as u64;
                plan.push((row, scenario, spans.max(TRIAL)));
            }
        }
        for round in 1..=rounds {
            for (row, scenario, spans) in &plan {
                stage.progress(&format!("round {round} of {rounds}: {}, {}", row.name, scenario.name));
                let run = run(stage, row, scenario, *spans)?;
                let runs = all.runs.entry((row.key, scenario.name)).or_default();
                runs.ns.push(run.ns);
                runs.spans += run.spans;
                runs.arrived = run.arrived.map(|new| new + runs.arrived.unwrap_or(0));
                for warning in run.warnings {
                    let warning = format!("{}: {warning}", row.name);
                    if !all.warnings.contains(&warning) {
                        all.warnings.push(warning);
                    }
                }
            }
        }
        Ok(all)
    }

    fn of(&self, key: &str, scenario: &Scenario) -> Option<&Runs> {
        self.runs.iter().find(|((row, of), _)| *row == key && *of == scenario.name).map(|(_, runs)| runs)
    }

    /// The median and the interquartile range.
    pub(crate) fn ns(&self, key: &str, scenario: &Scenario) -> Option<(f64, f64)> {
        Some(median_and_spread(self.of(key, scenario)?.ns.iter().copied()))
    }

    pub(crate) fn x_base(&self, key: &str, scenario: &Scenario) -> Option<f64> {
        self.each_round([key, BASE], scenario, |[ns, base]| ns / base)
    }

    /// The median over the rounds of `f`, applied to the times of these rows.
    pub(crate) fn each_round<const N: usize>(
        &self,
        keys: [&str; N],
        scenario: &Scenario,
        f: impl Fn([f64; N]) -> f64,
    ) -> Option<f64> {
        let runs: Vec<&Runs> = keys.iter().map(|key| self.of(key, scenario)).collect::<Option<_>>()?;
        let rounds = runs.iter().map(|runs| runs.ns.len()).min()?;
        Some(median((0..rounds).map(|round| f(std::array::from_fn(|row| runs[row].ns[round])))))
    }

    /// The part of the spans that the receiver counted.
    pub(crate) fn arrived(&self, key: &str, scenario: &Scenario) -> Option<f64> {
        let runs = self.of(key, scenario)?;
        Some(runs.arrived? as f64 / runs.spans as f64)
    }
}

/// One run of the program.
struct Run {
    ns: f64,
    /// Includes the waits for the receiver.
    elapsed_ns: f64,
    spans: u64,
    arrived: Option<u64>,
    warnings: Vec<String>,
}

fn run(stage: &mut Stage, row: &'static Row, scenario: &Scenario, spans: u64) -> Result<Run> {
    let mut command = stage.command("span", row);
    command.args(scenario.arguments).args(["--spans", &spans.to_string()]);
    let output = programs::run(row.name, &mut command)?;
    let spans = output.json["spans"].as_u64().context("the program printed no number of spans")?;
    stage.expect_hits(row, spans * row.hits_of_span(scenario));
    Ok(Run {
        ns: number(&output.json, "ns_per_span")?,
        elapsed_ns: number(&output.json, "elapsed_ns_per_span")?,
        spans,
        arrived: output.json["arrived"].as_u64(),
        warnings: output.stderr,
    })
}
