//! How the chat screen looks: header, conversation, composer with the matching commands above it, hints, help.
//!
//! Draws what the model holds and changes nothing. Everything may be as small as nothing; what has no room goes, the
//! least important first.

use hydra_shell::ui::ratatui::Frame;
use hydra_shell::ui::ratatui::buffer::Buffer;
use hydra_shell::ui::ratatui::layout::{Constraint, Layout, Position, Rect};
use hydra_shell::ui::ratatui::style::Style;
use hydra_shell::ui::ratatui::widgets::{Clear, Widget as _};
use hydra_shell::ui::text::{self, put};
use hydra_shell::ui::theme::Sign;
use hydra_shell::ui::{App as _, Binding, help, keys};

use super::app::{MODEL, Screen};
use super::keys::{KEYS, WRITING};
use super::msg::{Link, Msg};
use crate::commands;
use crate::print::model;
use crate::sampling::Sampling;

/// Lines longer than this are hard to read.
const WIDEST: u16 = 112;
/// Cells that the coordinator's goodbye may take of the header.
const GOODBYE: usize = 32;
/// Below this, the composer has no border and there are no hints.
const LOW: u16 = 8;

/// The rows of the help overlay: keys, then commands.
pub fn help_table() -> Vec<Binding<Msg>> {
    // Commands are no keys, but belong into the help.
    let commands =
        commands::COMMANDS.iter().map(|command| Binding::new(command.usage, Msg::Help, command.help).group("Commands"));
    KEYS.iter().chain(WRITING).cloned().chain(commands).collect()
}

/// Draws all of it.
pub fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let whole = frame.area();
    let width = whole.width.min(WIDEST);
    let area = Rect { x: whole.x + (whole.width - width) / 2, width, ..whole };
    let low = area.height < LOW;
    let (border, below) = if low { (0, 0) } else { (2, 1) };
    let rows = screen.composer.rows(width.saturating_sub(border), (area.height / 3).max(1)) + border;
    let parts = [Constraint::Length(1), Constraint::Fill(1), Constraint::Length(rows), Constraint::Length(below)];
    let [top, middle, bottom, hints] = Layout::vertical(parts).areas(area);
    let theme = screen.theme;
    let buffer = frame.buffer_mut();
    header(screen, buffer, top);
    // A blank line below the header, where there is room for it.
    let gap = u16::from(!low);
    // A toast stands there, as the end of the conversation is where people read.
    let toast = Rect { height: 1.min(middle.height), ..middle };
    let middle = Rect { y: middle.y + gap.min(middle.height), height: middle.height.saturating_sub(gap), ..middle };
    if screen.transcript.entries().is_empty() && screen.running.is_none() {
        welcome(screen, buffer, middle);
    } else {
        let streams = screen.running.as_ref().is_some_and(|running| running.begun);
        screen.transcript.draw(buffer, middle, theme, (screen.user.as_str(), MODEL), streams);
    }
    let cursor = composer(screen, buffer, bottom, low);
    // What is said there is said elsewhere if there is no footer.
    footer(screen, buffer, if low && screen.hint.is_some() { toast } else { hints });
    matches(screen, buffer, middle);
    screen.toasts.draw(buffer, toast, theme);
    if let Some(scroll) = &screen.help {
        help::draw(
            buffer,
            Rect { height: whole.height - below.min(whole.height), ..whole },
            theme,
            &help_table(),
            scroll,
        );
    } else if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

/// How the session stands, in words of two lengths.
fn link(screen: &Screen) -> (Sign, String, String) {
    match screen.link {
        Link::Open => match screen.silent() {
            Some(silent) => {
                let words = format!("no answer for {}", text::countdown(silent));
                (Sign::Warn, words.clone(), words)
            }
            None => (Sign::Good, "connected".to_owned(), "connected".to_owned()),
        },
        Link::Waiting { until } if until > screen.now => {
            let left = text::countdown(until.since(screen.now));
            (Sign::Bad, format!("disconnected, again in {left}"), format!("again in {left}"))
        }
        Link::Over | Link::Refused => {
            let words = text::clip(&screen.goodbye, GOODBYE).into_owned();
            let sign = if screen.link == Link::Refused { Sign::Bad } else { Sign::Info };
            (sign, words.clone(), words)
        }
        Link::Connecting => (Sign::Warn, "connecting…".to_owned(), "connecting…".to_owned()),
        Link::Waiting { .. } => (Sign::Warn, "disconnected, connecting…".to_owned(), "connecting…".to_owned()),
    }
}

/// User, balance, price and model to the left, the session to the right.
fn header(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.theme;
    let (sign, long, short) = link(screen);
    let words = if area.width < 64 { short } else { long };
    let words = format!("{} {words}", sign.mark());
    let cells = (text::width(&words) as u16).min(area.width);
    put(buffer, area, (area.right() - cells, area.y), &words, cells, theme.sign(sign));
    let mut parts: Vec<(String, Style)> = vec![(screen.user.to_string(), theme.title())];
    if let Some(balance) = screen.balance {
        let style = if screen.is_poor() { theme.bad() } else { theme.good() };
        parts.push((format!("{balance} HYD"), style));
    }
    parts.extend(screen.price.map(|price| (format!("{price} an answer"), theme.dim())));
    parts.extend(screen.version.map(|known| (model(known), theme.dim())));
    let end = area.right().saturating_sub(cells + 2);
    let mut x = area.x;
    for (at, (words, style)) in parts.iter().enumerate() {
        let room = end.saturating_sub(x);
        let gap = if at == 0 { "" } else { " · " };
        // The name may be cut, the rest is whole or not there.
        if at > 0 && text::width(words) + 3 > usize::from(room) {
            break;
        }
        x += put(buffer, area, (x, area.y), gap, room, theme.dim());
        x += put(buffer, area, (x, area.y), words, end.saturating_sub(x), *style);
    }
}

/// What an empty conversation says.
fn welcome(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.theme;
    let price = screen.price.map_or_else(|| "credits".to_owned(), |price| format!("{price} HYD"));
    let cost = if screen.is_poor() {
        (format!("{} not enough credits: an answer costs {price}; {}", Sign::Bad.mark(), screen.earn), theme.bad())
    } else {
        (
            format!(
                "An answer costs {price}, also one that you stop or leave once it has begun; one that fails costs nothing."
            ),
            theme.text(),
        )
    };
    // The last number: what goes first where there is little room.
    let lines = [
        ("Talk to the model that is being trained.".to_owned(), theme.title(), 1),
        (cost.0, cost.1, 0),
        ("It knows of no question before, and of a long one it reads the end.".to_owned(), theme.text(), 2),
        ("Enter sends · / lists the commands · F1 helps".to_owned(), theme.dim(), 0),
    ];
    let cells = usize::from(area.width.saturating_sub(2)).clamp(1, 64);
    let room = usize::from(area.height);
    let told = |least: u8, gap: bool| {
        let mut rows = Vec::new();
        for (words, style, _) in lines.iter().filter(|(.., goes)| *goes <= least) {
            if gap && !rows.is_empty() {
                rows.push(("", *style));
            }
            rows.extend(text::wrap(words, cells).into_iter().map(|range| (&words[range], *style)));
        }
        rows
    };
    let ways = [(2, true), (2, false), (1, false)].into_iter();
    let rows = ways.map(|(least, gap)| told(least, gap)).find(|rows| rows.len() <= room);
    let rows = rows.unwrap_or_else(|| told(0, false));
    let top = area.y + area.height.saturating_sub(rows.len() as u16) / 2;
    for ((words, style), y) in rows.into_iter().zip(top..area.bottom()) {
        let cells = text::width(words) as u16;
        let x = area.x + area.width.saturating_sub(cells) / 2;
        put(buffer, area, (x, y), words, cells, style);
    }
}

fn composer(screen: &Screen, buffer: &mut Buffer, area: Rect, low: bool) -> Option<Position> {
    let theme = screen.theme;
    let inside = if low {
        area
    } else {
        let title = match &screen.running {
            Some(running) if running.is_open() => {
                let seconds = screen.now.since(running.asked).as_secs();
                match (running.cancelled, running.begun, screen.link) {
                    (true, ..) => "Stopping".to_owned(),
                    (_, true, _) => "Answering".to_owned(),
                    (_, _, Link::Open) if seconds > 0 => format!("Waiting for the first word · {seconds}s"),
                    (_, _, Link::Open) => "Waiting for the first word".to_owned(),
                    _ => "Waiting for the connection".to_owned(),
                }
            }
            // The rest of it is on its way to the screen.
            Some(_) => "Showing the answer · Esc shows all of it".to_owned(),
            None => "Message".to_owned(),
        };
        let block = theme.panel(&title, screen.help.is_none());
        let inside = block.inner(area);
        block.render(area, buffer);
        inside
    };
    let empty = match screen.link {
        Link::Over => "looking now and then whether the run goes on",
        Link::Refused => "/save FILE keeps the conversation",
        _ => "ask something",
    };
    screen.composer.draw(buffer, inside, theme, empty)
}

/// The keys that do something here, and to the right what was set; or the words that stand there for now.
fn footer(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.theme;
    if let Some(hint) = &screen.hint {
        Clear.render(area, buffer);
        put(buffer, area, (area.x, area.y), &hint.words, area.width, theme.warn());
        return;
    }
    let mut x = area.x;
    if let Some((keys, does)) = stops(screen) {
        x += put(buffer, area, (x, area.y), keys, area.width, theme.key());
        x += put(buffer, area, (x, area.y), &format!(" {does}  "), area.right() - x, theme.dim());
    }
    let room = area.right() - x;
    let moves = screen.running.as_ref().is_some_and(|running| !running.cancelled);
    let useful = |binding: &&Binding<Msg>| match binding.msg {
        Msg::Send => !screen.is_busy(),
        // Told first, where they stop something.
        Msg::Interrupt => !moves,
        _ => true,
    };
    let mut table: Vec<_> = screen.keys().iter().filter(useful).cloned().collect();
    // Where there is little room, help and the way out matter more; then what was set.
    table.sort_by_key(|binding| binding.group == "Conversation");
    let first = table.iter().filter(|binding| binding.group != "Conversation").cloned().collect::<Vec<_>>();
    let needed = keys::hints(&first, theme, room).width() as u16 + 2;
    let set = fitting(&settings(&screen.sampling), usize::from(room.saturating_sub(needed)));
    let cells = text::width(&set) as u16;
    put(buffer, area, (area.right() - cells, area.y), &set, cells, theme.dim());
    let left = if cells == 0 { room } else { room.saturating_sub(cells + 2) };
    keys::hints(&table, theme, left).render(Rect { x, width: left, ..area }, buffer);
}

/// What Esc does now, and Ctrl-C, if it is more than to leave.
fn stops(screen: &Screen) -> Option<(&'static str, &'static str)> {
    if screen.help.is_some() {
        return None;
    }
    if screen.lists() {
        return Some(("Esc", "close the list"));
    }
    match &screen.running {
        Some(running) if !running.is_open() => Some(("Esc/Ctrl-C", "show all")),
        Some(running) if !running.cancelled => Some(("Esc/Ctrl-C", "stop")),
        _ => None,
    }
}

/// What is not left to the run.
fn settings(sampling: &Sampling) -> Vec<String> {
    let set = |name: &str, value: Option<String>| value.map(|value| format!("{name} {value}"));
    let all = [
        set("temp", sampling.temperature.map(|x| x.to_string())),
        set("topk", sampling.top_k.map(|x| x.to_string())),
        set("topp", sampling.top_p.map(|x| x.to_string())),
        set("max", sampling.max_new_tokens.map(|x| x.to_string())),
        set("seed", sampling.seed.map(|x| x.to_string())),
    ];
    all.into_iter().flatten().collect()
}

/// As many of them as there is room for and how many more there are, or how many in all; nothing if not even that fits.
fn fitting(all: &[String], room: usize) -> String {
    if all.is_empty() {
        return String::new();
    }
    let words = |shown: usize| match all.len() - shown {
        0 => all.join(" · "),
        rest => format!("{} +{rest}", all[..shown].join(" · ")),
    };
    let counted = [text::count(all.len() as u64, "setting", "settings"), format!("{} set", all.len())];
    (1..=all.len()).rev().map(words).chain(counted).find(|words| text::width(words) <= room).unwrap_or_default()
}

/// The commands that begin as what is written, over the conversation's end.
fn matches(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.theme;
    let matching = screen.listing();
    let rows = usize::from(area.height).min(matching.len());
    let first = screen.listed.get().min(matching.len() - rows);
    screen.listed.set(first);
    screen.hides.set(rows < matching.len());
    let left = matching.iter().map(|command| text::width(command.usage)).max().unwrap_or(0) as u16;
    let top = area.bottom() - rows as u16;
    for (command, y) in matching[first..].iter().zip(top..area.bottom()) {
        Clear.render(Rect { y, height: 1, ..area }, buffer);
        put(buffer, area, (area.x + 2.min(area.width), y), command.usage, area.width, theme.key());
        put(buffer, area, ((area.x + left).saturating_add(4), y), command.help, area.width, theme.dim());
    }
    let mut sign = |words: String, y: u16| {
        let cells = (text::width(&words) as u16).min(area.width);
        put(buffer, area, (area.right() - cells, y), &words, cells, theme.accent());
    };
    let below = matching.len() - first - rows;
    if first > 0 {
        sign(format!("↑ {first} more"), top);
    }
    if below > 0 && rows > 0 {
        sign(format!("↓ {below} more"), area.bottom() - 1);
    }
}
