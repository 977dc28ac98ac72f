//! The three programs in pseudo-terminals, on a run of their own in a folder that goes with it: for pictures and
//! measurements of what people see.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use hydra_pty::process::Signal;
use hydra_pty::{Screen, Terminal};

use crate::failure::Failure;
use crate::repo::Repo;

/// Where programs and run are; dropping it removes the run.
pub struct Terminals {
    programs: PathBuf,
    environment: Option<(&'static str, OsString)>,
    folder: PathBuf,
    /// The coordinator's, once it listens.
    address: String,
}

impl Terminals {
    /// A fresh run with the programs in the folder `programs`, or with those of `repo`, which are built first.
    pub fn new(repo: &Repo, programs: Option<&Path>) -> Result<Self, Failure> {
        let target = repo.target()?;
        let programs = match programs {
            Some(programs) => std::path::absolute(programs).context("finding the folder of the programs")?,
            None => {
                repo.build()?;
                target.join("release")
            }
        };
        let folder = std::env::temp_dir().join(format!("hydra-terminals-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        let environment = repo.library_path();
        Ok(Self { programs, environment, folder, address: String::new() })
    }

    /// Starts the coordinator with the smallest preset and waits until it listens.
    pub fn coordinator(&mut self, size: (u16, u16)) -> Result<Terminal> {
        let mut command = self.program("hydra-coordinator");
        command.args(["--preset", "tiny", "--listen", "127.0.0.1:0", "--run"]).arg(self.folder.join("run"));
        let terminal = Terminal::start("the coordinator", &command, size)?;
        (self.address, _) = terminal.wait("its address", |screen| address(&screen.contents()))?;
        Ok(terminal)
    }

    /// Starts a worker on one core.
    pub fn worker(&self, user: &str, size: (u16, u16)) -> Result<Terminal> {
        let mut command = self.program("hydra-worker");
        command.args([user, &self.address, "--device", "cpu", "--threads", "1", "--key"]).arg(self.key(user));
        let terminal = Terminal::start(user, &command, size)?;
        terminal.wait_for("connected")?;
        Ok(terminal)
    }

    /// Starts a chat.
    pub fn chat(&self, user: &str, size: (u16, u16)) -> Result<Terminal> {
        let mut command = self.program("hydra-query");
        command.args([user, "--coordinator", &self.address, "--key"]).arg(self.key(user));
        let terminal = Terminal::start("the chat", &command, size)?;
        terminal.wait_for("✓ connected")?;
        Ok(terminal)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.envs(self.environment.clone());
        command.env("HYDRA_CONFIG_DIR", self.folder.join("config")).env("HYDRA_CACHE_DIR", self.folder.join("cache"));
        // What programs leave behind goes with the run.
        command.current_dir(&self.folder);
        command
    }

    fn key(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.key"))
    }
}

impl Drop for Terminals {
    fn drop(&mut self) {
        // Temporary files; the system removes them some day too.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Asks programs to end, in this order, and waits for each.
pub fn stop(terminals: impl IntoIterator<Item = Terminal>) -> Result<()> {
    for terminal in terminals {
        terminal.signal(Signal::TERM)?;
        terminal.wait_end()?;
    }
    Ok(())
}

/// The balance in the header of a worker or a chat, in whole HYD.
pub fn balance(screen: &Screen) -> Option<f64> {
    let text = screen.contents();
    let before = text.lines().next()?.split(" HYD").next()?;
    before.rsplit(' ').next()?.parse().ok()
}

/// `127.0.0.1:PORT`, if it stands in a text.
fn address(text: &str) -> Option<String> {
    const HOST: &str = "127.0.0.1:";
    let rest = text.split_once(HOST)?.1;
    // Without anything behind them the digits may be but the first ones.
    let port = &rest[..rest.find(|c: char| !c.is_ascii_digit())?];
    (!port.is_empty() && port != "0").then(|| format!("{HOST}{port}"))
}

#[cfg(test)]
mod tests {
    use hydra_pty::vt100::Parser;

    use super::*;

    #[test]
    fn addresses_and_balances_are_found() {
        assert_eq!(address("listening on 127.0.0.1:5123\nrun"), Some("127.0.0.1:5123".to_owned()));
        assert_eq!(address("127.0.0.1:0 and localhost"), None);
        assert_eq!(address("listening on 127.0.0.1:51"), None, "the rest is still to come");
        let mut parser = Parser::new(2, 60, 0);
        parser.process(b"alice \xc2\xb7 12.5 HYD \xc2\xb7 0.5 HYD an answer\r\n99.0 HYD");
        assert_eq!(balance(parser.screen()), Some(12.5));
    }
}
