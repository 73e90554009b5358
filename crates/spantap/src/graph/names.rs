//! The nodes of the graph, and their numbers.

use std::collections::HashMap;

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// A service.
    Service,
    /// A name of a service's spans.
    Span,
}

/// A node of the graph.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Node {
    /// The caller of spans without a parent.
    Outside,
    /// The caller of requests whose parent is in none of the files.
    Unknown,
    /// All nodes that there was no room for.
    Other,
    /// A service, or a name of its spans.
    Named {
        /// The service; may be empty.
        service: String,
        /// The name of the spans; `None` stands for all of the service's spans.
        name: Option<String>,
    },
}

/// The number of a node.
pub(super) type NodeId = u32;

pub(super) const OUTSIDE: NodeId = 0;
pub(super) const UNKNOWN: NodeId = 1;
pub(super) const OTHER: NodeId = 2;
const FIRST: [Node; 3] = [Node::Outside, Node::Unknown, Node::Other];

/// Longer names are cut, and are one node if they begin alike.
const MAX_NAME_BYTES: usize = 1000;

/// Numbers the nodes.
#[derive(Debug)]
pub(super) struct Names {
    nodes: Vec<Node>,
    ids: HashMap<Node, NodeId>,
    most: usize,
}

impl Node {
    pub(super) fn named(service: &str, name: Option<&str>) -> Self {
        Self::Named { service: cut_name(service), name: name.map(cut_name) }
    }
}

/// The text, up to the bytes of which a name is kept.
pub(crate) fn cut_name(text: &str) -> String {
    text[..floor_char_boundary(text, MAX_NAME_BYTES)].to_owned()
}

/// Like `str::floor_char_boundary`, which the oldest supported compiler does not have.
fn floor_char_boundary(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl Names {
    /// Numbers at most `most` nodes with a name. The rest are [`OTHER`].
    pub(super) fn new(most: usize) -> Self {
        Self { nodes: FIRST.into(), ids: HashMap::new(), most }
    }

    pub(super) fn id(&mut self, node: &Node) -> NodeId {
        if let Some(id) = self.ids.get(node) {
            return *id;
        }
        if self.ids.len() >= self.most {
            return OTHER;
        }
        let Ok(id) = NodeId::try_from(self.nodes.len()) else { return OTHER };
        self.nodes.push(node.clone());
        self.ids.insert(node.clone(), id);
        id
    }

    /// The nodes, in the order of their numbers.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_beyond_the_limit_are_one() {
        let mut names = Names::new(2);
        let ids = ["a", "b", "a", "c", "d", "b"].map(|name| names.id(&Node::named(name, None)));
        assert_eq!(ids, [3, 4, 3, OTHER, OTHER, 4]);
        assert_eq!(names.nodes().len(), 5);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let long = format!("a{}", "ü".repeat(5000));
        let Node::Named { service, .. } = Node::named(&long, None) else { unreachable!() };
        assert_eq!(service, format!("a{}", "ü".repeat(499)));
    }
}
