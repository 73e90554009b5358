//! What was written and why, in words.

use std::time::Duration;

use super::schedule::Pending;
use super::window::Content;
use crate::text::{bytes, counted, readable};

/// Why a file is written.
pub(super) fn because(pending: &Pending) -> String {
    let more = match pending.more {
        0 => String::new(),
        more => format!("; {}", counted(more, "more trigger", "more triggers")),
    };
    format!("because {}{more}", pending.why)
}

/// What is in a file.
pub(super) fn content(content: &Content, time: Duration) -> String {
    let length = content.frames.iter().map(|frame| frame.len() as u64).sum();
    // A frame came with its last spans, up to half a second after its first ones.
    let age = Duration::from_secs(content.age.as_secs() + 1);
    let mut text =
        format!("{} of the last {}, {}", counted(content.spans, "span", "spans"), words(age), bytes(length));
    if content.squeezed_out > 0 {
        let missing = counted(content.squeezed_out, "span", "spans");
        text.push_str(&format!(
            ", without {missing} of the last {} that did not fit into --keep-memory",
            words(time)
        ));
    }
    text
}

/// A time for people.
pub(super) fn words(time: Duration) -> String {
    readable(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
