//! The line in which a query is written.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::query::{Query, QueryError};

/// The longest query that can be written here.
const MAX_CHARACTERS: usize = 1_000;

/// A query that is being written.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Editor {
    text: Vec<char>,
    cursor: usize,
    /// What is wrong with it, and where. Empty if nothing is known to be.
    error: Vec<String>,
}

/// What came of a key.
pub(super) enum Edited {
    /// It goes on.
    Going,
    /// The user wants none.
    Cancelled,
    /// The user wants this query, or none.
    Done(Option<Query>, String),
}

impl Editor {
    /// Begins with a query that was asked before.
    pub(super) fn new(text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        Self { cursor: text.len(), text, error: Vec::new() }
    }

    pub(super) fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// The text before the cursor.
    pub(super) fn before_cursor(&self) -> String {
        self.text.iter().take(self.cursor).collect()
    }

    pub(super) fn error(&self) -> &[String] {
        &self.error
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Edited {
        if key.kind == KeyEventKind::Release {
            return Edited::Going;
        }
        let is_control = key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        match key.code {
            KeyCode::Esc => return Edited::Cancelled,
            KeyCode::Char('c' | 'g') if is_control => return Edited::Cancelled,
            KeyCode::Enter => return self.finish(),
            KeyCode::Char('u') if is_control => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
            }
            KeyCode::Char('a') if is_control => self.cursor = 0,
            KeyCode::Char('e') if is_control => self.cursor = self.text.len(),
            KeyCode::Char('w') if is_control => self.remove_word(),
            KeyCode::Char(c) if !is_control => self.insert(c),
            KeyCode::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            KeyCode::Delete if self.cursor < self.text.len() => _ = self.text.remove(self.cursor),
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.text.len()),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            _ => return Edited::Going,
        }
        self.error.clear();
        Edited::Going
    }

    /// Takes text that was pasted.
    pub(super) fn paste(&mut self, text: &str) {
        text.chars().for_each(|c| self.insert(c));
        self.error.clear();
    }

    fn insert(&mut self, c: char) {
        if self.text.len() < MAX_CHARACTERS {
            self.text.insert(self.cursor, if c.is_control() { ' ' } else { c });
            self.cursor += 1;
        }
    }

    fn remove_word(&mut self) {
        let before = &self.text[..self.cursor];
        let end = before.iter().rposition(|c| *c != ' ').map_or(0, |last| last + 1);
        let start = before[..end].iter().rposition(|c| *c == ' ').map_or(0, |space| space + 1);
        self.text.drain(start..self.cursor);
        self.cursor = start;
    }

    fn finish(&mut self) -> Edited {
        let text = self.text();
        if text.trim().is_empty() {
            return Edited::Done(None, String::new());
        }
        match text.parse::<Query>() {
            Ok(query) => Edited::Done(Some(query), text),
            Err(error) => {
                self.error = error_lines(&error, &text);
                Edited::Going
            }
        }
    }
}

/// The query with a line that points at the fault, and what it is.
fn error_lines(error: &QueryError, text: &str) -> Vec<String> {
    let pointer = error.pointer(text);
    pointer.lines().map(str::to_owned).chain([error.to_string()]).collect()
}
