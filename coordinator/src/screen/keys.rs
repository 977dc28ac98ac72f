//! The key tables: what is pressed where. The help overlay and the line of hints are made of them.

use hydra_shell::ui::{Binding, PROGRAM};

use super::model::{Overlay, Screen, Tab};
use super::update::Msg;
use super::{overview, workers};

const RUN: &str = "Run";
const PAGES: &str = "Pages";
const WORKERS: &str = "Workers";
const LISTS: &str = "Lists";

/// The keys of every page, with some before them and some after those that act on the run.
macro_rules! common {
    ([$($first:expr,)*] [$($then:expr,)*]) => {
        &[
            $($first,)*
            Binding::new("p", Msg::Pause, "generate no more tasks, or go on").group(RUN).hint("pause"),
            Binding::new("tab right", Msg::Turn(1), "next page").group(PAGES).hint("pages"),
            Binding::new("shift-tab left", Msg::Turn(-1), "page before").group(PAGES),
            Binding::new("? f1", Msg::Help, "this help").group(PROGRAM).hint("help"),
            Binding::new("q ctrl-c", Msg::Quit, "finish what is under way, then stop").group(PROGRAM).hint("quit"),
            Binding::new("s", Msg::Save, "save now: make the next version of what has come").group(RUN).hint("save"),
            Binding::new("+ =", Msg::Queue(1), "keep one task more in the queue").group(RUN).hint("more queued"),
            Binding::new("minus", Msg::Queue(-1), "keep one task less in the queue").group(RUN).hint("fewer"),
            $($then,)*
            Binding::new("1", Msg::Tab(Tab::Overview), "overview").group(PAGES),
            Binding::new("2", Msg::Tab(Tab::Workers), "workers: sort, filter, look closer, kick").group(PAGES),
            Binding::new("3", Msg::Tab(Tab::Ledger), "ledger: supply, balances, newest transfers").group(PAGES),
            Binding::new("4", Msg::Tab(Tab::Samples), "samples: one prompt, answered anew as the model learns").group(PAGES),
            Binding::new("5", Msg::Tab(Tab::Log), "log").group(PAGES),
            Binding::new("up k", Msg::Step(-1), "up").group(LISTS),
            Binding::new("down j", Msg::Step(1), "down").group(LISTS),
            Binding::new("pageup", Msg::Page(-1), "a page up").group(LISTS),
            Binding::new("pagedown space", Msg::Page(1), "a page down").group(LISTS),
            Binding::new("home g", Msg::Edge(false), "to the first").group(LISTS).hint("newest"),
            Binding::new("end G", Msg::Edge(true), "to the last").group(LISTS),
        ]
    };
}

/// Where the log stands beside the rest.
const ON_OVERVIEW: &[Binding<Msg>] = common!([] [
    Binding::new("l", Msg::Level, "log: ERROR, WARN, INFO; DEBUG with HYDRA_LOG=debug").group(LISTS),
    Binding::new("/ f", Msg::Filter, "show only lines with all words you type").group(LISTS),
    Binding::new("w", Msg::Wrap, "wrap long lines, or cut them").group(LISTS),
    Binding::new("esc", Msg::Close, "no filter").group(LISTS),
]);

/// On every page.
const COMMON: &[Binding<Msg>] = common!([] []);

/// On the page of the workers.
const ON_WORKERS: &[Binding<Msg>] = common!([
    Binding::new("/ f", Msg::Filter, "show only workers with all words you type").group(WORKERS).hint("filter"),
    Binding::new("esc", Msg::Close, "no filter").group(WORKERS).hint("no filter"),
    Binding::new("o", Msg::Sort, "order by the next column").group(WORKERS).hint("order"),
    Binding::new("r", Msg::Reverse, "the other way round").group(WORKERS),
    Binding::new("enter", Msg::Detail, "show the chosen one in full, or hide it").group(WORKERS).hint("detail"),
    Binding::new("K delete", Msg::Kick, "kick the chosen one, with a reason that it sees").group(WORKERS).hint("kick"),
] []);

/// On the page of the log.
const ON_LOG: &[Binding<Msg>] = common!([
    Binding::new("l", Msg::Level, "log: ERROR, WARN, INFO; DEBUG with HYDRA_LOG=debug").group(LISTS).hint("level"),
    Binding::new("/ f", Msg::Filter, "show only lines with all words you type").group(LISTS).hint("filter"),
    Binding::new("w", Msg::Wrap, "wrap long lines, or cut them").group(LISTS).hint("wrap"),
    Binding::new("esc", Msg::Close, "no filter; then: follow the newest line").group(LISTS).hint("newest"),
] []);

/// Every key of every page once, for the help.
pub const ALL: &[Binding<Msg>] = common!([] [
    Binding::new("o", Msg::Sort, "order by the next column").group(WORKERS),
    Binding::new("r", Msg::Reverse, "the other way round").group(WORKERS),
    Binding::new("enter", Msg::Detail, "show the chosen one in full, or hide it").group(WORKERS),
    Binding::new("K delete", Msg::Kick, "kick the chosen one, with a reason that it sees").group(WORKERS),
    Binding::new("/ f", Msg::Filter, "show only workers or log lines with all words you type").group(LISTS),
    Binding::new("esc", Msg::Close, "no filter; in the log: follow the newest line").group(LISTS),
    Binding::new("l", Msg::Level, "log: ERROR, WARN, INFO; DEBUG with HYDRA_LOG=debug").group(LISTS),
    Binding::new("w", Msg::Wrap, "wrap long lines of the log, or cut them").group(LISTS),
]);

/// While the help is open.
const ON_HELP: &[Binding<Msg>] = &[
    Binding::new("esc ? f1 q", Msg::Close, "").hint("close"),
    Binding::new("up k", Msg::Step(-1), "").hint("up"),
    Binding::new("down j", Msg::Step(1), "").hint("down"),
    Binding::new("pageup", Msg::Page(-1), ""),
    Binding::new("pagedown space", Msg::Page(1), ""),
    Binding::new("home g", Msg::Step(isize::MIN), ""),
    Binding::new("end G", Msg::Step(isize::MAX), ""),
    Binding::new("ctrl-c", Msg::Quit, ""),
];

/// While words are written.
const ON_WORDS: &[Binding<Msg>] = &[
    Binding::new("enter", Msg::Confirm, "").hint("kick"),
    Binding::new("esc", Msg::Close, "").hint("leave it"),
    Binding::new("ctrl-c", Msg::Close, ""),
];

/// While it is asked whether to stop. Not `q`: whoever hits it twice must not end the run.
const ON_QUIT: &[Binding<Msg>] = &[
    Binding::new("y enter ctrl-c", Msg::Confirm, "").hint("stop"),
    Binding::new("n esc", Msg::Close, "").hint("go on"),
];

/// The keys that hold in the present state.
pub fn keys(screen: &Screen) -> &'static [Binding<Msg>] {
    match screen.overlay {
        Overlay::Help(_) => ON_HELP,
        Overlay::Filter(_) | Overlay::Kick(..) => ON_WORDS,
        Overlay::Quit => ON_QUIT,
        Overlay::None => match screen.tab {
            Tab::Workers => ON_WORKERS,
            Tab::Log => ON_LOG,
            Tab::Overview if overview::has_log(screen) => ON_OVERVIEW,
            Tab::Overview | Tab::Ledger | Tab::Samples => COMMON,
        },
    }
}

/// The same, with hints that say what the keys do as things stand.
pub fn as_things_are(screen: &Screen) -> Vec<Binding<Msg>> {
    let paused = screen.snapshot.as_ref().is_some_and(|snapshot| snapshot.view.paused);
    let in_full = if screen.is_small() { screen.detail.1 } else { screen.detail.0 };
    let filtered = screen.tab == Tab::Log && !screen.log.filter.is_empty();
    let scrolled = match screen.tab {
        Tab::Ledger => !screen.transfers.is_first(),
        Tab::Samples => screen.sample > 0,
        Tab::Overview | Tab::Workers | Tab::Log => false,
    };
    let alone = matches!(screen.overlay, Overlay::None);
    let mut table = keys(screen).to_vec();
    for binding in table.iter_mut().filter(|binding| !binding.hint.is_empty()) {
        binding.hint = match binding.msg {
            Msg::Quit if alone && screen.leaving => "at once",
            Msg::Pause | Msg::Save | Msg::Queue(_) | Msg::Kick if alone && screen.leaving => "",
            Msg::Pause if paused => "go on",
            Msg::Edge(_) if !scrolled => "",
            Msg::Detail | Msg::Kick if screen.chosen().is_none() => "",
            Msg::Close if alone && screen.tab == Tab::Workers && workers::hides_table(screen) => "table",
            Msg::Close if alone && screen.tab == Tab::Workers && screen.workers.filter().is_empty() => "",
            Msg::Detail if in_full => "hide detail",
            Msg::Wrap if screen.log.wraps() => "cut",
            Msg::Close if alone && filtered => "no filter",
            _ => binding.hint,
        };
    }
    table
}
