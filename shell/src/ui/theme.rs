//! How meanings look: the one file that names a colour.
//!
//! Only the terminal's own 16 colours, and of them neither black, white and grey nor the blue that is too dark on
//! black, so that every theme of the terminal stays legible; `NO_COLOR` leaves modifiers alone. Every style that a
//! colour carries also has a modifier or goes with a sign ([`Sign`]), since meaning must not hang on colour.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, BorderType};

use crate::terminal::no_color;

/// The styles of one program; cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    colours: bool,
}

/// How something stands, for toasts and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sign {
    /// A fact.
    #[default]
    Info,
    /// It went well.
    Good,
    /// Somebody should look.
    Warn,
    /// It failed.
    Bad,
}

impl Sign {
    /// One cell that tells the sign without colour.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Info => "•",
            Self::Good => "✓",
            Self::Warn => "!",
            Self::Bad => "✗",
        }
    }
}

impl Default for Theme {
    fn default() -> Self {
        Self::colour()
    }
}

impl Theme {
    /// As the environment wants it: with colours unless `NO_COLOR` is set.
    pub fn detect() -> Self {
        if no_color() { Self::plain() } else { Self::colour() }
    }

    /// With the terminal's colours.
    pub const fn colour() -> Self {
        Self { colours: true }
    }

    /// Modifiers only.
    pub const fn plain() -> Self {
        Self { colours: false }
    }

    fn ink(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// Running text.
    pub fn text(self) -> Style {
        Style::new()
    }

    /// Headings, and what matters most.
    pub fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What may be overlooked: units, hints, times.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// It went well: paid, connected.
    pub fn good(self) -> Style {
        self.ink(Color::Green)
    }

    /// It failed: refused, lost.
    pub fn bad(self) -> Style {
        self.ink(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Somebody should look: waiting, retrying.
    pub fn warn(self) -> Style {
        self.ink(Color::Yellow)
    }

    /// What leads the eye: keys, names, the line that counts.
    pub fn accent(self) -> Style {
        self.ink(Color::Cyan)
    }

    /// The row, tab or choice that keys act on.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A key in hints and help.
    pub fn key(self) -> Style {
        self.accent().add_modifier(Modifier::BOLD)
    }

    /// The filled part of a gauge.
    pub fn filled(self) -> Style {
        self.accent().add_modifier(Modifier::REVERSED)
    }

    /// The border of a panel.
    pub fn border(self, focused: bool) -> Style {
        if focused { self.accent().add_modifier(Modifier::BOLD) } else { self.dim() }
    }

    /// The style of a sign.
    pub fn sign(self, sign: Sign) -> Style {
        match sign {
            Sign::Info => self.accent(),
            Sign::Good => self.good(),
            Sign::Warn => self.warn(),
            Sign::Bad => self.bad(),
        }
    }

    /// Chart: single measurements.
    pub fn chart_raw(self) -> Style {
        self.dim()
    }

    /// Chart: the smoothed line.
    pub fn chart_smooth(self) -> Style {
        self.ink(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Chart: the second series (held-out loss).
    pub fn chart_second(self) -> Style {
        self.ink(Color::Magenta).add_modifier(Modifier::BOLD)
    }

    /// Chart: marks on the axis (payments).
    pub fn chart_mark(self) -> Style {
        self.ink(Color::Green).add_modifier(Modifier::BOLD)
    }

    /// Chart: axes, ticks and their numbers.
    pub fn chart_axis(self) -> Style {
        self.dim()
    }

    /// Who speaks, in a transcript: the person here.
    pub fn you(self) -> Style {
        self.ink(Color::Green).add_modifier(Modifier::BOLD)
    }

    /// Who speaks, in a transcript: the model.
    pub fn model(self) -> Style {
        self.ink(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// A panel: rounded border with a title, accented while `focused`; the title is also marked, for those without
    /// colours. The title must be the program's own text or [`clean`](super::text::clean).
    pub fn panel(self, title: &str, focused: bool) -> Block<'static> {
        let block = Block::bordered().border_type(BorderType::Rounded).border_style(self.border(focused));
        if title.is_empty() {
            return block;
        }
        let title = if focused { format!(" ▸ {title} ") } else { format!(" {title} ") };
        // Over the border's style, which may be dim.
        block.title(Line::styled(title, self.title().remove_modifier(Modifier::DIM)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_has_no_colour_and_still_tells_apart() {
        let theme = Theme::plain();
        let styles = [theme.good(), theme.bad(), theme.warn(), theme.chart_raw(), theme.filled(), theme.border(true)];
        assert!(styles.iter().all(|style| style.fg.is_none() && style.bg.is_none()));
        assert_ne!(theme.border(true), theme.border(false));
        let marks = [Sign::Info, Sign::Good, Sign::Warn, Sign::Bad].map(Sign::mark);
        assert!((0..4).all(|at| !marks[at + 1..].contains(&marks[at])));
    }
}
