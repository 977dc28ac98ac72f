//! Times what the coordinator's pages cost with 5,000 workers, at 120×40.
//!
//! `cargo xtask bench ui` runs it. Argument: how many frames. Prints one JSON object: milliseconds of each frame of the
//! overview and of the table of workers, from a new snapshot in which every worker has moved on, which is sorted anew,
//! to the bytes for the terminal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hydra_coordinator::screen::{Facts, History, Msg, Point, Row, Screen, Snapshot, Tab};
use hydra_core::credits::Credits;
use hydra_core::hub::{LedgerView, RoundView, TransferView, View, WorkerState, WorkerView};
use hydra_core::ids::{SessionId, TaskId, TransferId, VersionNo, WorkerId};
use hydra_core::ledger::Kind;
use hydra_core::proto::Status;
use hydra_core::time::Time;
use hydra_shell::ui::App as _;
use hydra_shell::ui::ratatui::backend::CrosstermBackend;
use hydra_shell::ui::ratatui::layout::Rect;
use hydra_shell::ui::ratatui::{Terminal, TerminalOptions, Viewport};

const WORKERS: u64 = 5_000;
const VERSIONS: u64 = 10_000;
const TRANSFERS: u64 = 1_000;
const SIZE: Rect = Rect { x: 0, y: 0, width: 120, height: 40 };

fn main() -> anyhow::Result<()> {
    let frames = std::env::args().nth(1).map_or(Ok(500), |frames| frames.parse())?;
    let (overview, workers) = (time(frames, Tab::Overview)?, time(frames, Tab::Workers)?);
    println!("{}", serde_json::json!({ "overview_ms": overview, "workers_ms": workers }));
    Ok(())
}

/// Draws frames of a page into bytes; the milliseconds that each took.
fn time(frames: u64, tab: Tab) -> anyhow::Result<Vec<f64>> {
    let mut screen = Screen::new(Facts { addr: "127.0.0.1:5000".into(), ..Facts::default() }, History::default());
    screen.update(Time(0), Msg::Resized(SIZE.width, SIZE.height));
    for version in 0..VERSIONS {
        let loss = 2.0 + 7.0 / (1.0 + version as f64 / 200.0);
        screen.update(
            Time(0),
            Msg::Scored(Point { version: VersionNo(version), loss, bits_per_byte: loss / 2.0, updates: None }),
        );
    }
    screen.update(Time(0), Msg::Tab(tab));
    if tab == Tab::Workers {
        // By speed, which changes the order with every snapshot.
        screen.update(Time(0), Msg::SortBy(2));
    }
    let options = TerminalOptions { viewport: Viewport::Fixed(SIZE) };
    let mut terminal = Terminal::with_options(CrosstermBackend::new(std::io::sink()), options)?;
    let mut times = Vec::new();
    for number in 0..frames {
        let now = Time(1_000_000 + 250_000 * number);
        let told = Msg::Snapshot(Box::new(snapshot(number, now)));
        let begun = Instant::now();
        screen.update(now, told);
        terminal.draw(|frame| screen.view(frame))?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        screen.update(now, Msg::Step(1));
    }
    Ok(times)
}

fn snapshot(number: u64, at: Time) -> Snapshot {
    let rows = (0..WORKERS).map(|id| row(id, number)).collect();
    let status = Status {
        version: VersionNo(VERSIONS),
        workers: WORKERS as u32,
        tasks: 1_000 + 50 * number,
        tokens: 16_384 * (1_000 + 50 * number),
        params: 124_000_000,
        queries: 3,
        val_loss: Some(2.1),
        val_version: None,
        val_bits_per_byte: Some(1.05),
        paused: false,
    };
    let ledger = LedgerView {
        issued: Credits::hyd(1_000_000),
        transfers: TRANSFERS,
        users: WORKERS as usize,
        top: (0..50).filter_map(|id| Some((format!("user-{id}").parse().ok()?, Credits::hyd(1_000 - id)))).collect(),
        newest: (1..=TRANSFERS).rev().map(transfer).collect(),
        ..LedgerView::default()
    };
    let round = RoundView { accepted: 900, needed: 3_500, training: WORKERS as usize, ..RoundView::default() };
    let (trouble, up, down) = (None, 1 << 40, 1 << 42);
    let view = View {
        at,
        version_age: Duration::from_secs(10),
        status,
        task_tokens: 16_384,
        chats: 3,
        queued: 64,
        queue: 64,
        averaged: false,
        paused: false,
        behind: false,
        stopping: None,
        round,
        ledger,
        workers: Vec::new(),
    };
    Snapshot { view, rows, trouble, up, down, heard: 0 }
}

fn row(id: u64, number: u64) -> Row {
    let step = ((id + number) % 50) as u32;
    let (task, version, deadline) = (TaskId(id + number), VersionNo(VERSIONS), Time(90_000_000_000));
    let mut mark = [0; 8];
    mark.copy_from_slice(&id.to_le_bytes());
    let worker = WorkerView {
        session: SessionId(id),
        user: format!("user-{id}").parse().unwrap_or_else(|_| unreachable!("a name")),
        worker: WorkerId(mark),
        device: "cpu ×8".into(),
        state: WorkerState::Training { task, version, step, steps: 50, deadline },
        loss: Some(3.0 + (id % 100) as f32 / 100.0),
        tokens_per_s: Some(((id * 7 + number * 17) % 9_973) as f64),
        accepted: id % 300 + number,
        refused: id % 7,
        refusal: None,
        earned: Credits::hyd(id % 300 + number),
        since: Time(id),
    };
    Row { worker, latency: Some(Duration::from_micros(500 + id)), silent: None }
}

fn transfer(seq: u64) -> Arc<TransferView> {
    let (debit, credit) = ("issuance".to_owned(), format!("user:user-{}", seq % WORKERS));
    let (amount, memo) = (Credits::hyd(1), format!("task {seq}"));
    let id = TransferId(std::array::from_fn(|at| seq.to_le_bytes()[at % 8]));
    Arc::new(TransferView {
        seq,
        id,
        hold: None,
        kind: Kind::Reward,
        debit,
        credit,
        amount,
        memo,
        at_ms: 1_769_862_896_000 + seq,
    })
}
