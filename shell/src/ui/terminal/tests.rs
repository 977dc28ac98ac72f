//! Frames as bytes, and a writer that hangs or fails.

use ratatui::widgets::Paragraph;

use super::*;

fn frame(canvas: &mut Canvas, words: &str) -> Option<String> {
    let bytes = canvas.draw(|frame| frame.render_widget(Paragraph::new(words), frame.area())).unwrap();
    bytes.map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn a_frame_is_one_synchronized_piece_and_only_if_it_differs() {
    let mut canvas = Canvas::new((10, 2)).unwrap();
    let first = frame(&mut canvas, "hello").unwrap();
    assert!(first.starts_with("\u{1b}[?2026h\u{1b}[2J") && first.ends_with("\u{1b}[?2026l"), "{first:?}");
    assert!(first.contains("hello"), "{first:?}");
    let second = frame(&mut canvas, "hellO").unwrap();
    assert!(second.contains('O') && !second.contains("hell"), "{second:?}");
    frame(&mut canvas, "hellO");
    assert_eq!(frame(&mut canvas, "hellO"), None);
    assert!(frame(&mut canvas, "hello").is_some());
}

#[test]
fn a_row_with_text_of_disputed_width_is_written_as_a_whole_and_so_is_what_follows_it() {
    let mut canvas = Canvas::new((10, 2)).unwrap();
    frame(&mut canvas, "abcdefgh").unwrap();
    // Some terminals have the vowel in a cell of its own, which ratatui takes for one that never changed.
    let shown = frame(&mut canvas, "a\u{e19}\u{e49}\u{e33}defgh").unwrap();
    assert!(shown.contains("defgh"), "{shown:?}");
    let cleared = frame(&mut canvas, "abc").unwrap();
    assert!(cleared.contains("abc       "), "{cleared:?}");
    // Once more, since ratatui counts the order to write as a part of a cell; from then on only what changes.
    frame(&mut canvas, "abc");
    let next = frame(&mut canvas, "abd").unwrap();
    assert!(next.contains('d') && !next.contains("ab"), "{next:?}");
}

#[test]
fn control_characters_end_at_the_canvas() {
    let mut canvas = Canvas::new((4, 1)).unwrap();
    let bytes = canvas.draw(|frame| {
        frame.buffer_mut()[(0, 0)].set_symbol("\u{1b}]0;evil\u{7}");
    });
    let text = String::from_utf8(bytes.unwrap().unwrap()).unwrap();
    assert!(!text.contains("evil") && !text.contains('\u{7}') && text.contains('\u{fffd}'), "{text:?}");
}

#[test]
fn no_size_is_a_size() {
    for size in [(0, 0), (0, 5), (5, 0), (1, 1)] {
        let mut canvas = Canvas::new(size).unwrap();
        frame(&mut canvas, "hello");
    }
}

#[test]
fn leaving_undoes_entering() {
    let entered = String::from_utf8(enter_bytes().unwrap()).unwrap();
    let left = String::from_utf8(leave_bytes().unwrap()).unwrap();
    for mode in ["?1049", "?2004", "?1000", "?1006"] {
        assert!(entered.contains(&format!("{mode}h")) && left.contains(&format!("{mode}l")), "{mode}");
    }
    assert!(entered.contains("?25l") && left.contains("?25h"));
}

#[test]
fn the_clipboard_gets_base64() {
    let known = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
    assert_eq!(known, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    assert!(!copy("nobody has entered"));
}

/// Takes bytes only when it is allowed to.
struct Slow(mpsc::Receiver<io::Result<()>>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().unwrap()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_hanging_terminal_delays_only_frames() {
    let (allow, gate) = mpsc::channel();
    let (jobs, progress) = spawn_writer(Slow(gate)).unwrap();
    let mut terminal = Terminal { canvas: Canvas::new((4, 1)).unwrap(), jobs, progress, sent: 0, size: (4, 1) };
    assert!(terminal.is_ready());
    terminal.draw(|_| {}).unwrap();
    assert!(!terminal.is_ready());
    allow.send(Ok(())).unwrap();
    terminal.ready().await.unwrap();
    assert!(terminal.is_ready());
    terminal.draw(|frame| frame.render_widget("x", frame.area())).unwrap();
    allow.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
    assert_eq!(terminal.ready().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
