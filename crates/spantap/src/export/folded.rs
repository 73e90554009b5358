//! Folded stacks, which tools for flame graphs read: `service;span;child 1234`, the self time of these spans in nanoseconds.

use std::io::{self, Write};

use super::stacks::{Stacks, cause};

/// Writes the stacks, sorted by their names. With `causes`, what threads did in the self time is another frame, as far as it is
/// known.
pub(super) fn write(stacks: &Stacks, causes: bool, out: &mut dyn Write) -> io::Result<()> {
    let children = stacks.children();
    let mut stack = String::new();
    // A place, and the length of the stack below it. The first node is below all stacks and in none of them.
    let mut next: Vec<(u32, usize)> = vec![(0, 0)];
    while let Some((place, length)) = next.pop() {
        let Some(node) = stacks.nodes().get(place as usize) else { continue };
        stack.truncate(length);
        if place > 0 {
            if length > 0 {
                stack.push(';');
            }
            stack.push_str(&frame(stacks.name(node)));
        }
        let mut rest_ns = 0u64;
        for (part, ns) in node.parts().filter(|(_, ns)| *ns > 0) {
            match cause(part).filter(|_| causes) {
                Some(cause) => writeln!(out, "{stack};{cause} {ns}")?,
                None => rest_ns = rest_ns.saturating_add(ns),
            }
        }
        if rest_ns > 0 {
            writeln!(out, "{stack} {rest_ns}")?;
        }
        let above = children.get(place as usize).into_iter().flatten();
        next.extend(above.rev().map(|above| (*above, stack.len())));
    }
    Ok(())
}

/// A name as a frame: `;` separates frames.
fn frame(name: &str) -> String {
    name.replace(';', ":")
}
