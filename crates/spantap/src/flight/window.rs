//! The latest frames, within a time and a number of bytes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// What a frame takes beside its bytes.
const OVERHEAD: usize = size_of::<Kept>() + 64;
/// How exactly it is remembered when spans did not fit: in this many steps of the time.
const STEPS: u32 = 256;

/// A frame of a capture.
struct Kept {
    frame: Bytes,
    spans: u64,
    at: Instant,
}

/// The frames that came within a time, as far as they fit into a number of bytes.
///
/// Frames leave it whole: a recorder makes one each half second, or more often.
pub(super) struct Window {
    time: Duration,
    max_bytes: usize,
    frames: VecDeque<Kept>,
    bytes: usize,
    spans: u64,
    /// The spans that did not fit: when they came, in steps of the time, and how many.
    squeezed_out: VecDeque<(Instant, u64)>,
}

/// What is in a window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Content {
    /// The oldest first. They share their memory with the window.
    pub(super) frames: Vec<Bytes>,
    pub(super) spans: u64,
    /// How long ago the first of them came.
    pub(super) age: Duration,
    /// How many spans came within the time and did not fit.
    pub(super) squeezed_out: u64,
}

impl Window {
    /// Keeps the frames of this time, in at most this many bytes.
    pub(super) fn new(time: Duration, max_bytes: usize) -> Self {
        let (frames, squeezed_out) = (VecDeque::new(), VecDeque::new());
        Self { time, max_bytes, frames, bytes: 0, spans: 0, squeezed_out }
    }

    /// Adds a frame with this many spans. Returns whether one had to leave that came within the time.
    pub(super) fn push(&mut self, frame: Bytes, spans: u64, now: Instant) -> bool {
        self.forget_old(now);
        self.bytes += OVERHEAD + frame.len();
        self.spans += spans;
        self.frames.push_back(Kept { frame, spans, at: now });
        let mut is_full = false;
        while self.bytes > self.max_bytes {
            let Some((at, spans)) = self.pop() else { break };
            is_full = true;
            match self.squeezed_out.back_mut() {
                Some((step, count)) if at.saturating_duration_since(*step) < self.time / STEPS => {
                    *count += spans
                }
                _ => self.squeezed_out.push_back((at, spans)),
            }
        }
        is_full
    }

    /// What came within the time.
    pub(super) fn content(&mut self, now: Instant) -> Content {
        self.forget_old(now);
        let age = self.frames.front().map(|of| now.saturating_duration_since(of.at));
        Content {
            frames: self.frames.iter().map(|of| of.frame.clone()).collect(),
            spans: self.spans,
            age: age.unwrap_or_default(),
            squeezed_out: self.squeezed_out.iter().map(|(_, spans)| spans).sum(),
        }
    }

    /// The bytes of its frames, with what is needed to keep them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How long ago its first frame came.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.frames.front().map(|of| now.saturating_duration_since(of.at)).unwrap_or_default()
    }

    /// How long frames stay: the time, or less while the memory has no room for all that comes within it.
    pub(super) fn held(&self, now: Instant) -> Duration {
        if self.squeezed_out.is_empty() { self.time } else { self.age(now) }
    }

    fn forget_old(&mut self, now: Instant) {
        let time = self.time;
        let is_old = |at: Instant| now.saturating_duration_since(at) > time;
        while self.frames.front().is_some_and(|of| is_old(of.at)) {
            self.pop();
        }
        while self.squeezed_out.front().is_some_and(|(at, _)| is_old(*at)) {
            self.squeezed_out.pop_front();
        }
    }

    fn pop(&mut self) -> Option<(Instant, u64)> {
        let Kept { frame, spans, at } = self.frames.pop_front()?;
        self.bytes -= OVERHEAD + frame.len();
        self.spans -= spans;
        Some((at, spans))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frame(bytes: usize) -> Bytes {
        vec![7; bytes].into()
    }

    #[test]
    fn frames_leave_when_their_time_is_over() {
        let start = Instant::now();
        let mut window = Window::new(10 * SECOND, usize::MAX);
        for second in 0..30 {
            assert!(!window.push(frame(second), 2, start + SECOND * second as u32));
        }
        let content = window.content(start + 29 * SECOND);
        let lengths: Vec<usize> = content.frames.iter().map(Bytes::len).collect();
        assert_eq!(lengths, (19..30).collect::<Vec<_>>());
        assert_eq!((content.spans, content.age, content.squeezed_out), (22, 10 * SECOND, 0));
        assert_eq!(window.held(start + 29 * SECOND), 10 * SECOND);
        // While nothing comes, too.
        let empty = Content { frames: Vec::new(), spans: 0, age: Duration::ZERO, squeezed_out: 0 };
        assert_eq!((window.content(start + 60 * SECOND), window.bytes()), (empty, 0));
    }

    #[test]
    fn frames_that_do_not_fit_are_counted_as_long_as_they_would_be_kept() {
        let start = Instant::now();
        let mut window = Window::new(100 * SECOND, 3 * (OVERHEAD + 1_000));
        let full = (0..10).map(|second| window.push(frame(1_000), 5, start + SECOND * second));
        assert_eq!(full.collect::<Vec<_>>(), [vec![false; 3], vec![true; 7]].concat());
        let content = window.content(start + 9 * SECOND);
        assert_eq!((content.spans, content.age, content.squeezed_out), (15, 2 * SECOND, 35));
        assert_eq!(window.held(start + 9 * SECOND), 2 * SECOND);
        // Of those that came after 0 to 6 s, two would be left.
        assert_eq!(window.content(start + 105 * SECOND).squeezed_out, 10);
        assert_eq!(window.content(start + 200 * SECOND).squeezed_out, 0);
        // One that never fits.
        assert!(window.push(frame(10_000), 9, start + 300 * SECOND));
        let content = window.content(start + 300 * SECOND);
        assert_eq!((content.frames.len(), content.squeezed_out, window.bytes()), (0, 9, 0));
    }

    #[test]
    fn what_did_not_fit_is_remembered_in_little_memory() {
        let start = Instant::now();
        let mut window = Window::new(256 * SECOND, 1);
        for tenth in 0..100_000 {
            window.push(frame(9), 1, start + SECOND / 10 * tenth);
        }
        assert!(window.squeezed_out.len() <= 257, "{}", window.squeezed_out.len());
    }

    proptest! {
        #[test]
        fn the_limits_hold_and_no_span_is_forgotten(
            frames in prop::collection::vec((0..2_000_usize, 0..50_u64, 0..3_000_u64), 1..200),
            max_bytes in 0..50_000_usize,
        ) {
            let (start, mut at) = (Instant::now(), Instant::now());
            let mut window = Window::new(20 * SECOND, max_bytes);
            let mut all = Vec::new();
            for (length, spans, pause) in frames {
                at += Duration::from_millis(pause);
                window.push(frame(length), spans, at);
                all.push((at, spans));
                prop_assert!(window.bytes() <= max_bytes);
                let content = window.content(at);
                prop_assert!(content.age <= 20 * SECOND);
                let within: u64 = all.iter().filter(|(of, _)| at - *of <= 20 * SECOND).map(|(_, spans)| spans).sum();
                // A step of those that did not fit may leave together, and a little early.
                prop_assert!(content.spans + content.squeezed_out <= within, "{:?}", at - start);
                if content.squeezed_out == 0 && max_bytes > 200 * (2_000 + OVERHEAD) {
                    prop_assert_eq!(content.spans, within);
                }
            }
        }
    }
}
