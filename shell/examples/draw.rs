//! Times what drawing costs: the loss chart with a million points and a table with 5,000 rows, at 120×40.
//!
//! `cargo xtask bench ui` runs it. Argument: how many frames. Prints one JSON object: milliseconds of each frame, from
//! the view to the bytes for the terminal. Something changes before each frame, as in a run: a point, or every row.

use std::time::Instant;

use hydra_shell::ui::chart::{Chart, Names};
use hydra_shell::ui::ratatui::backend::CrosstermBackend;
use hydra_shell::ui::ratatui::layout::Rect;
use hydra_shell::ui::ratatui::{Frame, Terminal, TerminalOptions, Viewport};
use hydra_shell::ui::table::{Column, Table, Width};
use hydra_shell::ui::{Theme, text};

const POINTS: u32 = 1_000_000;
const ROWS: u32 = 5_000;
const SIZE: Rect = Rect { x: 0, y: 0, width: 120, height: 40 };

/// A row of the table.
struct Row {
    id: u32,
    user: String,
    tokens_per_s: f64,
    earned: u32,
}

fn main() -> anyhow::Result<()> {
    let frames = std::env::args().nth(1).map_or(Ok(500), |frames| frames.parse())?;
    println!("{}", serde_json::json!({ "chart_ms": charts(frames)?, "table_ms": tables(frames)? }));
    Ok(())
}

fn charts(frames: u32) -> anyhow::Result<Vec<f64>> {
    let names = Names {
        raw: "loss".into(),
        second: "held-out".into(),
        x: "step".into(),
        mark: String::new(),
        empty: "no step yet".into(),
    };
    let mut chart = Chart::new(names);
    for step in 0..POINTS {
        push(&mut chart, step);
    }
    time(frames, |number, frame| {
        push(&mut chart, POINTS + number);
        chart.draw(frame.buffer_mut(), SIZE, Theme::colour());
    })
}

/// A loss that falls and scatters, measured on held-out text now and then.
fn push(chart: &mut Chart, step: u32) {
    let fallen = 2.0 + 7.0 / (1.0 + f64::from(step) / 2_000.0);
    let scatter = f64::from(step.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
    chart.raw.push(f64::from(step), fallen + 0.3 * scatter);
    if step.is_multiple_of(500) {
        chart.second.push(f64::from(step), fallen + 0.05);
        chart.mark(f64::from(step));
    }
}

fn tables(frames: u32) -> anyhow::Result<Vec<f64>> {
    let mut rows: Vec<Row> = (0..ROWS)
        .map(|id| Row { id, user: format!("user-{id}"), tokens_per_s: f64::from(id * 7 % 977), earned: id % 100 })
        .collect();
    let mut table = Table::new(vec![
        Column::number("id", 6, 0),
        Column::words("user", Width::AtLeast(8), 0),
        Column::number("tokens/s", 9, 1),
        Column::number("earned", 9, 1),
    ]);
    table.sort_by(2);
    time(frames, |number, frame| {
        for row in &mut rows {
            row.tokens_per_s += f64::from((row.id * 31 + number * 17) % 11) - 5.0;
            row.earned += 1;
        }
        let compare = |a: &Row, b: &Row, column| match column {
            1 => a.user.cmp(&b.user),
            2 => a.tokens_per_s.total_cmp(&b.tokens_per_s),
            3 => a.earned.cmp(&b.earned),
            _ => a.id.cmp(&b.id),
        };
        table.arrange(&rows, |row| row.id, compare, |row, words| row.user.contains(words));
        table.step(&rows, |row| row.id, 1);
        table.draw(frame.buffer_mut(), SIZE, Theme::colour(), &rows, cell);
    })
}

/// Draws frames into bytes; the milliseconds that each took.
fn time(frames: u32, mut draw: impl FnMut(u32, &mut Frame<'_>)) -> anyhow::Result<Vec<f64>> {
    let options = TerminalOptions { viewport: Viewport::Fixed(SIZE) };
    let mut terminal = Terminal::with_options(CrosstermBackend::new(std::io::sink()), options)?;
    let mut times = Vec::new();
    for number in 0..frames {
        let begun = Instant::now();
        terminal.draw(|frame| draw(number, frame))?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

fn cell(row: &Row, column: usize) -> (String, hydra_shell::ui::ratatui::style::Style) {
    let theme = Theme::colour();
    match column {
        1 => (row.user.clone(), theme.text()),
        2 => (text::short(row.tokens_per_s), theme.accent()),
        3 => (format!("{}.0", row.earned), theme.good()),
        _ => (row.id.to_string(), theme.dim()),
    }
}
