//! `cargo xtask screenshots`: pictures of the screens for README and documents, drawn from a real run.
//!
//! A coordinator, two workers and a chat run in pseudo-terminals for about a minute. What they show then is what the
//! pictures show; nothing is made up, so losses and answers differ a little each time.

mod svg;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hydra_pty::{Screen, Terminal};

use crate::failure::Failure;
use crate::repo::Repo;
use crate::terminals::{Terminals, balance, stop};

/// How long to train before the pictures are taken.
const LENGTH: Duration = Duration::from_secs(75);
const QUESTIONS: [&str; 3] = ["What is HydraAI?", "What is a neural network?", "How do I earn credits?"];

/// Pages of the coordinator: the key, words that stand only there, and the picture's name.
const PAGES: [(&str, &str, &str); 4] = [
    ("2", "tokens/s  earned", "coordinator-workers"),
    ("3", "Largest balances", "coordinator-ledger"),
    ("4", "Versions answer", "coordinator-samples"),
    ("1", "Held-out loss", "coordinator"),
];

/// Draws all pictures into `docs/screenshots/`.
pub fn run(repo: &Repo, programs: Option<&Path>) -> Result<(), Failure> {
    let folder = repo.root.join("docs/screenshots");
    std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut stage = Terminals::new(repo, programs)?;
    Ok(play(&mut stage, &folder)?)
}

fn play(stage: &mut Terminals, folder: &Path) -> Result<()> {
    let mut coordinator = stage.coordinator((120, 36))?;
    let begun = Instant::now();
    let mut alice = stage.worker("alice", (120, 36))?;
    let bob = stage.worker("bob", (80, 24))?;
    eprintln!("screenshots: a coordinator and two workers train for {} s", LENGTH.as_secs());
    // The clocks on the screens draw a frame a second, so this is looked at often enough.
    alice.wait("a minute of training", |screen| {
        let rich = balance(screen).is_some_and(|balance| balance >= 3.0);
        (rich && begun.elapsed() >= LENGTH).then_some(())
    })?;
    let mut chat = stage.chat("alice", (100, 30))?;
    for (count, question) in (1..).zip(QUESTIONS) {
        chat.type_text(question)?;
        chat.press("enter")?;
        chat.wait("an answer", |screen| (feet(screen) >= count).then_some(()))?;
    }
    save(&chat, folder, "chat", "hydra-query alice")?;
    let busy = |screen: &Screen| {
        let text = screen.contents();
        let gauge = text.lines().find_map(|line| line.split_once(" %")?.0.rsplit(' ').next()?.parse::<u8>().ok());
        gauge.filter(|percent| (35..80).contains(percent)).map(|_| ())
    };
    alice.wait("a task half done", busy)?;
    save(&alice, folder, "worker", "hydra-worker alice")?;
    save(&bob, folder, "worker-80x24", "hydra-worker bob")?;
    for (key, words, name) in PAGES {
        coordinator.press(key)?;
        coordinator.wait_for(words)?;
        save(&coordinator, folder, name, "hydra-coordinator")?;
    }
    alice.press("?")?;
    alice.wait_for("this help")?;
    save(&alice, folder, "worker-help", "hydra-worker alice")?;
    stop([chat, alice, bob, coordinator])
}

/// Answers that are complete: what they cost stands below them.
fn feet(screen: &Screen) -> usize {
    screen.contents().lines().filter(|line| line.contains(" HYD · ") && line.contains(" token")).count()
}

fn save(terminal: &Terminal, folder: &Path, name: &str, title: &str) -> Result<()> {
    let path = folder.join(format!("{name}.svg"));
    let picture = svg::draw(&terminal.screen(), title);
    std::fs::write(&path, &picture).with_context(|| format!("{}", path.display()))?;
    eprintln!("screenshots: {} ({} kB)", path.display(), picture.len() / 1000);
    Ok(())
}
