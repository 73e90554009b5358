//! Who a new file belongs to.

use std::fs::File;

use nix::unistd::{Gid, Uid, fchown, geteuid};

/// Gives a new file to the user who runs spantap through `sudo`, if someone does.
pub(crate) fn give_to_user(file: &File) {
    if let Some((user, group)) = sudo_user(geteuid().is_root(), |name| std::env::var(name).ok()) {
        // Some file systems have no owners, and the spans are recorded all the same.
        let _ = fchown(file, Some(user), Some(group));
    }
}

/// The user who runs spantap through `sudo`, and the group.
fn sudo_user(is_root: bool, variable: impl Fn(&str) -> Option<String>) -> Option<(Uid, Gid)> {
    let id = |name| variable(name)?.parse().ok();
    let (user, group) = (id("SUDO_UID")?, id("SUDO_GID")?);
    is_root.then(|| (Uid::from_raw(user), Gid::from_raw(group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_belongs_to_the_user_of_sudo() {
        let sudo = |name: &str| Some(if name == "SUDO_UID" { "1000" } else { "1001" }.to_owned());
        assert_eq!(sudo_user(true, sudo), Some((Uid::from_raw(1000), Gid::from_raw(1001))));
        assert_eq!(sudo_user(false, sudo), None, "another program may set the variables");
        assert_eq!(sudo_user(true, |_| None), None);
        assert_eq!(sudo_user(true, |_| Some("-1".into())), None);
    }
}
