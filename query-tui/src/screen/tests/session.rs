//! The panel between session and screen, against the real hub; and what is done outside.

use std::cell::RefCell;
use std::rc::Rc;

use hydra_core::chat::{Event, Fact};
use hydra_core::credits::Credits;
use hydra_shell::exit::Exit;
use tokio::sync::mpsc;

use crate::sampling::Sampling;
use crate::screen::msg::{Cmd, Msg};
use crate::screen::{LOOK_AGAIN, Outside, Panel, save};
use crate::tests::hub::{self, Script};
use crate::tests::{alice, driver};

#[tokio::test(start_paused = true)]
async fn wishes_reach_the_session_and_its_events_the_screen() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Say(&["one ", "two"])]);
    // Room for one message only: the others wait in the panel.
    let (messages, mut shown) = mpsc::channel(1);
    let (wishes, wished) = mpsc::unbounded_channel();
    let (told, _told) = mpsc::channel(1);
    let mut panel = Panel::new(wished, messages);
    let outside = Outside { wishes, told };
    let screen = async move {
        let mut events = Vec::new();
        assert!(outside.perform(Cmd::Ask("count".to_owned(), Sampling::default())).is_continue());
        while let Some(Msg::Session(event)) = shown.recv().await {
            let done = matches!(event, Event::Answer { .. });
            events.push(event);
            if done {
                break;
            }
        }
        assert!(outside.perform(Cmd::Leave).is_break());
        events
    };
    let (ended, events) = tokio::join!(driver(door, 1, true).run(&mut panel), screen);
    ended.unwrap();
    assert!(matches!(&events[..], [Event::Connected { .. }, Event::Token { .. }, Event::Token { .. },
        Event::Answer { text, .. }] if text == "one two"));
}

#[tokio::test(start_paused = true)]
async fn after_a_goodbye_for_good_the_screen_stays() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Part(&["half "])]);
    let (messages, mut shown) = mpsc::channel(8);
    let (wishes, wished) = mpsc::unbounded_channel();
    let (told, _told) = mpsc::channel(1);
    let mut panel = Panel::new(wished, messages);
    let outside = Outside { wishes, told };
    assert!(outside.perform(Cmd::Ask("count".to_owned(), Sampling::default())).is_continue());
    driver(door, 1, true).run(&mut panel).await.unwrap();
    assert!(panel.stays && panel.waiting.is_empty());
    let mut last = None;
    while let Ok(msg) = shown.try_recv() {
        last = Some(msg);
    }
    assert!(matches!(&last, Some(Msg::Goodbye(text)) if text == "the run is complete"), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_the_screen_stays_until_its_user_leaves() {
    let door = hub::start(&alice(), Credits::hyd(1), &[Script::Refuse(&["half "])]);
    let (messages, mut shown) = mpsc::channel(8);
    let (wishes, wished) = mpsc::unbounded_channel();
    let (told, _told) = mpsc::channel(1);
    let mut panel = Panel::new(wished, messages);
    let outside = Outside { wishes, told };
    let mut doors = [door].into_iter();
    let fresh = move |_| driver(doors.next().expect("it connects no more"), 1, true);
    let screen = async move {
        assert!(outside.perform(Cmd::Ask("count".to_owned(), Sampling::default())).is_continue());
        let mut lost = false;
        while let Some(msg) = shown.recv().await {
            match msg {
                Msg::Session(Event::Lost { text, .. }) => lost = text == "half ",
                Msg::Refused(words) => {
                    assert!(lost && words == "the name alice belongs to another key");
                    break;
                }
                _ => {}
            }
        }
        assert!(tokio::time::timeout(LOOK_AGAIN * 9, shown.recv()).await.is_err(), "nothing more comes");
        assert!(outside.perform(Cmd::AskBalance).is_continue());
        assert!(outside.perform(Cmd::Leave).is_break());
    };
    let (ended, ()) = tokio::join!(panel.talk(fresh, hydra_shell::clock::Clock::start()), screen);
    assert_eq!(ended.unwrap_err().exit, Exit::Refused);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_on_a_first_start_ends_it() {
    let door = hub::start(&alice(), Credits::hyd(1), &[]);
    let (messages, mut shown) = mpsc::channel(8);
    let (wishes, wished) = mpsc::unbounded_channel();
    let mut owner = Panel::new(wished, messages);
    let claim = async move {
        assert!(matches!(shown.recv().await, Some(Msg::Session(Event::Connected { .. }))));
        wishes.send(Fact::Leave).unwrap();
    };
    tokio::join!(driver(door.clone(), 1, true).run(&mut owner), claim).0.unwrap();
    // The name is that of the first key.
    let (messages, _shown) = mpsc::channel(8);
    let (_wishes, wished) = mpsc::unbounded_channel();
    let mut panel = Panel::new(wished, messages);
    let mut doors = [door].into_iter();
    let fresh = move |_| driver(doors.next().expect("it connects no more"), 2, true);
    let ended = panel.talk(fresh, hydra_shell::clock::Clock::start()).await;
    assert_eq!(ended.unwrap_err().exit, Exit::Refused);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_is_found_again() {
    let ends = hub::start(&alice(), Credits::hyd(1), &[Script::Part(&["half "])]);
    let goes_on = hub::start(&alice(), Credits::hyd(1), &[Script::Say(&["whole"])]);
    let (messages, mut shown) = mpsc::channel(8);
    let (wishes, wished) = mpsc::unbounded_channel();
    let (told, _told) = mpsc::channel(1);
    let mut panel = Panel::new(wished, messages);
    let outside = Outside { wishes, told };
    let mut doors = [ends, goes_on].into_iter();
    let runs = Rc::new(RefCell::new(Vec::new()));
    let seen = runs.clone();
    let fresh = move |run| {
        seen.borrow_mut().push(run);
        driver(doors.next().expect("two are enough"), 1, true)
    };
    let screen = async move {
        assert!(outside.perform(Cmd::Ask("count".to_owned(), Sampling::default())).is_continue());
        let (mut goodbye, mut connected) = (false, 0);
        while let Some(msg) = shown.recv().await {
            match msg {
                // What is wished without a coordinator does no harm.
                Msg::Goodbye(_) => {
                    goodbye = true;
                    assert!(outside.perform(Cmd::AskBalance).is_continue());
                }
                Msg::Session(Event::Connected { .. }) => {
                    connected += 1;
                    if connected == 2 {
                        assert!(outside.perform(Cmd::Ask("again".to_owned(), Sampling::default())).is_continue());
                    }
                }
                Msg::Session(Event::Answer { text, .. }) => {
                    assert_eq!(text, "whole");
                    break;
                }
                _ => {}
            }
        }
        assert!(goodbye && connected == 2 && outside.perform(Cmd::Leave).is_break());
    };
    let (ended, ()) = tokio::join!(panel.talk(fresh, hydra_shell::clock::Clock::start()), screen);
    ended.unwrap();
    // So that it is told whether this is another run.
    assert!(matches!(runs.borrow()[..], [None, Some(_)]), "{:?}", runs.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_screen_ends() {
    let door = hub::start(&alice(), Credits::hyd(1), &[]);
    let (messages, shown) = mpsc::channel(1);
    let (wishes, wished) = mpsc::unbounded_channel::<Fact>();
    drop((wishes, shown));
    let mut panel = Panel::new(wished, messages);
    driver(door, 1, true).run(&mut panel).await.unwrap();
}

#[test]
fn files_are_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.txt");
    let name = file.to_str().unwrap();
    save(name, "first").unwrap();
    assert!(save(name, "second").unwrap_err().contains("exists already"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "first");
    let nowhere = folder.path().join("no/where.txt");
    assert!(save(nowhere.to_str().unwrap(), "x").unwrap_err().contains("folder that does not exist"));
}
