//! The terminal: takes it over, draws on it, reads keys, and gives it back.

use std::io::{self, stdin, stdout};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event,
};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType};

use super::data::Data;
use super::draw::{Context, draw};
use super::feed::lock;
use super::model::{Model, Window};
use super::open::Open;
use super::state::{Effect, State};
use super::theme::Theme;
use crate::open::OpenCount;
use crate::query::Query;

/// How often the figures are copied.
const REFRESH: Duration = Duration::from_millis(500);

/// The longest time until the end is noticed.
const PATIENCE: Duration = Duration::from_millis(100);

/// crossterm looks at nothing if it may not wait at all.
const A_MOMENT: Duration = Duration::from_millis(1);

/// The most keys between two screens: a paste or a resize storm must not keep the screen from being drawn.
const MAX_EVENTS: usize = 100;

/// What the pages show beside what the model has.
#[derive(Clone, Default, Debug)]
pub(crate) struct Beside {
    pub(super) open: Vec<Open>,
    /// How many spans are open.
    pub(super) open_count: Option<OpenCount>,
    /// What was open in processes that have ended, in lines for each.
    pub(super) ended: Vec<Vec<String>>,
    /// What was lost, in lines.
    pub(super) losses: Vec<String>,
    /// The same in a few words.
    pub(super) trouble: Option<String>,
}

/// What a screen needs.
pub(super) struct Screen<B, C> {
    pub(super) model: Arc<Mutex<Model>>,
    pub(super) source: String,
    pub(super) colour: bool,
    pub(super) window: Window,
    /// Whether a file is being read.
    pub(super) is_reading: Arc<AtomicBool>,
    /// Set when there is nothing more to show.
    pub(super) has_ended: Arc<AtomicBool>,
    pub(super) beside: B,
    /// Counts only the spans that a query chooses.
    pub(super) choose: C,
}

impl<B: FnMut() -> Beside, C: FnMut(Option<Query>)> Screen<B, C> {
    /// Shows the model until the user quits or nothing more is to show.
    ///
    /// # Errors
    ///
    /// When the terminal can't be read or written.
    pub(super) fn run(mut self) -> Result<()> {
        let mut terminal = Terminal::take()?;
        let mut state = State::new(self.window);
        let mut data = self.copy(&mut state, &Data::default());
        let mut beside = (self.beside)();
        let mut copied = Instant::now();
        while !self.has_ended.load(Ordering::Relaxed) {
            if copied.elapsed() >= REFRESH {
                copied = Instant::now();
                let now = (self.beside)();
                if !state.is_paused {
                    beside = now;
                    data = self.copy(&mut state, &data);
                }
            }
            let context = Context {
                theme: Theme { colour: self.colour },
                source: &self.source,
                is_reading: self.is_reading.load(Ordering::Relaxed),
                open: &beside.open,
                open_count: beside.open_count,
                ended: &beside.ended,
                losses: &beside.losses,
                trouble: beside.trouble.as_deref(),
            };
            terminal.0.draw(|frame| draw(frame, &mut state, &data, &context)).context("can't draw")?;
            match self.keys(&mut state, &mut data)? {
                Next::Draw => {}
                // A terminal that got smaller and larger again has lost what was on it.
                Next::DrawAll => terminal.clear().context("can't draw")?,
                Next::Quit => break,
            }
        }
        Ok(())
    }

    /// Waits for keys, at most for a while.
    fn keys(&mut self, state: &mut State, data: &mut Data) -> Result<Next> {
        let (mut wait, mut next) = (PATIENCE, Next::Draw);
        for _ in 0..MAX_EVENTS {
            if !has_terminal(wait)? {
                return Ok(Next::Quit);
            }
            if !event::poll(A_MOMENT).context("can't read the terminal")? {
                break;
            }
            wait = Duration::ZERO;
            let event: Event = event::read().context("can't read the terminal")?;
            if let Event::Resize(..) = event {
                next = Next::DrawAll;
            }
            match state.event(&event, data) {
                Effect::None => {}
                Effect::Quit => return Ok(Next::Quit),
                Effect::Copy => *data = self.copy(state, data),
                Effect::Choose(query) => {
                    (self.choose)(query);
                    *data = self.copy(state, data);
                }
            }
        }
        Ok(next)
    }

    fn copy(&self, state: &mut State, before: &Data) -> Data {
        let wanted = state.wanted();
        let mut data = Data::copy(&lock(&self.model), &wanted, before);
        data.keep_traces(&wanted);
        state.arrange(&mut data);
        data
    }
}

/// Waits for input. Returns false if the terminal is gone: crossterm would try to read it for ever.
fn has_terminal(wait: Duration) -> Result<bool> {
    let input = stdin();
    let mut input = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
    match poll(&mut input, wait) {
        // A signal, such as that of a new size.
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno).context("can't read the terminal"),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    Ok(!input.iter().filter_map(PollFd::revents).any(|events| events.intersects(gone)))
}

/// What comes after some keys.
enum Next {
    Draw,
    /// Draw also what is on the screen already.
    DrawAll,
    Quit,
}

/// A terminal that is taken over until this is dropped, also by a panic.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn take() -> Result<Self> {
        // This also has a panic give the terminal back before its message is written.
        let terminal = ratatui::try_init().context("can't take over the terminal")?;
        let terminal = Self(terminal);
        execute!(stdout(), EnableMouseCapture, EnableBracketedPaste)
            .context("can't take over the terminal")?;
        Ok(terminal)
    }
}

impl Terminal {
    /// Clears the screen, so that all of it is drawn next. ratatui's own way asks the terminal where its cursor is, and
    /// waits for the answer.
    fn clear(&mut self) -> io::Result<()> {
        execute!(stdout(), Clear(ClearType::All))?;
        self.0.draw(|_| ())?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let give_back = || -> io::Result<()> {
            execute!(stdout(), DisableMouseCapture, DisableBracketedPaste)?;
            ratatui::try_restore()
        };
        // If the terminal is gone, nobody reads it.
        let _ = give_back();
    }
}
