//! One run of the collector, from a source that is ready to the last figures.

use std::future::{Future, pending};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use tokio::time::{interval, sleep, timeout};

use crate::cli::Common;
use crate::exec::Programs;
use crate::figures::Figures;
use crate::metrics;
use crate::notices::Notices;
use crate::pipeline::Pipeline;
use crate::signals::Signals;
use crate::sink::{Settings, Sinks, SpoolSettings};
use crate::source::{End, Source};
use crate::terminal::{Feeder, Live, Screen, Shows, Stream, feed, final_figures};
use crate::view::safe;

/// What is left to show at the end takes a moment; less where the user is in a hurry.
const FOR_THE_TERMINAL: Duration = Duration::from_secs(5);
const HURRY: Duration = Duration::from_millis(500);

/// The socket, and what the senders run, are looked at so often.
const EACH: Duration = Duration::from_secs(1);

/// By default on a terminal: more can't be read.
const TRACES_A_SECOND: u32 = 5;

/// How the collector is to run.
pub struct Collect {
    /// Where spans come from.
    pub source: Source,
    /// What the user chose.
    pub common: Common,
    /// Where traces are shown.
    pub stream: Stream,
    /// No other program writes to the same terminal, so that a status line may stay there.
    pub alone: bool,
}

impl Collect {
    /// Collects until `until` is done, and then what was sent before that. Gives back what `until` gave,
    /// and the signal that came after that, if one did: who asks twice doesn't want to wait for a backend.
    ///
    /// # Errors
    ///
    /// When it can't begin, or the socket can't be read any more.
    pub async fn run<T>(
        self,
        until: impl Future<Output = Result<(T, Signals)>>,
    ) -> Result<(T, Option<Signal>)> {
        let screen = Arc::new(Screen::new(self.stream, self.common.color.into()));
        let (notices, lines) = Notices::new();
        let told = Arc::clone(&screen);
        let teller = thread::spawn(move || {
            let lines = lines.into_iter().take_while(|line| !line.is_empty());
            // Backends and senders have their say in them.
            lines.for_each(|line| told.tell(&format!("spantap: {}\n", safe(&line))));
        });
        let (outcome, figures) = self.collect(until, &screen, &notices).await;
        // A terminal that is paused may not keep us: then there is nobody to tell the figures either.
        if let Some(figures) = figures {
            notices.end();
            let _ = teller.join();
            screen.tell(&figures);
        }
        outcome
    }

    /// With the figures in words, if there is a terminal that takes them.
    async fn collect<T>(
        self,
        until: impl Future<Output = Result<(T, Signals)>>,
        screen: &Arc<Screen>,
        notices: &Notices,
    ) -> (Result<(T, Option<Signal>)>, Option<String>) {
        let flush_timeout = self.common.flush_timeout;
        let alone = self.alone;
        let Started { figures, sinks, programs, end, mut received, shown, view } =
            match self.start(screen, notices).await {
                Ok(started) => started,
                // What was told until then is worth reading.
                Err(error) => return (Err(error), Some(String::new())),
            };
        let outcome = until_or_broken(until, &mut received, alone, notices, &end, &programs).await;
        end.end();
        let (outcome, mut signals) = match outcome {
            Ok((value, signals)) => (Ok(value), Some(signals)),
            Err(error) => (Err(error), None),
        };
        let mut hurried = None;
        let mut hurry = pin!(async {
            match &mut signals {
                Some(signals) => signals.next().await,
                None => pending().await,
            }
        });
        // It ends at the end of what was sent. If it had ended before, that was told.
        let mut result = Ok(());
        if !received.is_terminated() {
            tokio::select! {
                ended = received => {
                    result = ended.unwrap_or_else(|_| Err(anyhow!("the thread that decodes, or the one that encodes, panicked")));
                }
                signal = &mut hurry => hurried = Some(signal),
            }
        }
        drop(view);
        let time_is_over = async {
            if hurried.is_none() {
                tokio::select! {
                    () = sleep(flush_timeout) => {}
                    signal = &mut hurry => hurried = Some(signal),
                }
            }
        };
        sinks.finish_until(time_is_over).await;
        let patience = if hurried.is_some() { HURRY } else { flush_timeout.max(FOR_THE_TERMINAL) };
        let shown = timeout(patience, shown).await.is_ok();
        let told = shown.then(|| final_figures(&figures, &sinks));
        (result.and(outcome).map(|value| (value, hurried)), told)
    }

    async fn start(self, screen: &Arc<Screen>, notices: &Notices) -> Result<Started> {
        let Self { source, common, alone, .. } = self;
        let figures = Arc::new(Figures::default());
        let spool = common.spool.map(|dir| SpoolSettings { dir, max_bytes: common.spool_size << 20 });
        let settings = Settings { targets: common.to, spool };
        // What is not UTF-8 is unusable, and not unset.
        let environment = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        let sinks = Arc::new(Sinks::open(&settings, &environment, notices)?);
        if let Some(address) = common.metrics {
            let serves = metrics::serve(&address, Arc::clone(&figures), Arc::clone(&sinks)).await?;
            if address.port() == 0 {
                notices.say(format!("the figures are at http://{serves}/metrics"));
            }
        }
        let (running, end) = source.start()?;

        let (feeder, feed) = feed();
        let live = Live {
            shows: Shows {
                a_second: match common.max_traces {
                    Some(0) => None,
                    Some(most) => Some(most),
                    None => screen.is_terminal().then_some(TRACES_A_SECOND),
                },
                min_duration: common.min_duration,
                status: alone && screen.has_status(),
            },
            screen: Arc::clone(screen),
            figures: Arc::clone(&figures),
            sinks: Arc::clone(&sinks),
        };
        let (all_shown, shown) = oneshot::channel();
        spawn("view", move || {
            live.run(&feed);
            let _ = all_shown.send(());
        })?;

        // The view's thread also tells the figures, so it runs without spans, too.
        let (to_view, view) = if common.quiet { (None, Some(feeder)) } else { (Some(feeder), None) };
        let programs = Arc::new(Programs::default());
        let pipeline = Pipeline {
            figures: Arc::clone(&figures),
            notices: notices.clone(),
            sinks: Arc::clone(&sinks),
            programs: Arc::clone(&programs),
            view: to_view,
        };
        let (ended, received) = oneshot::channel();
        spawn("decode", move || {
            let result = pipeline.run(|intake| running.run(intake, &pipeline.figures));
            // Only then is all of it on its way.
            drop(pipeline);
            let _ = ended.send(result);
        })?;
        Ok(Started { figures, sinks, programs, end, received, shown, view })
    }
}

/// As shells say it of one that a signal ended.
pub(crate) fn exit_code(hurried: Option<Signal>) -> ExitCode {
    let code = hurried.and_then(|signal| u8::try_from(128 + signal as i32).ok());
    code.map_or(ExitCode::SUCCESS, ExitCode::from)
}

/// What runs.
struct Started {
    figures: Arc<Figures>,
    sinks: Arc<Sinks>,
    programs: Arc<Programs>,
    end: End,
    /// The end of the receiving and decoding.
    received: oneshot::Receiver<Result<()>>,
    /// The end of the view.
    shown: oneshot::Receiver<()>,
    /// Keeps the view running where it gets no spans.
    view: Option<Feeder>,
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.with_context(|| format!("can't start the thread `{name}`"))?;
    Ok(())
}

/// Waits for the end of `until`. The receiving ends before that only if it is broken: then we end, too,
/// unless there is a program that runs on.
async fn until_or_broken<T>(
    until: impl Future<Output = Result<T>>,
    received: &mut oneshot::Receiver<Result<()>>,
    alone: bool,
    notices: &Notices,
    end: &End,
    programs: &Programs,
) -> Result<T> {
    tokio::pin!(until);
    let mut look = interval(EACH);
    let mut is_reachable = true;
    let broken = loop {
        tokio::select! {
            outcome = &mut until => return outcome,
            broken = &mut *received => break broken,
            _ = look.tick() => {
                programs.look_at_all().into_iter().for_each(|line| notices.say(line));
                if is_reachable && !end.is_reachable() {
                    is_reachable = false;
                    notices.say("the socket's path was removed or is another's now: programs that start from \
                                 here on don't find us; start spantap again");
                }
            }
        }
    };
    let why = match broken {
        Ok(Ok(())) => anyhow!("nothing more can come"),
        Ok(Err(error)) => error,
        Err(_) => anyhow!("the thread that decodes, or the one that encodes, panicked"),
    };
    if alone {
        return Err(why);
    }
    notices.say(format!("{why:#}: the program runs on, but its spans are lost from here on"));
    until.await
}
