//! The lines that lead from a span to its children.

use std::ops::Range;

use crate::trace::tree::{Place, Row};

/// Columns of a level.
const LEVEL: usize = 2;
/// Levels that the number of those left out takes the place of.
const FOR_NUMBER: usize = 3;

/// Guides in front of rows, not deeper than there is room for: `…12  │ ├ `.
pub(super) struct Guides<'a, 'b> {
    rows: &'b [Row<'a>],
    most_levels: usize,
}

impl<'a, 'b> Guides<'a, 'b> {
    /// In about so many columns.
    pub(super) fn new(rows: &'b [Row<'a>], columns: usize) -> Self {
        Self { rows, most_levels: (columns / LEVEL).max(FOR_NUMBER + 1) }
    }

    /// Before the row's name.
    pub(super) fn span(&self, index: usize) -> String {
        let mut levels = Vec::new();
        let row = &self.rows[index];
        if row.depth > 0 {
            levels.push(if row.is_last { "└ " } else { "├ " });
        }
        self.guide(row.depth, levels, self.parent(index))
    }

    /// Before a line that belongs to the row.
    pub(super) fn below(&self, index: usize) -> String {
        let row = &self.rows[index];
        let levels = vec![if row.has_children { "│ " } else { "  " }];
        self.guide(row.depth + 1, levels, Some(index))
    }

    /// Before a line in place of some rows: where the highest of them would be.
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

    /// `levels` from the deepest up, and the stems of `row` and its ancestors.
    fn guide(&self, depth: usize, mut levels: Vec<&str>, row: Option<usize>) -> String {
        let shown = if depth > self.most_levels { self.most_levels - FOR_NUMBER } else { depth };
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
            hidden => format!("{:<1$}", format!("…{hidden} "), FOR_NUMBER * LEVEL),
        };
        number + &levels.into_iter().rev().collect::<String>()
    }
}
