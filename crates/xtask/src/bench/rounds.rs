//! The times: every variant once in each round, in short runs, so that whatever the machine does
//! meanwhile it does to all of them.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::programs::{self, number};
use super::rows::{BASE, Row, SCENARIOS, Scenario};
use super::stage::Stage;

/// What was measured of a row in a scenario.
#[derive(Default)]
struct Runs {
    /// A time for each round.
    ns: Vec<f64>,
    spans: u64,
    arrived: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Rounds {
    runs: HashMap<(&'static str, &'static str), Runs>,
    /// What the programs complained of, once each.
    pub(crate) complaints: Vec<String>,
}

/// Enough to see that it runs, and how long.
const TRIAL: u64 = 3000;

impl Rounds {
    pub(crate) fn measure(stage: &mut Stage, rounds: usize, run_ms: f64) -> Result<Self> {
        let mut all = Self::default();
        let mut plan: Vec<(&Row, &Scenario, u64)> = Vec::new();
        for row in stage.rows() {
            for scenario in SCENARIOS.iter().take(if row.is_floor { 1 } else { SCENARIOS.len() }) {
                stage.progress(&format!("trying {}, {}", row.name, scenario.name));
                let trial = run(stage, row, scenario, TRIAL)?;
                // It runs without what it could not do, and then it isn't what its name says.
                if let [complaint, ..] = &trial.complaints[..] {
                    stage.leave_out(row, complaint);
                    break;
                }
                // Half of a run may be waiting for the far end.
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
                for complaint in run.complaints {
                    let complaint = format!("{}: {complaint}", row.name);
                    if !all.complaints.contains(&complaint) {
                        all.complaints.push(complaint);
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
        let mut ns = self.of(key, scenario)?.ns.clone();
        ns.sort_by(f64::total_cmp);
        Some((quantile(&ns, 0.5), quantile(&ns, 0.75) - quantile(&ns, 0.25)))
    }

    pub(crate) fn x_base(&self, key: &str, scenario: &Scenario) -> Option<f64> {
        self.each_round([key, BASE], scenario, |[ns, base]| ns / base)
    }

    /// The median of what `f` makes of these rows' times in each round.
    pub(crate) fn each_round<const N: usize>(
        &self,
        keys: [&str; N],
        scenario: &Scenario,
        f: impl Fn([f64; N]) -> f64,
    ) -> Option<f64> {
        let runs: Vec<&Runs> = keys.iter().map(|key| self.of(key, scenario)).collect::<Option<_>>()?;
        let rounds = runs.iter().map(|runs| runs.ns.len()).min()?;
        let mut values: Vec<f64> =
            (0..rounds).map(|round| f(std::array::from_fn(|row| runs[row].ns[round]))).collect();
        values.sort_by(f64::total_cmp);
        Some(quantile(&values, 0.5))
    }

    /// The part of the spans that the far end knows of.
    pub(crate) fn arrived(&self, key: &str, scenario: &Scenario) -> Option<f64> {
        let runs = self.of(key, scenario)?;
        Some(runs.arrived? as f64 / runs.spans as f64)
    }
}

/// One run of the program.
struct Run {
    ns: f64,
    /// With the waits for the far end.
    elapsed_ns: f64,
    spans: u64,
    arrived: Option<u64>,
    complaints: Vec<String>,
}

fn run(stage: &mut Stage, row: &'static Row, scenario: &Scenario, spans: u64) -> Result<Run> {
    let mut command = stage.command("span", row);
    command.args(scenario.arguments).args(["--spans", &spans.to_string()]);
    let said = programs::run(row.name, &mut command)?;
    let spans = said.json["spans"].as_u64().context("span did not say how many it made")?;
    stage.expect_hits(row, spans * row.hits_of_span(scenario));
    Ok(Run {
        ns: number(&said.json, "ns_per_span")?,
        elapsed_ns: number(&said.json, "elapsed_ns_per_span")?,
        spans,
        arrived: said.json["arrived"].as_u64(),
        complaints: said.stderr,
    })
}

/// Between the two values where it falls between two.
pub(crate) fn quantile(sorted: &[f64], at: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = last as f64 * at;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_fall_between_values() {
        let values = [1.0, 2.0, 4.0, 8.0];
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(|at| quantile(&values, at)), [1.0, 3.0, 5.0, 8.0]);
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
    }
}
