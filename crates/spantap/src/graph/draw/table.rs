//! A graph as a table, one line for each edge.

use anstyle::{AnsiColor, Style};

use super::super::call_graph::CallGraph;
use super::words::{errors, label};
use crate::text::{cut, duration, grouped, width};

const BOLD: Style = Style::new().bold();
const RED: Style = AnsiColor::Red.on_default();
/// The least width of a column of names.
const LEAST: usize = 12;
const GAP: &str = "  ";

/// The edges as lines of up to `columns` columns: caller, called, calls, errors, average, 95th percentile.
pub fn table(graph: &CallGraph, columns: usize, colour: bool) -> String {
    let labels: Vec<String> = graph.nodes.iter().map(label).collect();
    let label = |place: usize| labels.get(place).map_or("", String::as_str);
    let mut rows = vec![Row {
        names: ["from", "to"].map(str::to_owned),
        figures: ["calls", "errors", "avg", "p95"].map(str::to_owned),
        style: BOLD,
    }];
    rows.extend(graph.edges.iter().map(|edge| Row {
        names: [label(edge.from), label(edge.to)].map(str::to_owned),
        figures: [
            grouped(edge.calls),
            errors(edge),
            duration::column(edge.average_ns),
            duration::column(edge.p95_ns),
        ],
        style: if edge.errors > 0 { RED } else { Style::new() },
    }));
    let figures =
        [0, 1, 2, 3].map(|column| rows.iter().map(|row| width(&row.figures[column])).max().unwrap_or(0));
    let names = [0, 1].map(|column| rows.iter().map(|row| width(&row.names[column])).max().unwrap_or(0));
    let left = columns.saturating_sub(figures.iter().sum::<usize>() + GAP.len() * (figures.len() + 1));
    let names = share_out(names, left.max(2 * LEAST));
    rows.iter().map(|row| row.line(names, figures, colour)).collect()
}

struct Row {
    names: [String; 2],
    figures: [String; 4],
    style: Style,
}

impl Row {
    fn line(&self, names: [usize; 2], figures: [usize; 4], colour: bool) -> String {
        let name = |(text, columns): (&String, usize)| {
            let text = cut(text, columns);
            let blanks = columns.saturating_sub(width(&text));
            text + &" ".repeat(blanks)
        };
        let names: Vec<String> = self.names.iter().zip(names).map(name).collect();
        let figure = |(text, columns): (&String, usize)| " ".repeat(columns - width(text)) + text;
        let figures: Vec<String> = self.figures.iter().zip(figures).map(figure).collect();
        let line = [names, figures].concat().join(GAP);
        let line = line.trim_end();
        match colour {
            true => format!("{}{line}{}\n", self.style, self.style.render_reset()),
            false => format!("{line}\n"),
        }
    }
}

/// The widths of two columns that have `room` together. The narrower one gets what it needs, up to one half.
fn share_out([one, other]: [usize; 2], room: usize) -> [usize; 2] {
    let half = room / 2;
    match () {
        () if one + other <= room => [one, other],
        () if one <= half => [one, room - one],
        () if other <= half => [room - other, other],
        () => [half, half],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_share_the_room() {
        let all = [([5, 9], 20), ([5, 90], 20), ([90, 5], 20), ([90, 90], 20)];
        let widths = all.map(|(widths, room)| share_out(widths, room));
        assert_eq!(widths, [[5, 9], [5, 15], [15, 5], [10, 10]]);
    }
}
