//! Until when there is something to see.

use std::fs::File;
use std::future::pending;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::target::Target;

/// The process is looked at so often.
const EACH: Duration = Duration::from_millis(200);

/// Of one process, or of all that may come.
#[derive(Debug)]
pub struct Lifetime(Option<File>);

impl Lifetime {
    /// Of the target's.
    ///
    /// # Errors
    ///
    /// When it is over.
    pub fn of(target: &Target) -> Result<Self> {
        let Some(pid) = target.pid else { return Ok(Self(None)) };
        let stat = File::open(format!("/proc/{pid}/stat"));
        Ok(Self(Some(stat.with_context(|| format!("process {pid} has ended"))?)))
    }

    /// Returns at its end.
    pub async fn end(self) {
        let Some(stat) = self.0 else { return pending().await };
        // The file stays this process's, whoever may get its pid.
        let is_over = || {
            let mut bytes = [0; 512];
            let read = stat.read_at(&mut bytes, 0).unwrap_or(0);
            let stat = String::from_utf8_lossy(&bytes[..read]);
            // pid (name) state ... threads ...: whatever is in the name, the state follows the last parenthesis.
            let mut words = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
            let has_ended = words.next().is_none_or(|state| matches!(state, "Z" | "X" | "x"));
            // Its first thread may have ended before others. The threads are the 20th.
            let others = words.nth(16).and_then(|threads| threads.parse::<u32>().ok()).is_some_and(|n| n > 1);
            has_ended && !others
        };
        while !is_over() {
            sleep(EACH).await;
        }
    }
}
