//! Draws the lines that lead from a span to its children.

use std::ops::Range;

use crate::trace::tree::{Place, Row};

/// The width of a level, in columns.
const LEVEL: usize = 2;
/// How many levels are replaced by the number of hidden levels.
const NUMBER_LEVELS: usize = 3;

/// The guides in front of rows. Beyond the room, the upper levels are replaced by their number: `…12  │ ├ `.
pub(crate) struct Guides<'a, 'b> {
    rows: &'b [Row<'a>],
    max_levels: usize,
}

impl<'a, 'b> Guides<'a, 'b> {
    /// Guides of about `columns` columns.
    pub(crate) fn new(rows: &'b [Row<'a>], columns: usize) -> Self {
        Self { rows, max_levels: (columns / LEVEL).max(NUMBER_LEVELS + 1) }
    }

    /// The guide before the row's name.
    pub(crate) fn span(&self, index: usize) -> String {
        let mut levels = Vec::new();
        let row = &self.rows[index];
        if row.depth > 0 {
            levels.push(if row.is_last { "└ " } else { "├ " });
        }
        self.guide(row.depth, levels, self.parent(index))
    }

    /// The guide before a further line of the row.
    pub(super) fn below(&self, index: usize) -> String {
        let row = &self.rows[index];
        let levels = vec![if row.has_children { "│ " } else { "  " }];
        self.guide(row.depth + 1, levels, Some(index))
    }

    /// The guide before a line that stands for `rows`, at the level of the highest of them.
    pub(super) fn instead(&self, rows: Range<usize>) -> String {
        let Some(highest) = rows.clone().min_by_key(|&index| self.rows[index].depth) else {
            return String::new();
        };
        let depth = self.rows[highest].depth;
        let has_sibling_after = self.rows.get(rows.end).is_some_and(|row| row.depth >= depth);
        let levels = match depth {
            0 => Vec::new(),
            _ => vec![if has_sibling_after { "├ " } else { "└ " }],
        };
        self.guide(depth, levels, self.parent(highest))
    }

    fn parent(&self, index: usize) -> Option<usize> {
        match self.rows[index].place {
            Place::Child(parent) => Some(parent),
            _ => None,
        }
    }

    /// The guide of `levels`, given from the deepest up, below the stems of `row` and its ancestors.
    fn guide(&self, depth: usize, mut levels: Vec<&str>, row: Option<usize>) -> String {
        let shown = if depth > self.max_levels { self.max_levels - NUMBER_LEVELS } else { depth };
        let mut next = row;
        while let Some(index) = next.filter(|_| levels.len() < shown) {
            let row = &self.rows[index];
            if row.depth > 0 {
                levels.push(if row.is_last { "  " } else { "│ " });
            }
            next = self.parent(index);
        }
        let number = match depth - shown {
            0 => String::new(),
            hidden => format!("{:<1$}", format!("…{hidden} "), NUMBER_LEVELS * LEVEL),
        };
        number + &levels.into_iter().rev().collect::<String>()
    }
}
