//! What can happen to the chat screen, and what it wants done outside.

use hydra_core::chat;
use hydra_core::time::Time;
use hydra_shell::ui::composer::Edit;
use hydra_shell::ui::theme::Sign;

use crate::sampling::Sampling;

/// What can happen.
#[derive(Debug, Clone)]
pub enum Msg {
    /// The terminal has a size; the first message.
    Size,
    /// Writing.
    Edit(Edit),
    /// What is written is done.
    Send,
    /// Complete the command.
    Complete,
    /// Esc: the list of commands shall go, or the answer stop.
    Cancel,
    /// Ctrl-C: the answer shall stop; without one, and pressed again, the program.
    Interrupt,
    /// Ctrl-D: the program shall end if nothing is written.
    EndOfInput,
    /// The program shall end.
    Leave,
    /// Show the help.
    Help,
    /// Close it.
    Close,
    /// Scroll it.
    HelpScroll(isize),
    /// Scroll the conversation by rows.
    Scroll(isize),
    /// Scroll it by pages.
    Page(isize),
    /// To its beginning.
    Top,
    /// To its end.
    End,
    /// Copy the last answer.
    Copy,
    /// From the session.
    Session(chat::Event),
    /// The coordinator has said goodbye for good, in these words; the conversation stays.
    Goodbye(String),
    /// It refuses this user, in these words; the conversation stays.
    Refused(String),
    /// The session is over for good.
    Over,
    /// How something short went.
    Told(Sign, String),
    /// What became of the wish to save the conversation.
    Saved(Sign, String),
    /// Time has passed.
    Wake,
}

impl Msg {
    /// Whether somebody pressed a key or turned the wheel.
    pub fn is_input(&self) -> bool {
        let other = matches!(
            self,
            Self::Size | Self::Session(_) | Self::Goodbye(_) | Self::Refused(_) | Self::Over | Self::Wake
        );
        !other && !matches!(self, Self::Leave | Self::Told(..) | Self::Saved(..))
    }
}

/// What shall be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Cmd {
    /// Ask the model.
    Ask(String, Sampling),
    /// Stop the answer.
    Cancel,
    /// Ask for the balance.
    AskBalance,
    /// Ask how the run is.
    AskStatus,
    /// Write a text to a file of this name; `partial` if an answer in it is not complete.
    Save { file: String, text: String, partial: bool },
    /// Put a text on the clipboard.
    Copy(String),
    /// End the session, then the program.
    Leave,
}

/// How the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Being made for the first time.
    Connecting,
    /// It stands.
    Open,
    /// Lost; tried again then, and from then on.
    Waiting { until: Time },
    /// The coordinator has said goodbye for good.
    Over,
    /// It refuses this user.
    Refused,
}
