//! The query client: asks the model that is being trained and pays for complete answers.
//!
//! [`driver`] carries out what the pure [`hydra_core::chat::Chat`] orders, over a [`Line`] to the coordinator. Who
//! wishes and who sees is a [`driver::Front`]: one question ([`once`]), lines of a pipe ([`lines`]) or a [`screen`].
//! Nothing here computes: no libtorch.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api_keys;
mod args;
mod commands;
mod driver;
mod lines;
mod once;
mod print;
mod sampling;
mod screen;
mod stdin;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use hydra_core::chat::{Chat, Settings};
use hydra_core::limits::PROMPT_BYTES;
use hydra_shell::address;
use hydra_shell::client;
use hydra_shell::clock::Clock;
use hydra_shell::events::Events;
use hydra_shell::exit::{Exit, Failure, report};
use hydra_shell::keys::{self, ConfigDir};
use hydra_shell::link::LinkStats;
use hydra_shell::logs;
use hydra_shell::signals::{Signals, Stop};
use hydra_shell::terminal::{is_attached, is_interactive};
use tokio::sync::mpsc;

use crate::api_keys::Errand;
use crate::args::Args;
use crate::driver::Driver;
use crate::lines::Lines;
use crate::once::{Once, Question};
use crate::print::Printer;
use hydra_shell::client::line::Line;

/// The command line, for completions and man pages.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// The program.
pub fn run() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| args::with_quotes(error).exit());
    report(start(args))
}

fn start(args: Args) -> anyhow::Result<()> {
    // People read the answer; the log is for those who ask for it, and never within a screen.
    let wanted = std::env::var_os(logs::LEVEL).is_some_and(|level| !level.is_empty()) && !has_screen(&args);
    let _logs = logs::init(&logs::LogOptions { file: None, stderr: wanted })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The session lives on this one thread, so that its pings go on while the main thread waits for a slow reader
        // of standard output.
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    let ended = runtime.block_on(talk(args));
    // A resolver that does not answer is not waited for. What is written is written by this thread.
    runtime.shutdown_background();
    ended
}

/// Whether the conversation is on a screen.
fn has_screen(args: &Args) -> bool {
    let once = args.prompt.is_some() || args.balance || args.api_key.is_some();
    !once && !args.headless && !args.json && is_interactive()
}

async fn talk(args: Args) -> anyhow::Result<()> {
    let prompt = args.prompt.as_deref().map(read_prompt).transpose()?;
    // With name and key both given no folder is needed.
    let folder = if args.user.is_some() && args.key.is_some() { ConfigDir::at("") } else { ConfigDir::find()? };
    let identity = folder.identity(args.user.clone(), args.key.as_deref())?;
    let user = identity.user.clone();
    let question = match prompt {
        _ if args.balance => Some(Question::Balance),
        _ if args.api_key.is_some() => args.api_key.clone().map(Errand::new).transpose()?.map(Question::ApiKeys),
        Some(prompt) => Some(Question::Prompt(args.sampling.query(&prompt)?)),
        None => None,
    };
    let settings = Settings {
        user: user.clone(),
        key: identity.key.clone(),
        agent: concat!("hydra-query ", env!("CARGO_PKG_VERSION")).to_owned(),
        reconnect: question.is_none(),
        seed: u64::from_le_bytes(keys::random()?),
        run: None,
    };
    let address = args.coordinator.clone();
    let dial = move || {
        let address = address.clone();
        async move { client::connect(&address, Arc::new(LinkStats::default())).await }
    };
    let clock = Clock::start();
    // A session that has not begun, after one of a run if there was any.
    let fresh = move |run| {
        let chat = Chat::new(Settings { run, ..settings.clone() });
        let remember = identity.remember.clone();
        let line = Line::new(dial.clone()).on_first_greeting(move || remember.keep());
        Driver { chat, line, clock }
    };
    let key = args.key.as_ref().map_or_else(String::new, |file| format!(" --key {}", file.display()));
    let earn = format!("earn credits with: hydra-worker {user} {}{key}", args.coordinator);
    if has_screen(&args) {
        return screen::talk(fresh, clock, user, args.sampling, earn).await;
    }
    let driver = fresh(None);
    // With --headless, or where answers go to a file, somebody may still sit at the terminal.
    let person = std::io::stdin().is_terminal() && !args.json;
    // A single question has somebody who waits for it as long as its terminal is there.
    let waits = if question.is_some() { is_attached() } else { person };
    let stops = listen(args.headless || !waits)?;
    let events = Events::stdout(args.json);
    let printer = Printer::new(events.clone());
    if let Some(question) = question {
        let mut front = Once::new(question, printer, stops, earn);
        let ended = driver.run(&mut front).await;
        // What became of the question says more than how the session ended.
        return Ok(front.verdict().and(ended).and_then(|()| events.whole())?);
    }
    let input = stdin::read_lines().context("starting to read standard input")?;
    let mut front = Lines::new(user, args.sampling, printer, input, stops, person, earn);
    let ended = driver.run(&mut front).await;
    Ok(front.verdict(ended).and_then(|()| events.whole())?)
}

/// The prompt of the command line, or all of standard input for `-`; never much more than the coordinator takes.
fn read_prompt(argument: &str) -> Result<String, Failure> {
    if address::looks_like_one(argument) {
        // Workers take it there; asked as a question it would be paid for.
        let text = format!("{argument} is where a question is expected, and reads like a coordinator's address");
        let hint = format!("give it as --coordinator {argument}; a question like that can be asked through -");
        return Err(Failure::new(Exit::Usage, text).hint(hint));
    }
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let cannot = |why: String| Failure::new(Exit::Data, format!("cannot read the prompt from standard input: {why}"));
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(PROMPT_BYTES as u64 + 1);
    input.read_to_end(&mut bytes).map_err(|error| cannot(error.to_string()))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // Cut in the middle of a character: the coordinator refuses it for its length.
        Err(error) if error.as_bytes().len() > PROMPT_BYTES => {
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        Err(_) => Err(cannot("it is not UTF-8 text".to_owned())),
    }
}

/// The requests to stop, as a channel that tests can hold.
fn listen(headless: bool) -> anyhow::Result<mpsc::Receiver<Stop>> {
    let mut signals = Signals::listen(headless).context("listening for signals")?;
    let (sender, stops) = mpsc::channel(4);
    tokio::spawn(async move { while sender.send(signals.next().await).await.is_ok() {} });
    Ok(stops)
}
