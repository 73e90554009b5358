//! Gets the programs a command needs onto a fresh Debian or Ubuntu, with apt-get as root or through
//! a `sudo` that doesn't ask. Where that can't be, it says which are missing and how to get them.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Uid;

use crate::process::Started;

/// A program, or a file by its whole path, and the Debian packages that bring it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Package {
    pub(crate) program: &'static str,
    pub(crate) packages: &'static [&'static str],
}

/// The C compiler, for SQLite. Whoever can link Rust has one.
pub(crate) const CC: Package = Package { program: "cc", packages: &["gcc", "libc6-dev"] };
pub(crate) const BPFTRACE: Package = Package { program: "bpftrace", packages: &["bpftrace"] };
pub(crate) const VALGRIND: Package = Package { program: "valgrind", packages: &["valgrind"] };

/// What `spantap attach` is built with.
pub(crate) const EBPF: [Package; 6] = [
    CC,
    Package { program: "clang", packages: &["clang"] },
    Package { program: "make", packages: &["make"] },
    Package { program: "pkg-config", packages: &["pkg-config"] },
    Package { program: "/usr/include/libelf.h", packages: &["libelf-dev"] },
    Package { program: "/usr/include/zlib.h", packages: &["zlib1g-dev"] },
];

/// A program that is not there and could not be installed: one line, with the way out.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) package: Package,
    why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sudo = if is_root() { "" } else { "sudo " };
        let packages = self.package.packages.join(" ");
        write!(f, "{} is missing ({});", self.package.program, self.why)?;
        write!(f, " on Debian or Ubuntu: {sudo}apt-get install {packages}")
    }
}

pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Whether `program` is on the PATH, or the file is there.
pub(crate) fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| {
        let file = folder.join(program).metadata();
        file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

/// Installs those of `packages` that are not there, and returns those that still are not.
pub(crate) fn ensure(packages: &[Package]) -> Vec<Missing> {
    let lacking: Vec<Package> =
        packages.iter().filter(|package| !is_there(package.program)).copied().collect();
    if lacking.is_empty() {
        return Vec::new();
    }
    let why = match install(&lacking) {
        Ok(()) => "apt-get installed it, yet it is not on the PATH".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let still = lacking.into_iter().filter(|package| !is_there(package.program));
    still.map(|package| Missing { package, why: why.clone() }).collect()
}

fn install(lacking: &[Package]) -> Result<()> {
    anyhow::ensure!(is_there("apt-get"), "no apt-get to install it with");
    let as_root: &[&str] = match () {
        () if is_root() => &[],
        () if sudo_does_not_ask() => &["sudo", "-n"],
        () => anyhow::bail!("not root, and sudo would ask for a password"),
    };
    let names: Vec<&str> = lacking.iter().flat_map(|package| package.packages).copied().collect();
    eprintln!("installing {} with apt-get ...", names.join(" "));
    let options = ["-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60"];
    let install = [&["install"], &options[..], &names[..]].concat();
    // The package lists of a fresh container are empty.
    apt_get(as_root, &install)
        .or_else(|_| apt_get(as_root, &["update", "-qq"]).and_then(|()| apt_get(as_root, &install)))
}

fn sudo_does_not_ask() -> bool {
    is_there("sudo") && run(&["sudo", "-n", "true"], Duration::from_secs(10)).is_ok()
}

fn apt_get(as_root: &[&str], arguments: &[&str]) -> Result<()> {
    let environment = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let command = [as_root, &environment, arguments].concat();
    run(&command, Duration::from_secs(600)).with_context(|| format!("apt-get {} failed", arguments[0]))
}

/// Runs it without a terminal, silently: what matters is whether it worked.
fn run(command: &[&str], at_most: Duration) -> Result<()> {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = Started::spawn(command[0], &mut process)?.wait(at_most)?;
    anyhow::ensure!(status.success(), "{status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed() {
        assert!(ensure(&[Package { program: "sh", packages: &["no-such-package"] }]).is_empty());
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_brings_it() {
        let package = Package { program: "frob", packages: &["frob-tools", "frob-data"] };
        let text = Missing { package, why: "no network".to_owned() }.to_string();
        assert!(text.starts_with("frob is missing (no network); "), "{text}");
        assert!(text.ends_with("apt-get install frob-tools frob-data"), "{text}");
    }
}
