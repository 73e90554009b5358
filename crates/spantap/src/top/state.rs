//! What the user does: which page is shown, what is selected, and what a key or the mouse changes. It draws nothing and
//! reads nothing, so that tests can press keys.

use std::sync::Arc;

use ratatui::crossterm::event::{Event, KeyEvent, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::data::{Data, Wanted};
use super::editor::{Edited, Editor};
use super::keys::{Action, action};
use super::list::Place;
use super::model::{Kept, SeriesName, Window};
use super::sort::{SeriesColumn, Sort, TraceColumn};
use super::waterfall::Waterfall;
use crate::findings::Finding;
use crate::query::Query;

/// The lines that a turn of the mouse's wheel scrolls.
const WHEEL: isize = 3;

/// The pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Page {
    Spans,
    Traces,
    Open,
    Services,
    Losses,
    Findings,
}

impl Page {
    pub(super) const ALL: [Self; 6] =
        [Self::Spans, Self::Traces, Self::Open, Self::Services, Self::Losses, Self::Findings];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Spans => "Spans",
            Self::Traces => "Traces",
            Self::Open => "Open",
            Self::Services => "Services",
            Self::Losses => "Losses",
            Self::Findings => "Findings",
        }
    }
}

/// What is shown instead of the page.
#[derive(Debug)]
pub(super) enum Above {
    Trace(Box<Waterfall>),
    Help,
}

/// What the program has to do after a key.
#[derive(Debug)]
pub(super) enum Effect {
    None,
    Quit,
    /// Count only the spans that this query chooses.
    Choose(Option<Query>),
    /// Copy the data again.
    Copy,
}

/// Where things are on the screen, for the mouse.
#[derive(Default, Debug)]
pub(super) struct Areas {
    pub(super) pages: Vec<(Rect, Page)>,
    pub(super) series_columns: Vec<(Rect, SeriesColumn)>,
    pub(super) trace_columns: Vec<(Rect, TraceColumn)>,
    /// The rows of the list, and the item in the first of them.
    pub(super) rows: (Rect, usize),
}

/// What the user sees.
#[derive(Debug)]
pub(super) struct State {
    pub(super) page: Page,
    pub(super) above: Option<Above>,
    pub(super) editor: Option<Editor>,
    pub(super) query: Option<(Query, String)>,
    /// The traces of this series only.
    pub(super) series: Option<SeriesName>,
    pub(super) window: Window,
    pub(super) is_paused: bool,
    pub(super) sort: (Sort<SeriesColumn>, Sort<TraceColumn>),
    pub(super) spans: Place<SeriesName>,
    pub(super) traces: Place<u128>,
    pub(super) findings: Place<FindingName>,
    /// The first line on the screen, of a page without a selection.
    pub(super) from: usize,
    pub(super) areas: Areas,
    /// The rows of a page.
    pub(super) page_lines: usize,
}

impl State {
    pub(super) fn new(window: Window) -> Self {
        Self {
            page: Page::Spans,
            above: None,
            editor: None,
            query: None,
            series: None,
            window,
            is_paused: false,
            sort: (Sort::by(SeriesColumn::P95), Sort::by(TraceColumn::Duration)),
            spans: Place::default(),
            traces: Place::default(),
            findings: Place::default(),
            from: 0,
            areas: Areas::default(),
            page_lines: 10,
        }
    }

    pub(super) fn wanted(&self) -> Wanted<'_> {
        let query = self.query.as_ref().map(|(query, _)| query);
        Wanted { window: self.window, query, series: self.series.as_ref() }
    }

    /// Puts new data in order.
    pub(super) fn arrange(&mut self, data: &mut Data) {
        if let Some((query, _)) = self.query.as_ref().filter(|(query, _)| query.asks_only_names()) {
            data.keep_rows(query);
        }
        data.sort(self.sort.0, self.sort.1);
        self.spans.follow(&series(data));
        self.traces.follow(&ids(data));
        self.findings.follow(&findings(data));
    }

    pub(super) fn event(&mut self, event: &Event, data: &mut Data) -> Effect {
        match event {
            Event::Key(key) => self.key(*key, data),
            Event::Mouse(mouse) => self.mouse(*mouse, data),
            Event::Paste(text) => {
                self.editor.iter_mut().for_each(|editor| editor.paste(text));
                Effect::None
            }
            _ => Effect::None,
        }
    }

    fn key(&mut self, key: KeyEvent, data: &mut Data) -> Effect {
        if let Some(editor) = &mut self.editor {
            match editor.key(key) {
                Edited::Going => return Effect::None,
                Edited::Cancelled => self.editor = None,
                Edited::Done(query, text) => return self.choose(query, text),
            }
            return Effect::None;
        }
        let Some(action) = action(key) else { return Effect::None };
        match action {
            Action::Quit => return Effect::Quit,
            Action::Help if matches!(self.above, Some(Above::Help)) => self.above = None,
            Action::Help => self.above = Some(Above::Help),
            Action::Pause => {
                self.is_paused = !self.is_paused;
                return Effect::Copy;
            }
            Action::Filter => {
                let text = self.query.as_ref().map_or("", |(_, text)| text);
                self.editor = Some(Editor::new(text));
            }
            action => return self.move_about(action, data),
        }
        Effect::None
    }

    fn choose(&mut self, query: Option<Query>, text: String) -> Effect {
        self.editor = None;
        let was_counted = self.is_counted();
        self.query = query.map(|query| (query, text));
        self.count_or_copy(was_counted)
    }

    /// Whether spans are counted for the query. Rows can be chosen by their names, so all that was counted before stays.
    fn is_counted(&self) -> bool {
        self.query.as_ref().is_some_and(|(query, _)| !query.asks_only_names())
    }

    fn count_or_copy(&self, was_counted: bool) -> Effect {
        let query = self.query.as_ref().map(|(query, _)| query);
        match self.is_counted() {
            true => Effect::Choose(query.cloned()),
            false if was_counted => Effect::Choose(None),
            false => Effect::Copy,
        }
    }

    fn move_about(&mut self, action: Action, data: &mut Data) -> Effect {
        let page = self.page_lines.max(1) as isize;
        let lines = match action {
            Action::Up => -1,
            Action::Down => 1,
            Action::HalfPageUp => -(page / 2).max(1),
            Action::HalfPageDown => (page / 2).max(1),
            Action::PageUp => -page,
            Action::PageDown => page,
            Action::First => isize::MIN,
            Action::Last => isize::MAX,
            _ => 0,
        };
        if lines != 0 {
            self.scroll(lines, data);
            return Effect::None;
        }
        match (&mut self.above, action) {
            (Some(_), Action::Back) => self.above = None,
            (Some(Above::Trace(trace)), Action::Left) => trace.close(),
            (Some(Above::Trace(trace)), Action::Right) => trace.open(),
            (Some(Above::Trace(trace)), Action::Enter | Action::NextPage | Action::PreviousPage) => {
                trace.is_in_details = !trace.is_in_details;
            }
            (Some(_), Action::Page(_)) => {
                self.above = None;
                return self.move_about(action, data);
            }
            (Some(_), _) => {}
            (None, Action::Back) => return self.back(),
            (None, Action::Page(page)) => self.go_to(Page::ALL.get(page).copied()),
            (None, Action::NextPage) => self.step(1),
            (None, Action::PreviousPage) => self.step(Page::ALL.len() - 1),
            (None, Action::Enter) => return self.enter(data),
            (None, Action::Window) => {
                self.window = match self.window {
                    Window::Recent => Window::All,
                    Window::All => Window::Recent,
                };
                return Effect::Copy;
            }
            (None, Action::Left | Action::Right | Action::Invert) => self.reorder(action, data),
            _ => {}
        }
        Effect::None
    }

    fn scroll(&mut self, lines: isize, data: &Data) {
        match &mut self.above {
            Some(Above::Trace(trace)) => trace.move_by(lines),
            Some(Above::Help) => {}
            None => match self.page {
                Page::Spans => self.spans.move_by(lines, &series(data)),
                Page::Traces => self.traces.move_by(lines, &ids(data)),
                Page::Findings => self.findings.move_by(lines, &findings(data)),
                _ => self.from = self.from.saturating_add_signed(lines),
            },
        }
    }

    fn reorder(&mut self, action: Action, data: &mut Data) {
        let (spans, traces) = &mut self.sort;
        let series_columns: Vec<SeriesColumn> = self.areas.series_columns.iter().map(|(_, of)| *of).collect();
        let trace_columns: Vec<TraceColumn> = self.areas.trace_columns.iter().map(|(_, of)| *of).collect();
        match (self.page, action) {
            (Page::Spans, Action::Invert) => spans.invert(),
            (Page::Traces, Action::Invert) => traces.invert(),
            (Page::Spans, _) => spans.step(action == Action::Right, &series_columns),
            (Page::Traces, _) => traces.step(action == Action::Right, &trace_columns),
            _ => return,
        }
        self.arrange(data);
    }

    fn step(&mut self, pages: usize) {
        let place = Page::ALL.iter().position(|page| *page == self.page).unwrap_or(0);
        self.go_to(Page::ALL.get((place + pages) % Page::ALL.len()).copied());
    }

    fn go_to(&mut self, page: Option<Page>) {
        if let Some(page) = page {
            self.page = page;
            self.from = 0;
        }
    }

    fn back(&mut self) -> Effect {
        if self.series.take().is_some() {
            self.page = Page::Spans;
            return Effect::Copy;
        }
        let was_counted = self.is_counted();
        if self.query.take().is_some() {
            return self.count_or_copy(was_counted);
        }
        Effect::None
    }

    fn enter(&mut self, data: &Data) -> Effect {
        match self.page {
            Page::Spans => {
                let Some(row) = data.rows.get(self.spans.selected()) else { return Effect::None };
                self.series = Some(row.of.clone());
                self.page = Page::Traces;
                self.traces = Place::default();
                Effect::Copy
            }
            Page::Traces => {
                let trace: Option<&Arc<Kept>> = data.traces.get(self.traces.selected());
                self.above = trace.map(|kept| Above::Trace(Box::new(Waterfall::new(Arc::clone(kept)))));
                Effect::None
            }
            Page::Findings => {
                let trace = data.findings.traces.get(self.findings.selected()).cloned().flatten();
                self.above = trace.map(|kept| Above::Trace(Box::new(Waterfall::new(kept))));
                Effect::None
            }
            _ => Effect::None,
        }
    }

    fn mouse(&mut self, mouse: MouseEvent, data: &mut Data) -> Effect {
        let at = Position::new(mouse.column, mouse.row);
        match mouse.kind {
            MouseEventKind::ScrollDown => self.scroll(WHEEL, data),
            MouseEventKind::ScrollUp => self.scroll(-WHEEL, data),
            MouseEventKind::Down(MouseButton::Left) => return self.click(at, data),
            _ => {}
        }
        Effect::None
    }

    fn click(&mut self, at: Position, data: &mut Data) -> Effect {
        if let Some(&(_, page)) = self.areas.pages.iter().find(|(area, _)| area.contains(at)) {
            self.above = None;
            self.go_to(Some(page));
            return Effect::None;
        }
        if let Some((_, column)) = self.areas.series_columns.iter().find(|(area, _)| area.contains(at)) {
            self.sort.0.choose(*column);
            self.arrange(data);
            return Effect::None;
        }
        if let Some((_, column)) = self.areas.trace_columns.iter().find(|(area, _)| area.contains(at)) {
            self.sort.1.choose(*column);
            self.arrange(data);
            return Effect::None;
        }
        let (area, first) = self.areas.rows;
        if !area.contains(at) {
            return Effect::None;
        }
        let clicked = first + usize::from(at.y - area.y);
        // A click on what is selected looks closer.
        match (&mut self.above, self.page) {
            (Some(Above::Trace(trace)), _) => trace.select(clicked),
            (None, Page::Spans) if self.spans.selected() == clicked => return self.enter(data),
            (None, Page::Traces) if self.traces.selected() == clicked => return self.enter(data),
            (None, Page::Findings) if self.findings.selected() == clicked => return self.enter(data),
            (None, Page::Findings) => self.findings.select(clicked, &findings(data)),
            (None, Page::Spans) => self.spans.select(clicked, &series(data)),
            (None, Page::Traces) => self.traces.select(clicked, &ids(data)),
            _ => {}
        }
        Effect::None
    }
}

fn series(data: &Data) -> Vec<SeriesName> {
    data.rows.iter().map(|row| row.of.clone()).collect()
}

fn ids(data: &Data) -> Vec<u128> {
    data.traces.iter().map(|kept| kept.trace.id).collect()
}

/// What a finding is about: its numbers change.
pub(super) type FindingName = (&'static str, Arc<str>, Arc<str>, String);

fn findings(data: &Data) -> Vec<FindingName> {
    let name = |of: &Finding| {
        // Of calls, which ones.
        let other = ["call", "first", "after", "before", "blocked_by", "message"]
            .iter()
            .find_map(|key| of.details.get(*key));
        (
            of.kind.id(),
            Arc::clone(&of.service),
            Arc::clone(&of.name),
            other.map(ToString::to_string).unwrap_or_default(),
        )
    };
    data.findings.found.findings.iter().map(name).collect()
}
