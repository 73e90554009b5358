//! Styles. Nothing is said by a colour alone: each part of a bar has a sign of its own, and what is bad has a word or a
//! mark. The colours are the terminal's own, and can be told apart by people who do not see red and green as different.

use ratatui::style::{Color, Modifier, Style};

use super::model::Part;

/// The styles of the screen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    /// Whether to use colours.
    pub(super) colour: bool,
}

impl Theme {
    fn of(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn plain(self) -> Style {
        Style::new()
    }

    pub(super) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// For what went wrong.
    pub(super) fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// For what may be wrong.
    pub(super) fn warn(self) -> Style {
        self.of(Color::Yellow)
    }

    /// For what is alive, such as a bar.
    pub(super) fn accent(self) -> Style {
        self.of(Color::Cyan)
    }

    /// For what the kernel did.
    pub(super) fn kernel(self) -> Style {
        self.of(Color::Magenta)
    }

    /// The sign of a part of the time, its style and its name. Those of the kernel's states are those of the tree.
    pub(super) fn part(self, part: Part) -> (&'static str, Style, &'static str) {
        let (sign, style) = match part {
            Part::Cpu => ("█", self.of(Color::Blue)),
            Part::RunQueue => ("▒", self.of(Color::Yellow)),
            Part::Disk => ("▄", self.of(Color::Red)),
            Part::Network => ("≈", self.of(Color::Cyan)),
            Part::Lock => ("▌", self.of(Color::Magenta)),
            Part::Sleep => ("░", Style::new()),
            Part::Blocked => ("▂", self.of(Color::Red)),
            Part::Own => ("▓", self.of(Color::Cyan)),
            Part::Idle => ("·", self.dim()),
            Part::Called => ("─", self.dim()),
        };
        (sign, style, part.word())
    }
}
