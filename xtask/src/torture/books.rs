//! The ledger as `ledger export` prints it, added up once more by arithmetic of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// A transfer's line, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Line {
    seq: u64,
    id: String,
    kind: String,
    debit: String,
    credit: String,
    amount: u64,
    hold: Option<String>,
    memo: String,
}

/// What the transfers come to.
#[derive(Debug, Default)]
pub struct Books {
    /// How many transfers there are.
    pub transfers: u64,
    /// Credited minus debited, in micro-credits.
    pub net: BTreeMap<String, i128>,
    /// Rewards by user and task; one a lease.
    pub rewards: BTreeMap<(String, u64), u64>,
    /// Ended holds by user: how many were charged, and how much.
    pub charged: BTreeMap<String, (u64, u64)>,
    /// What contradicts the rules of money.
    pub faults: Vec<String>,
}

impl Books {
    /// Adds up the lines of an export.
    pub fn add_up<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut books = Self::default();
        let (mut ids, mut open) = (BTreeSet::new(), BTreeMap::new());
        for text in lines {
            match serde_json::from_str::<Line>(text) {
                Ok(line) => books.take(line, &mut ids, &mut open),
                Err(error) => books.faults.push(format!("a line that is no transfer ({error}): {text}")),
            }
        }
        let held: u64 = open.values().map(|(_, amount)| amount).sum();
        if books.net.get("holds").copied().unwrap_or(0) != i128::from(held) {
            books.faults.push(format!("the open holds are {held}, the account says otherwise"));
        }
        if books.net.values().sum::<i128>() != 0 {
            books.faults.push("the accounts do not sum to zero".to_owned());
        }
        books
    }

    fn take(&mut self, line: Line, ids: &mut BTreeSet<String>, open: &mut BTreeMap<String, (String, u64)>) {
        let seq = line.seq;
        self.transfers += 1;
        if seq != self.transfers {
            self.faults.push(format!("transfer {seq} stands at place {}", self.transfers));
        }
        if !ids.insert(line.id.clone()) {
            self.faults.push(format!("transfer {seq} repeats an id"));
        }
        for (account, sign) in [(&line.debit, -1), (&line.credit, 1)] {
            let net = self.net.entry(account.clone()).or_default();
            *net += sign * i128::from(line.amount);
            if *net < 0 && account != "issuance" {
                self.faults.push(format!("transfer {seq} leaves {account} below zero"));
            }
        }
        let user = |account: &str| account.strip_prefix("user:").unwrap_or(account).to_owned();
        match line.kind.as_str() {
            "reward" => match line.memo.strip_prefix("task ").and_then(|task| task.parse().ok()) {
                Some(task) => *self.rewards.entry((user(&line.credit), task)).or_default() += 1,
                None => self.faults.push(format!("transfer {seq} rewards no task")),
            },
            "hold" => {
                open.insert(line.id, (user(&line.debit), line.amount));
            }
            kind => match line.hold.and_then(|hold| open.remove(&hold)) {
                Some((owner, amount)) if amount == line.amount && kind == "post" => {
                    let (posts, micros) = self.charged.entry(owner).or_default();
                    *posts += 1;
                    *micros += amount;
                }
                Some((owner, amount)) if amount == line.amount && owner == user(&line.credit) => {}
                _ => self.faults.push(format!("transfer {seq} ends no open hold as it was made")),
            },
        }
    }

    /// Rewards of each user.
    pub fn rewards_of(&self, user: &str) -> u64 {
        self.rewards.iter().filter(|((paid, _), _)| paid == user).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64, id: &str, kind: &str, (debit, credit): (&str, &str), amount: u64, hold: Option<&str>) -> String {
        let memo = if kind == "reward" { "task 7" } else { "" };
        serde_json::json!({ "seq": seq, "id": id, "kind": kind, "debit": debit, "credit": credit, "amount": amount,
            "hold": hold, "memo": memo, "at_ms": 1, "prev": "", "hash": "" })
        .to_string()
    }

    fn sound() -> Vec<String> {
        vec![
            line(1, "a", "reward", ("issuance", "user:bob"), 1_000_000, None),
            line(2, "b", "hold", ("user:bob", "holds"), 500_000, None),
            line(3, "c", "post", ("holds", "revenue"), 500_000, Some("b")),
            line(4, "d", "hold", ("user:bob", "holds"), 500_000, None),
            line(5, "e", "void", ("holds", "user:bob"), 500_000, Some("d")),
        ]
    }

    fn faults(lines: &[String]) -> Vec<String> {
        Books::add_up(lines.iter().map(String::as_str)).faults
    }

    #[test]
    fn sound_books_add_up() {
        let lines = sound();
        let books = Books::add_up(lines.iter().map(String::as_str));
        assert_eq!(books.faults, [""; 0]);
        assert_eq!((books.transfers, books.net["user:bob"], books.net["issuance"]), (5, 500_000, -1_000_000));
        assert_eq!((books.rewards_of("bob"), books.charged["bob"]), (1, (1, 500_000)));
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        let changes: [(usize, String, &str); 6] = [
            (1, line(3, "b", "hold", ("user:bob", "holds"), 500_000, None), "stands at place"),
            (3, line(4, "a", "hold", ("user:bob", "holds"), 500_000, None), "repeats an id"),
            (1, line(2, "b", "hold", ("user:bob", "holds"), 1_500_000, None), "below zero"),
            (4, line(5, "e", "void", ("holds", "user:bob"), 400_000, Some("d")), "ends no open hold"),
            (4, line(5, "e", "void", ("holds", "user:eve"), 500_000, Some("d")), "ends no open hold"),
            (4, line(5, "e", "post", ("holds", "revenue"), 500_000, Some("b")), "ends no open hold"),
        ];
        for (place, changed, why) in changes {
            let mut lines = sound();
            lines[place] = changed;
            let found = faults(&lines);
            assert!(found.iter().any(|fault| fault.contains(why)), "{why}: {found:?}");
        }
    }
}
