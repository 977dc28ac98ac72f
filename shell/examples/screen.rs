//! A screen on the kit, as small as one can be, that can be made to end in every way: for trying a terminal, and for
//! `tests/terminal.rs`.
//!
//! Keys: q quits, p panics while a message is handled, t panics in another thread, c copies a text, x is counted.

use std::ops::ControlFlow;

use hydra_core::time::Time;
use hydra_shell::clock::Clock;
use hydra_shell::signals::Stop;
use hydra_shell::ui::ratatui::Frame;
use hydra_shell::ui::{App, Binding, Event, keys, run, terminal};
use tokio::sync::mpsc;

#[derive(Clone)]
enum Msg {
    Quit,
    Panic,
    PanicElsewhere,
    Copy,
    Count,
    Resized(u16, u16),
}

const KEYS: &[Binding<Msg>] = &[
    Binding::new("q ctrl-c", Msg::Quit, "quit"),
    Binding::new("p", Msg::Panic, "panic"),
    Binding::new("t", Msg::PanicElsewhere, "panic in another thread"),
    Binding::new("c", Msg::Copy, "copy"),
    Binding::new("x", Msg::Count, "count"),
];

struct Screen {
    size: (u16, u16),
    counted: usize,
}

impl App for Screen {
    type Msg = Msg;
    type Cmd = ();

    fn keys(&self) -> &[Binding<Msg>] {
        KEYS
    }

    fn keymap(&self, event: &Event) -> Option<Msg> {
        match event {
            Event::Resize(width, height) => Some(Msg::Resized(*width, *height)),
            event => keys::lookup(KEYS, event),
        }
    }

    fn update(&mut self, _: Time, msg: Msg) -> Vec<()> {
        match msg {
            Msg::Quit => return vec![()],
            Msg::Panic => panic!("a bug on purpose"),
            Msg::PanicElsewhere => drop(std::thread::spawn(|| panic!("a bug on purpose, elsewhere"))),
            Msg::Copy => drop(terminal::copy("copied")),
            Msg::Count => self.counted += 1,
            Msg::Resized(width, height) => self.size = (width, height),
        }
        Vec::new()
    }

    fn view(&self, frame: &mut Frame<'_>) {
        let words = format!("a screen of {} by {}, {} counted", self.size.0, self.size.1, self.counted);
        frame.render_widget(words, frame.area());
    }

    fn wake_at(&self) -> Option<Time> {
        None
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (_sender, messages) = mpsc::channel(1);
    let mut screen = Screen { size: (0, 0), counted: 0 };
    let on_stop = |_: Stop| Msg::Quit;
    let end = run::run(&mut screen, Clock::start(), messages, on_stop, |()| ControlFlow::Break(())).await;
    println!("the screen ended: {end:?}");
}
