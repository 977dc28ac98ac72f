//! `cargo xtask bench attacks`: three of ten workers attack, attack after attack, and the table of `docs/trust.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::{Bar, Report, example, read_last};
use crate::failure::Failure;
use crate::repo::Repo;

/// Between these lines of the page lies the table.
const BEGIN: &str = "<!-- attacks -->\n";
const END: &str = "<!-- /attacks -->\n";

#[derive(clap::Args)]
pub struct Options {
    /// A text to train on; a megabyte is enough
    #[arg(long)]
    data: PathBuf,
    /// Tasks of each honest worker, on average
    #[arg(long, default_value_t = 48)]
    tasks: u32,
    /// What the example `arena` printed, instead of running it
    #[arg(long)]
    printed: Option<PathBuf>,
    /// Write the table into docs/trust.md
    #[arg(long)]
    write: bool,
}

/// What the example prints.
#[derive(Deserialize)]
struct Table {
    /// The honest alone, with one seed after the other; the first is that of the attacked runs.
    honest: Vec<Outcome>,
    lines: Vec<Line>,
    tasks: u32,
    task_tokens: u64,
    train_seconds: f64,
    check_seconds: f64,
}

#[derive(Deserialize)]
struct Line {
    attack: String,
    checked: Outcome,
    plain: Option<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    loss: Option<f64>,
    honest_delivered: u32,
    honest_refused: u32,
    attackers_delivered: u32,
    attackers_paid: u32,
    reasons: BTreeMap<String, u32>,
}

/// Runs all attacks and compares them.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let tasks = options.tasks.to_string();
    let data = options.data.as_os_str();
    let arguments = ["attacks".as_ref(), "--data".as_ref(), data, "--tasks".as_ref(), tasks.as_ref()];
    let table: Table = match &options.printed {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
            read_last("arena", &text)?
        }
        None => example(repo, ("hydra-coordinator", "arena"), "", arguments)?,
    };
    if options.write {
        write(repo, &table)?;
    }
    let mut report = Report::new("attacks");
    report.fact("tasks", table.tasks);
    report.fact("task_tokens", table.task_tokens);
    report.row("honest_loss", table.honest_loss().unwrap_or(f64::NAN), "nats", None);
    let alone = table.honest.iter().filter_map(|run| run.loss);
    let (least, most) = alone.fold((f64::INFINITY, 0f64), |(least, most), loss| (least.min(loss), most.max(loss)));
    report.row("honest_loss: what seeds make of it", 100.0 * (most / least - 1.0), "%", None);
    for line in &table.lines {
        let name = &line.attack;
        let half = name.starts_with("half");
        let excess = excess(&line.checked, table.honest_loss());
        report.row(format!("{name}: loss above the honest alone"), excess, "%", Some(Bar::Below(3.0)));
        let bar = if half { None } else { Some(Bar::Below(10.0)) };
        report.row(format!("{name}: an attacker's pay"), pay(&line.checked, &table), "%", bar);
    }
    let all = || table.lines.iter().map(|line| &line.checked).chain(&table.honest);
    let delivered: u32 = all().map(|run| run.honest_delivered).sum();
    let refused: u32 = all().map(|run| run.honest_refused).sum();
    let refused = 100.0 * f64::from(refused) / f64::from(delivered.max(1));
    report.row("honest tasks refused", refused, "%", Some(Bar::Below(2.0)));
    report.row("a check", 1000.0 * table.check_seconds, "ms", None);
    let share = 100.0 * 10.0 * table.check_seconds / table.train_seconds;
    report.row("checks of ten workers, of one such core", share, "%", None);
    Ok(report)
}

impl Table {
    /// The loss of the honest alone, from the weights and with the data that the attacked runs begin with.
    fn honest_loss(&self) -> Option<f64> {
        self.honest.first()?.loss
    }
}

/// By how many per cent the loss lies above that of the honest alone.
fn excess(run: &Outcome, honest: Option<f64>) -> f64 {
    match (run.loss, honest) {
        (Some(loss), Some(honest)) => 100.0 * (loss / honest - 1.0),
        _ => f64::INFINITY,
    }
}

/// What an attacker earns, in per cent of an honest worker that is paid for all its tasks.
fn pay(run: &Outcome, table: &Table) -> f64 {
    100.0 * f64::from(run.attackers_paid) / 3.0 / f64::from(table.tasks.max(1))
}

fn write(repo: &Repo, table: &Table) -> anyhow::Result<()> {
    let path = repo.root.join("docs/trust.md");
    let page = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let page = renewed(&page, &markdown(table))?;
    std::fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))
}

fn renewed(page: &str, table: &str) -> anyhow::Result<String> {
    let Some(((before, _), (_, after))) = page.split_once(BEGIN).zip(page.split_once(END)) else {
        bail!("the page has no place for the table");
    };
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

fn markdown(table: &Table) -> String {
    let mut text = String::new();
    let loss = |loss: Option<f64>| loss.map_or_else(|| "lost".to_owned(), |loss| format!("{loss:.3}"));
    let honest = table.honest_loss();
    let alone: Vec<_> = table.honest.iter().map(|run| loss(run.loss)).collect();
    let sum = |of: fn(&Outcome) -> u32| table.honest.iter().map(of).sum::<u32>();
    let _ = writeln!(
        text,
        "{} tasks of {} tokens a worker. The honest seven alone: **{}** nats a token (with other seeds {}); {} of {} \
         tasks refused.\n",
        table.tasks,
        table.task_tokens,
        loss(honest),
        alone.get(1..).unwrap_or_default().join(", "),
        sum(|run| run.honest_refused),
        sum(|run| run.honest_delivered),
    );
    text.push_str(
        "| three of ten attack | loss | against the honest alone | an attacker earns | refused because | honest \
         refused | plain averaging |\n|---|---|---|---|---|---|---|\n",
    );
    for Line { attack, checked, plain } in &table.lines {
        let reasons: Vec<_> = checked.reasons.iter().map(|(reason, count)| format!("`{reason}` {count}")).collect();
        let _ = writeln!(
            text,
            "| {attack} | {} | {:+.1} % | {:.0} % | {} of {}: {} | {} of {} | {} |",
            loss(checked.loss),
            excess(checked, honest),
            pay(checked, table),
            checked.attackers_delivered - checked.attackers_paid,
            checked.attackers_delivered,
            if reasons.is_empty() { "–".to_owned() } else { reasons.join(", ") },
            checked.honest_refused,
            checked.honest_delivered,
            plain.as_ref().map_or_else(|| "–".to_owned(), |plain| loss(plain.loss)),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(loss: Option<f64>, paid: u32) -> Outcome {
        Outcome {
            loss,
            honest_delivered: 70,
            honest_refused: 1,
            attackers_delivered: 30,
            attackers_paid: paid,
            reasons: BTreeMap::from([("useless".to_owned(), 30 - paid)]),
        }
    }

    #[test]
    fn the_table_says_what_was_found() {
        let line = Line { attack: "noise".into(), checked: outcome(Some(2.02), 3), plain: Some(outcome(None, 30)) };
        let honest = [2.0, 2.1].map(|loss| outcome(Some(loss), 0)).into();
        let table =
            Table { honest, lines: vec![line], tasks: 10, task_tokens: 9, train_seconds: 1.0, check_seconds: 0.01 };
        let text = markdown(&table);
        assert!(text.contains("alone: **2.000** nats a token (with other seeds 2.100); 2 of 140 tasks"), "{text}");
        assert!(text.contains("| noise | 2.020 | +1.0 % | 10 % | 27 of 30: `useless` 27 | 1 of 70 | lost |"), "{text}");
        let page = format!("# A\n{BEGIN}old\n{END}rest\n");
        assert_eq!(renewed(&page, "new\n").unwrap(), format!("# A\n{BEGIN}new\n{END}rest\n"));
        assert!(renewed("# A\n", "new\n").is_err());
    }
}
