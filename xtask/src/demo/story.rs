//! What has happened in the demo so far, and the lines that tell it. Pure: events and elapsed time in, lines out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::events::{Coordinator, Worker};

/// Price of a query in HYD at the demo's settings.
pub const PRICE: f64 = 0.5;
/// From here on the first question is asked as soon as it can be paid.
pub const ASK_BY: Duration = Duration::from_secs(25);
/// Versions with a lower loss than the one before that make the first question worth asking.
const FALLS: u32 = 3;
/// Between two lines about the training.
const TELL_EVERY: Duration = Duration::from_secs(4);

/// Everything that the end of the demo reports.
#[derive(Debug, Default)]
pub struct Story {
    users: BTreeMap<String, String>,
    balances: BTreeMap<String, f64>,
    first_credit: Option<Duration>,
    first_answer: Option<Duration>,
    waits_us: Vec<f64>,
    paid: u32,
    refused: u32,
    losses: Vec<Loss>,
    falls: u32,
    told: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Loss {
    nats: f64,
    bits_per_byte: Option<f64>,
}

impl Story {
    /// Takes a coordinator's event.
    pub fn coordinator(&mut self, at: Duration, event: Coordinator) -> Vec<String> {
        match event {
            Coordinator::Ready { addr, params, vocab, train_tokens } => vec![
                format!("the coordinator listens on {addr}"),
                format!(
                    "its model has {} parameters, not one of them trained; it knows {} tokens (pieces of text) and has {} \
                     tokens to learn from",
                    thousands(params),
                    thousands(vocab),
                    thousands(train_tokens)
                ),
            ],
            Coordinator::Joined { worker, user } => {
                let line = format!("{user} joined as a worker");
                self.users.insert(worker.to_string(), user);
                vec![line]
            }
            Coordinator::Pushed { worker, wait_us } => {
                self.waits_us.push(wait_us);
                if self.waits_us.len() > 1 {
                    return Vec::new();
                }
                let who = self.users.get(&worker.to_string()).map_or("a worker", String::as_str);
                vec![format!("the first task is pushed to {who}, {wait_us:.0} µs after it could be")]
            }
            Coordinator::Accepted { .. } => {
                self.paid += 1;
                Vec::new()
            }
            Coordinator::Rejected { user, reason } => self.refused(&user, &reason),
            Coordinator::Round { version, val_loss, val_bits_per_byte } => {
                self.round(at, version, val_loss, val_bits_per_byte)
            }
            Coordinator::Other => Vec::new(),
        }
    }

    /// Takes an event of the worker of `user`.
    pub fn worker(&mut self, at: Duration, user: &str, event: Worker) -> Vec<String> {
        match event {
            Worker::Ready { device } => vec![format!("{user}'s worker is ready on {device}")],
            Worker::Credited { amount, balance } => {
                self.first_credit.get_or_insert(at);
                if self.balances.insert(user.to_owned(), balance).is_some() {
                    return Vec::new();
                }
                vec![format!("{user} earned {amount:.1} HYD, the first credit; balance {balance:.1} HYD")]
            }
            // The coordinator tells of the same refusal.
            Worker::Unpaid { .. } | Worker::Other => Vec::new(),
            Worker::Disconnected {} => vec![format!("{user}'s worker lost the connection and tries again")],
        }
    }

    /// Takes a balance that the coordinator told.
    pub fn balance(&mut self, user: &str, balance: f64) {
        self.balances.insert(user.to_owned(), balance);
    }

    /// Takes the moment when an answer was complete.
    pub fn answered(&mut self, at: Duration) {
        self.first_answer.get_or_insert(at);
    }

    /// Whether `user` should ask the first question.
    pub fn should_ask(&self, at: Duration, user: &str) -> bool {
        let can_pay = self.balances.get(user).is_some_and(|balance| *balance >= PRICE);
        can_pay && (self.falls >= FALLS || at >= ASK_BY)
    }

    /// Whether anybody has been paid.
    pub fn has_credit(&self) -> bool {
        self.first_credit.is_some()
    }

    /// The measured results, a name and a value each.
    pub fn report(&self) -> Vec<(&'static str, String)> {
        let after = |at: Option<Duration>| {
            at.map_or("never".to_owned(), |at| format!("{:.1} s after the first process was started", at.as_secs_f64()))
        };
        let wait = median(&self.waits_us)
            .map_or("no task".to_owned(), |wait| format!("{wait:.0} µs (median of {} tasks)", self.waits_us.len()));
        let loss = match (self.losses.first(), self.losses.last()) {
            (Some(first), Some(last)) => format!("{} → {}", first.text(), last.text()),
            _ => "not measured".to_owned(),
        };
        let refused = if self.refused == 0 { String::new() } else { format!(", {} refused", self.refused) };
        let balances: Vec<String> =
            self.balances.iter().map(|(user, balance)| format!("{user} {balance:.1} HYD")).collect();
        vec![
            ("first credit", after(self.first_credit)),
            ("first answer", after(self.first_answer)),
            ("task push", wait),
            ("held-out loss", loss),
            ("tasks paid", format!("{}{refused}", self.paid)),
            ("balances", balances.join(", ")),
        ]
    }

    fn refused(&mut self, user: &str, reason: &str) -> Vec<String> {
        self.refused += 1;
        if self.refused > 1 {
            return Vec::new();
        }
        vec![format!("an update of {user} was refused and not paid: {reason}")]
    }

    fn round(&mut self, at: Duration, version: u64, nats: Option<f64>, bits_per_byte: Option<f64>) -> Vec<String> {
        let Some(nats) = nats else { return Vec::new() };
        if self.losses.last().is_some_and(|before| nats < before.nats) {
            self.falls += 1;
        }
        let loss = Loss { nats, bits_per_byte };
        self.losses.push(loss);
        if self.told.is_some_and(|told| at < told + TELL_EVERY) {
            return Vec::new();
        }
        self.told = Some(at);
        let earned: Vec<String> =
            self.balances.iter().map(|(user, balance)| format!("{user} has {balance:.1} HYD")).collect();
        let earned = if earned.is_empty() { String::new() } else { format!("; {}", earned.join(", ")) };
        vec![format!("version {version} of the model: held-out loss {}{earned}", loss.text())]
    }
}

impl Loss {
    fn text(self) -> String {
        let bits = self.bits_per_byte.map_or(String::new(), |bits| format!(" ({bits:.2} bits per byte)"));
        format!("{:.2}{bits}", self.nats)
    }
}

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length.is_multiple_of(2) => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

#[cfg(test)]
mod tests;
