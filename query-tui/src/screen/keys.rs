//! The key tables of the chat screen; keymap, hints and help are made of them. What is no key here is writing.

use hydra_shell::ui::{Binding, PROGRAM};

use super::msg::Msg;

/// Keys while somebody writes.
pub const KEYS: &[Binding<Msg>] = &[
    Binding::new("enter", Msg::Send, "send").group("Message").hint("send"),
    Binding::new("esc", Msg::Cancel, "stop the answer (paid once begun)").group("Message"),
    Binding::new("tab", Msg::Complete, "complete a /command (again: next)").group("Message"),
    Binding::new("pageup", Msg::Page(-1), "back, also the wheel").group("Conversation").hint("back"),
    Binding::new("pagedown", Msg::Page(1), "on").group("Conversation"),
    Binding::new("shift-up", Msg::Scroll(-1), "a line back").group("Conversation"),
    Binding::new("shift-down", Msg::Scroll(1), "a line on").group("Conversation"),
    Binding::new("ctrl-home", Msg::Top, "to the beginning").group("Conversation"),
    Binding::new("ctrl-end", Msg::End, "to the end").group("Conversation"),
    Binding::new("ctrl-y", Msg::Copy, "copy the last answer").group("Conversation").hint("copy"),
    Binding::new("f1 ctrl-g", Msg::Help, "this help").group(PROGRAM).hint("help"),
    Binding::new("ctrl-c", Msg::Interrupt, "stop, or clear; twice: quit").group(PROGRAM).hint("quit"),
    Binding::new("ctrl-d", Msg::EndOfInput, "quit if nothing written").group(PROGRAM),
];

/// Keys of the composer, which has its own keymap; rows of the help only.
pub const WRITING: &[Binding<Msg>] = &[
    Binding::new("alt-enter", Msg::Help, "a new line, also Ctrl-J").group("Message"),
    Binding::new("up down", Msg::Help, "earlier messages").group("Message"),
    Binding::new("ctrl-u", Msg::Help, "cut to the left (Ctrl-K: right)").group("Message"),
    Binding::new("alt-y", Msg::Help, "put back what was cut").group("Message"),
];

/// Keys while the help is open. Whoever writes goes on with the message, and the help closes; so no letter is a key.
pub const HELP_KEYS: &[Binding<Msg>] = &[
    Binding::new("esc f1 ctrl-g enter", Msg::Close, "close").hint("close"),
    Binding::new("down", Msg::HelpScroll(1), "on").hint("on"),
    Binding::new("up", Msg::HelpScroll(-1), "back").hint("back"),
    Binding::new("pagedown space", Msg::HelpScroll(8), "on"),
    Binding::new("pageup", Msg::HelpScroll(-8), "back"),
    Binding::new("home", Msg::HelpScroll(isize::MIN), "beginning"),
    Binding::new("end", Msg::HelpScroll(isize::MAX), "end"),
    Binding::new("ctrl-c", Msg::Interrupt, "quit").hint("quit"),
];
