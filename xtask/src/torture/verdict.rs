//! The invariants, judged from what was told and what the ledger holds. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::books::Books;
use super::record::Record;

/// The longest that a killed coordinator may keep everybody from working.
const LOST: Duration = Duration::from_secs(5);
/// Kills a minute that make it torture, of the coordinator and of workers each.
const KILLS: f64 = 6.0;

/// What was done and found, beside the record.
#[derive(Debug, Default)]
pub struct Found {
    /// How long it lasted.
    pub length: Duration,
    /// Kills of the coordinator.
    pub coordinators: u64,
    /// Kills of workers.
    pub workers: u64,
    /// Lines of the final `ledger export`.
    pub export: Vec<String>,
    /// Accepted leases of each user, by `users`.
    pub leases: BTreeMap<String, u64>,
    /// The newest version, by `status`.
    pub version: u64,
    /// What went wrong that no invariant covers: programs that ended by themselves, repairs, panics.
    pub faults: Vec<String>,
}

/// One invariant.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// What must hold.
    pub name: &'static str,
    /// Whether it does.
    pub holds: bool,
    /// In numbers, and what broke it.
    pub detail: String,
}

/// Judges everything.
pub fn judge(record: &Record, found: &Found) -> Vec<Verdict> {
    let books = Books::add_up(found.export.iter().map(String::as_str));
    vec![
        conserved(&books),
        verdict(
            "every `ledger verify` found it sound and signed",
            record.verified > 0 && record.faults.is_empty(),
            format!("{} times, most of them while the coordinator ran{}", record.verified, listed(&record.faults)),
        ),
        kept(record, &books),
        paid_once(found, &books),
        answers(record, &books),
        versions(record, found),
        learned(record),
        lost(record, found),
        tortured(found),
        verdict("no program ended by itself or mended anything", found.faults.is_empty(), listed(&found.faults)),
    ]
}

fn verdict(name: &'static str, holds: bool, detail: String) -> Verdict {
    Verdict { name, holds, detail }
}

fn listed(faults: &[String]) -> String {
    let shown: Vec<_> = faults.iter().take(5).map(|fault| format!("\n        {fault}")).collect();
    let more = faults.len().saturating_sub(5);
    let more = if more > 0 { format!("\n        and {more} more") } else { String::new() };
    shown.concat() + &more
}

fn conserved(books: &Books) -> Verdict {
    let issued = -books.net.get("issuance").copied().unwrap_or(0);
    let detail =
        format!("{} transfers, {:.1} HYD issued{}", books.transfers, issued as f64 / 1e6, listed(&books.faults));
    verdict("money is conserved, no account below zero", books.transfers > 0 && books.faults.is_empty(), detail)
}

fn kept(record: &Record, books: &Books) -> Verdict {
    let told: u64 = record.credited.values().sum();
    let missing: Vec<_> = record
        .credited
        .iter()
        .chain(&record.accepted)
        .filter(|(of, count)| books.rewards.get(of).copied().unwrap_or(0) < **count)
        .map(|((user, task), count)| format!("task {task} of {user}: told {count} times, paid less often"))
        .collect();
    let detail = format!("{told} payments told to workers{}", listed(&missing));
    verdict("nothing that was told as credited is lost", told > 0 && missing.is_empty(), detail)
}

fn paid_once(found: &Found, books: &Books) -> Verdict {
    let paid = books.rewards.keys().map(|(user, _)| user.as_str());
    let users: BTreeSet<_> = paid.chain(found.leases.keys().map(String::as_str)).collect();
    let leases = |user: &str| found.leases.get(user).copied().unwrap_or(0);
    let odd: Vec<_> = users
        .iter()
        .filter(|user| books.rewards_of(user) != leases(user))
        .map(|user| format!("{user}: {} rewards for {} accepted leases", books.rewards_of(user), leases(user)))
        .collect();
    let rewards: u64 = books.rewards.values().sum();
    verdict(
        "one reward a lease, none twice",
        rewards > 0 && odd.is_empty(),
        format!("{rewards} rewards{}", listed(&odd)),
    )
}

fn answers(record: &Record, books: &Books) -> Verdict {
    let mut odd = Vec::new();
    for (user, asked) in &record.asked {
        let (told, cost) = record.answers.get(user).copied().unwrap_or_default();
        let (charged, paid) = books.charged.get(user).copied().unwrap_or_default();
        if told > charged || cost > paid {
            odd.push(format!("{user} was told {told} answers, and {charged} are charged"));
        }
        if charged > *asked {
            odd.push(format!("{user} asked {asked} questions and paid for {charged}"));
        }
    }
    let asked: u64 = record.asked.values().sum();
    let told: u64 = record.answers.values().map(|(told, _)| told).sum();
    let detail = format!("{asked} questions, {told} whole answers{}", listed(&odd));
    verdict("a question is paid once at most, a told answer is paid", odd.is_empty(), detail)
}

fn versions(record: &Record, found: &Found) -> Verdict {
    let ended_back = (found.version < record.version)
        .then(|| format!("it ended at {}, and {} had been told", found.version, record.version));
    let odd: Vec<_> = record.steps_back.iter().cloned().chain(ended_back).collect();
    let holds = odd.is_empty() && found.version > 0;
    verdict("versions go on and never back", holds, format!("{} versions{}", found.version, listed(&odd)))
}

fn learned(record: &Record) -> Verdict {
    let (first, last) = record.losses.unwrap_or((f64::NAN, f64::NAN));
    verdict("the model ends better than it began", last < first, format!("held-out loss {first:.3} → {last:.3}"))
}

fn lost(record: &Record, found: &Found) -> Verdict {
    let mut seconds: Vec<_> = record.lost.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds.get(((seconds.len() as f64 * share) as usize).min(seconds.len().saturating_sub(1)));
    let (median, most) = (at(0.5).copied().unwrap_or(f64::NAN), at(1.0).copied().unwrap_or(f64::NAN));
    let detail = format!(
        "median {median:.2} s, most {most:.2} s, of {} kills (of {}) that were not followed by the next before",
        seconds.len(),
        found.coordinators
    );
    verdict("under 5 s from a kill of the coordinator to work again", most < LOST.as_secs_f64(), detail)
}

fn tortured(found: &Found) -> Verdict {
    let due = (KILLS * found.length.as_secs_f64() / 60.0).floor() as u64;
    let detail = format!("{} of the coordinator, {} of workers, {due} due", found.coordinators, found.workers);
    verdict("six kills a minute of each", found.coordinators.min(found.workers) >= due, detail)
}

/// One object with all of it.
pub fn json(seed: u64, record: &Record, found: &Found, verdicts: &[Verdict]) -> Value {
    let seconds: Vec<_> = record.lost.iter().map(|lost| (lost.as_secs_f64() * 1000.0).round() / 1000.0).collect();
    let verdicts: Vec<_> = verdicts
        .iter()
        .map(|Verdict { name, holds, detail }| json!({ "invariant": name, "holds": holds, "detail": detail }))
        .collect();
    json!({ "torture": { "seed": seed, "seconds": found.length.as_secs(), "coordinator_kills": found.coordinators,
        "worker_kills": found.workers, "lost_seconds": seconds, "losses": record.losses, "version": found.version,
        "rejected": record.rejected, "disconnected": record.disconnected, "verdicts": verdicts } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWARD: &str = r#"{"seq":1,"id":"a","kind":"reward","debit":"issuance","credit":"user:bob","amount":1000000,"hold":null,"memo":"task 7"}"#;

    fn case() -> (Record, Found) {
        let record = Record {
            credited: BTreeMap::from([(("bob".to_owned(), 7), 1)]),
            version: 4,
            lost: vec![Duration::from_secs(1), Duration::from_secs(2)],
            losses: Some((8.0, 6.0)),
            verified: 3,
            ..Record::default()
        };
        let found = Found {
            length: Duration::from_mins(1),
            coordinators: 6,
            workers: 7,
            export: vec![REWARD.to_owned()],
            leases: BTreeMap::from([("bob".to_owned(), 1)]),
            version: 5,
            faults: Vec::new(),
        };
        (record, found)
    }

    fn broken(record: &Record, found: &Found) -> Vec<&'static str> {
        judge(record, found).iter().filter(|verdict| !verdict.holds).map(|verdict| verdict.name).collect()
    }

    #[test]
    fn all_hold_where_all_is_well() {
        let (record, found) = case();
        assert_eq!(broken(&record, &found), [""; 0]);
        let verdicts = judge(&record, &found);
        assert!(verdicts.iter().any(|v| v.detail.starts_with("median 2.00 s, most 2.00 s, of 2 kills (of 6)")));
    }

    #[test]
    fn each_fault_breaks_its_own_invariant() {
        type Change = fn(&mut Record, &mut Found);
        let changes: [(&str, Change); 10] = [
            ("conserved", |_, found| found.export.push(REWARD.replace("\"seq\":1", "\"seq\":2"))),
            ("verify", |record, _| record.faults.push("ledger verify said no".to_owned())),
            ("credited", |record, _| *record.credited.entry(("bob".to_owned(), 8)).or_default() += 1),
            ("reward a lease", |_, found| *found.leases.entry("eve".to_owned()).or_default() += 1),
            ("answer", |record, _| {
                record.asks("bob");
                record.answers.insert("bob".to_owned(), (1, 500_000));
            }),
            ("versions", |_, found| found.version = 3),
            ("better", |record, _| record.losses = Some((6.0, 6.0))),
            ("under 5 s", |record, _| record.lost.push(Duration::from_millis(5001))),
            ("six kills", |_, found| found.workers = 5),
            ("by itself", |_, found| found.faults.push("alice ended".to_owned())),
        ];
        for (name, change) in changes {
            let (mut record, mut found) = case();
            change(&mut record, &mut found);
            let broken = broken(&record, &found);
            assert!(broken.iter().any(|broken| broken.contains(name)), "{name}: {broken:?}");
        }
    }
}
