//! Compiles the eBPF programs, and generates the code that loads them.

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

    #[allow(clippy::panic)] // a build script reports failure by panicking
    pub(super) fn build() {
        println!("cargo::rerun-if-changed=src/bpf");
        let out = var("OUT_DIR").unwrap_or_else(|error| panic!("cargo sets OUT_DIR: {error}"));
        let arch = var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        // Debian has the kernel's asm/ in this folder, where clang doesn't look for the target `bpf`.
        let asm = format!("-I/usr/include/{arch}-linux-gnu");
        let built = SkeletonBuilder::new()
            .source(SOURCE)
            // v3 has the atomic operations that return the old value.
            .clang_args(["-Wall", "-Werror", "-mcpu=v3", &asm])
            // None: rustup always has a `rustfmt`, which fails where that component is not installed.
            .rustfmt("/none")
            .build_and_generate(Path::new(&out).join("spantap.skel.rs"));
        if let Err(error) = built {
            panic!(
                "can't build {SOURCE}, which needs clang (apt-get install clang gcc libc6-dev libelf-dev \
                 linux-libc-dev make pkg-config zlib1g-dev): {error:?}"
            );
        }
    }
}
