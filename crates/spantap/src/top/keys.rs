//! The keys: what each does, in one table that the program obeys and the help shows. They are those of less and
//! tokio-console where these have them.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Up,
    Down,
    HalfPageUp,
    HalfPageDown,
    PageUp,
    PageDown,
    First,
    Last,
    Left,
    Right,
    Enter,
    Back,
    NextPage,
    PreviousPage,
    Page(usize),
    Invert,
    Pause,
    Window,
    Filter,
    Help,
    Quit,
}

/// A key, as it is written, and what it does.
pub(super) struct Binding {
    pub(super) keys: &'static str,
    pub(super) meaning: &'static str,
}

/// All keys, for the help.
pub(super) const BINDINGS: [Binding; 14] = [
    Binding { keys: "j k ↓ ↑", meaning: "down, up" },
    Binding { keys: "Ctrl-d Ctrl-u", meaning: "half a page down, up" },
    Binding { keys: "PgDn PgUp", meaning: "a page down, up" },
    Binding { keys: "g G Home End", meaning: "to the first, to the last" },
    Binding { keys: "h l ← → i", meaning: "sort by another column, i inverts; in a trace: close, open" },
    Binding { keys: "Enter", meaning: "look closer: the traces of a row, the spans of a trace" },
    Binding { keys: "Esc", meaning: "back; at the top: remove the filter" },
    Binding { keys: "1 to 6, Tab", meaning: "another page" },
    Binding { keys: "/", meaning: "show only spans that a query chooses" },
    Binding { keys: "w", meaning: "the last minute, or since the start" },
    Binding { keys: "Space", meaning: "pause: the screen stays, and spans are still counted" },
    Binding { keys: "?", meaning: "this help" },
    Binding { keys: "q Ctrl-c", meaning: "quit" },
    Binding { keys: "mouse", meaning: "click a row, a title of a column or a page; the wheel scrolls" },
];

/// What a key asks for, if it is bound.
pub(super) fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if is_control => Action::Quit,
        KeyCode::Char('d') if is_control => Action::HalfPageDown,
        KeyCode::Char('u') if is_control => Action::HalfPageUp,
        KeyCode::Char('f') if is_control => Action::PageDown,
        KeyCode::Char('b') if is_control => Action::PageUp,
        KeyCode::Char(_) if is_control => return None,
        KeyCode::Char('k') | KeyCode::Up => Action::Up,
        KeyCode::Char('j') | KeyCode::Down => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Char('g') | KeyCode::Home => Action::First,
        KeyCode::Char('G') | KeyCode::End => Action::Last,
        KeyCode::Char('h') | KeyCode::Left => Action::Left,
        KeyCode::Char('l') | KeyCode::Right => Action::Right,
        KeyCode::Enter => Action::Enter,
        KeyCode::Esc | KeyCode::Backspace => Action::Back,
        KeyCode::Tab => Action::NextPage,
        KeyCode::BackTab => Action::PreviousPage,
        KeyCode::Char(digit @ '1'..='9') => Action::Page(digit as usize - '1' as usize),
        KeyCode::Char('i') => Action::Invert,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('w') => Action::Window,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('?') => Action::Help,
        KeyCode::Char('q') => Action::Quit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_lists_the_keys() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/manual.md");
        let manual = std::fs::read_to_string(path).expect("the manual is in the repository");
        let row = |Binding { keys, meaning }: &Binding| match *keys {
            "mouse" => format!("| mouse | {meaning} |"),
            keys => format!("| `{keys}` | {meaning} |"),
        };
        for row in BINDINGS.iter().map(row) {
            assert!(manual.lines().any(|line| line == row), "docs/manual.md does not have the line {row}");
        }
    }
}
