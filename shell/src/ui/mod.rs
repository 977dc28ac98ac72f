//! The terminal kit of the three programs with a screen: loop, terminal, theme, keys, widgets and test script.
//!
//! A program implements [`App`] as plain values and gives it to [`run::run`]. State changes in [`App::update`] only;
//! drawing may remember where it drew (for clicks and page keys) and how text was wrapped, nothing else. Remote text
//! passes [`text::clean`] in every widget, and [`text::scrub`] looks at each cell once more before it is written, so
//! that no control character reaches the terminal. Colours are named in [`theme`] alone.
//!
//! A program's models and views are not here. `tests.rs` has a small example of an [`App`].

use ratatui::Frame;

use hydra_core::time::Time;

pub mod chart;
pub mod composer;
pub mod frames;
pub mod gauge;
pub mod help;
pub mod keys;
pub mod log;
pub mod overlay;
pub mod pacing;
pub mod panel;
pub mod run;
pub mod series;
pub mod spark;
pub mod table;
pub mod tabs;
pub mod terminal;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod text;
pub mod theme;
pub mod transcript;

#[cfg(test)]
mod tests;

pub use crossterm::event::Event;
pub use ratatui;

pub use keys::{Binding, PROGRAM};
pub use theme::Theme;

/// A program with a screen: a model, its messages, and how it looks.
pub trait App {
    /// What can happen to the model: keys, facts from the work, wake-ups.
    type Msg: 'static;
    /// What the model wants done outside: messages to the work, files to write, leaving.
    type Cmd;

    /// The keys that hold in the present state; the keymap and the help overlay are made of them.
    fn keys(&self) -> &[Binding<Self::Msg>];

    /// The message of a terminal event; pure. Usually [`keys::lookup`] in [`keys`](Self::keys), then mouse, paste and
    /// resize. The first event of a run is [`Event::Resize`] with the terminal's size.
    fn keymap(&self, event: &Event) -> Option<Self::Msg>;

    /// The only place where state changes.
    fn update(&mut self, now: Time, msg: Self::Msg) -> Vec<Self::Cmd>;

    /// Draws; cannot change state. Must cope with any size, also 0×0.
    fn view(&self, frame: &mut Frame<'_>);

    /// When [`on_wake`](Self::on_wake) wants to be asked next, for animations and things that expire.
    fn wake_at(&self) -> Option<Time>;

    /// The message of a wake-up; it should move [`wake_at`](Self::wake_at) on. Without one the screen is redrawn only.
    fn on_wake(&self) -> Option<Self::Msg> {
        None
    }
}
