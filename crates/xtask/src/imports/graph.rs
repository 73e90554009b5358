//! The graph of imports between modules, and its faults: imports from a higher part, and circles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::tree::{Module, ModulePath, Reference, Tree};

/// For each module, the imports between its children, each with the source line of one import.
///
/// A child stands for all modules below it. Imports between a module and its own descendants are left out.
pub(super) struct Graph {
    children: BTreeMap<ModulePath, BTreeMap<String, BTreeMap<String, String>>>,
}

impl Graph {
    pub(super) fn of(tree: &Tree, source: &Path) -> Self {
        let mut children: BTreeMap<ModulePath, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
        for way in tree.modules.keys() {
            if let Some((name, parent)) = way.split_last() {
                children.entry(parent.to_vec()).or_default().entry(name.clone()).or_default();
            }
        }
        for (from, module) in &tree.modules {
            for reference in &module.references {
                let Some(to) = resolve(tree, from, reference) else { continue };
                let shared = from.iter().zip(&to).take_while(|(from, to)| from == to).count();
                let (Some(child), Some(other)) = (from.get(shared), to.get(shared)) else { continue };
                let file = reference.file.strip_prefix(source).unwrap_or(&reference.file);
                let location = format!("{}:{}", file.display(), reference.line);
                let of_parent = children.entry(from[..shared].to_vec()).or_default();
                of_parent.entry(child.clone()).or_default().entry(other.clone()).or_insert(location);
            }
        }
        Self { children }
    }

    /// Reports parts that are not listed, listed parts that do not exist, and imports from a higher part.
    pub(super) fn wrong_parts(&self, parts: &[&str]) -> Vec<String> {
        let Some(found) = self.children.get(&ModulePath::new()) else { return Vec::new() };
        let mut faults = Vec::new();
        for part in found.keys().filter(|part| !parts.contains(&part.as_str())) {
            faults.push(format!("the part `{part}` is not in the list of xtask/src/imports.rs"));
        }
        for part in parts.iter().filter(|part| !found.contains_key(**part)) {
            faults.push(format!("there is no part `{part}`, but it is in the list of xtask/src/imports.rs"));
        }
        if !faults.is_empty() {
            faults.push(format!("a possible order of the parts is {:?}", order(found)));
        }
        let height = |part: &str| parts.iter().position(|listed| *listed == part);
        for (part, imports) in found {
            for (from, location) in imports {
                if height(part).is_some_and(|part| height(from).is_some_and(|from| from > part)) {
                    faults.push(format!("{location}: `{part}` imports from `{from}`, which is above it"));
                }
            }
        }
        faults
    }

    /// One line for each circle: the shortest that goes through a child, if no circle before has that child.
    pub(super) fn circles(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (parent, children) in &self.children {
            let mut in_circles = BTreeSet::new();
            for child in children.keys() {
                if in_circles.contains(child) {
                    continue;
                }
                let Some(circle) = circle_from(children, child) else { continue };
                in_circles.extend(circle.iter().cloned());
                let edges = circle.iter().zip(circle.iter().cycle().skip(1));
                let steps: Vec<String> = edges
                    .map(|(child, other)| format!("{child} -> {other} ({})", children[child][other]))
                    .collect();
                let parent = if parent.is_empty() { "the crate".to_owned() } else { parent.join("::") };
                faults.push(format!("a circle in {parent}: {}", steps.join(", ")));
            }
        }
        faults
    }
}

/// The parts, each after the parts from which it imports. Circles are broken where the fewest imports are missing.
fn order(children: &BTreeMap<String, BTreeMap<String, String>>) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    while order.len() < children.len() {
        let left = || children.iter().filter(|(child, _)| !order.contains(&child.as_str()));
        let lacks = |(_, imports): &(&String, &BTreeMap<String, String>)| {
            imports.keys().filter(|import| !order.contains(&import.as_str())).count()
        };
        let Some((next, _)) = left().min_by_key(lacks) else { break };
        order.push(next);
    }
    order
}

/// The shortest circle that begins and ends at `start`.
fn circle_from(children: &BTreeMap<String, BTreeMap<String, String>>, start: &String) -> Option<Vec<String>> {
    let mut routes: Vec<Vec<String>> = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while !routes.is_empty() {
        let mut longer = Vec::new();
        for way in routes {
            for next in children.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next) {
                    longer.push([&way[..], std::slice::from_ref(next)].concat());
                }
            }
        }
        routes = longer;
    }
    None
}

/// The module that defines the item to which a reference leads; none if the item is in another crate.
fn resolve(tree: &Tree, from: &ModulePath, reference: &Reference) -> Option<ModulePath> {
    let (start, rest) = start_of(tree, from, &reference.path)?;
    follow(tree, start, &rest, 0)
}

/// The limit for re-exports of re-exports, so that a circle of them ends.
const MAX_DEPTH: usize = 16;

/// Follows a path from a module through its children and re-exports.
fn follow(tree: &Tree, mut at: ModulePath, path: &[String], depth: usize) -> Option<ModulePath> {
    for (index, segment) in path.iter().enumerate() {
        let child = [&at[..], std::slice::from_ref(segment)].concat();
        if tree.modules.contains_key(&child) {
            at = child;
            continue;
        }
        let rest = &path[index + 1..];
        let module = tree.modules.get(&at)?;
        if let Some(import) = module.imports.get(segment).filter(|_| depth < MAX_DEPTH) {
            // An import from another crate can't be followed; it counts as an item of this module.
            return Some(follow_import(tree, &at, import, rest, depth).unwrap_or(at));
        }
        if !module.items.contains(segment) {
            return Some(follow_globs(tree, &at, module, segment, rest, depth).unwrap_or(at));
        }
        break;
    }
    Some(at)
}

fn follow_import(
    tree: &Tree,
    at: &ModulePath,
    import: &Reference,
    rest: &[String],
    depth: usize,
) -> Option<ModulePath> {
    let path = [&import.path[..], rest].concat();
    let (start, path) = start_of(tree, at, &path)?;
    follow(tree, start, &path, depth + 1)
}

/// Follows a path through `pub use child::*`.
fn follow_globs(
    tree: &Tree,
    at: &ModulePath,
    module: &Module,
    segment: &String,
    rest: &[String],
    depth: usize,
) -> Option<ModulePath> {
    module.globs.iter().filter(|_| depth < MAX_DEPTH).find_map(|glob| {
        let (start, path) = start_of(tree, at, &glob.path)?;
        let target = follow(tree, start, &path, depth + 1)?;
        let target_module = tree.modules.get(&target)?;
        let has_it = target_module.items.contains(segment) || target_module.imports.contains_key(segment);
        let path = [std::slice::from_ref(segment), rest].concat();
        if has_it { follow(tree, target, &path, depth + 1) } else { None }
    })
}

/// The module in which a path starts, and the rest of the path. None if the path leads out of the crate or is a name of
/// the same module.
fn start_of(tree: &Tree, at: &ModulePath, path: &[String]) -> Option<(ModulePath, Vec<String>)> {
    // `self::super::name` is the same as `super::name`.
    let path = match path {
        [first, rest @ ..] if first == "self" && rest.first().is_some_and(|next| next == "super") => rest,
        _ => path,
    };
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    match path.first()?.as_str() {
        "crate" => Some((ModulePath::new(), path[1..].to_vec())),
        "self" => Some((at.clone(), path[1..].to_vec())),
        "super" => Some((at.get(..at.len().checked_sub(supers)?)?.to_vec(), path[supers..].to_vec())),
        first => {
            let is_child = tree.modules.contains_key(&[&at[..], &[first.to_owned()]].concat());
            // The import of a single name was already counted at its `use`.
            let is_import = path.len() > 1 && tree.modules.get(at)?.imports.contains_key(first);
            (is_child || is_import).then(|| (at.clone(), path.to_vec()))
        }
    }
}
