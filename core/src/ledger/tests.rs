//! The book against the auditor, over random operations and damaged rows.

use proptest::prelude::*;

use super::audit::Auditor;
use super::*;

fn user(n: u8) -> UserName {
    format!("user{n}").parse().expect("a plain name")
}

#[derive(Debug, Clone)]
enum Op {
    Reward(u8, u64),
    Hold(u8, u64),
    Post(u8),
    Void(u8),
    Repeat,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (0..4u8, 0..3_000_000u64).prop_map(|(u, a)| Op::Reward(u, a)),
        (0..4u8, 0..2_000_000u64).prop_map(|(u, a)| Op::Hold(u, a)),
        any::<u8>().prop_map(Op::Post),
        any::<u8>().prop_map(Op::Void),
        Just(Op::Repeat),
    ];
    prop::collection::vec(op, 0..200)
}

/// Runs `ops`, returning the book and the rows that it made.
fn run(ops: &[Op]) -> (Book, Vec<Transfer>) {
    let (mut book, mut rows) = (Book::default(), Vec::new());
    for (n, op) in ops.iter().enumerate() {
        let id = TransferId::derive("test", &[&n.to_le_bytes()]);
        let nth = |book: &Book, k: u8| book.holds().keys().nth(usize::from(k) % book.holds().len().max(1)).copied();
        let before = book.clone();
        let made = match *op {
            Op::Reward(u, a) => book.reward(id, &user(u), Credits(a), format!("task {n}"), n as u64),
            Op::Hold(u, a) => book.hold(id, &user(u), Credits(a), format!("query {n}"), n as u64),
            Op::Post(k) => nth(&book, k).ok_or(BookError::NoHold(id)).and_then(|hold| book.post(hold, n as u64)),
            Op::Void(k) => nth(&book, k).ok_or(BookError::NoHold(id)).and_then(|hold| book.void(hold, n as u64)),
            Op::Repeat => match rows.last() {
                Some(Transfer { id, .. }) => book.reward(*id, &user(0), Credits(1), String::new(), 0),
                None => Err(BookError::Amount(Credits(0))),
            },
        };
        match made {
            Ok(row) => rows.push(row),
            Err(_) => assert_eq!(book, before, "a refused transfer changed something"),
        }
    }
    (book, rows)
}

proptest! {
    #[test]
    fn book_and_auditor_agree(ops in ops()) {
        let (book, rows) = run(&ops);
        let mut auditor = Auditor::default();
        let mut replayed = Book::default();
        for row in &rows {
            prop_assert_eq!(auditor.row(row), Ok(()));
            prop_assert_eq!(replayed.replay(row), Ok(()));
        }
        prop_assert_eq!(&replayed, &book);
        let summary = auditor.finish().expect("sums agree");
        prop_assert_eq!(summary.head, book.head());
        for (name, balance) in book.balances() {
            let net = summary.net.get(&Account::User(name.clone()).to_string()).copied().unwrap_or_default();
            prop_assert_eq!(net, i128::from(balance.0));
        }
        let (issued, held, revenue) = book.totals();
        let balances: u64 = book.balances().values().map(|b| b.0).sum();
        prop_assert_eq!(issued.0, balances + held.0 + revenue.0);
    }

    #[test]
    fn any_change_to_a_row_is_found(ops in ops(), pick in any::<prop::sample::Index>(), what in 0..7u8) {
        let (_, mut rows) = run(&ops);
        prop_assume!(!rows.is_empty());
        let row = pick.get(&rows).seq as usize - 1;
        let seq = rows[row].seq;
        match what {
            0 => rows[row].amount.0 += 1,
            1 => rows[row].memo.push('x'),
            2 => rows[row].at_ms += 1,
            3 => rows[row].credit = Account::User(user(9)),
            4 => rows[row].hash.0[3] ^= 1,
            5 => rows[row].prev.0[3] ^= 1,
            _ => rows[row].id.0[0] ^= 1,
        }
        let mut auditor = Auditor::default();
        let found = rows.iter().find_map(|row| auditor.row(row).err());
        prop_assert_eq!(found.map(|fault| fault.seq), Some(seq));
    }
}

#[test]
fn too_poor_is_refused_with_the_balance() {
    let mut book = Book::default();
    let id = |n: u8| TransferId([n; 16]);
    book.reward(id(1), &user(1), Credits(400_000), String::new(), 0).expect("a first reward");
    let refused = book.hold(id(2), &user(1), Credits(500_000), String::new(), 0);
    assert_eq!(refused, Err(BookError::Insufficient { balance: Credits(400_000), amount: Credits(500_000) }));
}

#[test]
fn a_hold_ends_once() {
    let mut book = Book::default();
    let id = |n: u8| TransferId([n; 16]);
    book.reward(id(1), &user(1), Credits::hyd(1), String::new(), 0).expect("a first reward");
    book.hold(id(2), &user(1), Credits(500_000), String::new(), 0).expect("covered");
    book.post(id(2), 0).expect("open");
    assert_eq!(book.void(id(2), 0), Err(BookError::NoHold(id(2))));
    assert_eq!(book.balance(&user(1)), Credits(500_000));
}

#[test]
fn a_missing_last_but_one_row_is_found() {
    let (_, mut rows) = run(&[Op::Reward(0, 5), Op::Reward(1, 5), Op::Reward(2, 5)]);
    rows.remove(1);
    let mut auditor = Auditor::default();
    assert!(auditor.row(&rows[0]).is_ok());
    assert!(auditor.row(&rows[1]).is_err());
}
