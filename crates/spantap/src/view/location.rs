//! Shortens source locations. `tracing` uses the location as the name of an event, so it is all there is to show of an
//! event without a message.

/// Folders that contain packages.
const PACKAGES: [&str; 3] = ["registry/src/", "git/checkouts/", "vendor/"];

/// Folders in a package.
const IN_A_PACKAGE: [&str; 5] = ["src", "tests", "examples", "benches", "library"];

/// The location in the name that `tracing` gives to an event: `event src/main.rs:12`.
pub(super) fn of_event(name: &str) -> Option<&str> {
    let location = name.strip_prefix("event ")?;
    let (path, line) = location.rsplit_once(':')?;
    let is_location =
        path.ends_with(".rs") && !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    is_location.then_some(location)
}

/// The path from its package on: `tokio-1.40.0/src/runtime/mod.rs:12`.
pub(super) fn short(location: &str) -> String {
    let path = location.replace('\\', "/");
    for (index, folder) in PACKAGES.iter().enumerate() {
        let Some(at) = path.rfind(&format!("/{folder}")) else { continue };
        let below = &path[at + 1 + folder.len()..];
        return match (index, below.split_once('/')) {
            // The first folder is the registry's.
            (0, Some((_, package))) => package.to_owned(),
            // The first folder is the repository's name with a hash, the second one is the revision.
            (1, Some((name, rest))) => {
                let name = name.rsplit_once('-').map_or(name, |(name, _)| name);
                format!("{name}/{}", rest.split_once('/').map_or(rest, |(_, path)| path))
            }
            _ => below.to_owned(),
        };
    }
    let is_absolute = path.starts_with('/') || path.get(1..3) == Some(":/");
    if !is_absolute {
        return path;
    }
    let parts: Vec<&str> = path.split('/').collect();
    // Starts at the package, the parent of a folder such as src; without one, at the last folder.
    let folder = parts.iter().rposition(|part| IN_A_PACKAGE.contains(part));
    let start = folder.unwrap_or(parts.len().saturating_sub(1)).saturating_sub(1);
    parts[start..].join("/").trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_tracing_generates_are_locations() {
        assert_eq!(of_event("event src/main.rs:12"), Some("src/main.rs:12"));
        assert_eq!(of_event("event C:\\shop\\src\\main.rs:12"), Some("C:\\shop\\src\\main.rs:12"));
        for name in [
            "event",
            "event ",
            "event of the day",
            "event src/main.rs",
            "event src/main.rs:",
            "src/main.rs:12",
            "event at 12:30",
            "event main.rs:x",
        ] {
            assert_eq!(of_event(name), None, "{name}");
        }
    }

    #[test]
    fn a_path_is_shown_from_its_package_on() {
        for (path, expected) in [
            (
                "/home/ada/.cargo/registry/src/index-1949cf8c6b5b557f/tokio-1.40.0/src/runtime/mod.rs:12",
                "tokio-1.40.0/src/runtime/mod.rs:12",
            ),
            ("/usr/local/cargo/registry/src/mirror.example-0f/old-0.1.0/lib.rs:1", "old-0.1.0/lib.rs:1"),
            ("/home/ada/.cargo/git/checkouts/h2-4b1f/9f1e2a3/src/frame.rs:7", "h2/src/frame.rs:7"),
            ("/build/shop/vendor/hyper-1.4.1/src/body.rs:3", "hyper-1.4.1/src/body.rs:3"),
            (
                "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/std/src/thread.rs:9",
                "std/src/thread.rs:9",
            ),
            ("/home/ada/shop/crates/api/src/main.rs:12", "api/src/main.rs:12"),
            ("/home/ada/shop/tests/orders.rs:12", "shop/tests/orders.rs:12"),
            (
                "C:\\Users\\ada\\.cargo\\registry\\src\\index-1949\\mio-1.0.0\\src\\poll.rs:5",
                "mio-1.0.0/src/poll.rs:5",
            ),
            ("C:\\shop\\src\\main.rs:5", "shop/src/main.rs:5"),
            ("/opt/build.rs:5", "opt/build.rs:5"),
            ("/main.rs:5", "main.rs:5"),
            ("src/main.rs:12", "src/main.rs:12"),
            ("crates/api/src/main.rs:12", "crates/api/src/main.rs:12"),
            ("/src/main.rs:12", "src/main.rs:12"),
        ] {
            assert_eq!(short(path), expected, "{path}");
        }
    }
}
