//! How long the target lives.

use std::future::pending;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::binary::Target;
use crate::process::Life;

/// The time between two checks of the process.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The lifetime of one process; or of a target that never ends.
#[derive(Debug)]
pub struct Lifetime(Option<Life>);

impl Lifetime {
    /// The lifetime of `target`.
    ///
    /// # Errors
    ///
    /// The process has ended.
    pub fn of(target: &Target) -> Result<Self> {
        let Some(pid) = target.pid else { return Ok(Self(None)) };
        Ok(Self(Some(Life::of(pid.unsigned_abs()).with_context(|| format!("process {pid} has ended"))?)))
    }

    /// Returns when the lifetime ends.
    pub async fn end(self) {
        let Some(life) = self.0 else { return pending().await };
        while !life.has_ended() {
            sleep(CHECK_INTERVAL).await;
        }
    }
}
