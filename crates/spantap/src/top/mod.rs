//! The full screen of `spantap top`.
//!
//! `feed` brings spans into the `model`, which knows the figures. Twice a second, `data` copies what the screen shows,
//! in the order that `sort` says. `keys` says what each key asks for, and `state` does it: `list` is a place in a list,
//! `waterfall` a trace that is looked at, `open` a span that has not ended, and `editor` the line in which a query is
//! written. `draw` draws all of it in the styles of `theme`, and `screen` has the terminal.

mod data;
mod draw;
mod editor;
mod feed;
mod keys;
mod list;
mod model;
mod open;
mod screen;
mod sort;
mod state;
mod theme;
mod waterfall;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::open::OpenSpans;
use crate::query::Query;
use crate::sink::Sinks;
use crate::stats::Stats;
use crate::terminal::{Feed, Screen as Output, ended_lines, final_stats, trouble};
pub use feed::Way;
use feed::{Clock, Reader, lock};
use model::{Model, Window};
use open::Open;
use screen::{Beside, Screen};

/// The most processes that have ended, of which is shown what was open, and the most spans that are.
const MAX_ENDED: usize = 50;
const MAX_OPEN: usize = 1_000;

/// How long the screen may take to end. A terminal that is paused takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is shown of spans that arrive.
pub struct Live {
    /// Where they come from.
    pub source: String,
    /// What holds back the lines for the user meanwhile.
    pub screen: Arc<Output>,
    /// The counters of the receiving side.
    pub stats: Arc<Stats>,
    /// The sinks, whose counters are shown.
    pub sinks: Arc<Sinks>,
    /// The spans that are open for long.
    pub open: Arc<OpenSpans>,
}

impl Live {
    /// Shows the spans until the feed is closed. Calls `quit` when the user quits, and goes on taking spans.
    ///
    /// # Errors
    ///
    /// When the terminal can't be read or written.
    pub fn run(self, feed: &Feed, quit: impl FnOnce() + Send + 'static) -> Result<()> {
        let Self { source, screen: output, stats, sinks, open } = self;
        let colour = output.colour();
        let clock = Clock::start();
        let model = Arc::new(Mutex::new(Model::new(clock.now_ns())));
        let has_ended = Arc::new(AtomicBool::new(false));
        let (mut ended, spans, last) = (Vec::new(), Arc::clone(&open), Arc::clone(&output));
        let beside = move || {
            ended.extend(say_ended(&open, false, &output));
            ended.drain(..ended.len().saturating_sub(MAX_ENDED));
            let notices = output.held_notices();
            Beside {
                open: open.list().iter().take(MAX_OPEN).map(Open::new).collect(),
                open_count: open.count(),
                ended: ended.clone(),
                losses: lines(&final_stats(&stats, &sinks))
                    .chain(notices.iter().flat_map(|of| lines(of)))
                    .collect(),
                trouble: trouble(&stats, &sinks),
            }
        };
        let chooser = Arc::clone(&model);
        let screen = Screen {
            model: Arc::clone(&model),
            source,
            colour,
            window: Window::Recent,
            is_reading: Arc::default(),
            has_ended: Arc::clone(&has_ended),
            beside,
            choose: move |query: Option<Query>| lock(&chooser).choose(query),
        };
        let (ended, shown) = channel();
        let show = move || {
            let _quit = OnDrop(Some(quit));
            let shown = screen.run();
            // If nobody waits for it any more, the program ends.
            let _ = ended.send(shown);
        };
        let thread = thread::Builder::new().name("screen".into()).spawn(show);
        thread.context("can't start the thread `screen`")?;
        feed::take(feed, &model, clock);
        has_ended.store(true, Ordering::Relaxed);
        let shown = shown.recv_timeout(PATIENCE);
        say_ended(&spans, true, &last);
        match shown {
            Ok(shown) => shown,
            Err(RecvTimeoutError::Timeout) => {
                Err(anyhow!("the terminal does not take what is written to it"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(anyhow!("the screen's thread panicked")),
        }
    }
}

/// Says what was open in processes that have ended, and returns the lines for each.
fn say_ended(open: &OpenSpans, is_last: bool, output: &Output) -> Vec<Vec<String>> {
    let ended: Vec<Vec<String>> =
        open.take_ended(is_last).iter().map(|of| lines(&ended_lines(of, |_| true)).collect()).collect();
    ended.iter().for_each(|lines| output.print_notice(&(lines.join("\n") + "\n")));
    ended
}

/// What is shown of files.
pub struct FromFiles {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// How they are read.
    pub way: Way,
    /// Whether to use colours.
    pub colour: bool,
    /// Set by another thread to end it.
    pub has_ended: Arc<AtomicBool>,
}

impl FromFiles {
    /// Reads the files and shows their spans, until the user quits. Returns what there is to say of the files.
    ///
    /// # Errors
    ///
    /// When the terminal can't be read or written.
    pub fn run(self) -> Result<Vec<String>> {
        let Self { paths, way, colour, has_ended } = self;
        let source = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        let model = Arc::new(Mutex::new(Model::new(0)));
        let (queries, received) = channel();
        let (is_reading, read) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let reader = Reader {
            paths,
            way,
            model: Arc::clone(&model),
            queries: received,
            is_reading: Arc::clone(&is_reading),
            read: Arc::clone(&read),
        };
        // It ends once nobody asks any more, and may be in the middle of a large file when the program ends.
        thread::Builder::new()
            .name("read".into())
            .spawn(move || reader.run())
            .context("can't start the thread `read`")?;
        let of_files = Arc::clone(&read);
        let beside = move || {
            let losses = of_files.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Beside { trouble: losses.first().cloned(), losses, ..Beside::default() }
        };
        let screen = Screen {
            model,
            source,
            colour,
            // What goes on is looked at as it goes on.
            window: if way == Way::AtOnce { Window::All } else { Window::Recent },
            is_reading,
            has_ended,
            beside,
            // The thread that reads ends only after this does.
            choose: move |query| _ = queries.send(query),
        };
        screen.run()?;
        let read = read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(read)
    }
}

/// Calls a function when it is dropped, also by a panic.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|call| call());
    }
}

fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}
