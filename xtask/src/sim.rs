//! `cargo xtask sim`: builds the simulator (an example of `hydra-core`, feature `sim`) and runs it; needs no libtorch.

use std::process::Command;

use anyhow::Context;

use crate::failure::Failure;
use crate::repo::Repo;

/// What to run; the simulator explains each.
pub struct Options {
    /// One seed.
    pub seed: Option<u64>,
    /// So many seeds.
    pub sweep: Option<u64>,
    /// The first of them.
    pub from: u64,
    /// Clients in all.
    pub agents: Option<u64>,
    /// Virtual seconds with faults.
    pub seconds: Option<u64>,
    /// The whole log.
    pub trace: bool,
    /// A mistake to be found.
    pub bug: Option<String>,
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let numbers =
            [("--seed", self.seed), ("--sweep", self.sweep), ("--agents", self.agents), ("--seconds", self.seconds)];
        let mut arguments: Vec<String> = numbers
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value?.to_string()]))
            .flatten()
            .collect();
        if self.sweep.is_some() {
            arguments.extend(["--from".to_owned(), self.from.to_string()]);
        }
        if self.trace {
            arguments.push("--trace".to_owned());
        }
        if let Some(bug) = &self.bug {
            arguments.extend(["--bug".to_owned(), bug.clone()]);
        }
        arguments
    }
}

/// Builds and runs.
pub fn run(repo: &Repo, options: &Options) -> Result<(), Failure> {
    let built = repo
        .cargo()
        .args(["build", "--release", "--locked", "--quiet", "--package", "hydra-core", "--features", "sim"])
        .args(["--example", "sim"])
        .status()
        .context("cargo could not be started")?;
    if !built.success() {
        return Err(Failure::Build);
    }
    let program = repo.target()?.join("release/examples/sim");
    let status = Command::new(&program)
        .args(options.arguments())
        .status()
        .with_context(|| format!("{} could not be started", program.display()))?;
    match status.code() {
        Some(0) => Ok(()),
        // Wrong arguments: the simulator has said which.
        Some(2) => Err(Failure::Simulation("its arguments are wrong; see above".to_owned())),
        _ => Err(Failure::Simulation("what broke is named above; --seed N repeats it".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_tells_where_it_begins() {
        let (seed, agents, seconds, trace, bug) = (None, None, Some(240), false, None);
        let options = Options { seed, sweep: Some(9), from: 4, agents, seconds, trace, bug };
        assert_eq!(options.arguments(), ["--sweep", "9", "--seconds", "240", "--from", "4"]);
    }
}
