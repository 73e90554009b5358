//! Notices: single lines for the user, sent from any thread to the one that writes to the terminal.

use std::sync::mpsc;

/// Sends notices.
#[derive(Clone, Debug)]
pub struct Notices(mpsc::Sender<String>);

impl Notices {
    /// Returns a sender, and the receiver that yields its lines.
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }

    /// Sends one line. It should name what failed, on what, why, and what to do. The reader makes it safe for a terminal.
    pub fn say(&self, line: impl Into<String>) {
        // The reader is gone once the final counters are printed.
        let _ = self.0.send(line.into());
    }

    /// Ends the notices, even if clones of this sender remain: sends an empty line, at which the reader stops.
    pub fn end(&self) {
        self.say("");
    }
}
