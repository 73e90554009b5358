//! Compiles spantap's eBPF programs for each processor that they run on, with warnings as errors. spantap's build script
//! compiles them only for the processor that spantap is built for.
//!
//! The types of the kernel are those that the sources declare themselves: whether a kernel for arm64 has them is not checked.

use std::env::consts::ARCH;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{Folder, Started, capture};

const TIMEOUT: Duration = Duration::from_secs(5 * 60);

const SOURCE: &str = "crates/spantap/src/bpf/spantap.bpf.c";

/// The names that libbpf's headers have for the processors.
const PROCESSORS: [&str; 2] = ["x86", "arm64"];

/// The package with libbpf, whose headers the programs use, and where it has them.
const LIBBPF: &str = "libbpf-sys";
const HEADERS: &str = "libbpf/src";

pub(super) fn compile(root: &Path) -> Result<()> {
    let folder = Folder::new()?;
    // The programs include <bpf/...>.
    symlink(libbpf(root)?.join(HEADERS), folder.path().join("bpf"))?;
    for processor in PROCESSORS {
        let object = folder.path().join(format!("{processor}.o"));
        // As in spantap's build script, and what libbpf-cargo adds there: what is changed there must be changed here.
        let mut clang = Command::new("clang");
        clang.args(["-Wall", "-Werror", "-mcpu=v3", "-g", "-O2", "-fno-stack-protector", "-target", "bpf"]);
        clang.arg(format!("-D__TARGET_ARCH_{processor}"));
        // The `asm` of any processor: what the programs need of it is the same everywhere.
        clang.arg(format!("-I/usr/include/{ARCH}-linux-gnu")).arg("-I").arg(folder.path());
        clang.arg("-c").arg(SOURCE).arg("-o").arg(object).current_dir(root);
        let status = Started::spawn("clang", &mut clang)?.wait(TIMEOUT)?;
        ensure!(
            status.success(),
            "{SOURCE} does not compile for {processor} ({status}); see clang's messages above"
        );
    }
    Ok(())
}

/// The folder of the version in Cargo.lock.
fn libbpf(root: &Path) -> Result<PathBuf> {
    let platform = format!("{ARCH}-unknown-linux-gnu");
    let args =
        ["metadata", "--format-version", "1", "--locked", "--features", "spantap/ebpf", "--filter-platform"];
    let printed = capture(Command::new("cargo").args(args).arg(platform).current_dir(root), TIMEOUT)
        .context("`cargo metadata` failed")?;
    let metadata: Value =
        serde_json::from_str(&printed).context("can't read what `cargo metadata` printed")?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let package = packages.find(|package| package["name"] == LIBBPF);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.with_context(|| format!("spantap does not depend on {LIBBPF}"))?;
    Ok(Path::new(manifest).with_file_name(""))
}
