//! Shell completions and man pages from a program's command line, for `cargo xtask dist`.
//!
//! Behind the feature `dist`, which only the programs' examples ask for: the programs themselves carry none of it.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// Shells for which completions are written.
const SHELLS: [Shell; 5] = [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell];

/// Writes `completions/` and `man/man1/` of a program, with a page for each subcommand, below `folder`.
pub fn write(mut command: Command, folder: &Path) -> io::Result<()> {
    let completions = folder.join("completions");
    fs::create_dir_all(&completions)?;
    let name = command.get_name().to_owned();
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut command, &name, &completions)?;
    }
    let pages = folder.join("man/man1");
    fs::create_dir_all(&pages)?;
    // `help` would get a page that says nothing.
    clap_mangen::generate_to(command.disable_help_subcommand(true), &pages)
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn every_shell_and_every_page() {
        let folder = tempfile::tempdir().unwrap();
        let inner = Command::new("status").about("The run in numbers");
        let command = Command::new("hydra-x").about("Does x").arg(Arg::new("run").long("run")).subcommand(inner);
        write(command, folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        for file in ["hydra-x.bash", "_hydra-x", "hydra-x.fish", "hydra-x.elv", "_hydra-x.ps1"] {
            assert!(read(&format!("completions/{file}")).contains("--run") || file.ends_with("fish"), "{file}");
        }
        assert!(read("man/man1/hydra-x.1").contains("Does x"));
        assert!(read("man/man1/hydra-x-status.1").contains("The run in numbers"));
    }
}
