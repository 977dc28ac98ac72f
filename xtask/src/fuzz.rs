//! `cargo xtask fuzz [TARGET] [--minutes N]`: lets libFuzzer look for inputs that break what `fuzz/` describes.
//!
//! Begins from the kept corpus and the seeds; keeps what is new and small in `fuzz/corpus/`, which the ordinary tests
//! replay. Without a sanitizer, because the workspace has next to no unsafe code, and so on a stable compiler.

use std::path::Path;

use anyhow::Context;

use crate::failure::Failure;
use crate::repo::Repo;

/// Targets and the longest input for each, in bytes.
const TARGETS: [(&str, u32); 4] = [("frames", 2048), ("updates", 8192), ("tokenizer", 16_384), ("settings", 4096)];

/// Fuzzes one target, or all one after the other, each for so long.
pub fn run(repo: &Repo, target: Option<&str>, minutes: u64) -> Result<(), Failure> {
    let known = TARGETS.map(|(name, _)| name);
    if let Some(target) = target
        && !known.contains(&target)
    {
        return Err(Failure::Fuzz(format!("no target {target}: there are {}", known.join(", "))));
    }
    let installed = repo.cargo().args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success());
    if !installed {
        return Err(Failure::Fuzz("cargo-fuzz is not installed: `cargo install cargo-fuzz --locked`".to_owned()));
    }
    let built = repo.target()?;
    let folder = built.join("fuzz");
    corpus(repo, &["unpack"], &folder.join("corpus"))?;
    let mut broken = Vec::new();
    for (name, longest) in TARGETS {
        if target.is_none_or(|target| target == name) && !fuzz(repo, &folder, name, longest, minutes * 60)? {
            broken.push(name);
        }
    }
    corpus(repo, &["pack"], &folder.join("corpus"))?;
    if broken.is_empty() {
        eprintln!("nothing broke; fuzz/corpus/ holds what is worth keeping");
        return Ok(());
    }
    Err(Failure::Fuzz(format!(
        "{} broke: the inputs are in {}; look at one with `cargo run --release -p hydra-fuzz --example corpus -- run \
         TARGET FILE`",
        broken.join(", "),
        folder.join("broken").display()
    )))
}

/// Fuzzes a target, then reduces its corpus to what reaches different places; false if an input broke it.
fn fuzz(repo: &Repo, folder: &Path, name: &str, longest: u32, seconds: u64) -> Result<bool, Failure> {
    eprintln!("\n== {name}, {seconds} s");
    let broken = folder.join("broken").join(name);
    std::fs::create_dir_all(&broken).with_context(|| format!("creating {}", broken.display()))?;
    let cargo = |word: &str| {
        let mut command = repo.cargo();
        command.args(["fuzz", word, "--fuzz-dir", "fuzz/libfuzzer", "--sanitizer", "none", "--target-dir"]);
        command.arg(folder.join("target")).arg(name).arg(folder.join("corpus").join(name));
        command
    };
    let found = cargo("run")
        .arg("--")
        .args([format!("-max_total_time={seconds}"), format!("-max_len={longest}")])
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", broken.display()))
        .status()
        .context("cargo could not be started")?;
    if found.success() && !cargo("cmin").status().context("cargo could not be started")?.success() {
        return Err(Failure::Fuzz(format!("the corpus of {name} could not be reduced")));
    }
    Ok(found.success())
}

fn corpus(repo: &Repo, words: &[&str], folder: &Path) -> Result<(), Failure> {
    let done = repo
        .cargo()
        .args(["run", "--release", "--locked", "--package", "hydra-fuzz", "--example", "corpus", "--"])
        .args(words)
        .arg(folder)
        .status()
        .context("cargo could not be started")?;
    if done.success() { Ok(()) } else { Err(Failure::Build) }
}
