//! A row of tabs with their numbers; on narrow screens the chosen one with arrows.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::text;
use super::theme::Theme;

/// Where each tab stands: first column, cells, and its words. Empty if not all fit.
fn places(titles: &[&str], width: u16) -> Vec<(u16, u16, String)> {
    let mut x = 0usize;
    let mut places = Vec::new();
    for (at, title) in titles.iter().enumerate() {
        let words = format!(" {} {} ", at + 1, text::clean(title));
        let cells = text::width(&words);
        if x + cells > usize::from(width) {
            return Vec::new();
        }
        places.push((x as u16, cells as u16, words));
        x += cells + 1;
    }
    places
}

/// Draws the tabs into the first row of `area`.
pub fn draw(buffer: &mut Buffer, area: Rect, theme: Theme, titles: &[&str], chosen: usize) {
    let area = area.intersection(buffer.area);
    let Some(title) = titles.get(chosen).filter(|_| !area.is_empty()) else { return };
    let places = places(titles, area.width);
    for (at, (x, cells, words)) in places.iter().enumerate() {
        let style = if at == chosen { theme.title().patch(theme.selected()) } else { theme.text() };
        text::put(buffer, area, (area.x + x, area.y), words, *cells, style);
    }
    if places.is_empty() {
        let words = format!("‹ {} {} › {}/{}", chosen + 1, title, chosen + 1, titles.len());
        text::put(buffer, area, (area.x, area.y), &words, area.width, theme.title());
    }
}

/// The tab at a click; on narrow screens the left and right halves go back and on.
pub fn at(area: Rect, titles: &[&str], chosen: usize, (x, y): (u16, u16)) -> Option<usize> {
    if y != area.y || x < area.x || x >= area.right() || area.height == 0 || titles.is_empty() {
        return None;
    }
    let x = x - area.x;
    let places = places(titles, area.width);
    if places.is_empty() {
        return Some(if x < area.width / 2 { chosen.saturating_sub(1) } else { (chosen + 1).min(titles.len() - 1) });
    }
    places.iter().position(|(from, cells, _)| (*from..from + cells).contains(&x))
}
