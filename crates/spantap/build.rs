//! Compiles what runs in the kernel, and writes the code that loads it.

fn main() {
    #[cfg(feature = "ebpf")]
    bpf::build();
}

#[cfg(feature = "ebpf")]
mod bpf {
    use std::env::var;
    use std::path::Path;

    use libbpf_cargo::SkeletonBuilder;

    const SOURCE: &str = "src/bpf/spantap.bpf.c";

    #[allow(clippy::panic)] // which is how a build script says that it failed
    pub(super) fn build() {
        println!("cargo::rerun-if-changed=src/bpf");
        let out = var("OUT_DIR").unwrap_or_else(|error| panic!("cargo sets OUT_DIR: {error}"));
        let arch = var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        // Debian has the kernel's asm/ there, where clang doesn't look for the target `bpf`.
        let asm = format!("-I/usr/include/{arch}-linux-gnu");
        let built = SkeletonBuilder::new()
            .source(SOURCE)
            // v3 has the atomics that return what was there.
            .clang_args(["-Wall", "-Werror", "-mcpu=v3", &asm])
            .build_and_generate(Path::new(&out).join("spantap.skel.rs"));
        if let Err(error) = built {
            panic!(
                "{SOURCE} can't be built, which takes clang (apt-get install clang linux-libc-dev): {error:?}"
            );
        }
    }
}
