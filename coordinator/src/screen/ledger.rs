//! The ledger: what there is, who has most of it, and the newest transfers.

use std::collections::BTreeMap;
use std::sync::Arc;

use hydra_core::credits::Credits;
use hydra_core::hub::{LedgerView, TransferView};
use hydra_core::ledger::Kind;
use hydra_shell::ui::panel::Fact;
use hydra_shell::ui::ratatui::buffer::Buffer;
use hydra_shell::ui::ratatui::layout::{Constraint, Layout, Rect};
use hydra_shell::ui::ratatui::style::Style;
use hydra_shell::ui::table::{Column, Table, Width};
use hydra_shell::ui::text;

use super::model::Screen;
use super::view;

/// Rows of the panels above the transfers.
const TOP: u16 = 8;

/// The table of the transfers: as they come, the newest first.
pub fn table() -> Table<u64> {
    let table = Table::new(vec![
        Column::number("number", 7, 3),
        Column::words("UTC", Width::Exactly(8), 2),
        Column::words("kind", Width::Exactly(8), 0),
        Column::number("amount", 9, 0),
        Column::words("from", Width::AtLeast(9), 1),
        Column::words("to", Width::AtLeast(9), 1),
        Column::words("for", Width::AtLeast(10), 4),
    ]);
    table.unsorted()
}

/// What a transfer is known by.
pub fn key(transfer: &Arc<TransferView>) -> u64 {
    transfer.seq
}

/// The newest stay first; the choice stays with its transfer, unless it is the newest: then it follows.
pub fn arrange(table: &mut Table<u64>, newest: &[Arc<TransferView>]) {
    let follows = table.is_first();
    // They come in their order.
    table.arrange(newest, key, |_, _, _| std::cmp::Ordering::Equal, |_, _| true);
    if follows {
        table.choose(newest, key, 0);
    }
}

/// What ends a hold is for the same as that, which may be from before this start.
pub fn name_ends(newest: &mut [Arc<TransferView>]) {
    let nameless = |transfer: &TransferView| transfer.hold.filter(|_| transfer.memo.is_empty());
    if !newest.iter().any(|transfer| nameless(transfer).is_some()) {
        return;
    }
    let holds: BTreeMap<_, _> = newest.iter().map(|transfer| (transfer.id, transfer.memo.clone())).collect();
    for transfer in newest {
        if let Some(memo) = nameless(transfer).and_then(|hold| holds.get(&hold)) {
            Arc::make_mut(transfer).memo.clone_from(memo);
        }
    }
}

/// Draws the page.
pub fn draw(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let Some(snapshot) = &screen.snapshot else {
        return view::put(buffer, area, area.height / 2, "the run is being opened", screen.facts.theme.dim());
    };
    let ledger = &snapshot.view.ledger;
    if screen.is_small() {
        let [numbers, below] = Layout::vertical([Constraint::Length(3), Constraint::Fill(1)]).areas(area);
        view::facts(screen, buffer, numbers, &short_numbers(screen, ledger));
        return transfers(screen, buffer, below, ledger);
    }
    if area.width >= view::WIDE {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(40)]).areas(area);
        let [upper, lower] = Layout::vertical([Constraint::Length(9), Constraint::Fill(1)]).areas(right);
        transfers(screen, buffer, left, ledger);
        numbers(screen, buffer, upper, ledger);
        return balances(screen, buffer, lower, ledger);
    }
    let [upper, lower] = Layout::vertical([Constraint::Length(TOP), Constraint::Fill(1)]).areas(area);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(upper);
    numbers(screen, buffer, left, ledger);
    balances(screen, buffer, right, ledger);
    transfers(screen, buffer, lower, ledger);
}

/// What users have, free to spend.
fn in_accounts(ledger: &LedgerView) -> Credits {
    let gone = ledger.held.0.saturating_add(ledger.revenue.0);
    Credits(ledger.issued.0.saturating_sub(gone))
}

fn short_numbers(screen: &Screen, ledger: &LedgerView) -> Vec<Fact> {
    let theme = screen.facts.theme;
    vec![
        ("issued", format!("{} HYD", ledger.issued), theme.title()),
        ("accounts", format!("{} HYD in {}", in_accounts(ledger), ledger.users), theme.text()),
        ("held", format!("{} · spent {}", ledger.held, ledger.revenue), theme.text()),
    ]
}

fn numbers(screen: &Screen, buffer: &mut Buffer, area: Rect, ledger: &LedgerView) {
    let theme = screen.facts.theme;
    let inside = view::panel(screen, buffer, area, "Supply");
    let facts = [
        ("issued", format!("{} HYD for tasks done", ledger.issued), theme.title()),
        ("accounts", format!("{} HYD in {}", in_accounts(ledger), ledger.users), theme.text()),
        (
            "holds",
            format!("{} HYD for {}", ledger.held, text::count(ledger.holds as u64, "query", "queries")),
            theme.text(),
        ),
        ("spent", format!("{} HYD on answers", ledger.revenue), theme.text()),
        ("", "these three add up to what is issued".to_owned(), theme.dim()),
        ("ledger", format!("{} transfers on disk", text::grouped(ledger.transfers)), theme.text()),
    ];
    view::facts(screen, buffer, inside, &facts);
}

/// Who has most.
pub fn balances(screen: &Screen, buffer: &mut Buffer, area: Rect, ledger: &LedgerView) {
    let theme = screen.facts.theme;
    let inside = view::panel(screen, buffer, area, "Largest balances");
    if ledger.top.is_empty() {
        view::put(buffer, inside, 0, "nobody has earned yet", theme.dim());
    }
    let rows = usize::from(inside.height);
    let room = if ledger.top.len() > rows { rows.saturating_sub(1) } else { rows };
    let shown = || ledger.top.iter().take(room);
    let longest = shown().map(|(user, _)| user.as_str().len()).max().unwrap_or(0) as u16;
    let name = longest.clamp(6, 16).min(inside.width.saturating_sub(14));
    let most = ledger.top.first().map_or(1, |(_, balance)| balance.0.max(1));
    let more = ledger.users.saturating_sub(shown().count());
    if !ledger.top.is_empty() && more > 0 {
        view::put(buffer, inside, room as u16, &format!("{more} more: hydra-coordinator users"), theme.dim());
    }
    for ((user, balance), y) in shown().zip(inside.top()..) {
        let amount = format!("{:>12}", balance.to_string());
        text::put(buffer, inside, (inside.x, y), user.as_str(), name, theme.accent());
        let x = inside.x.saturating_add(name + 1);
        let x = x.saturating_add(text::put(buffer, inside, (x, y), &amount, 12, theme.text()) + 1);
        let room = inside.right().saturating_sub(x);
        let cells = (u128::from(balance.0) * u128::from(room) / u128::from(most)) as usize;
        text::put(buffer, inside, (x, y), &"▇".repeat(cells), room, theme.dim());
    }
}

fn transfers(screen: &Screen, buffer: &mut Buffer, area: Rect, ledger: &LedgerView) {
    let theme = screen.facts.theme;
    let shown = ledger.newest.len() as u64;
    let title = match ledger.transfers {
        all if all > shown => format!("Newest {shown} of {} transfers", text::grouped(all)),
        _ => "Transfers, newest first".to_owned(),
    };
    let inside = view::panel(screen, buffer, area, &title);
    screen.page_rows.set(inside.height.saturating_sub(1));
    if ledger.newest.is_empty() {
        return view::put(buffer, inside, 0, "none yet: the first accepted task makes one", theme.dim());
    }
    screen.transfers.draw(buffer, inside, theme, &ledger.newest, |transfer, column| cell(screen, transfer, column));
    view::newer(screen, buffer, Rect { y: area.y, ..inside }, screen.transfers.above());
}

fn cell(screen: &Screen, transfer: &TransferView, column: usize) -> (String, Style) {
    let theme = screen.facts.theme;
    let (kind, style) = match transfer.kind {
        Kind::Reward => ("+ reward", theme.good()),
        Kind::Hold => ("‖ held", theme.warn()),
        Kind::Post => ("✓ taken", theme.accent()),
        Kind::Void => ("↩ back", theme.text()),
    };
    let account = |name: &str| name.strip_prefix("user:").unwrap_or(name).to_owned();
    match column {
        0 => (transfer.seq.to_string(), theme.dim()),
        1 => (clock(transfer.at_ms), theme.dim()),
        2 => (kind.to_owned(), style),
        3 => (transfer.amount.to_string(), theme.title()),
        4 => (account(&transfer.debit), theme.text()),
        5 => (account(&transfer.credit), theme.text()),
        _ => (transfer.memo.clone(), theme.dim()),
    }
}

/// The time of day, UTC as in the log.
pub fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
