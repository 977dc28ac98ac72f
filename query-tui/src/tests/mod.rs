//! The client from its fronts to the wire, against the real hub over connections in memory, with time at a standstill.

pub mod hub;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use ed25519_dalek::SigningKey;
use hydra_core::chat::{Chat, Event, Fact, Settings};
use hydra_core::credits::Credits;
use hydra_core::ids::{UserName, VersionNo};
use hydra_core::proto::RefusedCode;
use hydra_shell::client::ConnectError;
use hydra_shell::clock::Clock;
use hydra_shell::events::Events;
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::signals::Stop;
use serde_json::Value;
use tokio::sync::mpsc;

use self::hub::{Door, Script};
use crate::api_keys::{Errand, Wish};
use crate::driver::{Driver, Front as _, State};
use crate::lines::Lines;
use crate::once::{Once, Question};
use crate::print::Printer;
use crate::read_prompt;
use crate::sampling::Sampling;
use hydra_shell::client::line::Line;

/// Standard output.
#[derive(Clone, Default)]
struct Out {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Told at each write.
    wrote: Arc<tokio::sync::Notify>,
    /// Nobody reads.
    broken: bool,
}

impl Out {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until so much was written.
    async fn reads(&self, text: &str) {
        while self.text() != text {
            self.wrote.notified().await;
        }
    }

    fn printer(&self, json: bool, terminal: bool) -> Printer {
        Printer::new(Events::new(json, terminal, Box::new(self.clone())))
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        self.wrote.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn alice() -> UserName {
    "alice".parse().unwrap()
}

pub fn driver(door: Door, key: u8, reconnect: bool) -> Driver {
    let settings = Settings {
        user: alice(),
        key: SigningKey::from_bytes(&[key; 32]),
        agent: "test".to_owned(),
        reconnect,
        seed: 1,
        run: None,
    };
    let dial = move || {
        let door = door.clone();
        async move { Ok(door.connect().await) }
    };
    Driver { chat: Chat::new(settings), line: Line::new(dial), clock: Clock::start() }
}

fn prompt(text: &str) -> Question {
    Question::Prompt(Sampling::default().query(text).unwrap())
}

/// Asks once and gives what became of it.
async fn ask(door: Door, question: Question, printer: Printer, stops: mpsc::Receiver<Stop>) -> Result<(), Failure> {
    let mut front = Once::new(question, printer, stops, "earn it".to_owned());
    let ended = driver(door, 1, false).run(&mut front).await;
    front.verdict().and(ended)
}

fn no_stops() -> mpsc::Receiver<Stop> {
    mpsc::channel(1).1
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_all_that_standard_output_gets() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Say(&["Once ", "\u{1b}[2Jupon\u{9b}\r\n", "\ta time"])]);
    let out = Out::default();
    ask(door.clone(), prompt("tell"), out.printer(false, false), no_stops()).await.unwrap();
    assert_eq!(out.text(), "Once [2Jupon\n\ta time\n");
    let screen = Out::default();
    ask(door, prompt("tell"), screen.printer(false, true), no_stops()).await.unwrap();
    assert_eq!(screen.text(), "Once ␛[2Jupon\\u{9b}\n\ta time\n");
}

#[tokio::test(start_paused = true)]
async fn an_api_key_is_shown_once_listed_by_its_name_and_revoked() {
    let door = hub::start(&alice(), Credits::hyd(1), &[]);
    let wish = async |wish, json| {
        let out = Out::default();
        let question = Question::ApiKeys(Errand::new(wish).unwrap());
        ask(door.clone(), question, out.printer(json, false), no_stops()).await.map(|()| out)
    };
    let made = wish(Wish::New, true).await.unwrap().events();
    let [made] = &made[..] else { panic!("one event: {made:?}") };
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!((made["event"].as_str(), key.len()), (Some("api_key"), 70));
    assert!(hydra_core::ids::Digest::of(key.as_bytes()).to_string().starts_with(id));

    let plain = wish(Wish::New, false).await.unwrap().text();
    assert!(plain.starts_with("hydra-") && plain.lines().count() == 1 && plain != format!("{key}\n"), "{plain}");
    let listed = wish(Wish::List, false).await.unwrap().text();
    assert!(listed.contains(id) && listed.lines().count() == 2 && !listed.contains("hydra-"), "{listed}");

    assert!(wish(Wish::Revoke(Some("nope".to_owned())), false).await.is_err());
    let left = wish(Wish::Revoke(Some(id[..8].to_owned())), true).await.unwrap().events();
    assert_eq!((left.len(), left[0]["keys"].as_array().map(Vec::len)), (1, Some(1)));
    assert_ne!(left[0]["keys"][0]["id"], id);
    let left = wish(Wish::Revoke(None), true).await.unwrap().events();
    assert_eq!(left[0]["keys"], serde_json::json!([]));
}

#[tokio::test(start_paused = true)]
async fn the_newline_is_neither_lacking_nor_doubled() {
    for (pieces, printed) in [(&["a\n"][..], "a\n"), (&[], "\n"), (&["a", ""], "a\n")] {
        let door = hub::start(&alice(), Credits::hyd(1), &[Script::Say(pieces)]);
        let out = Out::default();
        ask(door, prompt("tell"), out.printer(false, false), no_stops()).await.unwrap();
        assert_eq!(out.text(), printed, "{pieces:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_follow_the_contract() {
    let door = hub::start(&alice(), Credits::hyd(2), &[Script::Say(&["a\u{1b}", "b"])]);
    let out = Out::default();
    ask(door.clone(), prompt("tell"), out.printer(true, false), no_stops()).await.unwrap();
    ask(door, Question::Balance, out.printer(true, false), no_stops()).await.unwrap();
    let events = out.events();
    assert_eq!(events.len(), 4);
    assert_eq!(events[0], serde_json::json!({"event": "token", "text": "a\u{1b}"}));
    let answer = &events[2];
    assert_eq!((&answer["event"], &answer["text"]), (&"answer".into(), &"a\u{1b}b".into()));
    assert_eq!((&answer["tokens"], &answer["version"], &answer["val_loss"]), (&2.into(), &12.into(), &2.31.into()));
    assert_eq!((&answer["charged"], &answer["balance"]), (&0.5.into(), &1.5.into()));
    assert_eq!((&events[3]["event"], &events[3]["balance"]), (&"balance".into(), &1.5.into()));
}

#[tokio::test(start_paused = true)]
async fn people_read_what_an_answer_cost_beside_events_too() {
    let door = hub::start(&alice(), Credits::hyd(2), &[Script::Say(&["a"])]);
    let (out, people) = (Out::default(), Out::default());
    let events = Events::over(true, false, Box::new(out.clone()), Box::new(people.clone()));
    ask(door, prompt("tell"), Printer::new(events), no_stops()).await.unwrap();
    assert_eq!(out.events().len(), 2);
    assert_eq!(people.text(), "0.5 HYD · balance 1.5 HYD · version 12, loss 2.31\n");
}

#[tokio::test(start_paused = true)]
async fn a_balance_is_one_plain_number() {
    let door = hub::start(&alice(), Credits(12_500_000), &[]);
    let out = Out::default();
    ask(door, Question::Balance, out.printer(false, false), no_stops()).await.unwrap();
    assert_eq!(out.text(), "12.5\n");
}

#[tokio::test(start_paused = true)]
async fn the_poor_are_told_how_to_earn() {
    let door = hub::start(&alice(), Credits(400_000), &[]);
    let out = Out::default();
    let failure = ask(door, prompt("tell"), out.printer(true, false), no_stops()).await.unwrap_err();
    assert_eq!((failure.exit, failure.hint.as_deref()), (Exit::TooPoor, Some("earn it")));
    assert!(failure.message.contains("0.4 HYD") && failure.message.contains("hydra-worker earns"), "{failure}");
    assert_eq!((&out.events()[0]["event"], &out.events()[0]["reason"]), (&"refused".into(), &"insufficient".into()));
}

#[tokio::test(start_paused = true)]
async fn an_empty_or_endless_prompt_is_refused() {
    let door = hub::start(&alice(), Credits::hyd(1), &[]);
    for (text, word) in [(" \n".to_owned(), "empty"), ("x".repeat(70_000), "shorten")] {
        let failure = ask(door.clone(), prompt(&text), Out::default().printer(false, false), no_stops()).await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.message.contains(word), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_of_another_key_is_refused() {
    let door = hub::start(&alice(), Credits::hyd(1), &[]);
    ask(door.clone(), Question::Balance, Out::default().printer(false, false), no_stops()).await.unwrap();
    let mut front = Once::new(Question::Balance, Out::default().printer(false, false), no_stops(), String::new());
    let failure = driver(door, 2, false).run(&mut front).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.message.contains("--key"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_stays_and_the_balance_tells_its_cost() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Die(&["half an "])]);
    let out = Out::default();
    let failure = ask(door, prompt("tell"), out.printer(false, false), no_stops()).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Connect);
    assert!(failure.hint.unwrap().contains("--balance shows whether it is paid"));
    assert_eq!(out.text(), "half an \n");
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_told_with_the_next_step() {
    for reconnect in [false, true] {
        let dial = || async { Err(ConnectError::Refused("ws://x/ws".to_owned())) };
        let unused = hub::start(&alice(), Credits::ZERO, &[]);
        let driver = Driver { line: Line::new(dial), ..driver(unused, 1, reconnect) };
        let mut front = Once::new(prompt("x"), Out::default().printer(false, false), no_stops(), String::new());
        let failure = driver.run(&mut front).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Connect);
        assert!(failure.message.contains("ws://x/ws") && failure.hint.unwrap().contains("hydra-coordinator"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_mute_coordinator_is_given_up() {
    let started = tokio::time::Instant::now();
    let (door, mut sessions) = hub::mute();
    let out = Out::default();
    let failure = ask(door, prompt("x"), out.printer(false, false), no_stops()).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Connect);
    assert!(failure.message.contains("handshake"), "{failure}");
    assert!(started.elapsed() < tokio::time::Duration::from_secs(20));
    assert!(sessions.recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_stops_an_answer_which_is_then_paid() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Hang(&["endless"])]);
    let out = Out::default();
    let (stop, stops) = mpsc::channel(1);
    let interrupt = async {
        out.reads("endless").await;
        stop.send(Stop::Cleanly).await.unwrap();
    };
    let (result, ()) = tokio::join!(ask(door, prompt("x"), out.printer(false, false), stops), interrupt);
    let failure = result.unwrap_err();
    assert_eq!(failure.exit, Exit::Interrupted);
    assert!(failure.message.contains("0.5 HYD"), "{failure}");
    assert_eq!(out.text(), "endless\n");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_leaves_ends_it_quietly() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Hang(&["endless"])]);
    let out = Out { broken: true, ..Out::default() };
    ask(door, prompt("x"), out.printer(false, false), no_stops()).await.unwrap();
}

/// A conversation in lines; everything is typed at once.
async fn converse(door: Door, typed: &[&str], printer: Printer) -> Result<(), Failure> {
    let (lines, input) = mpsc::channel(typed.len());
    for line in typed {
        lines.send(Ok((*line).to_owned())).await.unwrap();
    }
    drop(lines);
    let mut front = Lines::new(alice(), Sampling::default(), printer, input, no_stops(), false, String::new());
    let ended = driver(door, 1, true).run(&mut front).await;
    front.verdict(ended)
}

#[tokio::test(start_paused = true)]
async fn a_script_ends_with_the_code_of_its_first_question_without_an_answer() {
    let door = hub::start(&alice(), Credits::default(), &[]);
    let failure = converse(door, &["first?\n", "second?\n"], Out::default().printer(false, false)).await.unwrap_err();
    assert_eq!(failure.exit, Exit::TooPoor);
}

#[tokio::test(start_paused = true)]
async fn lines_are_dealt_with_in_order() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Say(&["one"]), Script::Say(&["two"])]);
    let out = Out::default();
    let typed = ["b\n", "first?\n", "\n", "/temp 0.5", "balance", "second?", "/balance", "third?", "q", "b"];
    let broke = converse(door, &typed, out.printer(false, false)).await.unwrap_err();
    assert_eq!(broke.exit, Exit::TooPoor, "the third was refused");
    assert_eq!(out.text(), "1.0\none\n0.5\ntwo\n0.0\n");
}

#[tokio::test(start_paused = true)]
async fn a_script_ends_with_a_command_that_cannot_be_followed() {
    for line in ["/etc/hosts: what is it?", "/quit now", "/temp hot", "/save talk.md"] {
        let door = hub::start(&alice(), Credits::hyd(1), &[Script::Say(&["one"])]);
        let out = Out::default();
        let wrong = converse(door, &["first?", line, "second?"], out.printer(false, false)).await.unwrap_err();
        assert_eq!((wrong.exit, out.text().as_str()), (Exit::Usage, "one\n"), "{line}: {wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_became_of_the_first_question_says_more_than_how_a_script_ended() {
    let door = hub::start(&alice(), Credits::default(), &[]);
    let failure = converse(door, &["first?", "/nonsense"], Out::default().printer(false, false)).await.unwrap_err();
    assert_eq!(failure.exit, Exit::TooPoor);
}

/// A script of two questions that is told to stop when it reads `said`: the first has no end, or more may come after both.
async fn stopped(first: Script, said: &str, stops: &[Stop]) -> (String, Exit) {
    let door = hub::start(&alice(), Credits::hyd(1), &[first, Script::Say(&["fine"])]);
    let (out, (stop, heard), (lines, input)) = (Out::default(), mpsc::channel(2), mpsc::channel(2));
    for line in ["one", "two"] {
        lines.send(Ok(line.to_owned())).await.unwrap();
    }
    let mut front =
        Lines::new(alice(), Sampling::default(), out.printer(false, false), input, heard, false, String::new());
    let operator = async {
        out.reads(said).await;
        for what in stops {
            stop.send(*what).await.unwrap();
        }
    };
    let (ended, ()) = tokio::join!(driver(door, 1, true).run(&mut front), operator);
    (out.text(), front.verdict(ended).unwrap_err().exit)
}

#[tokio::test(start_paused = true)]
async fn a_script_that_is_told_to_stop_asks_nothing_more() {
    let endless = Script::Hang(&["..."]);
    assert_eq!(stopped(endless, "...", &[Stop::Cleanly]).await, ("...\n".to_owned(), Exit::Interrupted));
    assert_eq!(stopped(endless, "...", &[Stop::Cleanly, Stop::AtOnce]).await.1, Exit::Interrupted);
    assert_eq!(stopped(endless, "...", &[Stop::AtOnce]).await, ("...".to_owned(), Exit::Interrupted));
    let both = stopped(Script::Say(&["yes"]), "yes\nfine\n", &[Stop::Cleanly]).await;
    assert_eq!(both, ("yes\nfine\n".to_owned(), Exit::Interrupted));
}

#[tokio::test(start_paused = true)]
async fn what_a_stopping_coordinator_refuses_a_script_asks_again_when_it_is_back() {
    let connected = || Event::Connected {
        balance: Credits::hyd(1),
        price: Credits::ZERO,
        version: VersionNo(1),
        val_loss: None,
        val_version: None,
    };
    let refused =
        |reason| Event::Refused { reason, text: "the coordinator is stopping".to_owned(), balance: Credits::ZERO };
    let (lines, input) = mpsc::channel(2);
    for line in ["one", "two"] {
        lines.send(Ok(line.to_owned())).await.unwrap();
    }
    drop(lines);
    let out = Out::default();
    let mut front =
        Lines::new(alice(), Sampling::default(), out.printer(true, false), input, no_stops(), false, String::new());
    let free = State { open: true, busy: false };
    let asks =
        async |front: &mut Lines| match tokio::time::timeout(tokio::time::Duration::from_secs(30), front.next(free))
            .await
        {
            Ok(Ok(Fact::Ask(query))) => Some(query.prompt),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        };
    front.show(&connected());
    assert_eq!(asks(&mut front).await.as_deref(), Some("one"));
    front.show(&refused(RefusedCode::Stopping));
    assert_eq!(asks(&mut front).await, None, "not the next one either");
    front.show(&Event::Disconnected { reason: "bye".to_owned(), retry_ms: 100 });
    front.show(&connected());
    assert_eq!(asks(&mut front).await.as_deref(), Some("one"));
    assert_eq!(out.text(), "", "it is no answer yet");
    front.show(&Event::Token { text: "ha".to_owned() });
    front.show(&refused(RefusedCode::Stopping));
    let events = out.events();
    let lost = events.last().unwrap();
    assert_eq!((&lost["event"], &lost["text"], &lost["cost"]), (&"lost".into(), &"ha".into(), &"nothing".into()));
    assert_eq!(events.len(), 2, "what had come is not the beginning of what comes then");
    assert_eq!(front.verdict(Ok(())).unwrap_err().exit, Exit::Refused, "nobody came back");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_input_waits_for_the_answer() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Say(&["yes"])]);
    let out = Out::default();
    converse(door, &["really?"], out.printer(true, false)).await.unwrap();
    assert_eq!(out.events().last().unwrap()["event"], "answer");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_outlives_its_session() {
    let dead = hub::start(&alice(), Credits::hyd(1), &[Script::Die(&["ha"])]);
    let next = hub::start(&alice(), Credits::hyd(1), &[Script::Say(&["whole"])]);
    let doors = Arc::new(Mutex::new(vec![next, dead.clone()]));
    let dial = move || {
        let mut doors = doors.lock().unwrap();
        let door = if doors.len() > 1 { doors.pop().unwrap() } else { doors[0].clone() };
        async move { Ok(door.connect().await) }
    };
    let (lines, input) = mpsc::channel(4);
    for line in ["one", "two"] {
        lines.send(Ok(line.to_owned())).await.unwrap();
    }
    drop(lines);
    let out = Out::default();
    let mut front =
        Lines::new(alice(), Sampling::default(), out.printer(false, false), input, no_stops(), false, String::new());
    let driver = Driver { line: Line::new(dial), ..driver(dead, 1, true) };
    driver.run(&mut front).await.unwrap();
    assert_eq!(out.text(), "ha\nwhole\n");
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_between_answers_leaves_and_twice_within_one_ends() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Hang(&["..."]), Script::Say(&["fine"])]);
    let (out, (stop, stops), (lines, input)) = (Out::default(), mpsc::channel(1), mpsc::channel(1));
    let mut front =
        Lines::new(alice(), Sampling::default(), out.printer(false, false), input, stops, true, String::new());
    let person = async {
        lines.send(Ok("one".to_owned())).await.unwrap();
        out.reads("...").await;
        stop.send(Stop::Cleanly).await.unwrap();
        out.reads("...\n").await;
        lines.send(Ok("two".to_owned())).await.unwrap();
        out.reads("...\nfine\n").await;
        stop.send(Stop::AtOnce).await.unwrap();
    };
    let (result, ()) = tokio::join!(driver(door, 1, true).run(&mut front), person);
    result.unwrap();
}

#[test]
fn an_address_is_no_question() {
    for word in ["ws://127.0.0.1:5077", "127.0.0.1:5077", "localhost:5000", " lab.example.org:5000", "https://lab"] {
        let told = read_prompt(word).expect_err("it reads like an address").to_string();
        assert!(told.contains("address"), "{told}");
    }
    for question in ["What is ws://x?", "12:30", "hello", "a:1", "see 127.0.0.1:5077", "Note: 5", "e.g.:x"] {
        assert_eq!(read_prompt(question).unwrap(), question);
    }
}
