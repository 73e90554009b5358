//! Findings for people, in a terminal.

use super::finding::{Finding, Found};
use crate::text::{counted, grouped, on_one_line, readable, wrap};

/// A finding's lines are indented by this much.
const INDENT: &str = "    ";

/// The most lines of a sentence.
const MOST_LINES: usize = 4;

/// The findings in lines of `columns`. `open` is a command that shows a trace, without its id. All text is safe to print.
pub fn lines(found: &Found, open: &str, columns: usize, is_coloured: bool) -> Vec<String> {
    let bold = |text: String| if is_coloured { format!("\x1b[1m{text}\x1b[0m") } else { text };
    let dim = |text: &str| if is_coloured { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() };
    let all = found.findings.len() + found.more;
    let looked =
        format!("{}, {} together", counted(found.traces, "trace", "traces"), readable(found.total_ns));
    let mut lines = vec![match all {
        0 => format!("no findings in {looked}"),
        _ => format!("{} in {looked}", counted(all as u64, "finding", "findings")),
    }];
    for (index, finding) in found.findings.iter().enumerate() {
        lines.push(String::new());
        let head = format!("{}. {}: {}", index + 1, finding.kind.title(), on_one_line(&finding.service));
        lines.push(bold(crate::text::cut(&head, columns)));
        let room = columns.saturating_sub(INDENT.len()).max(20);
        for text in sentence(finding, found) {
            lines.extend(wrap(&text, room, MOST_LINES).into_iter().map(|line| format!("{INDENT}{line}")));
        }
        if let Some(id) = finding.trace_ids.first() {
            // To be copied, so it is not cut.
            lines.push(format!("{INDENT}{}", dim(&format!("{open} --trace {id:032x}"))));
        }
    }
    if found.more > 0 {
        lines.push(String::new());
        lines.push(format!("and {} more; --json has all", grouped(found.more as u64)));
    }
    lines
}

/// What a finding costs and where it was seen.
fn cost(finding: &Finding, found: &Found) -> String {
    format!(
        "It costs {} in {} of {}, {} of the time of all.",
        readable(finding.cost_ns),
        grouped(finding.traces),
        counted(found.traces, "trace", "traces"),
        share(finding.cost_ns, found.total_ns)
    )
}

/// A share in percent.
fn share(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    match percent {
        p if p < 0.1 => "<0.1%".to_owned(),
        p if p < 9.95 => format!("{p:.1}%"),
        p => format!("{p:.0}%"),
    }
}

/// What happens, why that is certain and what it costs, in one text each.
pub(crate) fn sentence(finding: &Finding, found: &Found) -> [String; 3] {
    // What happens begins with the name of a span.
    let what = format!("{}.", finding.what);
    let mut rest = finding.why.chars();
    let why: String = rest.next().into_iter().flat_map(char::to_uppercase).chain(rest).collect();
    [what, format!("{why}."), cost(finding, found)].map(|text| on_one_line(&text))
}
