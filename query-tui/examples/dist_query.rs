//! Writes the shell completions and man pages of `hydra-query`; `cargo xtask dist` runs it. Argument: the folder.

use std::path::Path;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("the folder to write to is missing")?;
    Ok(hydra_shell::dist::write(hydra_query::command(), Path::new(&folder))?)
}
