//! `cargo xtask test`: sets up what the checks need, runs all of them, and says what was skipped.
//!
//! Under `CI=true` a check that can't run has failed.

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{Folder, Started, clear_up_on_signals};
use crate::setup::{self, Package};
use crate::terminal::{Colour, Terminal};

const PACKAGES: [Package; 10] = [
    setup::CC,
    setup::BPFTRACE,
    setup::VALGRIND,
    Package { program: "gdb", packages: &["gdb"] },
    Package { program: "readelf", packages: &["binutils"] },
    Package { program: "python3", packages: &["python3"] },
    Package { program: "pip3", packages: &["python3-pip"] },
    Package {
        program: "aarch64-linux-gnu-gcc",
        packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    },
    Package { program: "qemu-aarch64-static", packages: &["qemu-user-static"] },
    Package { program: "ip", packages: &["iproute2"] },
];

/// An OpenTelemetry collector, as a Python package.
const ROTEL: &str = "rotel==0.0.1a15";

/// What drives libFuzzer.
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";

/// Where programs of our own installing go.
const TOOLS: &str = "target/tools";

/// Where the layer must compile, though it does nothing on most of them.
const CHECKED_TARGETS: [&str; 4] = [
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
    "wasm32-unknown-unknown",
    "riscv64gc-unknown-linux-gnu",
];

/// Where it also runs, in the end-to-end tests.
const RUN_TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-gnu"];

/// The workspace's `rust-version`.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Of Miri, and of a standard library that ThreadSanitizer watches too.
const NIGHTLY: &str = "nightly";

/// What threads share, as far as Miri can run it: it has no sockets, and takes its time.
const MIRI_TESTS: [&str; 4] = ["ring::", "spans::", "process::", "callsite::"];

/// A check may hang, but not for ever.
const AT_MOST: Duration = Duration::from_secs(30 * 60);

pub(crate) fn run() -> Result<()> {
    clear_up_on_signals()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().with_context(|| format!("{} is gone", root.display()))?;
    let folder = Folder::new()?;
    let mut checks = Checks {
        root,
        skips: folder.path().join("skipped"),
        terminal: Terminal::of_stdout(),
        done: Vec::new(),
        skipped: Vec::new(),
    };

    checks.heading("set-up")?;
    checks.skipped.extend(setup::ensure(&PACKAGES).iter().map(ToString::to_string));
    let missing = setup::ensure(&setup::EBPF);
    checks.skipped.extend(missing.iter().map(ToString::to_string));
    let ebpf: &[&str] = if missing.is_empty() { &["--features", "spantap/ebpf"] } else { &[] };
    for target in CHECKED_TARGETS.iter().chain(&RUN_TARGETS) {
        checks.rustup(&["target", "add", target])?;
    }
    let toolchain = format!("{OLDEST}.0");
    let has_oldest = checks.rustup(&["toolchain", "install", &toolchain, "--profile", "minimal"])?;
    let args = ["toolchain", "install", NIGHTLY, "--profile", "minimal"];
    let has_nightly =
        checks.rustup(&[&args[..], &["--component", "miri", "--component", "rust-src"]].concat())?;

    checks.rotel()?;

    checks.cargo("formatting", &["fmt", "--all", "--check"])?;
    let deny = ["--", "-D", "warnings"];
    let args = ["clippy", "--workspace", "--all-targets", "--locked"];
    checks.cargo("clippy", &[&args[..], ebpf, &deny].concat())?;
    let args = ["clippy", "--package", "spantap", "--all-targets", "--locked"];
    checks.cargo("clippy, without eBPF", &[&args[..], &deny].concat())?;
    let args = ["clippy", "--package", "tracing-usdt", "--all-targets", "--all-features", "--locked"];
    checks.cargo("clippy, with all features", &[&args[..], &deny].concat())?;
    let args = ["doc", "--workspace", "--no-deps", "--locked"];
    checks.cargo("documentation", &[&args[..], ebpf].concat())?;
    for target in CHECKED_TARGETS {
        // As clippy, because it can be told to deny warnings without building all anew.
        let args = ["clippy", "--package", "tracing-usdt", "--locked", "--target", target];
        let args = [&args[..], &deny].concat();
        checks.cargo(&format!("compiles for {target}"), &args)?;
    }
    if has_oldest {
        let oldest = format!("+{toolchain}");
        let published = ["--package", "tracing-usdt", "--package", "spantap"];
        let args = [&*oldest, "check", "--locked", "--target-dir", "target/oldest-rust"];
        let args = [&args[..], &published].concat();
        checks.cargo(&format!("compiles with Rust {OLDEST}"), &args)?;
    }
    // Optimised is what takes the time, and not what the other tests depend on.
    let optimised =
        ["loom", "generator", "tracing-usdt"].map(|of| format!("profile.dev.package.{of}.opt-level=3"));
    let args =
        ["test", "--package", "tracing-usdt", "--locked", "--lib", "model", "--target-dir", "target/loom"];
    let config = optimised.iter().flat_map(|of| ["--config", of]);
    let args: Vec<&str> = args.into_iter().chain(config).collect();
    checks.cargo_with("a model of the hand-off, by loom", &args, &[("RUSTFLAGS", "--cfg loom")])?;
    if has_nightly {
        checks.watched()?;
    }
    if has_nightly && checks.cargo_fuzz()? {
        checks.fuzzed()?;
    }
    let args = ["test", "--workspace", "--locked", "--no-fail-fast"];
    checks.cargo("tests", &[&args[..], ebpf].concat())?;
    let args = ["test", "--package", "tracing-usdt", "--all-features", "--locked", "--no-fail-fast"];
    checks.cargo("tests, with all features", &args)?;
    // Of what the tests have built: to optimise it takes four minutes.
    let demo = ["run", "--quiet", "--package", "xtask", "--locked", "--", "demo", "--debug"];
    checks.cargo("demo", &demo)?;
    checks.conclude()
}

struct Checks {
    root: PathBuf,
    /// Tests append a line here for each that they skip.
    skips: PathBuf,
    terminal: Terminal,
    done: Vec<(String, bool, Duration)>,
    skipped: Vec<String>,
}

impl Checks {
    fn heading(&self, name: &str) -> Result<()> {
        Ok(writeln!(stdout(), "{}", self.terminal.heading(name))?)
    }

    /// Runs a check; whether it passed is said at the end, so that one run finds all that fail.
    fn cargo(&mut self, name: &str, args: &[&str]) -> Result<()> {
        self.cargo_with(name, args, &[])
    }

    /// Tests as two that watch every access to memory see them.
    fn watched(&mut self) -> Result<()> {
        let nightly = format!("+{NIGHTLY}");
        let of_layer = ["test", "--package", "tracing-usdt", "--locked", "--lib"];
        let miri = [&[&*nightly, "miri"], &of_layer[..], &["--target-dir", "target/miri", "--"], &MIRI_TESTS]
            .concat();
        // Few cases: it is slow, and what it finds is not in the values.
        let env = [("MIRIFLAGS", "-Zmiri-disable-isolation"), ("PROPTEST_CASES", "2")];
        self.cargo_with("memory, by Miri", &miri, &env)?;
        let more = ["--test", "background", "--test", "stacks", "--target-dir", "target/tsan"];
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let std = ["-Zbuild-std", "--target", &host];
        let tsan = [&[&*nightly], &of_layer[..], &more, &std].concat();
        let known = self.root.join("crates/tracing-usdt/tests/tsan-suppressions.txt");
        let options = format!("suppressions={}", known.display());
        let env = [
            ("RUSTFLAGS", "-Zsanitizer=thread"),
            ("TSAN_OPTIONS", &*options),
            ("PROPTEST_CASES", "16"), // as above
        ];
        self.cargo_with("races, by ThreadSanitizer", &tsan, &env)
    }

    /// Whatever a stranger may send, for a short while. Unoptimised and without sanitizers, because
    /// with them building takes longer than fuzzing; `decode.rs` says how to have them.
    fn fuzzed(&mut self) -> Result<()> {
        let folder = self.root.join("target/fuzz-corpus");
        fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        // What is found goes to the first corpus, not to the one that is kept.
        let corpora = ["target/fuzz-corpus", "crates/spantap/fuzz/corpus/decode"];
        let nightly = format!("+{NIGHTLY}");
        let run = [&*nightly, "fuzz", "run", "--fuzz-dir", "crates/spantap/fuzz", "--dev"];
        let options = ["--sanitizer", "none", "--target-dir", "target/fuzz", "decode"];
        let args = [&run[..], &options, &corpora, &["--", "-max_total_time=20", "-max_len=20000"]].concat();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}/bin:{path}", self.root.join(TOOLS).display());
        let env = [("PATH", &*path), ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")];
        self.cargo_with("spantap's decoder, by libFuzzer", &args, &env)
    }

    fn cargo_with(&mut self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
        self.heading(name)?;
        let start = Instant::now();
        // By name, which is rustup's proxy: a check may want another toolchain.
        let mut cargo = Command::new("cargo");
        cargo.args(args).envs(env.iter().copied()).current_dir(&self.root);
        cargo.env("RUSTDOCFLAGS", "-D warnings").env("TRACING_USDT_SKIPS", &self.skips);
        let status = Started::spawn(name, &mut cargo)?.wait(AT_MOST)?;
        self.done.push((name.to_owned(), status.success(), start.elapsed()));
        Ok(())
    }

    /// Whether rustup has, or could get, what it is asked for.
    fn rustup(&mut self, args: &[&str]) -> Result<bool> {
        self.set_up("rustup", args)
    }

    /// Puts the collector where the tests look for it.
    fn rotel(&mut self) -> Result<bool> {
        let folder = self.root.join("target/rotel");
        if folder.join("rotel/rotel-agent").exists() {
            return Ok(true);
        }
        let folder = folder.to_string_lossy().into_owned();
        self.set_up("pip3", &["install", "--quiet", "--target", &folder, ROTEL])
    }

    fn cargo_fuzz(&mut self) -> Result<bool> {
        if self.root.join(TOOLS).join("bin/cargo-fuzz").exists() {
            return Ok(true);
        }
        self.set_up("cargo", &["install", "--quiet", "--locked", "--root", TOOLS, CARGO_FUZZ])
    }

    fn set_up(&mut self, program: &str, args: &[&str]) -> Result<bool> {
        let command = format!("{program} {}", args.join(" "));
        let output = Command::new(program).args(args).current_dir(&self.root).output();
        let why = match output {
            Ok(output) if output.status.success() => return Ok(true),
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                stderr.lines().last().unwrap_or("no reason given").to_owned()
            }
            Err(error) => error.to_string(),
        };
        self.skipped.push(format!("`{command}` failed ({why}), and what needs it was not checked"));
        Ok(false)
    }

    fn conclude(mut self) -> Result<()> {
        let by_tests = fs::read_to_string(&self.skips).unwrap_or_default();
        self.skipped.extend(by_tests.lines().map(str::to_owned));

        self.heading("result")?;
        let mut out = stdout().lock();
        for (name, passed, took) in &self.done {
            let (mark, colour) = if *passed { ("passed", Colour::Green) } else { ("FAILED", Colour::Red) };
            let mark = self.terminal.paint(colour, mark);
            writeln!(out, "  {mark}  {:>6.1} s  {name}", took.as_secs_f64())?;
        }
        for line in &self.skipped {
            writeln!(out, "  {}", self.terminal.paint(Colour::Red, line))?;
        }
        if self.skipped.is_empty() {
            writeln!(out, "  nothing was skipped")?;
        }
        let failed: Vec<&str> =
            self.done.iter().filter(|(_, passed, _)| !passed).map(|(name, ..)| &**name).collect();
        if !failed.is_empty() {
            bail!("{} failed", failed.join(", "));
        }
        let ci = std::env::var("CI").is_ok_and(|ci| !matches!(&*ci, "" | "0" | "false"));
        if !self.skipped.is_empty() && ci {
            bail!("under CI nothing may be skipped");
        }
        Ok(())
    }
}
