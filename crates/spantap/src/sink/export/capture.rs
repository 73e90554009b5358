//! A capture: a batch becomes a frame.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use bytes::Bytes;

use super::append::append;
use super::outcome::Outcome;
use crate::capture::{self, CaptureFile, Rotation};
use crate::encode::{Chunk, request};
use crate::text::{Notices, counted};

/// Encodes a frame. Also returns the number of spans that are left out because they can't be decoded.
pub(super) fn encode(chunks: &[Chunk]) -> (Bytes, u64) {
    match capture::encode(request(chunks)) {
        Ok(frame) => (frame.into(), 0),
        Err(_) => (Bytes::new(), chunks.iter().map(|chunk| u64::from(chunk.spans)).sum()),
    }
}

/// A capture that spans are recorded to.
pub(in crate::sink) struct Capture {
    path: PathBuf,
    file: Arc<Mutex<CaptureFile>>,
}

impl Capture {
    pub(super) fn open(path: &Path, rotation: Rotation, notices: &Notices) -> Result<Self> {
        let (file, cut) = CaptureFile::open(path, rotation)?;
        if cut > 0 {
            let bytes = counted(cut, "byte", "bytes");
            notices.say(format!(
                "{}: the last {bytes} were not a whole frame, such as after a kill, and were cut off",
                path.display()
            ));
        }
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(file)) })
    }

    pub(super) async fn send(&self, frame: Bytes) -> Outcome {
        append(&self.path, &self.file, frame, CaptureFile::append).await
    }
}
