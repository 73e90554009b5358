//! Takes in what a source has, and OTLP requests beside it. If either fails, the other ends, too.
//!
//! Each has a thread, and a thread's panic continues only when the other has ended: without that, spantap would run on
//! and take nothing.

use std::thread;

use anyhow::Result;

use crate::pipeline::{Intake, Pipeline};

/// Runs until both have ended. `stop` ends the requests, and `end` the source.
///
/// # Errors
///
/// A thread can't be started, or `source` fails.
pub(super) fn run(
    pipeline: &Pipeline,
    source: impl FnOnce(&mut Intake<'_>) -> Result<()>,
    requests: Option<impl FnOnce(&mut Intake<'_>) + Send>,
    stop: impl Fn(),
    end: impl Fn() + Send + Sync,
) -> Result<()> {
    let source = |intake: &mut Intake<'_>| {
        let _if_it_panics = IfPanicking(&stop);
        let result = source(intake);
        // spantap ends with a source that fails, or if nothing can be passed on any more.
        if result.is_err() || !intake.flush() {
            stop();
        }
        result
    };
    let requests = requests.map(|requests| {
        |intake: &mut Intake<'_>| {
            let _if_it_panics = IfPanicking(&end);
            requests(intake);
            // They have ended because the source did, or because nothing can be passed on any more.
            end();
        }
    });
    pipeline.run(source, requests)
}

/// Calls a function if it is dropped because of a panic.
struct IfPanicking<F: Fn()>(F);

impl<F: Fn()> Drop for IfPanicking<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use anyhow::bail;

    use super::*;
    use crate::sink::{Settings, Sinks};
    use crate::text::Notices;

    /// Longer than anything takes here, so that a test ends.
    const LONG: Duration = Duration::from_secs(20);

    fn pipeline() -> Pipeline {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _entered = runtime.enter();
        let (notices, _) = Notices::new();
        let sinks = Arc::new(Sinks::open(&Settings::default(), &|_: &str| None, &notices).unwrap());
        Pipeline {
            sampling: None,
            stats: Arc::default(),
            notices,
            sinks,
            programs: Arc::default(),
            span_metrics: None,
            flight: None,
            open: Arc::default(),
            view: None,
        }
    }

    /// Runs a source and requests, of which one waits until it is told to end. Returns whether it was.
    fn ends(
        source: Option<fn() -> Result<()>>,
        requests: Option<fn()>,
    ) -> (std::thread::Result<Result<()>>, bool) {
        let (tell, told) = channel();
        let was_told = Mutex::new(false);
        let told = Mutex::new(told);
        let wait = || *was_told.lock().unwrap() = told.lock().unwrap().recv_timeout(LONG).is_ok();
        let source = |_: &mut Intake<'_>| match source {
            Some(source) => source(),
            None => {
                wait();
                Ok(())
            }
        };
        let requests = |_: &mut Intake<'_>| match requests {
            Some(requests) => requests(),
            None => wait(),
        };
        let to_tell = tell.clone();
        let result = catch_unwind(AssertUnwindSafe(|| {
            run(
                &pipeline(),
                source,
                Some(requests),
                || tell.send(()).unwrap_or_default(),
                || to_tell.send(()).unwrap_or_default(),
            )
        }));
        let was_told = *was_told.lock().unwrap();
        (result, was_told)
    }

    #[test]
    fn requests_end_with_a_source_that_panics_or_fails() {
        let (result, was_told) = ends(Some(|| panic!("as a bug would")), None);
        assert!(result.is_err() && was_told, "{result:?} {was_told}");
        let (result, was_told) = ends(Some(|| bail!("the socket broke")), None);
        assert!(result.is_ok_and(|result| result.is_err()) && was_told);
    }

    #[test]
    fn a_source_ends_with_requests_that_panic() {
        let (result, was_told) = ends(None, Some(|| panic!("as a bug would")));
        assert!(result.is_err() && was_told, "{result:?} {was_told}");
    }
}
