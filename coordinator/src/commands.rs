//! Questions about a run, answered from its folder, also while a coordinator runs on it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hydra_core::hub::rows::Version;
use hydra_core::ids::VersionNo;
use hydra_core::merge;
use hydra_core::model::Shape;
use hydra_engine::{Device, DeviceChoice, Model};
use hydra_shell::events::{Events, cut_short};
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::ui::text::count;
use serde_json::json;

use crate::args::{Args, Command, LedgerCommand};
use crate::average::Average;
use crate::pretrained::{self, Origin};
use crate::readers::Readers;
use crate::serve::eval::{self, Measure};
use crate::serve::settings;
use crate::store::seal::Sealed;
use crate::store::verify::{self, VerifyError};
use crate::store::{FileError, Reader, VersionFiles};
use crate::{data, fail};

/// Carries out a command.
pub fn run(command: &Command, args: &Args) -> anyhow::Result<()> {
    let dir = settings::run_dir(args)?;
    let events = Events::stdout(args.json);
    match command {
        Command::Serve => return crate::serve::serve(args),
        Command::Status => status(&dir, &events),
        Command::Users => users(&dir, &events),
        Command::Balance { user } => balance(&dir, user, &events),
        Command::Ledger { command: LedgerCommand::Verify } => ledger_verify(&dir, &events),
        Command::Ledger { command: LedgerCommand::Export } => ledger_export(&dir),
        Command::Export { dir: to } => export(&dir, to, args, &events),
        // Flags may stand before the command, too.
        Command::Eval { data } => evaluate(&dir, &[args.serve.data.as_slice(), data].concat(), &events),
    }?;
    Ok(events.whole()?)
}

fn reader(dir: &Path) -> anyhow::Result<Reader> {
    Ok(Reader::open(dir).map_err(|error| fail::reading(&error))?)
}

/// A line of the answer itself, for people; with `--json` the event carries it.
fn print(events: &Events, line: &str) {
    events.piece(&format!("{line}\n"));
}

fn status(dir: &Path, events: &Events) -> anyhow::Result<()> {
    let status = reader(dir)?.status().map_err(|error| fail::reading(&error))?;
    events.emit(&json!({ "event": "status", "status": status }));
    let version = status.version.map_or_else(|| "none yet".to_owned(), |version| version.to_string());
    print(events, &format!("version        {version}"));
    print(events, &format!("tasks          {} accepted, {} waiting to be merged", status.tasks, status.waiting));
    print(events, &format!("tokens         {} merged", status.tokens));
    // Versions may come faster than they can be measured.
    let whose = status.evaluated.filter(|measured| Some(*measured) != status.version);
    let whose = whose.map_or_else(String::new, |measured| format!(" (of version {measured})"));
    match status.val_loss.zip(status.val_bits_per_byte) {
        Some((loss, bits_per_byte)) => {
            print(events, &format!("held-out loss  {loss:.4} nats a token{whose}"));
            print(
                events,
                &format!("               {bits_per_byte:.4} bits a byte, on the part that each version is measured on"),
            );
        }
        None => print(events, "held-out loss  not measured yet"),
    }
    print(events, &format!("users          {}", status.users));
    print(
        events,
        &format!(
            "credits        {} HYD issued, {} held, {} spent on answers",
            status.issued, status.held, status.revenue
        ),
    );
    print(events, &format!("transfers      {}", status.transfers));
    Ok(())
}

fn users(dir: &Path, events: &Events) -> anyhow::Result<()> {
    let users = reader(dir)?.users().map_err(|error| fail::reading(&error))?;
    for user in &users {
        events.emit(&json!({ "event": "user", "user": user.user, "key": user.key.to_string(),
            "balance": user.balance.as_hyd(), "held": user.held.as_hyd(), "tasks": user.tasks,
            "since_ms": user.since_ms }));
        print(
            events,
            &format!(
                "{:<32} {:>14} HYD {:>8} {:<5}  key {:.16}…",
                user.user.as_str(),
                user.balance.to_string(),
                user.tasks,
                if user.tasks == 1 { "task" } else { "tasks" },
                user.key.to_string()
            ),
        );
    }
    if users.is_empty() {
        events.say("nobody has joined yet: run `hydra-worker NAME`");
    }
    Ok(())
}

fn balance(dir: &Path, user: &hydra_core::ids::UserName, events: &Events) -> anyhow::Result<()> {
    let Some(report) = reader(dir)?.user(user).map_err(|error| fail::reading(&error))? else {
        return Err(Failure::new(Exit::Data, format!("nobody is called {user} in this run"))
            .hint("`hydra-coordinator users`, with the same --run, lists the names; `hydra-worker NAME` joins")
            .into());
    };
    events.emit(&json!({ "event": "balance", "user": report.user, "balance": report.balance.as_hyd(),
        "held": report.held.as_hyd() }));
    print(events, &report.balance.to_string());
    Ok(())
}

fn broken(error: &VerifyError) -> Failure {
    match error {
        VerifyError::Store(error) => fail::reading(error),
        other => Failure::new(Exit::RunFolder, format!("the ledger is not sound: {other}"))
            .hint(
                "stop the coordinator, keep a copy of the run's folder, and restore a backup into an empty folder; or \
                 restore hydra.db alone, but remove hydra.db-wal and hydra.db-shm first, which belong to the broken one",
            ),
    }
}

fn ledger_verify(dir: &Path, events: &Events) -> anyhow::Result<()> {
    let verified = verify::verify(dir).map_err(|error| broken(&error))?;
    let signed = verified.sealed == Sealed::Signed;
    let accounts: serde_json::Map<_, _> =
        verified.net.iter().map(|(name, micros)| (name.clone(), json!(*micros as f64 / 1e6))).collect();
    events.emit(&json!({ "event": "verified", "ok": true, "transfers": verified.head.seq,
        "head": verified.head.hash.to_string(), "signed": signed, "key": verified.key.to_string(), "open_holds": verified.open_holds, "kinds": verified.kinds,
        "accounts": accounts }));
    print(
        events,
        &format!(
            "sound: {}, {}, head {}",
            count(verified.head.seq, "transfer", "transfers"),
            count(verified.open_holds as u64, "open hold", "open holds"),
            verified.head.hash
        ),
    );
    print(
        events,
        &if signed {
            format!("the head is signed by the coordinator {}", verified.key)
        } else {
            "the head is not signed: an older program wrote this ledger, and no newer one has started on it".to_owned()
        },
    );
    Ok(())
}

fn ledger_export(dir: &Path) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(Readers(io::stdout().lock()));
    verify::export_transfers(dir, &mut out).map_err(|error| broken(&error))?;
    Ok(out.flush().map_err(cut_short)?)
}

/// The model that answers, from a run's folder.
struct Best {
    shape: Shape,
    /// The newest version in it.
    version: Version,
    averaged: bool,
    weights: Vec<f32>,
    /// Held-out loss in nats a token and in bits a byte.
    measured: Option<(f64, f64)>,
}

impl Best {
    /// For people.
    fn name(&self) -> String {
        let number = self.version.version;
        if self.averaged { format!("the average up to version {number}") } else { format!("version {number}") }
    }
}

/// The average of the run's versions if that was measured as better, else the newest version whose weights are whole.
fn best(dir: &Path, events: &Events) -> anyhow::Result<Best> {
    let reader = reader(dir)?;
    let shape = settings::begun_shape(dir)?;
    let versions = reader.current_versions().map_err(|error| fail::reading(&error))?;
    let newest = versions.first().map_or(VersionNo(0), |newest| newest.version);
    let average = Average::read(dir, &shape, newest);
    if let Some(average) = &average
        && let Some(measured) = average.better
        && let Some(version) = versions.iter().find(|row| row.version == average.version)
    {
        if version.version < newest {
            let number = version.version;
            events.say(&format!(
                "the newest version is {newest}; the average on disk, which a running coordinator writes every ten \
                 seconds or so, is that up to {number}"
            ));
        }
        let weights = Arc::unwrap_or_clone(average.answering(&shape));
        let version = Version { digest: merge::weights_digest(&weights), ..version.clone() };
        return Ok(Best { shape, version, averaged: true, weights, measured: Some(measured) });
    }
    let files = VersionFiles::open_readable(dir, shape);
    let mut missing = None;
    for version in versions {
        match files.read(&version) {
            Ok(checkpoint) => {
                if let Some(newest) = missing {
                    // A running coordinator writes it soon; one that was killed makes it again at its next start.
                    let number = version.version;
                    events.say(&format!("version {newest} has no file yet, so this is version {number}"));
                }
                let status = reader.status().map_err(|error| fail::reading(&error))?;
                let measured = status.val_loss.zip(status.val_bits_per_byte);
                // The ledger does not say whether that was measured of the version or of the average up to it.
                let own = average.is_some_and(|average| average.leaves_best(&version));
                let measured = measured.filter(|_| own && status.evaluated == Some(version.version));
                let weights = checkpoint.weights.to_vec();
                return Ok(Best { shape, version, averaged: false, weights, measured });
            }
            Err(FileError::Missing { .. }) => missing = missing.or(Some(version.version)),
            Err(error) => events.say(&format!("version {} cannot be used: {error}", version.version)),
        }
    }
    Err(Failure::new(Exit::RunFolder, "no version of this run has its weights on disk").into())
}

fn evaluate(dir: &Path, paths: &[PathBuf], events: &Events) -> anyhow::Result<()> {
    if paths.is_empty() {
        return Err(Failure::new(Exit::Usage, "eval needs a text to measure").hint("give it with --data FILE").into());
    }
    let sources = data::read(paths).map_err(|error| fail::read(&error))?;
    let best = best(dir, events)?;
    let tokenizer = data::load_tokenizer(dir).map_err(|error| fail::data(&error))?;
    let documents: Vec<&str> = sources.iter().flat_map(|s| s.documents.iter().map(String::as_str)).collect();
    let tokens = tokenizer.encode_documents(&documents);
    let engine = |error: hydra_engine::EngineError| Failure::new(Exit::Data, error.to_string());
    let device = Device::open(DeviceChoice::Cpu, None).map_err(engine)?;
    let model = Model::load(best.shape, &best.weights, device).map_err(engine)?;
    events.say(&format!("measuring {} on {} …", best.name(), count(tokens.len() as u64, "token", "tokens")));
    let Measure { loss, bits_per_byte, .. } = eval::measure(&model, &tokenizer, &tokens).map_err(engine)?;
    events.emit(&json!({ "event": "eval", "version": best.version.version, "averaged": best.averaged,
        "tokens": tokens.len(), "val_loss": loss, "val_bits_per_byte": bits_per_byte }));
    print(events, &format!("{}: {loss:.4} nats a token, {bits_per_byte:.4} bits a byte", best.name()));
    Ok(())
}

/// The model that answers for other tools.
fn export(dir: &Path, to: &Path, args: &Args, events: &Events) -> anyhow::Result<()> {
    let best = best(dir, events)?;
    let tokenizer = data::load_tokenizer(dir).map_err(|error| fail::data(&error))?;
    let answers = settings::answers(args)?;
    let Best { version, averaged, measured, .. } = &best;
    let origin = Origin { version, averaged: *averaged, measured: *measured, answers: &answers };
    pretrained::write(to, &best.shape, &best.weights, &tokenizer, &origin)?;
    events.emit(&json!({ "event": "exported", "version": version.version, "averaged": averaged,
        "dir": to.display().to_string() }));
    print(events, &format!("{} is in {}", best.name(), to.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use hydra_config::{ConfigFile, Flags};
    use hydra_core::hub::rows::Row;

    use super::*;
    use crate::store::Checkpoint;

    const CONFIG: &str = "preset = 'tiny'\ntokenizer = 'bytes'\n[model]\nwidth = 8\nheads = 1\nlayers = 1\ncontext = 8";

    #[test]
    fn a_version_has_a_loss_only_if_it_was_not_the_average_s() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let file = ConfigFile { name: "x.toml", text: CONFIG };
        let flags = Flags { run: Some(run.clone()), ..Flags::default() };
        let settings = hydra_config::resolve(Some(file), [], &flags).unwrap().settings;
        let events = Events::stdout(false);
        let mut opened = crate::serve::run::open(&settings, None, &events).unwrap();
        let Checkpoint { weights, outer } = &opened.learner.checkpoint;
        let version = Version { version: VersionNo(1), ..opened.recovered.newest.clone() };
        opened.learner.versions.write(version.version, &version.digest, weights, outer).unwrap();
        let measured = Row::Evaluated { version: version.version, loss: 2.5, bits_per_byte: 1.25 };
        opened.store.write(&[Row::Version(version), measured]).unwrap();
        let (shape, own) = (opened.shape, weights.clone());
        drop(opened);

        let of = |average: Average| {
            average.write(&run, &shape).unwrap();
            let best = best(&run, &events).unwrap();
            assert_eq!(best.version.version, VersionNo(1));
            (best.averaged, best.measured)
        };
        assert_eq!(best(&run, &events).unwrap().measured, None, "whose it was nobody knows");
        let others = Average::new(VersionNo(1), Arc::new(vec![0.5; own.len()]));
        assert_eq!(of(others.clone()), (false, Some((2.5, 1.25))));
        assert_eq!(of(Average { version: VersionNo(0), ..others.clone() }), (false, None));
        assert_eq!(of(Average::new(VersionNo(1), own)), (false, None), "begun anew");
        assert_eq!(of(Average { better: Some((2.0, 1.0)), ..others }), (true, Some((2.0, 1.0))));
    }
}
