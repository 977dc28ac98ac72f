//! `cargo xtask dist`: the shell completions and man pages of the three programs, in `target/dist/`.
//!
//! They come from the programs' own command lines, by an example of each package, so that they cannot differ.

use std::path::Path;

use anyhow::Context;

use crate::failure::Failure;
use crate::repo::Repo;

/// The examples that write, one of each program's package.
const WRITERS: [&str; 3] = ["dist_coordinator", "dist_worker", "dist_query"];

/// Writes everything afresh and says what to do with it.
pub fn run(repo: &Repo) -> Result<(), Failure> {
    let folder = repo.target()?.join("dist");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(anyhow::Error::new(error).context(format!("{}", folder.display())).into());
        }
        _ => {}
    }
    let mut build = repo.cargo();
    // All at once, and of the whole workspace: each other selection would compile what they need once more.
    build.args(["build", "--release", "--locked", "--workspace"]);
    build.args(WRITERS.iter().flat_map(|writer| ["--example", writer]));
    if !build.status().context("cargo could not be started")?.success() {
        return Err(Failure::Build);
    }
    for writer in WRITERS {
        repo.run_example(writer, [&folder])?;
    }
    for name in files(&folder)? {
        println!("{name}");
    }
    let folder = folder.display();
    eprintln!("\ntry them:  man {folder}/man/man1/hydra-worker.1");
    eprintln!("           source {folder}/completions/hydra-worker.bash");
    eprintln!("keep them: completions into ~/.local/share/bash-completion/completions (bash; the name without .bash),");
    eprintln!("           ~/.config/fish/completions (fish) or a folder of $fpath (zsh);");
    eprintln!("           man pages into ~/.local/share/man/man1");
    Ok(())
}

/// The files below a folder, in order.
fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push(path.display().to_string());
            }
        }
    }
    all.sort();
    Ok(all)
}
