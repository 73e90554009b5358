//! How long the target lives.

use std::fs::File;
use std::future::pending;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::binary::Target;

/// The time between two checks of the process.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The lifetime of one process; or, without a file, of a target that never ends.
#[derive(Debug)]
pub struct Lifetime(Option<File>);

impl Lifetime {
    /// The lifetime of `target`.
    ///
    /// # Errors
    ///
    /// The process has ended.
    pub fn of(target: &Target) -> Result<Self> {
        let Some(pid) = target.pid else { return Ok(Self(None)) };
        let stat = File::open(format!("/proc/{pid}/stat"));
        Ok(Self(Some(stat.with_context(|| format!("process {pid} has ended"))?)))
    }

    /// Returns when the lifetime ends.
    pub async fn end(self) {
        let Some(stat) = self.0 else { return pending().await };
        // The open file stays this process's, even if another process gets its pid.
        let is_over = || {
            let mut bytes = [0; 512];
            let read = stat.read_at(&mut bytes, 0).unwrap_or(0);
            let stat = String::from_utf8_lossy(&bytes[..read]);
            // pid (name) state ... threads ...: the name may contain anything; the state follows the last
            // parenthesis.
            let mut words = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
            let has_ended = words.next().is_none_or(|state| matches!(state, "Z" | "X" | "x"));
            // The first thread may end before others. The number of threads is the 20th field.
            let others = words.nth(16).and_then(|threads| threads.parse::<u32>().ok()).is_some_and(|n| n > 1);
            has_ended && !others
        };
        while !is_over() {
            sleep(CHECK_INTERVAL).await;
        }
    }
}
