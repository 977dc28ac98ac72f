//! Rounds without training, for `cargo xtask bench round` and `bench wire`: `round COORDINATOR-PROGRAM WORKERS UP DOWN
//! STEPS ROUNDS` starts a coordinator with a model of about four million parameters and workers that hand in random
//! numbers the moment they have a task. Everything else is as it is between strangers: every update is encoded, sent,
//! checked, paid and merged, every version is sent, added up and its digest compared.
//!
//! Prints one line of JSON: seconds from version to version, and the bytes that went through the sockets.

#[path = "round/worker.rs"]
mod worker;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hydra_core::codec::Codec;
use hydra_shell::link::LinkStats;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use worker::{Installed, Worker};

/// The first rounds are not counted: whole weights travel, and nothing is warm.
const WARM: usize = 3;
/// For a whole bench: it must not hang.
const PATIENCE: Duration = Duration::from_mins(8);

struct Plan {
    workers: usize,
    up: Codec,
    down: Codec,
    steps: u32,
    rounds: usize,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [program, workers, up, down, steps, rounds] = args.as_slice() else {
        bail!("round COORDINATOR-PROGRAM WORKERS UP DOWN STEPS ROUNDS");
    };
    let codec = |name: &str| serde_json::from_value::<Codec>(Value::from(name)).context("no such codec");
    let plan = Plan {
        workers: workers.parse()?,
        up: codec(up)?,
        down: codec(down)?,
        steps: steps.parse()?,
        rounds: rounds.parse()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, measure(program.as_ref(), &plan)).await? })
}

/// Five layers of width 256 on bytes; nothing is measured beside the rounds, and nobody's usefulness, which random
/// numbers have not.
fn settings(plan: &Plan) -> String {
    let name = |codec: Codec| serde_json::to_value(codec).unwrap_or_default();
    format!(
        "listen = '127.0.0.1:0'\npreset = 'tiny'\ntokenizer = 'bytes'\n[model]\nwidth = 256\nheads = 4\nlayers = 5\n\
         context = 64\n[recipe]\nbatch = 1\n[tasks]\ntask_tokens = {}\nfirst_lease_seconds = 600\nchecked_windows = 0\n\
         [rounds]\ncodec = {}\nbroadcast_codec = {}\nquorum = 1.0\n[eval]\ntokens = 64\nevery_seconds = 3600\n",
        64 * plan.steps,
        name(plan.up),
        name(plan.down),
    )
}

async fn measure(program: &Path, plan: &Plan) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("hydra-round-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let config = folder.join("config.toml");
    std::fs::write(&config, settings(plan))?;
    let mut child = Command::new(program)
        .args(["--headless", "--json", "--config"])
        .arg(&config)
        .arg("--run")
        .arg(folder.join("run"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} could not be started", program.display()))?;
    let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
    let ready: Value = serde_json::from_str(&lines.next_line().await?.context("it ended at once")?)?;
    let url = format!("ws://{}/ws", ready["addr"].as_str().context("the first event is `ready`")?);
    let refused = tokio::spawn(async move {
        let mut refused = 0;
        while let Ok(Some(line)) = lines.next_line().await {
            refused += usize::from(line.contains("\"rejected\""));
        }
        refused
    });

    let stats = Arc::new(LinkStats::default());
    let mut workers = Vec::new();
    for place in 0..plan.workers {
        workers.push(Worker::join(&url, place, WARM + plan.rounds, stats.clone()).await?);
    }
    let running: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(worker.run())).collect();
    let mut installed = Vec::new();
    for worker in running {
        installed.push(worker.await??);
    }
    child.kill().await?;
    let refused = refused.await?;
    std::fs::remove_dir_all(&folder)?;

    // A version is there when the last worker has it.
    let at =
        |version: usize| installed.iter().filter_map(|seen: &Vec<Installed>| seen.get(version)).max_by_key(|v| v.at);
    let marks: Vec<&Installed> = (WARM..WARM + plan.rounds).filter_map(at).collect();
    let (Some(first), Some(last)) = (marks.first(), marks.last()) else { bail!("too few rounds") };
    let seconds: Vec<f64> = marks.windows(2).map(|two| (two[1].at - two[0].at).as_secs_f64()).collect();
    let rounds = last.version.0 - first.version.0;
    let (up, down) = (last.bytes.0 - first.bytes.0, last.bytes.1 - first.bytes.1);
    println!(
        "{}",
        json!({
            "params": ready["params"],
            "rounds": rounds,
            "refused": refused,
            "seconds": seconds,
            "bytes_up": up,
            "bytes_down": down,
            "updates": rounds * plan.workers as u64,
        })
    );
    Ok(())
}
