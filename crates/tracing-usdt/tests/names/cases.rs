// How the layer and spantap both name a process: the target of the link `exe`, whether that file exists, the
// first argument, `comm`, and the expected name.
[
    ("/usr/bin/shop", true, "other", "another", "shop"),
    ("/usr/bin/shop", false, "other", "another", "shop"),
    ("/usr/bin/7", true, "other", "another", "7"),
    ("/opt/my shop/the shop", true, "other", "another", "the shop"),
    // The kernel appends " (deleted)", but a file's real name may end so, too.
    ("/usr/bin/shop (deleted)", false, "other", "another", "shop"),
    ("/usr/bin/shop (deleted)", true, "other", "another", "shop (deleted)"),
    ("/usr/bin/shop (deleted) (deleted)", false, "other", "another", "shop (deleted)"),
    // Wrapped by a packager (Nix).
    ("/nix/store/x/bin/.shop-wrapped", true, "other", "another", "shop"),
    ("/nix/store/x/bin/.shop-wrapped__ (deleted)", false, "other", "another", "shop"),
    ("/usr/bin/.-wrapped", true, "other", "another", ".-wrapped"),
    ("/usr/bin/gift-wrapped", true, "other", "another", "gift-wrapped"),
    // A memfd.
    ("/memfd:shop", true, "other", "another", "memfd:shop"),
    ("/memfd:image (deleted)", false, "/usr/bin/the shop", "3", "the shop"),
    ("/memfd:image (deleted)", false, "", "worker", "worker"),
    ("/memfd:image (deleted)", false, "/", "worker", "worker"),
    ("/memfd:image (deleted)", false, "/proc/self/fd/5", "comm", "comm"),
    ("/memfd:image (deleted)", false, "/proc/self/fd/5", "5", "image"),
    ("/memfd:image (deleted)", false, "/dev/fd/5", "memfd:image (de", "image"),
    ("/memfd:by: x (deleted)", false, "", "", "by: x"),
    ("/memfd:runc:/proc/self/exe (deleted)", false, "", "", "exe"),
    ("/memfd: (deleted)", false, "5", "5", ""),
    // A file without a name, by O_TMPFILE.
    ("/tmp/#3935 (deleted)", false, "shop", "5", "shop"),
    // Started by the dynamic loader, which gives it the first argument.
    ("/lib64/ld-linux-x86-64.so.2", true, "./target/shop", "ld-linux-x86-64", "shop"),
    ("/lib/ld-musl-aarch64.so.1", true, "shop", "ld-musl-aarch64", "shop"),
    ("/usr/bin/ld-shop", true, "other", "another", "ld-shop"),
]
