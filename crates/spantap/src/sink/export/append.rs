//! Appends to a file, without holding up the tasks of other sinks.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::outcome::Outcome;

/// Appends `body` to `file`, of which `path` is the name, by `append`.
pub(super) async fn append<F: Send + 'static>(
    path: &Path,
    file: &Arc<Mutex<F>>,
    body: Bytes,
    append: fn(&mut F, &[u8]) -> io::Result<()>,
) -> Outcome {
    let file = Arc::clone(file);
    let append = move || append(&mut file.lock().unwrap_or_else(PoisonError::into_inner), &body);
    let appended =
        tokio::task::spawn_blocking(append).await.unwrap_or_else(|cause| Err(io::Error::other(cause)));
    match appended {
        Ok(()) => Outcome::ACCEPTED,
        Err(cause) => {
            Outcome::Failed { why: format!("can't write {}: {cause}", path.display()), after: None }
        }
    }
}
