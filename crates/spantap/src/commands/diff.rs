//! `spantap diff`: compares two sides, and shows what has changed and why.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::cli::Diff as Options;
use super::failed::Failed;
use crate::diff::{
    Choice, Condition, Diff, Measured, Name, NamesOf, Sides, compare, json, sentence, short, table,
};
use crate::search::Files;
use crate::terminal::{Screen, Stream};
use crate::text::{counted, safe};

/// The most lines about what has changed unevenly.
const MOST_UNEVEN: usize = 10;

/// As that of `diff` and `cmp`.
const DIFFERENT: u8 = 1;

/// Compares.
///
/// # Errors
///
/// When the output fails, or the files are not those of two sides.
pub(super) fn diff(options: &Options) -> Result<ExitCode> {
    show(options).context(Failed("can't compare"))
}

fn show(options: &Options) -> Result<ExitCode> {
    let choice = Choice {
        query: options.query.clone(),
        times_ns: (options.since.unwrap_or(0), options.until.unwrap_or(u64::MAX)),
    };
    let [before, after] = sides(options)?;
    // A pipe can be opened only once.
    let second = if options.at.is_some() { &[] } else { &after[..] };
    let (before_files, after_files) = (Files::open(&before), Files::open(second));
    let sides = match options.at {
        Some(at_ns) => Sides::Split { files: &before_files, at_ns },
        None => Sides::Files { before: &before_files, after: &after_files },
    };
    let found = compare(sides, &choice);
    let failures = failures(&found, &options.fail_on);
    let unknown: BTreeSet<Measured> =
        options.fail_on.iter().filter_map(|condition| condition.not_judged(&found)).collect();
    let (is_unknown, has_failed) = (!unknown.is_empty(), !failures.is_empty());
    let screen = Screen::new(Stream::Stdout, options.color.into());
    let shown = match options.json {
        true => json(&found, &failures, &unknown),
        false => {
            table(&found, &[&before, &after].map(|paths| words(paths)), screen.columns(), screen.colour())
        }
    };
    let mut out = io::stdout().lock();
    match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
        // The reader, such as `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.context("can't write what has changed")?,
    }
    let is_failure = if options.fail_on.is_empty() { found.is_different() } else { has_failed };
    let older = before_files.older().into_iter().chain(after_files.older());
    let mut err = io::stderr().lock();
    let failures = failures.into_iter().map(|failure| format!("failed: {failure}"));
    let unknown = unknown.into_iter().map(|of| {
        format!("{0} was judged in no name, so whether a condition of {0} is met is not known", of.word())
    });
    for line in failures.chain(unknown).chain(report(&found, has_failed)).chain(older) {
        let _ = writeln!(err, "spantap: {}", safe(&line));
    }
    Ok(match () {
        () if found.is_damaged() || found.compared == 0 || is_unknown => Failed::EXIT_CODE.into(),
        () if is_failure => DIFFERENT.into(),
        () => ExitCode::SUCCESS,
    })
}

/// The files of each side. With a time, they are the same.
fn sides(options: &Options) -> Result<[Vec<PathBuf>; 2]> {
    let Options { files, before, after, at, .. } = options;
    match (&files[..], at) {
        ([], Some(_)) => bail!("--at divides files; give at least one"),
        (all, Some(_)) => Ok([all.to_owned(), all.to_owned()]),
        ([], None) if before.is_empty() || after.is_empty() => {
            bail!("give two files, one from before and one from after; or one file and --at TIME")
        }
        ([], None) => Ok([before.clone(), after.clone()]),
        ([one, other], None) => {
            let with = |first: &PathBuf, more: &Vec<PathBuf>| [vec![first.clone()], more.clone()].concat();
            Ok([with(one, before), with(other, after)])
        }
        ([_], None) => {
            bail!("give two files, one from before and one from after; or --at TIME to divide one")
        }
        (more, None) => bail!(
            "which of the {} files are from before? Give two, and name the others with --before and --after",
            more.len()
        ),
    }
}

/// The files as words for a shell.
fn words(paths: &[PathBuf]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    let word = |path: &PathBuf| {
        let path = path.to_string_lossy();
        match path.chars().all(is_plain) && !path.is_empty() {
            true => path.into_owned(),
            false => format!("'{}'", path.replace('\'', "'\\''")),
        }
    };
    safe(&paths.iter().map(word).collect::<Vec<_>>().join(" "))
}

/// A sentence about each change and each name that a condition names.
fn failures(found: &Diff, conditions: &[Condition]) -> Vec<String> {
    let is_named = |change| conditions.iter().any(|condition| condition.matches(change));
    let failures = found.findings.iter().flat_map(|of| {
        let named = of.all_changes().filter(|(_, change)| is_named(change));
        named.map(|(called, change)| sentence(&of.name, called, change))
    });
    // Whatever fails for a while fails.
    let others = found.small.iter().chain(found.uneven_errors()).filter(|of| is_named(&of.change));
    let others = others.map(|of| sentence(&of.name, of.called.as_ref(), &of.change));
    let mut failures: Vec<String> = failures.chain(others).collect();
    for of in conditions.iter().filter_map(Condition::names) {
        let failed = |what: &str, name: &Name| format!("{} {what}", short(name));
        match of {
            NamesOf::New => failures.extend(found.new.iter().map(|of| failed("is new", &of.name))),
            NamesOf::Vanished => {
                failures.extend(found.vanished.iter().map(|of| failed("has vanished", &of.name)));
            }
            NamesOf::TooFew => failures.extend(found.too_few.iter().map(|of| {
                let [before, after] = of.spans.map(|spans| counted(spans, "span", "spans"));
                failed(&format!("has {before} before and {after} after, too few to compare"), &of.name)
            })),
        }
    }
    failures
}

/// What the user has to know beside what has changed.
fn report(found: &Diff, has_failed: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let [before, after] = found.sides.map(|side| counted(side.spans, "span", "spans"));
    let names = |count: usize| counted(count as u64, "name", "names");
    if found.compared == 0 {
        // If no file could be read, the reason says enough.
        if !found.is_damaged() || found.sides.iter().any(|side| side.spans > 0) {
            lines.push(format!(
                "nothing to compare: no name has 20 spans on each side, spread over time, among {before} before and {after} after"
            ));
        }
    } else if !found.is_different() && found.uneven.is_empty() && !has_failed {
        lines.push(format!(
            "no change found in {}, among {before} before and {after} after",
            names(found.compared)
        ));
    }
    for of in found.uneven.iter().take(MOST_UNEVEN) {
        let what = sentence(&of.name, of.called.as_ref(), &of.change);
        lines.push(format!("changed in a part of the time only, or unevenly: {what}"));
    }
    if found.uneven.len() > MOST_UNEVEN {
        let more = counted((found.uneven.len() - MOST_UNEVEN) as u64, "more", "more");
        lines.push(format!("{more} changed in a part of the time only, or unevenly; --json lists them"));
    }
    if !found.too_few.is_empty() && found.compared > 0 {
        lines.push(format!(
            "{} not compared: too few spans, or not spread over time; --json lists them",
            names(found.too_few.len())
        ));
    }
    let mut not_judged: BTreeMap<Measured, usize> = BTreeMap::new();
    for measured in found.not_judged.iter().flat_map(|of| &of.measures) {
        *not_judged.entry(*measured).or_default() += 1;
    }
    if !not_judged.is_empty() {
        let all = not_judged.into_iter().map(|(of, count)| format!("{} in {}", of.word(), names(count)));
        let all = all.collect::<Vec<_>>().join(", ");
        lines.push(format!("not judged, because there is too little to say: {all}; --json lists them"));
    }
    if found.crossing_traces > 0 {
        let traces = counted(found.crossing_traces, "trace", "traces");
        lines.push(format!("{traces} left out: open at the time of --at"));
    }
    if found.left_out_spans > 0 {
        let spans = counted(found.left_out_spans, "span", "spans");
        lines.push(format!(
            "{spans} left out: too many names, or too large a trace; --where chooses some of them"
        ));
    }
    if found.unread_traces > 0 {
        let traces = counted(found.unread_traces, "trace", "traces");
        lines.push(format!("{traces} could not be read again: did a file change? Compare them once more"));
    }
    if found.left_out_calls > 0 {
        let calls = counted(found.left_out_calls, "call", "calls");
        lines.push(format!("{calls} not counted: too many pairs of names call each other"));
    }
    for (side, read) in ["before", "after"].into_iter().zip(&found.read) {
        lines.extend(read.lines().into_iter().map(|line| format!("{side}: {line}")));
    }
    lines
}
