//! Adds up the self time of spans by their stack: the service, and the names of the span and of its ancestors.
//!
//! The stacks form a tree. A service has a node of its own where spans begin, or where the parent is in another service. Kernel
//! activity has no node: what threads did is in the times of the span, by [`Part`].

use std::collections::HashMap;

use crate::text::{counted, cut, on_one_line};
use crate::trace::{Breakdown, EncodedSpan, Part, Trace};

/// The most nodes. One takes up to 500 bytes, with its name.
const MAX_NODES: usize = 100_000;
/// The most bytes of all stacks, if each is written out.
const MAX_BYTES: usize = 64 << 20;
/// The deepest node. A recursive function may be in a stack any number of times.
const MAX_DEPTH: u32 = 200;
/// Longer names are cut.
const MAX_COLUMNS: usize = 120;

/// The tree of stacks.
pub(super) struct Stacks {
    /// The names as they are shown, each once, and their numbers.
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    /// The first one is above all stacks.
    nodes: Vec<Node>,
    places: HashMap<(u32, u32), u32>,
    bytes: usize,
    /// The services, by the numbers of their names.
    services: HashMap<u32, usize>,
    /// Spans that have no node of their own.
    merged: u64,
}

/// A stack.
#[derive(Debug)]
pub(super) struct Node {
    /// The place of the node below; that of the first node is its own.
    pub(super) parent: u32,
    name: u32,
    service: u32,
    pub(super) depth: u32,
    /// The length of the stack when it is written.
    bytes: usize,
    /// How many spans have this stack.
    pub(super) spans: u64,
    /// Their self time in nanoseconds, by [`Part`].
    ns: [u64; Part::ALL.len()],
}

impl Node {
    /// The self time.
    pub(super) fn self_ns(&self) -> u64 {
        self.parts().fold(0, |sum, (_, ns)| sum.saturating_add(ns))
    }

    /// The parts of the self time.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Part, u64)> {
        Part::ALL.into_iter().filter(|part| *part != Part::Called).map(|part| (part, self.ns[part as usize]))
    }
}

/// The place of the node above which all stacks begin.
const TOP: u32 = 0;

impl Default for Stacks {
    fn default() -> Self {
        let top =
            Node { parent: TOP, name: 0, service: 0, depth: 0, bytes: 0, spans: 0, ns: Default::default() };
        Self {
            names: vec!["all".to_owned()],
            numbers: HashMap::new(),
            nodes: vec![top],
            places: HashMap::new(),
            bytes: 0,
            services: HashMap::new(),
            merged: 0,
        }
    }
}

impl Stacks {
    /// Adds the spans of a trace, with where the time of each goes.
    pub(super) fn add(&mut self, trace: &Trace<EncodedSpan>, breakdowns: &[Option<Breakdown>]) {
        let spans = &trace.spans;
        let places = self.places_of(spans);
        for ((span, breakdown), place) in spans.iter().zip(breakdowns).zip(places) {
            let (Some(breakdown), Some(node)) = (breakdown, self.nodes.get_mut(place as usize)) else {
                continue;
            };
            debug_assert!(!span.is_kernel);
            node.spans += 1;
            for part in Part::ALL {
                let sum = &mut node.ns[part as usize];
                *sum = sum.saturating_add(breakdown.ns(part));
            }
        }
    }

    /// The node of each span. That of kernel activity has no meaning.
    fn places_of(&mut self, spans: &[EncodedSpan]) -> Vec<u32> {
        // If two spans have the same id, the first one is the parent.
        let by_id: HashMap<u64, usize> =
            spans.iter().enumerate().rev().map(|(place, span)| (span.span_id, place)).collect();
        let parent = |place: usize| spans[place].parent_id.and_then(|id| by_id.get(&id)).copied();
        let mut nodes: Vec<Option<u32>> = vec![None; spans.len()];
        let mut is_on_way = vec![false; spans.len()];
        for place in 0..spans.len() {
            // Up to a span whose node is known, or without parent, or that closes a circle; and back from there.
            let (mut way, mut at) = (Vec::new(), Some(place));
            while let Some(up) = at.filter(|up| nodes[*up].is_none() && !is_on_way[*up]) {
                is_on_way[up] = true;
                way.push(up);
                at = parent(up);
            }
            let mut above = at.filter(|up| nodes[*up].is_some());
            for down in way.into_iter().rev() {
                let node = match spans[down].is_kernel {
                    true => TOP,
                    false => {
                        self.node_of(&spans[down], above.map(|up| (&spans[up], nodes[up].unwrap_or(TOP))))
                    }
                };
                nodes[down] = Some(node);
                is_on_way[down] = false;
                above = (!spans[down].is_kernel).then_some(down);
            }
        }
        nodes.into_iter().map(|node| node.unwrap_or(TOP)).collect()
    }

    fn node_of(&mut self, span: &EncodedSpan, above: Option<(&EncodedSpan, u32)>) -> u32 {
        let service = &span.process.service;
        let begin = match above {
            Some((parent, node)) if parent.process.service == *service => Some(node),
            Some((_, node)) => self.service_node(node, service),
            None => self.service_node(TOP, service),
        };
        let node = begin.and_then(|node| {
            let service = self.nodes.get(node as usize)?.service;
            let name = self.number(span.name(), "(no name)")?;
            self.child(node, name, service)
        });
        node.unwrap_or_else(|| {
            self.merged += 1;
            begin.or(above.map(|(_, node)| node)).unwrap_or(TOP)
        })
    }

    fn service_node(&mut self, parent: u32, service: &str) -> Option<u32> {
        let service = self.number(service, "(no service)")?;
        let next = self.services.len();
        self.services.entry(service).or_insert(next);
        self.child(parent, service, service)
    }

    /// The node of a name above another node. `None` if there is no room for it.
    fn child(&mut self, parent: u32, name: u32, service: u32) -> Option<u32> {
        if let Some(place) = self.places.get(&(parent, name)) {
            return Some(*place);
        }
        let of_parent = self.nodes.get(parent as usize)?;
        let (depth, bytes) =
            (of_parent.depth + 1, of_parent.bytes + 1 + self.names.get(name as usize)?.len());
        if depth > MAX_DEPTH || self.nodes.len() >= MAX_NODES || self.bytes + bytes > MAX_BYTES {
            return None;
        }
        self.bytes += bytes;
        let place = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(Node { parent, name, service, depth, bytes, spans: 0, ns: Default::default() });
        self.places.insert((parent, name), place);
        Some(place)
    }

    /// The number of a name, or of `empty` if nothing of it is shown.
    fn number(&mut self, name: &str, empty: &str) -> Option<u32> {
        let mut shown = cut(&on_one_line(name), MAX_COLUMNS);
        if shown.trim().is_empty() {
            shown = empty.to_owned();
        }
        if let Some(number) = self.numbers.get(&shown) {
            return Some(*number);
        }
        if self.names.len() >= MAX_NODES {
            return None;
        }
        let number = u32::try_from(self.names.len()).ok()?;
        self.names.push(shown.clone());
        self.numbers.insert(shown, number);
        Some(number)
    }

    /// The nodes. One comes after the node below it.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The name of a node, safe for a terminal.
    pub(super) fn name(&self, node: &Node) -> &str {
        self.names.get(node.name as usize).map_or("", String::as_str)
    }

    /// The place of a node's service among the services, in the order in which they were found.
    pub(super) fn service(&self, node: &Node) -> usize {
        self.services.get(&node.service).copied().unwrap_or(0)
    }

    /// The time in each node and all above it, in nanoseconds.
    pub(super) fn totals_ns(&self) -> Vec<u64> {
        let mut totals: Vec<u64> = self.nodes.iter().map(Node::self_ns).collect();
        for (place, node) in self.nodes.iter().enumerate().skip(1).rev() {
            let total = totals[place];
            let below = &mut totals[node.parent as usize];
            *below = below.saturating_add(total);
        }
        totals
    }

    /// The nodes above each node, in the order of their names.
    pub(super) fn children(&self) -> Vec<Vec<u32>> {
        let mut children = vec![Vec::new(); self.nodes.len()];
        for (place, node) in (0..).zip(&self.nodes).skip(1) {
            children[node.parent as usize].push(place);
        }
        let name = |place: u32| self.nodes.get(place as usize).map(|node| self.name(node));
        children.iter_mut().for_each(|of| of.sort_by(|one, other| name(*one).cmp(&name(*other))));
        children
    }

    /// A line about spans that have no stack of their own.
    pub(super) fn left_out(&self) -> Option<String> {
        let spans = counted(self.merged, "span", "spans");
        (self.merged > 0).then(|| {
            format!("the stacks are too many or too deep: counted the time of {spans} for their ancestors")
        })
    }
}

/// What threads did, as a frame. Brackets tell it from the name of a span. `None` if nothing is known.
pub(super) fn cause(part: Part) -> Option<&'static str> {
    match part {
        Part::Cpu => Some("[cpu]"),
        Part::RunQueue => Some("[run queue]"),
        Part::Disk => Some("[disk]"),
        Part::Network => Some("[network]"),
        Part::Lock => Some("[lock]"),
        Part::Sleep => Some("[sleep]"),
        Part::Blocked => Some("[blocked]"),
        Part::Idle => Some("[idle]"),
        Part::Own | Part::Called => None,
    }
}
