use serde_json::Value;

use super::*;

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn round(version: u64, loss: f64) -> Coordinator {
    Coordinator::Round { version, val_loss: Some(loss), val_bits_per_byte: Some(loss / 3.0) }
}

fn credited(balance: f64) -> Worker {
    Worker::Credited { amount: 1.0, balance }
}

#[test]
fn the_first_question_waits_for_credit_and_a_falling_loss() {
    let mut story = Story::default();
    for (version, loss) in [(1, 8.5), (2, 8.0), (3, 8.1), (4, 7.0), (5, 6.0)] {
        assert!(!story.should_ask(at(9), "alice"));
        story.coordinator(at(version), round(version, loss));
    }
    assert!(!story.should_ask(at(9), "alice"), "no credit yet");
    story.worker(at(6), "bob", credited(1.0));
    assert!(!story.should_ask(at(9), "alice"), "the credit is bob's");
    story.worker(at(7), "alice", credited(0.4));
    assert!(!story.should_ask(at(9), "alice"), "too poor");
    story.worker(at(8), "alice", credited(1.4));
    assert!(story.should_ask(at(9), "alice"));
}

#[test]
fn after_a_while_credit_alone_is_enough() {
    let mut story = Story::default();
    story.worker(at(3), "alice", credited(1.0));
    assert!(!story.should_ask(at(24), "alice"));
    assert!(story.should_ask(ASK_BY, "alice"));
}

#[test]
fn firsts_are_told_once_and_training_every_few_seconds() {
    let mut story = Story::default();
    let joined = Coordinator::Joined { worker: Value::from(7), user: "alice".to_owned() };
    assert_eq!(story.coordinator(at(0), joined), ["alice joined as a worker"]);
    let pushed = || Coordinator::Pushed { worker: Value::from(7), wait_us: 180.4 };
    assert_eq!(story.coordinator(at(1), pushed()), ["the first task is pushed to alice, 180 µs after it could be"]);
    assert!(story.coordinator(at(1), pushed()).is_empty());
    assert_eq!(
        story.worker(at(2), "alice", credited(1.0)),
        ["alice earned 1.0 HYD, the first credit; balance 1.0 HYD"]
    );
    assert!(story.worker(at(3), "alice", credited(2.0)).is_empty());
    assert_eq!(
        story.coordinator(at(4), round(1, 8.4)),
        ["version 1 of the model: held-out loss 8.40 (2.80 bits per byte); alice has 2.0 HYD"]
    );
    assert!(story.coordinator(at(7), round(2, 8.1)).is_empty());
    assert_eq!(story.coordinator(at(8), round(3, 7.8)).len(), 1);
}

#[test]
fn the_report_has_firsts_medians_and_both_ends_of_the_loss() {
    let mut story = Story::default();
    for wait_us in [900.0, 100.0, 300.0, 200.0] {
        story.coordinator(at(1), Coordinator::Pushed { worker: Value::Null, wait_us });
    }
    story.worker(at(2), "alice", credited(1.0));
    story.worker(at(3), "bob", credited(1.0));
    story.coordinator(at(3), Coordinator::Accepted { user: "bob".to_owned(), amount: 1.0 });
    story.coordinator(at(3), round(1, 9.0));
    story.coordinator(at(4), Coordinator::Round { version: 2, val_loss: None, val_bits_per_byte: None });
    story.coordinator(at(5), round(3, 6.0));
    story.answered(at(6));
    story.answered(at(60));
    story.balance("alice", 0.5);
    let report: Vec<String> = story.report().into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(
        report,
        [
            "first credit: 2.0 s after the first process was started",
            "first answer: 6.0 s after the first process was started",
            "task push: 250 µs (median of 4 tasks)",
            "held-out loss: 9.00 (3.00 bits per byte) → 6.00 (2.00 bits per byte)",
            "tasks paid: 1",
            "balances: alice 0.5 HYD, bob 1.0 HYD",
        ]
    );
}

#[test]
fn an_empty_story_reports_without_numbers() {
    let report = Story::default().report();
    assert_eq!(report[0].1, "never");
    assert_eq!(report[2].1, "no task");
    assert_eq!(report[3].1, "not measured");
}

#[test]
fn numbers_are_grouped() {
    assert_eq!(thousands(0), "0");
    assert_eq!(thousands(999), "999");
    assert_eq!(thousands(1_480_576), "1,480,576");
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
}
