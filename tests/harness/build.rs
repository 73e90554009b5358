//! Builds the fixture in every way in which users build.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

/// How the fixture is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Build {
    /// Unoptimised.
    Debug,
    /// Optimised.
    Release,
    /// The fastest: fat LTO and one codegen unit, where functions are most likely to be copied.
    Fastest,
    /// The smallest: `opt-level = "z"`, fat LTO, one codegen unit, `panic = "abort"`, stripped.
    Smallest,
    /// Optimised, linked by GNU ld instead of the toolchain's default.
    Bfd,
    /// Optimised, at a fixed address.
    NoPie,
    /// Optimised, static glibc.
    StaticGlibc,
    /// Optimised, static musl.
    Musl,
    /// Optimised, with the layer's feature `tracing-opentelemetry`, which any crate in a build may enable.
    WithOpentelemetry,
    /// Optimised, for another processor.
    Aarch64,
}

/// The artifact of a build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Linkage {
    /// The executable.
    Executable,
    /// The C library, loaded by Python.
    Cdylib,
}

impl Build {
    /// The builds that run on any Linux on x86-64 with nothing but Rust and binutils.
    pub const EVERYWHERE: [Self; 5] = [Self::Debug, Self::Release, Self::Smallest, Self::Bfd, Self::NoPie];

    /// Builds the fixture with `pad` additional strings in the executable's read-only data, and returns the path of a
    /// copy for the calling test.
    pub fn path(self, linkage: Linkage, pad: usize) -> PathBuf {
        // All builds share a target folder, and so their dependencies. Each build replaces the program of
        // another.
        let target_dir = workspace().join("target/fixtures");
        std::fs::create_dir_all(&target_dir).unwrap();
        let one_at_a_time = std::fs::File::create(target_dir.join("lock")).unwrap();
        let _one = Flock::lock(one_at_a_time, FlockArg::LockExclusive).unwrap();
        let mut cargo = cargo();
        cargo.current_dir(workspace()).args(["rustc", "--quiet", "--locked", "--package", "fixture"]);
        cargo.arg("--target-dir").arg(&target_dir).env("FIXTURE_PAD", pad.to_string());
        match linkage {
            Linkage::Executable => cargo.args(["--bin", "fixture"]),
            Linkage::Cdylib => cargo.arg("--lib"),
        };
        self.configure(&mut cargo);
        if linkage == Linkage::Executable {
            // What a user of `with_thread_context` adds. Nothing else depends on it.
            if !cargo.get_args().any(|arg| arg == "--") {
                cargo.arg("--");
            }
            cargo.args(["-C", "link-arg=-Wl,--export-dynamic-symbol=otel_thread_ctx_v1"]);
        }
        let output = cargo.output().unwrap_or_else(|e| panic!("can't run cargo: {e}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "building {self:?} failed:\n{stderr}");

        let mut folder = target_dir.clone();
        folder.extend(self.triple());
        folder.push(if self == Self::Debug { "debug" } else { "release" });
        let built = match linkage {
            Linkage::Executable => folder.join("fixture"),
            Linkage::Cdylib => folder.join("libfixture.so"),
        };
        // Consumers attach to a file and see all of its processes, so each test has its own copy.
        let test = std::thread::current().name().unwrap_or("main").replace("::", "-"); // bpftrace reads no colon
        let name = built.file_name().unwrap().to_string_lossy().into_owned();
        let copy = target_dir.join(format!("tests/{self:?}/{test}-{pad}-{name}"));
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        // Another process writes the copy. If this one did, a child of another test could inherit the
        // descriptor, and the file would be busy.
        let copied = Command::new("cp").arg("--remove-destination").arg(&built).arg(&copy).status().unwrap();
        assert!(copied.success(), "cp {} {}: {copied}", built.display(), copy.display());
        copy
    }

    fn triple(self) -> Option<&'static str> {
        match self {
            Self::StaticGlibc => Some("x86_64-unknown-linux-gnu"),
            Self::Musl => Some("x86_64-unknown-linux-musl"),
            Self::Aarch64 => Some("aarch64-unknown-linux-gnu"),
            _ => None,
        }
    }

    fn configure(self, cargo: &mut Command) {
        if self != Self::Debug {
            cargo.arg("--release");
        }
        if let Some(triple) = self.triple() {
            cargo.args(["--target", triple]);
        }
        match self {
            Self::Debug | Self::Release | Self::Musl => cargo,
            Self::WithOpentelemetry => cargo.args(["--features", "opentelemetry"]),
            Self::Fastest => {
                cargo.env("CARGO_PROFILE_RELEASE_LTO", "fat").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            }
            Self::Smallest => cargo
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z")
                .env("CARGO_PROFILE_RELEASE_LTO", "fat")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
                .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
                .env("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
            Self::Bfd => cargo.args(["--", "-C", "link-arg=-fuse-ld=bfd"]),
            // Only for the executable: a library must be relocatable.
            Self::NoPie => cargo.args(["--", "-C", "relocation-model=static"]),
            Self::StaticGlibc => cargo.env("RUSTFLAGS", "-C target-feature=+crt-static"),
            Self::Aarch64 => {
                cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
            }
        };
    }
}

/// cargo, for a build that the variables of the test's own build do not affect.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy().into_owned();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name == "RUSTFLAGS" {
            cargo.env_remove(variable);
        }
    }
    cargo
}

pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
