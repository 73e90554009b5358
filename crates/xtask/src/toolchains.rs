//! The Rust toolchains of the checks. They are pinned, so that a release of Rust breaks no check: new lints appear only
//! with a change of the version here.
//!
//! A toolchain that is installed under another name is used if it has the pinned version. If the pinned version can't be
//! installed, another one replaces it, and the result of the checks notes this.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup;

pub(crate) struct Toolchain {
    /// Its name in rustup.
    name: &'static str,
    /// Another toolchain, used if it has the same version, or as a replacement.
    other: Option<&'static str>,
    components: &'static [&'static str],
    targets: &'static [&'static str],
}

/// The name of the toolchain that runs `cargo xtask`.
const ACTIVE: &str = "";

/// Builds, lints and formats.
pub(crate) const STABLE: Toolchain = Toolchain {
    name: "1.95.0",
    other: Some(ACTIVE),
    components: &["clippy", "rustfmt"],
    targets: &[
        "aarch64-apple-darwin",
        "aarch64-unknown-linux-gnu",
        "riscv64gc-unknown-linux-gnu",
        "wasm32-unknown-unknown",
        "x86_64-pc-windows-msvc",
        "x86_64-unknown-linux-musl",
    ],
};

/// The workspace's `rust-version`.
pub(crate) const OLDEST: Toolchain = Toolchain {
    name: concat!(env!("CARGO_PKG_RUST_VERSION"), ".0"),
    other: None,
    components: &[],
    targets: &[],
};

/// The `rust-version` of spantap, which a test compares.
pub(crate) const OLDEST_FOR_SPANTAP: Toolchain =
    Toolchain { name: "1.88.0", other: None, components: &[], targets: &[] };

/// For Miri, libFuzzer, docs.rs, and a standard library that is built for ThreadSanitizer.
pub(crate) const NIGHTLY: Toolchain = Toolchain {
    name: "nightly-2026-10-30",
    other: Some("nightly"),
    components: &["miri", "rust-src"],
    targets: &[],
};

/// A toolchain that is installed.
pub(crate) struct Installed {
    /// Empty for the active one.
    name: String,
    /// Missing targets.
    lacking: Vec<String>,
    /// Notes for the result: that it has another version.
    pub(crate) notes: Vec<String>,
    /// Messages on targets that could not be installed, with the commands that install them.
    pub(crate) missing: Vec<String>,
}

impl Installed {
    /// The argument with which rustup's `cargo` selects this toolchain.
    pub(crate) fn selector(&self) -> Option<String> {
        (self.name != ACTIVE).then(|| format!("+{}", self.name))
    }

    pub(crate) fn has_target(&self, target: &str) -> bool {
        !self.lacking.iter().any(|lacking| lacking == target)
    }
}

impl Toolchain {
    /// Installs what is missing. The error names what is missing, and the command that installs it.
    pub(crate) fn ensure(&self, root: &Path) -> Result<Installed> {
        let mut notes = Vec::new();
        let name = if let Some(other) = self.other.filter(|other| self.is_version_of(other)) {
            other
        } else if is_installed(self.name) {
            self.name
        } else {
            let arguments = ["toolchain", "install", self.name, "--profile", "minimal", "--no-self-update"];
            match (
                setup::install_with(&format!("Rust {}", self.name), "rustup", &arguments, root),
                self.other,
            ) {
                (Ok(()), _) => self.name,
                (Err(why), Some(other)) if is_installed(other) => {
                    let version = output_of(other, "rustc", &["--version"]).unwrap_or_default();
                    notes.push(format!("{why:#}; {} replaces it and may cause failures", version.trim()));
                    other
                }
                (Err(why), _) => return Err(why),
            }
        };
        let mut installed =
            Installed { name: name.to_owned(), lacking: Vec::new(), notes, missing: Vec::new() };
        for (kind, wanted, prefix) in
            [("component", self.components, ""), ("target", self.targets, "rust-std-")]
        {
            let there = components(name);
            let lacking: Vec<&str> =
                wanted.iter().copied().filter(|wanted| !has(&there, &format!("{prefix}{wanted}"))).collect();
            if lacking.is_empty() {
                continue;
            }
            let of = if name == ACTIVE { Vec::new() } else { vec!["--toolchain", name] };
            let arguments = [&[kind, "add"], &of[..], &lacking[..]].concat();
            let what = format!("{} of Rust {}", lacking.join(", "), self.name);
            if let Err(why) = setup::install_with(&what, "rustup", &arguments, root) {
                if kind == "component" {
                    return Err(why);
                }
                installed.missing.push(format!("{why:#}"));
                installed.lacking = lacking.into_iter().map(str::to_owned).collect();
            }
        }
        Ok(installed)
    }

    /// Whether the toolchain `other` is the same release under another name.
    fn is_version_of(&self, other: &str) -> bool {
        if let Some(date) = self.name.strip_prefix("nightly-") {
            return released(other).is_ok_and(|released| released == date);
        }
        let version = output_of(other, "rustc", &["--version"]).unwrap_or_default();
        version.starts_with(&format!("rustc {} ", self.name))
    }
}

/// The release date of a toolchain, from the manifest that rustup keeps in it.
fn released(toolchain: &str) -> Result<String> {
    let sysroot = output_of(toolchain, "rustc", &["--print", "sysroot"])?;
    let manifest = Path::new(sysroot.trim()).join("lib/rustlib/multirust-channel-manifest.toml");
    let manifest = fs::read_to_string(manifest)?;
    let date = manifest.lines().find_map(|line| line.strip_prefix("date = \"")?.strip_suffix('"'));
    Ok(date.context("the manifest has no date")?.to_owned())
}

fn is_installed(toolchain: &str) -> bool {
    output_of(toolchain, "rustc", &["--version"]).is_ok()
}

/// The installed components of a toolchain. None without rustup: then all count as installed.
fn components(toolchain: &str) -> Option<String> {
    let of = if toolchain == ACTIVE { Vec::new() } else { vec!["--toolchain", toolchain] };
    let arguments = [&["component", "list", "--installed"], &of[..]].concat();
    output("rustup", &arguments).ok()
}

/// Whether a component is in the list, by its name alone or followed by a platform.
fn has(installed: &Option<String>, component: &str) -> bool {
    let is_it = |line: &str| {
        line.strip_prefix(component).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    installed.as_ref().is_none_or(|installed| installed.lines().any(is_it))
}

/// The output of a toolchain's program. rustup does not install a missing toolchain for it.
fn output_of(toolchain: &str, program: &str, arguments: &[&str]) -> Result<String> {
    if toolchain == ACTIVE {
        return output(program, arguments);
    }
    output("rustup", &[&["run", toolchain, program], arguments].concat())
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).env("RUSTUP_AUTO_INSTALL", "0").output();
    let output = output.with_context(|| format!("can't run {program}"))?;
    if !output.status.success() {
        bail!("{program} {} failed", arguments.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_components_with_and_without_a_platform() {
        let installed =
            Some("clippy-x86_64-unknown-linux-gnu\nrust-src\nrust-std-wasm32-unknown-unknown\n".to_owned());
        let found = ["clippy", "rust-src", "rust-std-wasm32-unknown-unknown", "miri", "rust-std-riscv64"];
        assert_eq!(found.map(|component| has(&installed, component)), [true, true, true, false, false]);
    }

    #[test]
    fn spantap_is_checked_with_the_rust_that_it_states() {
        let manifest = include_str!("../../spantap/Cargo.toml");
        let version = OLDEST_FOR_SPANTAP.name.trim_end_matches(".0");
        assert!(manifest.contains(&format!("rust-version = \"{version}\"\n")), "not {version}");
    }

    #[test]
    fn recognises_the_active_toolchain_by_its_version() {
        let version = output("rustc", &["--version"]).expect("rustc");
        let version = version.split(' ').nth(1).expect("a version").to_owned();
        let of = |name| Toolchain { name, other: None, components: &[], targets: &[] };
        assert!(of(version.leak()).is_version_of(ACTIVE));
        assert!(!of("1.0.0").is_version_of(ACTIVE));
    }
}
