//! The exit code of the commands that read files: 1 means that nothing was found, as for `grep`, so an error is 2.

use std::fmt;

/// Marks an error of such a command, and says what it could not do.
#[derive(Debug)]
pub(super) struct Failed(pub(super) &'static str);

impl Failed {
    pub(super) const EXIT_CODE: u8 = 2;
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
