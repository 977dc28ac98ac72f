//! A small app on the kit, as a pattern for the three programs: a chart, a composer, help, a toast and quitting.

use std::time::Duration;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::widgets::Widget as _;

use crate::ui::chart::{Chart, Names};
use crate::ui::composer::{self, Composer, Edit};
use crate::ui::overlay::Toasts;
use crate::ui::testkit::{SIZES, Script};
use crate::ui::theme::Sign;
use crate::ui::transcript::{Entry, Transcript, Who};
use crate::ui::*;

use hydra_core::time::Time;
use ratatui::Frame;

#[derive(Debug, Clone, PartialEq)]
enum Msg {
    Quit,
    Help,
    Close,
    Send,
    Scroll(isize),
    Edit(Edit),
    /// From the work: a step's loss.
    Loss(u32, f64),
    Wake,
}

#[derive(Debug, Clone, PartialEq)]
enum Cmd {
    Quit,
    Ask(String),
}

#[derive(Default)]
struct Demo {
    theme: Theme,
    chart: Chart,
    transcript: Transcript,
    composer: Composer,
    toasts: Toasts,
    help: bool,
}

/// Keys of the screen itself. What is no key here goes to the composer.
const KEYS: &[Binding<Msg>] = &[
    Binding::new("enter", Msg::Send, "send the message").group("Message").hint("send"),
    Binding::new("pageup", Msg::Scroll(-5), "scroll back").group("Message"),
    Binding::new("pagedown", Msg::Scroll(5), "scroll on").group("Message"),
    Binding::new("f1 ctrl-g", Msg::Help, "this help").group("Program").hint("help"),
    Binding::new("ctrl-c", Msg::Quit, "quit").group("Program").hint("quit"),
];

/// Keys while help is open.
const HELP_KEYS: &[Binding<Msg>] =
    &[Binding::new("esc f1 q", Msg::Close, "close"), Binding::new("ctrl-c", Msg::Quit, "quit")];

impl Demo {
    fn new() -> Self {
        let names = Names {
            raw: "loss".into(),
            second: String::new(),
            x: "step".into(),
            mark: String::new(),
            empty: "no step yet".into(),
        };
        Self { chart: Chart::new(names), ..Self::default() }
    }
}

impl App for Demo {
    type Msg = Msg;
    type Cmd = Cmd;

    fn keys(&self) -> &[Binding<Msg>] {
        if self.help { HELP_KEYS } else { KEYS }
    }

    fn keymap(&self, event: &Event) -> Option<Msg> {
        let bound = keys::lookup(self.keys(), event);
        bound.or_else(|| composer::edit(event).filter(|_| !self.help).map(Msg::Edit))
    }

    fn update(&mut self, now: Time, msg: Msg) -> Vec<Cmd> {
        match msg {
            Msg::Quit => return vec![Cmd::Quit],
            Msg::Help => self.help = true,
            Msg::Close => self.help = false,
            Msg::Scroll(rows) => self.transcript.scroll(rows),
            Msg::Edit(edit) => self.composer.apply(edit),
            Msg::Send if self.composer.text().trim().is_empty() => {
                self.toasts.push(now, Sign::Warn, "write something first");
            }
            Msg::Send => {
                let text = self.composer.take();
                self.transcript.push(Entry::new(Who::You, &text));
                self.transcript.to_end();
                return vec![Cmd::Ask(text)];
            }
            Msg::Loss(step, loss) => self.chart.raw.push(f64::from(step), loss),
            Msg::Wake => self.toasts.expire(now),
        }
        Vec::new()
    }

    fn view(&self, frame: &mut Frame<'_>) {
        let (area, theme) = (frame.area(), self.theme);
        let rows = self.composer.rows(area.width.saturating_sub(2), 5) + 2;
        let [top, middle, bottom, hints] = Layout::vertical([
            Constraint::Percentage(40),
            Constraint::Fill(1),
            Constraint::Length(rows),
            Constraint::Length(1),
        ])
        .areas(area);
        let buffer = frame.buffer_mut();
        let panel = |buffer: &mut ratatui::buffer::Buffer, area: Rect, title: &str, focused: bool| {
            let block = theme.panel(title, focused);
            let inside = block.inner(area);
            block.render(area, buffer);
            inside
        };
        let inside = panel(buffer, top, "Loss", false);
        self.chart.draw(buffer, inside, theme);
        self.transcript.draw(buffer, middle, theme, ("you", "model"), false);
        let inside = panel(buffer, bottom, "Message", !self.help);
        let cursor = self.composer.draw(buffer, inside, theme, "ask something");
        keys::hints(self.keys(), theme, hints.width).render(hints, buffer);
        self.toasts.draw(buffer, middle, theme);
        if self.help {
            help::draw(buffer, area, theme, KEYS, &help::Scroll::default());
        } else if let Some(cursor) = cursor {
            frame.set_cursor_position(cursor);
        }
    }

    fn wake_at(&self) -> Option<Time> {
        self.toasts.wake_at()
    }

    fn on_wake(&self) -> Option<Msg> {
        Some(Msg::Wake)
    }
}

fn trained(size: (u16, u16)) -> Script<Demo> {
    let mut script = Script::new(Demo::new(), size);
    for step in 0..300 {
        script.msg(Msg::Loss(step, 9.0 / (1.0 + f64::from(step) / 60.0)));
    }
    script
}

#[test]
fn screens_at_each_size() {
    for (width, height) in SIZES {
        let mut script = trained((width, height));
        script.keys("h e l l o space minus enter").text("a longer second message");
        insta::assert_snapshot!(format!("example_{width}x{height}"), script.snapshot());
        script.keys("<f1>");
        insta::assert_snapshot!(format!("example_help_{width}x{height}"), script.screen());
    }
}

#[test]
fn commands_toasts_and_time() {
    let mut script = trained((60, 20));
    script.keys("enter");
    assert!(script.screen().contains("! write something first"));
    script.advance(Duration::from_secs(5));
    assert!(!script.screen().contains("write something"));
    script.text("hi").keys("enter ctrl-c");
    assert_eq!(script.cmds(), [Cmd::Ask("hi".into()), Cmd::Quit]);
    script.keys("f1 x esc y");
    assert_eq!(script.app.composer.text(), "y", "keys do not reach the composer behind the help");
    script.resize((0, 0));
    assert_eq!(script.screen(), "");
}
