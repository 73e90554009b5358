//! Finds ignored tests and checks their reasons. A test that is ignored for any other reason never runs.
//!
//! * `#[ignore = "deep: why"]`, in `tests/`: it takes long, and `cargo xtask test --deep` runs it.
//! * `#[ignore = "a program"]` or `"run by ..."`: it is no test, but a program that another test starts as a process.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::imports::rust_files;

/// The folder of the package whose tests may be deep.
const TESTS: &str = "tests";

/// The names of the test targets with tests of the deep rank.
pub(super) fn deep_tests(root: &Path) -> Result<Vec<String>> {
    let mut targets = BTreeSet::new();
    let mut wrong = Vec::new();
    for folder in [TESTS, "crates", "examples", "benches"] {
        for file in rust_files(&root.join(folder))? {
            let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
            let name = file.strip_prefix(root).unwrap_or(&file);
            for (line, reason) in reasons(&text) {
                match target(name) {
                    Some(target) if reason.starts_with("deep: ") => {
                        targets.insert(target);
                    }
                    _ if reason == "a program" || reason.starts_with("run by ") => {}
                    _ => wrong.push(format!("{}:{line}: {reason:?}", name.display())),
                }
            }
        }
    }
    if !wrong.is_empty() {
        bail!(
            "ignored for an unknown reason, or outside of tests/, so no rank runs it:\n{}",
            wrong.join("\n")
        );
    }
    Ok(targets.into_iter().collect())
}

/// Checks that the manifest of the tests lists all targets. Cargo does not build a file that is not listed.
pub(super) fn all_targets_are_listed(root: &Path) -> Result<()> {
    let folder = root.join(TESTS);
    let manifest =
        fs::read_to_string(folder.join("Cargo.toml")).context("can't read the manifest of the tests")?;
    let mut missing = Vec::new();
    for file in rust_files(&folder)? {
        let file = file.strip_prefix(&folder).unwrap_or(&file);
        let is_target = match file.components().count() {
            1 => true,
            2 => file.ends_with("main.rs"),
            _ => false,
        };
        if is_target && !manifest.lines().any(|line| line == format!("path = \"{}\"", file.display())) {
            missing.push(file.display().to_string());
        }
    }
    if !missing.is_empty() {
        bail!("not in {TESTS}/Cargo.toml, so cargo does not run it: {}", missing.join(", "));
    }
    Ok(())
}

/// The number of each line with `#[ignore]`, and its reason.
fn reasons(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let rest = line.trim_start().strip_prefix("#[ignore")?;
        let reason = rest.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
        Some((index + 1, reason.map_or("", |(reason, _)| reason)))
    })
}

/// The target of a file: `torture` for `tests/torture.rs`, `kernel` for `tests/kernel/time.rs`.
fn target(file: &Path) -> Option<String> {
    let in_tests = file.strip_prefix(TESTS).ok()?;
    let first = Path::new(in_tests.components().next()?.as_os_str());
    Some(first.with_extension("").to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Folder;

    fn marked(file: &str, mark: &str) -> Result<Vec<String>> {
        let folder = Folder::new()?;
        for name in [TESTS, "crates", "examples", "benches"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, format!("    #[test]\n    {mark}\n    fn f() {{}}\n"))?;
        deep_tests(folder.path())
    }

    #[test]
    fn finds_the_targets_of_deep_tests() {
        let deep = "#[ignore = \"deep: a million spans\"]";
        assert_eq!(marked("tests/torture.rs", deep).expect("a known mark"), ["torture"]);
        assert_eq!(marked("tests/kernel/time.rs", deep).expect("a known mark"), ["kernel"]);
    }

    #[test]
    fn programs_of_other_tests_have_no_rank() {
        for mark in ["#[ignore = \"a program\"]", "#[ignore = \"run by another\"]"] {
            assert!(marked("crates/a/tests/b.rs", mark).expect("a known mark").is_empty());
        }
    }

    #[test]
    fn reports_test_files_that_the_manifest_does_not_list() {
        let folder = Folder::new().expect("a folder");
        let tests = folder.path().join(TESTS);
        for file in ["a.rs", "b/main.rs", "b/part.rs", "fixture/src/main.rs", "c.rs"] {
            let file = tests.join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, "").expect("a file");
        }
        let list = |paths: &[&str]| {
            let lines: String = paths.iter().map(|path| format!("path = \"{path}\"\n")).collect();
            fs::write(tests.join("Cargo.toml"), lines).expect("a manifest");
            all_targets_are_listed(folder.path()).map_err(|error| error.to_string())
        };
        assert_eq!(list(&["a.rs", "b/main.rs", "c.rs"]), Ok(()));
        let error = list(&["a.rs"]).expect_err("two are not listed");
        assert!(error.contains("b/main.rs") && error.contains("c.rs") && !error.contains("part"), "{error}");
    }

    #[test]
    fn reports_tests_that_no_rank_runs() {
        for mark in ["#[ignore]", "#[ignore = \"slow\"]"] {
            let error = marked("tests/torture.rs", mark).expect_err("no rank runs it").to_string();
            assert!(error.contains("tests/torture.rs:2: "), "{error}");
        }
        let elsewhere = marked("crates/a/src/b.rs", "#[ignore = \"deep: slow\"]");
        assert!(elsewhere.is_err());
    }
}
