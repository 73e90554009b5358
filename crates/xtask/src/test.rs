//! `cargo xtask test`: installs what the checks need, runs them, and lists what was skipped.
//!
//! There are two ranks. The quick rank is for each change: at most 8 minutes on two cores once all is built. `--deep`
//! runs the same checks, and also checks that take long (`deep`). A test in `tests/` has the deep rank if it is marked
//! `#[ignore = "deep: why"]`.
//!
//! Under `CI=true` a check that can't run fails. The following is only noted, also under CI:
//!
//! * Another version of Rust replaced a pinned one, so the checks do not depend on Rust's servers.
//! * The list of known vulnerabilities could not be fetched.
//! * A test was skipped because of something that `TRACING_USDT_LACKS` lists, such as `linux:6.18`.
//! * A test needs swap, and the kernel was built without it.
//! * A test was repeated because the kernel did not report everything.

mod bpf;
mod deep;
mod marks;
mod steps;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::imports;
use crate::process::Folder;
use crate::setup::{self, Package, is_there};
use crate::toolchains::{OLDEST, OLDEST_FOR_SPANTAP, STABLE};
use crate::workspace;
use steps::Steps;

const PACKAGES: [Package; 14] = [
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
    Package { program: "dot", packages: &["graphviz"] },
    Package { program: "setpriv", packages: &["util-linux"] },
    Package { program: "strace", packages: &["strace"] },
    Package { program: "systemd-analyze", packages: &["systemd"] },
    Package { program: "rsvg-convert", packages: &["librsvg2-bin"] },
];

/// Installed by itself: Ubuntu has no package of this name, and one that is missing would keep all others from being installed.
const PERF: Package = Package { program: "perf", packages: &["linux-perf"] };

/// A browser, likewise: Ubuntu has it as a snap only. GitHub's machines have it.
const CHROMIUM: Package = Package { program: "chromium", packages: &["chromium"] };

/// The version of an OpenTelemetry collector, as a Python package; the tests read the same file.
const ROTEL: &str = include_str!("../../../tests/harness/rotel.version");

/// The version of DuckDB, likewise.
const DUCKDB: &str = include_str!("../../../tests/harness/duckdb.version");

/// The version of chDB's engine, which is ClickHouse, likewise.
const CHDB: &str = include_str!("../../../tests/harness/chdb.version");

/// The version of the schemas of Kubernetes, likewise.
const KUBERNETES_VALIDATE: &str = include_str!("../../../tests/harness/kubernetes_validate.version");

/// The version of the exporters of OpenTelemetry's SDK for Python, likewise.
const OPENTELEMETRY: &str = include_str!("../../../tests/harness/opentelemetry.version");

/// The folder for tools that are no Debian packages. Each has a subfolder with its version, so a changed version is
/// installed anew.
const TOOLS: &str = "target/tools";

/// The libraries must compile for these targets, though the layer does nothing on most of them.
const CHECKED_TARGETS: [&str; 4] = [
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
    "wasm32-unknown-unknown",
    "riscv64gc-unknown-linux-gnu",
];

/// The crates that applications depend on, as arguments of cargo.
const LIBRARIES: [&str; 6] =
    ["--package", "tracing-usdt", "--package", "tracing-usdt-attributes", "--package", "tracing-usdt-tower"];

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Rank {
    Quick,
    Deep,
}

pub(crate) fn run(rank: Rank) -> Result<()> {
    let root = workspace()?;
    let folder = Folder::new()?;
    let mut steps = Steps::new(&root, folder.path());

    _ = steps.own("imports", || imports::check(&root))?;
    let deep_tests = steps.own("ranks of the tests", || {
        marks::all_targets_are_listed(&root)?;
        marks::deep_tests(&root)
    })?;

    steps.heading("set-up")?;
    for packages in [&PACKAGES[..], &[PERF], &[CHROMIUM]] {
        setup::ensure(packages).iter().for_each(|missing| steps.skip(missing.to_string()));
    }
    let missing = setup::ensure(&setup::EBPF);
    missing.iter().for_each(|missing| steps.skip(missing.to_string()));
    let ebpf: &[&str] = if missing.is_empty() { &["--features", "spantap/ebpf"] } else { &[] };
    // Without the pinned toolchain, the checks run with the active one.
    if let Some(stable) = steps.toolchain(&STABLE) {
        steps.default = Some(stable);
    }
    let oldest = steps.toolchain(&OLDEST);
    let oldest_for_spantap = steps.toolchain(&OLDEST_FOR_SPANTAP);
    python_package(&mut steps, "rotel", ROTEL, "rotel/rotel-agent", &[]);
    python_package(&mut steps, "duckdb", DUCKDB, "duckdb/__init__.py", &[]);
    // Without pandas and pyarrow, which take 300 MB: the tests ask for rows as text.
    python_package(&mut steps, "chdb-core", CHDB, "chdb/__init__.py", &["--no-deps"]);
    let file = "kubernetes_validate/__init__.py";
    python_package(&mut steps, "kubernetes-validate", KUBERNETES_VALIDATE, file, &[]);
    python_package(&mut steps, "opentelemetry-exporter-otlp", OPENTELEMETRY, "opentelemetry/sdk", &[]);

    steps.cargo("formatting", &["fmt", "--all", "--check"])?;
    let args = ["clippy", "--workspace", "--all-targets", "--locked"];
    steps.cargo("clippy", &[&args[..], ebpf, &DENY_WARNINGS].concat())?;
    let args = ["clippy", "--all-targets", "--all-features", "--locked"];
    steps.cargo("clippy, with all features", &[&args[..], &LIBRARIES, &DENY_WARNINGS].concat())?;
    let args = ["doc", "--workspace", "--no-deps", "--locked"];
    steps.cargo("documentation", &[&args[..], ebpf].concat())?;
    for target in CHECKED_TARGETS {
        if !steps.has_target(target) {
            continue;
        }
        // clippy can deny warnings without a rebuild of all dependencies.
        let args = ["clippy", "--all-features", "--locked", "--target", target];
        let args = [&args[..], &LIBRARIES, &DENY_WARNINGS].concat();
        steps.cargo(&format!("compiles for {target}"), &args)?;
    }
    if is_there("clang") {
        _ = steps.own("eBPF programs, for each processor", || bpf::compile(&root))?;
    } else {
        steps.skip("without clang, the eBPF programs are not compiled for each processor".to_owned());
    }
    let published = published(&root)?;
    let mut published: Vec<&str> = published.iter().flat_map(|name| ["--package", name]).collect();
    if missing.is_empty() {
        published.push("--all-features");
    }
    if let Some(oldest) = &oldest {
        let args = ["check", "--all-features", "--locked", "--target-dir", "target/oldest-rust"];
        let args = [&args[..], &LIBRARIES].concat();
        steps.cargo_by(oldest, "compiles with the oldest Rust", &args, &[("RUSTFLAGS", "-D warnings")])?;
    }
    if let Some(oldest) = &oldest_for_spantap {
        let check = ["check", "--package", "spantap", "--locked", "--target-dir", "target/oldest-rust"];
        let env = [("RUSTFLAGS", "-D warnings")];
        if !ebpf.is_empty() {
            let step = "spantap compiles with its oldest Rust";
            steps.cargo_by(oldest, step, &[&check[..], ebpf].concat(), &env)?;
        }
        // What only the eBPF side uses must not be there without it. Few dependencies are compiled again.
        steps.cargo_by(oldest, "spantap compiles with its oldest Rust, without eBPF", &check, &env)?;
    }
    if rank == Rank::Deep {
        deep::run(&mut steps, &published)?;
    }
    // The tests run last, so that their output is next to the result.
    let workspace = ["test", "--workspace", "--locked", "--no-fail-fast"];
    // The libraries are tested once, with all their features. The end-to-end tests use them with the default ones.
    let others = LIBRARIES.map(|arg| if arg == "--package" { "--exclude" } else { arg });
    steps.cargo("tests", &[&workspace[..], ebpf, &others].concat())?;
    let args = ["test", "--all-features", "--locked", "--no-fail-fast"];
    steps.cargo("tests of the libraries, with all features", &[&args[..], &LIBRARIES].concat())?;
    // Without target names, cargo would run all ignored tests, also those that other tests start as programs.
    if let Some(deep_tests) = deep_tests.filter(|tests| rank == Rank::Deep && !tests.is_empty()) {
        let targets: Vec<&str> = deep_tests.iter().flat_map(|name| ["--test", name]).collect();
        let args = [&workspace[..], ebpf, &targets, &["--", "--ignored"]].concat();
        steps.cargo("tests of the deep rank", &args)?;
    }
    steps.conclude()
}

/// The crates that will be published: all in `crates` except this one.
fn published(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("crates")).context("can't read crates")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != env!("CARGO_PKG_NAME") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Installs a Python package in the folder where the tests look for `file` of it.
fn python_package(steps: &mut Steps, name: &str, version: &str, file: &str, options: &[&str]) {
    let package = format!("{name}=={}", version.trim());
    let folder = steps.root.join(TOOLS).join(&package);
    if !folder.join(file).exists() {
        let folder = folder.to_string_lossy().into_owned();
        let args = [&["install", "--quiet", "--target", &folder], options, &[&package]].concat();
        _ = steps.install(name, "pip3", &args);
    }
}
