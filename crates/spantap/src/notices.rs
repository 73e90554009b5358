//! What the user should read once: from any thread to the one that writes to the terminal.

use std::sync::mpsc;

/// Takes lines for the user.
#[derive(Clone, Debug)]
pub struct Notices(mpsc::Sender<String>);

impl Notices {
    /// The lines come out of the receiver.
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }

    /// One line, made safe for a terminal where it is shown, which says what failed, on what, why, and what to do.
    pub fn say(&self, line: impl Into<String>) {
        // At the end nobody reads any more.
        let _ = self.0.send(line.into());
    }

    /// The last: an empty line, whoever may still hold a copy of this. What was said before it is read.
    pub fn end(&self) {
        self.say("");
    }
}
