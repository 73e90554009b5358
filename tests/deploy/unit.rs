//! Reads a unit of systemd, as far as these tests need it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::process::Command;

use crate::deployed;

/// The settings of a unit.
pub(crate) struct Unit(Vec<(String, String)>);

impl Unit {
    /// One of those in `deploy/systemd`.
    pub(crate) fn read(name: &str) -> Self {
        let text = read_to_string(deployed("systemd").join(name)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty());
        Self(
            lines
                .map(|line| line.split_once('=').map(|(key, value)| (key.into(), value.into())).unwrap())
                .collect(),
        )
    }

    /// All values of a setting.
    pub(crate) fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| &**value)
    }

    /// The only value of a setting.
    pub(crate) fn value(&self, key: &str) -> &str {
        let values: Vec<&str> = self.values(key).collect();
        assert_eq!(values.len(), 1, "{key}");
        values[0]
    }

    /// The arguments of `ExecStart`, with these values for variables and specifiers.
    pub(crate) fn command(&self, values: &[(&str, &str)]) -> Vec<String> {
        let replace =
            |word: &str| values.iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value));
        self.value("ExecStart").split(' ').map(replace).collect()
    }

    /// The system calls that the unit allows, by the groups of this systemd.
    pub(crate) fn allowed_calls(&self) -> BTreeSet<String> {
        let groups = groups();
        let mut allowed = BTreeSet::new();
        // By systemd.exec(5), these are always allowed.
        add(&groups, "@default", &mut allowed);
        allowed.insert("execve".to_owned());
        for value in self.values("SystemCallFilter") {
            let mut named = BTreeSet::new();
            for name in value.trim_start_matches('~').split(' ') {
                add(&groups, name, &mut named);
            }
            match value.starts_with('~') {
                true => allowed.retain(|call| !named.contains(call)),
                false => allowed.extend(named),
            }
        }
        allowed
    }
}

/// The groups of system calls, with the calls and groups in each.
fn groups() -> BTreeMap<String, Vec<String>> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut group = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.trim() {
            name if name.starts_with('@') && !line.starts_with(' ') => group = name.to_owned(),
            name if name.is_empty() || name.starts_with('#') => {}
            name => groups.entry(group.clone()).or_default().push(name.to_owned()),
        }
    }
    assert!(groups.contains_key("@system-service"), "{groups:?}");
    groups
}

fn add(groups: &BTreeMap<String, Vec<String>>, name: &str, calls: &mut BTreeSet<String>) {
    match groups.get(name) {
        Some(members) => members.iter().for_each(|member| add(groups, member, calls)),
        None => _ = calls.insert(name.to_owned()),
    }
}
