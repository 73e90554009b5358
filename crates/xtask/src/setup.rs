//! Installs the programs that a command needs on Debian or Ubuntu, with apt-get as root or through a `sudo` that asks for
//! no password. If that is not possible, reports which programs are missing and how to install them.
//!
//! Each installation, also by other modules, is announced first. With `--no-install` nothing is installed.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::unistd::Uid;

use crate::process::capture;

/// Long enough for a slow network.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

static INSTALLS: AtomicBool = AtomicBool::new(true);

/// Disables all installations that follow, for `--no-install`.
pub(crate) fn disable_installs() {
    INSTALLS.store(false, Ordering::Relaxed);
}

/// Announces and runs a command that installs `what`. The error names what is missing and the command that installs it.
pub(crate) fn install_with(what: &str, program: &str, arguments: &[&str], folder: &Path) -> Result<()> {
    let command = format!("{program} {}", arguments.join(" "));
    anyhow::ensure!(
        INSTALLS.load(Ordering::Relaxed),
        "{what} is missing (--no-install); to install it: {command}"
    );
    eprintln!("installing {what}: {command}");
    let installed = capture(Command::new(program).args(arguments).current_dir(folder), TIMEOUT);
    installed.map(drop).map_err(|why| anyhow!("{what} is missing: `{command}` failed ({why:#})"))
}

/// A program, or the absolute path of a file, and the Debian packages that contain it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Package {
    pub(crate) program: &'static str,
    pub(crate) packages: &'static [&'static str],
}

/// The C compiler, for SQLite. It is usually installed, because Rust needs it to link.
pub(crate) const CC: Package = Package { program: "cc", packages: &["gcc", "libc6-dev"] };
pub(crate) const BPFTRACE: Package = Package { program: "bpftrace", packages: &["bpftrace"] };
pub(crate) const VALGRIND: Package = Package { program: "valgrind", packages: &["valgrind"] };

/// The programs and libraries that build `spantap attach`.
pub(crate) const EBPF: [Package; 6] = [
    CC,
    Package { program: "clang", packages: &["clang"] },
    Package { program: "make", packages: &["make"] },
    Package { program: "pkg-config", packages: &["pkg-config"] },
    Package { program: "/usr/include/libelf.h", packages: &["libelf-dev"] },
    Package { program: "/usr/include/zlib.h", packages: &["zlib1g-dev"] },
];

/// A program that is missing and could not be installed. Displayed as one line with the command that installs it.
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

/// Whether `program` is on the PATH, or is the absolute path of a file that exists.
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

/// Installs missing packages, and returns those that are still missing.
pub(crate) fn ensure(packages: &[Package]) -> Vec<Missing> {
    let lacking: Vec<Package> =
        packages.iter().filter(|package| !is_there(package.program)).copied().collect();
    if lacking.is_empty() {
        return Vec::new();
    }
    let why = match install(&lacking) {
        Ok(()) => "apt-get installed it, but it is not on the PATH".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let still = lacking.into_iter().filter(|package| !is_there(package.program));
    still.map(|package| Missing { package, why: why.clone() }).collect()
}

fn install(lacking: &[Package]) -> Result<()> {
    anyhow::ensure!(INSTALLS.load(Ordering::Relaxed), "--no-install");
    anyhow::ensure!(is_there("apt-get"), "there is no apt-get to install it");
    let as_root: &[&str] = match () {
        () if is_root() => &[],
        () if sudo_does_not_ask() => &["sudo", "-n"],
        () => anyhow::bail!("not root, and sudo would ask for a password"),
    };
    let names: Vec<&str> = lacking.iter().flat_map(|package| package.packages).copied().collect();
    eprintln!("missing: {}", names.join(" "));
    // The package lists of a fresh container are empty.
    let all = with_dependencies(&names)
        .or_else(|_| apt_get(as_root, &["update", "-qq"]).and_then(|()| with_dependencies(&names)))?;
    eprintln!("apt-get installs {} packages: {}", all.len(), all.join(" "));
    let options = ["-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60"];
    apt_get(as_root, &[&["install"], &options[..], &names[..]].concat())
}

/// The packages that apt-get would install. Changes nothing.
fn with_dependencies(names: &[&str]) -> Result<Vec<String>> {
    let mut simulation = Command::new("apt-get");
    simulation.args(["install", "--simulate", "--no-install-recommends", "-o", "Debug::NoLocking=true"]);
    Ok(installed_by(&capture(simulation.args(names), TIMEOUT)?))
}

/// The packages in what `apt-get --simulate` prints.
fn installed_by(simulation: &str) -> Vec<String> {
    let names = simulation.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    names.map(str::to_owned).collect()
}

fn sudo_does_not_ask() -> bool {
    is_there("sudo") && capture(Command::new("sudo").args(["-n", "true"]), Duration::from_secs(10)).is_ok()
}

fn apt_get(as_root: &[&str], arguments: &[&str]) -> Result<()> {
    let environment = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let command = [as_root, &environment, arguments].concat();
    let run = capture(Command::new(command[0]).args(&command[1..]), TIMEOUT);
    run.map(drop).with_context(|| format!("apt-get {} failed", arguments[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_nothing_that_is_present() {
        assert!(ensure(&[Package { program: "sh", packages: &["no-such-package"] }]).is_empty());
    }

    #[test]
    fn reads_the_packages_from_a_simulation_of_apt_get() {
        let text = "Reading package lists...\nThe following NEW packages will be installed:\n  gdb libc6-dbg\n\
            Inst libc6-dbg (2.36-9 Debian:12/stable [amd64])\nInst gdb [12.1-3] (13.1-3 Debian:12/stable [amd64])\n\
            Conf gdb (13.1-3 Debian:12/stable [amd64])\n";
        assert_eq!(installed_by(text), ["libc6-dbg", "gdb"]);
    }

    #[test]
    fn a_missing_program_is_named_with_the_command_that_installs_it() {
        let package = Package { program: "frob", packages: &["frob-tools", "frob-data"] };
        let text = Missing { package, why: "no network".to_owned() }.to_string();
        assert!(text.starts_with("frob is missing (no network); "), "{text}");
        assert!(text.ends_with("apt-get install frob-tools frob-data"), "{text}");
    }
}
