//! Lines and bars on standard error: a live bar on a terminal, a line every tenth elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two drawings of a live bar.
const REDRAW: Duration = Duration::from_millis(100);
/// Characters of the bar itself.
const WIDTH: u64 = 24;

/// One line about a phase.
pub fn phase(text: &str) {
    eprintln!("setup: {text}");
}

/// Progress of one phase over a known number of bytes.
pub struct Bar {
    total: u64,
    /// Bytes that were there before this run, so that the speed shown is this run's.
    already: u64,
    started: Instant,
    drawn: Option<Instant>,
    tenth: u64,
    terminal: bool,
}

impl Bar {
    /// A bar over `total` bytes, `already` of which were there before.
    pub fn new(total: u64, already: u64) -> Self {
        let tenth = already * 10 / total.max(1);
        Self { total, already, started: Instant::now(), drawn: None, tenth, terminal: std::io::stderr().is_terminal() }
    }

    /// Shows that `done` bytes are there; cheap to call often.
    pub fn at(&mut self, what: &str, done: u64) {
        let done = done.min(self.total);
        let text = || text(what, done, self.total, done.saturating_sub(self.already), self.started.elapsed());
        if self.terminal {
            if done < self.total && self.drawn.is_some_and(|at| at.elapsed() < REDRAW) {
                return;
            }
            // A progress display that cannot be written must not stop the work.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{}", text());
            self.drawn = Some(Instant::now());
        } else if done * 10 / self.total.max(1) > self.tenth {
            eprintln!("setup: {}", text());
            self.tenth = done * 10 / self.total.max(1);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            eprintln!();
        }
    }
}

/// `[########----------------]  33 %  177 of 544 MB  85 MB/s  4 s left  torch`.
fn text(what: &str, done: u64, total: u64, new: u64, elapsed: Duration) -> String {
    let filled = WIDTH * done / total.max(1);
    let bar: String = (0..WIDTH).map(|i| if i < filled { '#' } else { '-' }).collect();
    let percent = done * 100 / total.max(1);
    let seconds = elapsed.as_secs_f64();
    let pace = if seconds > 0.5 && new > 0 {
        let speed = new as f64 / seconds;
        format!("{:.0} MB/s  {:.0} s left  ", speed / 1e6, (total - done) as f64 / speed)
    } else {
        String::new()
    };
    format!("[{bar}] {percent:>3} %  {} of {}  {pace}{what}", mega(done), megabytes(total))
}

fn mega(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}

/// Whole megabytes for people, gigabytes with one decimal when there are many.
pub fn megabytes(bytes: u64) -> String {
    if bytes < 10_000_000_000 { format!("{} MB", mega(bytes)) } else { format!("{:.1} GB", bytes as f64 / 1e9) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_share_speed_and_time_left() {
        let line = text("torch", 250_000_000, 500_000_000, 100_000_000, Duration::from_secs(2));
        assert_eq!(line, "[############------------]  50 %  250 of 500 MB  50 MB/s  5 s left  torch");
    }

    #[test]
    fn a_bar_without_bytes_or_time_does_not_divide_by_zero() {
        assert_eq!(text("x", 0, 0, 0, Duration::ZERO), "[------------------------]   0 %  0 of 0 MB  x");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(megabytes(543_671_508), "544 MB");
        assert_eq!(megabytes(12_340_000_000), "12.3 GB");
    }
}
