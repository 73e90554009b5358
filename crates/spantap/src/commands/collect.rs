//! One run of the collector: from a source that is ready to the counters that it prints at the end.

use std::fs::File;
use std::future::{Future, pending};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{interval, sleep, timeout};

use super::cli::Common;
use super::signals::Signals;
use super::together;
use crate::capture::Rotation;
use crate::flight::{FlightRecorder, Trigger};
use crate::metrics::{self, SpanMetrics};
use crate::open::OpenSpans;
use crate::pipeline::{Intake, Pipeline, Sampling};
use crate::process::Programs;
use crate::sampling::{Rules, Wait};
use crate::sink::{Settings, Sinks, SpoolSettings};
use crate::source::{End, Source, otlp};
use crate::stats::Stats;
use crate::terminal::{Feed, Feeder, Live, LiveOptions, Screen, Stream, feed, final_stats};
use crate::text::{Notices, safe};
use crate::top;

/// How long the terminal may take for the last traces, and how long after a second signal.
const SHOW_TIMEOUT: Duration = Duration::from_secs(5);
const SHOW_TIMEOUT_AFTER_SIGNAL: Duration = Duration::from_millis(500);

/// How often the socket's path and the senders' programs are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The default of `--max-traces` on a terminal: nobody can read more.
const TRACES_PER_SECOND: u32 = 5;

/// What `record` sets otherwise than the other commands.
pub(super) struct Output {
    /// When a capture is followed by another.
    pub(super) rotation: Rotation,
    /// The flight recorder, instead of a capture.
    pub(super) flight: Option<Arc<FlightRecorder>>,
    /// Where the status is shown, and traces.
    pub(super) stream: Stream,
    /// Whether the first target is what the command is for, so that a loss there is a failure.
    pub(super) records: bool,
    /// Shows a full screen instead of traces.
    pub(super) top: Option<FullScreen>,
    /// Completes when the user quits the full screen.
    pub(super) quits: Option<oneshot::Receiver<()>>,
    /// Where a program that is run writes to, instead of the terminal.
    pub(super) of_program: Option<File>,
}

impl Output {
    /// Completes when the user quits the full screen.
    pub(super) async fn quit(quits: Option<oneshot::Receiver<()>>) {
        // Without a screen, nobody can quit.
        let has_quit = match quits {
            Some(quits) => quits.await.is_ok(),
            None => false,
        };
        if !has_quit {
            pending().await
        }
    }
}

/// The full screen of `top`.
pub(super) struct FullScreen {
    /// Where the spans come from.
    pub(super) source: String,
    /// Told when the user quits.
    pub(super) quit: oneshot::Sender<()>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            rotation: Rotation::default(),
            flight: None,
            stream: Stream::Stdout,
            records: false,
            top: None,
            quits: None,
            of_program: None,
        }
    }
}

/// A collector, ready to run.
pub(super) struct Collect {
    /// Where spans come from.
    pub(super) source: Source,
    /// The options of the command.
    pub(super) common: Common,
    /// When a capture is followed by another.
    pub(super) rotation: Rotation,
    /// The flight recorder, if it is among the targets.
    pub(super) flight: Option<Arc<FlightRecorder>>,
    /// Where traces are shown.
    pub(super) stream: Stream,
    /// Shows a full screen instead of traces.
    pub(super) top: Option<FullScreen>,
    /// Whether no other program writes to the same terminal: only then it may hold a status line.
    pub(super) owns_terminal: bool,
}

impl Collect {
    /// Collects until `until` completes, then handles what was sent before that. Returns the value of `until`, and
    /// how the end went.
    ///
    /// # Errors
    ///
    /// When the collector can't start, or can't read from the source any more.
    pub(super) async fn run<T>(
        self,
        until: impl Future<Output = Result<(T, Signals)>>,
    ) -> Result<(T, Finish)> {
        let screen = Arc::new(Screen::new(self.stream, self.common.display.color.into()));
        let (notices, lines) = Notices::new();
        let printer = {
            let screen = Arc::clone(&screen);
            thread::spawn(move || {
                let lines = lines.into_iter().take_while(|line| !line.is_empty());
                // A line may quote text of backends and senders.
                lines.for_each(|line| screen.print_notice(&format!("spantap: {}\n", safe(&line))));
            })
        };
        let (outcome, stats) = self.collect(until, &screen, &notices).await;
        // Without the counters, the terminal is paused: waiting for it would keep spantap from ending.
        if let Some(stats) = stats {
            notices.end();
            let _ = printer.join();
            screen.print_notice(&stats);
        }
        outcome
    }

    /// Returns the outcome, and the text of the final counters, unless the terminal is paused.
    async fn collect<T>(
        self,
        until: impl Future<Output = Result<(T, Signals)>>,
        screen: &Arc<Screen>,
        notices: &Notices,
    ) -> (Result<(T, Finish)>, Option<String>) {
        let flush_timeout = self.common.forwarding.flush_timeout;
        let owns_terminal = self.owns_terminal;
        let flight = self.flight.clone();
        let Started { stats, sinks, programs, end, requests, mut received, shown, view } =
            match self.start(screen, notices).await {
                Ok(started) => started,
                // Notices from before the error are still printed.
                Err(error) => return (Err(error), Some(String::new())),
            };
        let writing = flight.as_ref().map(|flight| tokio::spawn(Arc::clone(flight).run()));
        let outcome = until_or_broken(until, &mut received, owns_terminal, notices, &end, &programs).await;
        end.end();
        requests.iter().for_each(otlp::Stop::stop);
        let (outcome, mut signals) = match outcome {
            Ok((value, signals)) => (Ok(value), Some(signals)),
            Err(error) => (Err(error), None),
        };
        let mut second_signal = None;
        let mut next_signal = pin!(async {
            match &mut signals {
                Some(signals) => signals.next().await,
                None => pending().await,
            }
        });
        // The receiver ends once it has read all that was sent. If it ended earlier, `until_or_broken` has reported why.
        let mut result = Ok(());
        if !received.is_terminated() {
            tokio::select! {
                ended = received => {
                    result = ended.unwrap_or_else(|_| Err(anyhow!("the thread that decodes, or the one that encodes, panicked")));
                }
                signal = &mut next_signal => second_signal = Some(signal),
            }
        }
        drop(view);
        let deadline = async {
            if second_signal.is_none() {
                tokio::select! {
                    () = sleep(flush_timeout) => {}
                    signal = &mut next_signal => second_signal = Some(signal),
                }
            }
        };
        sinks.finish_until(deadline).await;
        let mut wrote_last = true;
        if let Some(flight) = flight {
            if let Err(error) = result.as_ref().and(outcome.as_ref().map(drop))
                && !flight.is_empty()
            {
                flight.trigger(Trigger::Death(format!("spantap failed: {error:#}")));
            }
            let finish = spawn_blocking(move || flight.finish());
            tokio::select! {
                finished = finish => wrote_last = finished.unwrap_or(false),
                // The disk may not answer any more.
                signal = &mut next_signal, if second_signal.is_none() => {
                    (second_signal, wrote_last) = (Some(signal), false);
                }
            }
        }
        if let Some(writing) = writing {
            writing.abort();
        }
        let show_timeout = match second_signal {
            Some(_) => SHOW_TIMEOUT_AFTER_SIGNAL,
            None => flush_timeout.max(SHOW_TIMEOUT),
        };
        let shown = timeout(show_timeout, shown).await.is_ok();
        let final_text = shown.then(|| final_stats(&stats, &sinks));
        let first = sinks.stats().into_iter().next();
        let lost_by_first = first.map_or(0, |sink| sink.dropped.total() + sink.rejected);
        let finish = Finish { second_signal, lost_by_first, wrote_last };
        (result.and(outcome).map(|value| (value, finish)), final_text)
    }

    async fn start(self, screen: &Arc<Screen>, notices: &Notices) -> Result<Started> {
        let Self {
            source,
            common: Common { forwarding, display, otlp },
            rotation,
            flight,
            owns_terminal,
            top,
            ..
        } = self;
        let stats = Arc::new(Stats::default());
        let spool = forwarding.spool.map(|dir| SpoolSettings { dir, max_bytes: forwarding.spool_size << 20 });
        if let Some(flight) = &flight {
            flight.report_to(notices.clone());
        }
        let sampling = match forwarding.sampling.keep {
            rules if rules.is_empty() => None,
            rules => {
                ensure!(
                    !forwarding.to.is_empty(),
                    "--keep chooses what is forwarded; give a target with --to"
                );
                let rules = Rules::new(rules)?;
                rules.notes(source.has_kernel()).into_iter().for_each(|note| notices.say(note));
                let wait =
                    Wait { most: forwarding.sampling.keep_wait, quiet: forwarding.sampling.keep_quiet };
                Some(Sampling { rules, wait })
            }
        };
        let settings = Settings { targets: forwarding.to, spool, rotation, flight: flight.clone() };
        // A value that is not UTF-8 is invalid, not unset.
        let environment = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        let sinks = Arc::new(Sinks::open(&settings, &environment, notices)?);
        let mut span_metrics = None;
        if let Some(address) = forwarding.metrics {
            let of_spans = span_metrics.insert(Arc::<SpanMetrics>::default());
            let of_spans = Arc::clone(of_spans);
            let bound = metrics::serve(&address, Arc::clone(&stats), Arc::clone(&sinks), of_spans).await?;
            if address.port() == 0 {
                notices.say(format!("metrics are at http://{bound}/metrics"));
            }
        }
        let bound = otlp::bind(&otlp.settings(), notices).await?;
        if let Some(bound) = &bound {
            bound.check_targets(sinks.stats().into_iter().map(|sink| sink.target))?;
        }
        let (running, end) = source.start()?;
        let end = Arc::new(end);
        let (requests, stop) = bound.map(|bound| bound.start(&stats, notices)).unzip();

        let open = Arc::new(OpenSpans::default());
        let (feeder, feed) = feed();
        let live = Live {
            options: LiveOptions {
                max_traces: match display.max_traces {
                    Some(0) => None,
                    Some(most) => Some(most),
                    None => screen.is_terminal().then_some(TRACES_PER_SECOND),
                },
                min_duration: display.min_duration,
                query: display.query,
                quiet: display.quiet,
                status: owns_terminal && screen.has_status(),
            },
            screen: Arc::clone(screen),
            stats: Arc::clone(&stats),
            sinks: Arc::clone(&sinks),
            open: Arc::clone(&open),
        };
        let (all_shown, shown) = oneshot::channel();
        spawn("view", move || {
            match top {
                Some(top) => full_screen(top, live, &feed),
                None => live.run(&feed),
            }
            let _ = all_shown.send(());
        })?;

        // The view's thread also shows the counters, so it runs even if it gets no spans.
        let (to_view, view) = if display.quiet { (None, Some(feeder)) } else { (Some(feeder), None) };
        let programs = Arc::new(Programs::default());
        let pipeline = Pipeline {
            stats: Arc::clone(&stats),
            notices: notices.clone(),
            sinks: Arc::clone(&sinks),
            programs: Arc::clone(&programs),
            span_metrics,
            sampling,
            flight: flight.filter(|flight| flight.has_queries()),
            open: Arc::clone(&open),
            view: to_view,
        };
        let (ended, received) = oneshot::channel();
        let (to_stop, to_end) = (stop.clone(), Arc::clone(&end));
        spawn("decode", move || {
            let take_in = |intake: &mut Intake<'_>| running.run(intake, &pipeline.stats);
            let take_requests =
                requests.map(|requests: otlp::Requests| |intake: &mut Intake<'_>| requests.take_in(intake));
            let stop = || to_stop.iter().for_each(otlp::Stop::stop);
            let result = together::run(&pipeline, take_in, take_requests, stop, || to_end.end());
            // Closes the channels to the view and to the sinks: what was read is now in them.
            drop(pipeline);
            let _ = ended.send(result);
        })?;
        Ok(Started { stats, sinks, programs, end, requests: stop, received, shown, view })
    }
}

/// How the end of a collector went.
pub(super) struct Finish {
    /// The second signal, if any: the user doesn't want to wait for a backend.
    second_signal: Option<Signal>,
    /// The spans that the first target lost or rejected since the start.
    lost_by_first: u64,
    /// Whether the flight recorder has written what it was to write.
    wrote_last: bool,
}

impl Finish {
    /// 128 plus the number of the second signal, as shells report it. Without one, failure if `records`, and the first
    /// target lost spans or a file was not written; else success.
    pub(super) fn exit_code(&self, records: bool) -> ExitCode {
        match self.second_signal.and_then(|signal| u8::try_from(128 + signal as i32).ok()) {
            Some(code) => code.into(),
            None if records && (self.lost_by_first > 0 || !self.wrote_last) => ExitCode::FAILURE,
            None => ExitCode::SUCCESS,
        }
    }
}

/// Shows the spans on a full screen, until the feed is closed.
fn full_screen(top: FullScreen, live: Live, feed: &Feed) {
    let Live { screen, stats, sinks, open, .. } = live;
    screen.hold();
    let shown = top::Live { source: top.source, screen: Arc::clone(&screen), stats, sinks, open };
    let released = Arc::clone(&screen);
    let shown = shown.run(feed, move || {
        released.release();
        // If nobody waits for it, spantap ends already.
        let _ = top.quit.send(());
    });
    // A screen that hangs has not released them.
    screen.release();
    if let Err(error) = shown {
        screen.print_notice(&format!("spantap: {error:#}\n"));
    }
}

/// The parts of a running collector.
struct Started {
    stats: Arc<Stats>,
    sinks: Arc<Sinks>,
    programs: Arc<Programs>,
    end: Arc<End>,
    /// Ends the server for OTLP requests, if there is one.
    requests: Option<otlp::Stop>,
    /// Completes when receiving and decoding have ended.
    received: oneshot::Receiver<Result<()>>,
    /// Completes when the view has ended.
    shown: oneshot::Receiver<()>,
    /// With `--quiet`, keeps the view running, although it gets no spans.
    view: Option<Feeder>,
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.with_context(|| format!("can't start the thread `{name}`"))?;
    Ok(())
}

/// Waits for `until`. If the receiver ends before that, it has failed: then spantap ends, too, unless it runs a program.
async fn until_or_broken<T>(
    until: impl Future<Output = Result<T>>,
    received: &mut oneshot::Receiver<Result<()>>,
    owns_terminal: bool,
    notices: &Notices,
    end: &End,
    programs: &Programs,
) -> Result<T> {
    tokio::pin!(until);
    let mut checks = interval(CHECK_INTERVAL);
    let mut is_reachable = true;
    let ended = loop {
        tokio::select! {
            outcome = &mut until => return outcome,
            ended = &mut *received => break ended,
            _ = checks.tick() => {
                programs.check_all().into_iter().for_each(|line| notices.say(line));
                if is_reachable && !end.is_reachable() {
                    is_reachable = false;
                    notices.say("the socket's path was removed or replaced: programs that start from now on can't \
                                 send to spantap; restart spantap");
                }
            }
        }
    };
    let why = match ended {
        Ok(Ok(())) => anyhow!("the source has ended"),
        Ok(Err(error)) => error,
        Err(_) => anyhow!("the thread that decodes, or the one that encodes, panicked"),
    };
    if owns_terminal {
        return Err(why);
    }
    notices.say(format!("{why:#}: the program keeps running, but its spans are lost from now on"));
    until.await
}
