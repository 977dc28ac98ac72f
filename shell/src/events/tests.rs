//! Events and lines for people, as their readers get them.

use super::*;

/// Collects bytes; breaks like a pipe once `room` writes are used up.
#[derive(Clone)]
struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    room: Arc<Mutex<usize>>,
}

impl Pipe {
    fn new(room: usize) -> Self {
        Self { bytes: Arc::default(), room: Arc::new(Mutex::new(room)) }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.room.lock().unwrap();
        *room = room.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Credited {
        task: u64,
        #[serde(serialize_with = "hyd")]
        amount: Credits,
        reason: &'a str,
    },
}

#[test]
fn a_screen_gets_the_cautions_of_before() {
    let people = Pipe::new(9);
    let events = Events::over(false, false, Box::new(io::sink()), Box::new(people.clone()));
    events.say("ready");
    events.caution("not used");
    assert_eq!(events.begin_screen(), ["not used"]);
    events.caution("for the log");
    assert_eq!(people.text(), "ready\nnot used\n");
    events.end_screen();
    assert_eq!(events.begin_screen(), [""; 0]);
}

#[test]
fn events_are_lines_with_numbers_as_numbers() {
    let pipe = Pipe::new(9);
    let events = Events::new(true, false, Box::new(pipe.clone()));
    for amount in [Credits::hyd(1), Credits(12_500_000), Credits(1)] {
        events.emit(&Event::Credited { task: 7, amount, reason: "a\n\u{1b}b" });
    }
    events.piece("not an event");
    let text = pipe.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1], r#"{"event":"credited","task":7,"amount":12.5,"reason":"a\n\u001bb"}"#);
    assert!(lines[0].contains(r#""amount":1.0,"#) && lines[2].contains("1e-6"), "{text}");
}

#[test]
fn events_hold_nothing_that_commands_a_terminal() {
    let pipe = Pipe::new(9);
    let events = Events::new(true, true, Box::new(pipe.clone()));
    let reason = "größer 🐍\u{7f}\u{9b}31m\u{9d}\u{202e}\u{2028}\u{61c}\u{1b}";
    events.emit(&Event::Credited { task: 7, amount: Credits::ZERO, reason });
    let text = pipe.text();
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains(is_unsafe), "{line}");
    assert!(line.contains(r"größer 🐍\u007f\u009b31m\u009d\u202e\u2028\u061c\u001b"), "{line}");
    let read: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(read["reason"], reason, "it is the same JSON");
}

#[test]
fn without_json_only_the_answer_is_printed() {
    let pipe = Pipe::new(9);
    let events = Events::new(false, false, Box::new(pipe.clone()));
    events.emit(&Event::Credited { task: 7, amount: Credits::ZERO, reason: "" });
    assert_eq!(events.piece("raw \u{1b}\r\n\tx\u{9b}"), Some('x'));
    assert_eq!((events.piece("\r"), events.piece("")), (None, None));
    assert_eq!(pipe.text(), "raw \n\tx");
    let screen = Pipe::new(9);
    let events = Events::new(false, true, Box::new(screen.clone()));
    assert_eq!([events.piece("raw \u{1b}\r"), events.piece("\n")], [Some('\u{1b}'), Some('\n')]);
    assert_eq!(screen.text(), "raw ␛\n");
}

#[test]
fn lines_for_people_never_reach_standard_output() {
    for json in [false, true] {
        let (out, people) = (Pipe::new(9), Pipe::new(9));
        Events::over(json, false, Box::new(out.clone()), Box::new(people.clone())).say("hello \u{1b}");
        assert_eq!((out.text().as_str(), people.text().as_str()), ("", "hello ␛\n"));
    }
}

#[tokio::test]
async fn a_closed_pipe_is_told_once_and_quietly() {
    let pipe = Pipe::new(1);
    let events = Events::new(false, false, Box::new(pipe.clone()));
    events.piece("a");
    assert!(!events.is_gone());
    events.piece("b");
    events.gone().await;
    *pipe.room.lock().unwrap() = 9;
    events.piece("c");
    assert_eq!(pipe.text(), "a");
    // The reader has what it wanted.
    assert!(events.whole().is_ok());
}

#[test]
fn output_that_finds_no_room_is_a_failure() {
    let events = Events::new(true, false, Box::new(&mut [][..]));
    assert!(events.whole().is_ok());
    events.emit(&Event::Credited { task: 7, amount: Credits::ZERO, reason: "" });
    assert_eq!(events.whole().unwrap_err().exit, Exit::RunFolder);
}
