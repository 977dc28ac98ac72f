//! The samples: one prompt, answered by one measured version after the other, so that one sees the model learn.

use hydra_shell::ui::ratatui::buffer::Buffer;
use hydra_shell::ui::ratatui::layout::Rect;
use hydra_shell::ui::text;

use super::ledger::clock;
use super::model::{Sample, Screen};
use super::view;

/// Draws the page.
pub fn draw(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let title = match screen.facts.prompt.as_str() {
        "" => "Samples".to_owned(),
        prompt => format!("Versions answer “{}”", text::clip(&text::clean(prompt), 60)),
    };
    let inside = view::panel(screen, buffer, area, &title);
    if screen.samples.is_empty() {
        let words = if screen.facts.prompt.is_empty() {
            "There is no prompt for samples: answers.sample_prompt is empty."
        } else {
            "The first answer comes once a version has been measured."
        };
        return view::put(buffer, inside, 0, words, theme.dim());
    }
    let (mut y, mut shown) = (inside.top(), 0);
    for (at, sample) in screen.samples.iter().enumerate().skip(screen.sample) {
        if y >= inside.bottom() {
            break;
        }
        y = one(screen, buffer, Rect { y, height: inside.bottom() - y, ..inside }, sample, at == 0);
        shown += 1;
    }
    screen.page_rows.set(shown);
    view::newer(screen, buffer, inside, screen.sample);
}

/// Draws one; gives the row below it and a blank.
fn one(screen: &Screen, buffer: &mut Buffer, area: Rect, sample: &Sample, newest: bool) -> u16 {
    let theme = screen.facts.theme;
    let style = if newest { theme.model() } else { theme.title() };
    let head = format!("version {}", sample.version);
    let used = text::put(buffer, area, (area.x, area.y), &head, area.width, style);
    let rest = format!("loss {:.3} · {}", sample.loss, clock(sample.at_ms));
    let x = area.x.saturating_add(used + 2);
    text::put(buffer, area, (x, area.y), &rest, area.right().saturating_sub(x), theme.dim());
    let words = text::clean_lines(sample.text.trim());
    let words = if words.is_empty() { "(nothing)".into() } else { words };
    let indent = 2.min(area.width.saturating_sub(1));
    let mut y = area.y + 1;
    for line in text::wrap(&words, usize::from(area.width.saturating_sub(indent).max(1))) {
        if y >= area.bottom() {
            break;
        }
        text::put(buffer, area, (area.x + indent, y), &words[line], area.width - indent, theme.text());
        y += 1;
    }
    y.saturating_add(1)
}
