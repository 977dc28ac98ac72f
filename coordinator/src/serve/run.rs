//! A run's folder: begun or opened again, with everything that the threads need to go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hydra_config::Settings;
use hydra_core::codec::Codec;
use hydra_core::hub::rows::{Recovered, Row, Version};
use hydra_core::hub::{Rules, Sampling, Shard, Stop};
use hydra_core::ids::{Digest, LeaseId, PublicKey, VersionNo};
use hydra_core::merge::{self, OuterRule, OuterState};
use hydra_core::model::Shape;
use hydra_core::schedule::Schedule;
use hydra_engine::{Device, DeviceChoice};
use hydra_shell::clock::wall_ms;
use hydra_shell::events::Events;
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::keys::{self, Remedy};

use super::learner::Learner;
use super::learner::likeness::Likeness;
use super::learner::probe::Prober;
use super::learner::remake::{Merging, Remaker};
use super::learner::writing::Writer;
use super::settings as remembered;
use crate::data::{self, Dataset};
use crate::fail;
use crate::pretrained::Pretrained;
use crate::store::{
    Checkpoint, FileError, Loaded, Opening, Reader, Repairs, RunLock, Store, StoreError, UpdateFiles, VersionFiles,
};

mod text;

use self::text::{Before, Text};

/// What is told where a model to begin from is given and the run has begun.
pub const IDLE_MODEL: &str = "--init is not used: this run has its weights; begin another with --run DIR";

/// A run that is ready to be served.
pub struct Run {
    pub shape: Shape,
    pub data: Arc<Dataset>,
    pub store: Store,
    pub key: SigningKey,
    pub recovered: Recovered,
    pub learner: Learner,
}

/// Opens the run that the settings name, or begins it, from a model that exists if there is one.
pub fn open(settings: &Settings, init: Option<&Pretrained>, events: &Events) -> anyhow::Result<Run> {
    let dir = &settings.run_dir;
    if dir.is_file() {
        let text = format!("{} is a file, and a run is a folder", dir.display());
        return Err(Failure::new(Exit::RunFolder, text).hint("choose another one with --run DIR").into());
    }
    let cannot = |error: std::io::Error| fail::file(FileError::io("make", dir, &error));
    std::fs::create_dir_all(dir.parent().unwrap_or(dir)).map_err(cannot)?;
    // Asked in this way, a folder that cannot be looked at for a moment is never taken for a new one.
    let new = std::fs::create_dir(dir).is_ok();
    std::fs::create_dir_all(dir).map_err(cannot)?;
    let opened = open_folder(settings, init, events);
    if opened.is_err() && new {
        remove_unbegun(dir);
    }
    opened
}

/// Of a run that did not begin nothing stays that looks like one. Where another coordinator has the folder by now, it is
/// that one's.
pub(super) fn remove_unbegun(dir: &Path) {
    let removed = match RunLock::take(dir) {
        Ok(_held) => std::fs::remove_dir_all(dir),
        Err(StoreError::InUse { .. }) => Ok(()),
        // Without the lock only what is empty is surely nobody's.
        Err(_) => std::fs::remove_dir(dir),
    };
    if let Err(error) = removed {
        tracing::warn!(%error, dir = %dir.display(), "what a failed first start has left cannot be removed");
    }
}

fn open_folder(settings: &Settings, init: Option<&Pretrained>, events: &Events) -> anyhow::Result<Run> {
    let dir = &settings.run_dir;
    let remedy = Remedy { exit: Exit::RunFolder, elsewhere: "choose a folder that you may write to (--run DIR)" };
    // The first version is written after the ledger.
    if !Store::exists(dir) && VersionFiles::any(dir) {
        return Err(without_its_ledger(dir).into());
    }
    let key_file = dir.join("coordinator.key");
    // The key is made before the ledger, which knows it. Where it is to be put back no other shall lie.
    if Store::exists(dir) && !key_file.exists() {
        let status = Reader::open(dir).and_then(|reader| reader.status()).map_err(|error| fail::reading(&error))?;
        return Err(without_its_key(&key_file, status.key).into());
    }
    let key = keys::load_or_create(&key_file, remedy)?;
    let at_ms = wall_ms();
    let mut store = Store::open(dir, &Opening { key: key.clone(), at_ms }).map_err(|error| fail::store(&error))?;
    let (shape, data, recovered, learner) = open_locked(settings, init, events, &mut store, at_ms)?;
    Ok(Run { shape, data, store, key, recovered, learner })
}

fn open_locked(
    settings: &Settings,
    init: Option<&Pretrained>,
    events: &Events,
    store: &mut Store,
    at_ms: u64,
) -> anyhow::Result<(Shape, Arc<Dataset>, Recovered, Learner)> {
    let dir = &settings.run_dir;
    let begun = remembered::Begun::read(dir)?;
    let born = store.has_version().map_err(|error| fail::store(&error))?;
    if !born && VersionFiles::any_trained(dir) {
        return Err(without_its_ledger(dir).into());
    }
    if begun.as_ref().is_some_and(|begun| begun.init) && !born && init.is_none() {
        return Err(without_its_model().into());
    }
    // Before the text is prepared, which may take long.
    let given = init.filter(|_| !born).map(Pretrained::weights).transpose()?;
    // A first start that was cut short before it had its text has begun nothing.
    let begun = begun.filter(|_| born || data::is_prepared(dir));
    let before = Before { begun: begun.as_ref(), born };
    let Text { data, made, origin } = text::open(settings, init, &before, events)?;
    let (shape, begins) = remembered::begin(begun.as_ref(), settings, &data.tokenizer, origin)?;
    data.check_windows(shape.context).map_err(|error| fail::data(&error))?;
    let data = Arc::new(data);
    let keep = || {
        // First, since the text means nothing without it.
        begins.iter().try_for_each(|begins| begins.write(dir))?;
        if made { data::save(&data, dir).map_err(|error| fail::data(&error).into()) } else { anyhow::Ok(()) }
    };
    if !born {
        keep()?;
    }
    let other_text = made && born;
    if other_text {
        events.caution(
            "the text of this run was gone (there was no data/ in its folder) and is prepared again: losses can be \
             compared with earlier ones only if it is the same text",
        );
    }
    let seed = remembered::seed(dir)?;

    let versions = VersionFiles::open(dir, shape).map_err(fail::file)?;
    let updates = UpdateFiles::open(dir).map_err(fail::file)?;
    let merging = Merging {
        outer_lr: settings.rounds.outer_lr,
        outer_momentum: settings.rounds.outer_momentum,
        broadcast_codec: settings.rounds.broadcast_codec,
    };
    let stored = Merging::load(dir).map_err(fail::file)?;
    let merged_by = stored.unwrap_or(merging);
    let mut remaker = Remaker::new(&versions, &updates, merged_by);
    let mut load = |store: &mut Store| {
        store
            .load(
                &mut |version| versions.check(version),
                &mut |version, before, inputs| remaker.remake(version, before, inputs),
                &mut |lease, blob| updates.has(lease, blob),
            )
            .map_err(|error| fail::store(&error))
    };
    let mut loaded = load(store)?;
    if born {
        // Of a folder that has lost it, only now: there are weights of these sizes.
        keep()?;
    }
    remembered::remember(dir, settings)?;
    if loaded.recovered.is_some() && init.is_some() {
        events.caution(IDLE_MODEL);
    }
    if let Some(seed) = seed.filter(|seed| loaded.recovered.is_some() && *seed != settings.seed) {
        events.caution(&format!(
            "seed {} only orders the data: this run has its weights, and began with seed {seed}",
            settings.seed
        ));
    }
    if loaded.recovered.is_none() {
        let weights = given.unwrap_or_else(|| shape.initial_weights(settings.seed));
        let digest = merge::weights_digest(&weights);
        let outer = OuterState::new(weights.len());
        versions.write(VersionNo(0), &digest, &weights, &outer).map_err(fail::file)?;
        let first = Version { version: VersionNo(0), digest, tokens: 0, tasks: 0, inputs: Vec::new(), at_ms };
        store.write(&[Row::Version(first)]).map_err(|error| fail::store(&error))?;
        loaded = load(store)?;
    }
    let Loaded { recovered, history, repairs } = loaded;
    let mut recovered = recovered.expect("a run with a version is loaded");
    for lease in &mut recovered.open {
        // Text that was prepared again may have fewer shards, and the task may be leased again.
        lease.shard = lease.shard.min(data.shards.len() as u32 - 1);
    }
    tell_repairs(&repairs, &versions, events)?;
    let newest = recovered.newest.version;
    for version in versions.leave_out(newest).map_err(fail::file)? {
        tracing::warn!(%version, "the file of a version that this run does not know is renamed");
    }
    let (checkpoint, mut whole) = match remaker.made() {
        Some(made) if made.version == newest => (made.checkpoint, made.whole),
        _ => (versions.read(&recovered.newest).map_err(fail::file)?, newest),
    };
    let keep = settings.rounds.keep_versions as usize;
    if let Err(error) = versions.keep(newest, keep) {
        tracing::warn!(%error, "an old version's file cannot be removed");
    }
    if merging != merged_by && whole < newest {
        // What has no file was merged as the last start did it, and that is about to be forgotten.
        let Checkpoint { weights, outer } = &checkpoint;
        versions.write(newest, &recovered.newest.digest, weights, outer).map_err(fail::file)?;
        whole = newest;
    }
    if stored != Some(merging) {
        merging.store(dir).map_err(fail::file)?;
    }
    let mut writer = Writer::new(versions.clone(), whole);
    if whole < newest {
        writer.add(newest, recovered.newest.digest, checkpoint.clone());
    }

    // Updates merged since the oldest version that is on disk are needed to make those after it again.
    let oldest = versions.list().map_err(fail::file)?.first().copied().unwrap_or(recovered.newest.version);
    let waiting: BTreeMap<_, _> =
        recovered.unmerged.iter().map(|(lease, accepted)| (lease.lease, accepted.blob)).collect();
    let kept: BTreeSet<LeaseId> = history
        .iter()
        .take_while(|version| version.version > oldest)
        .flat_map(|version| version.inputs.iter().map(|(lease, _)| *lease))
        .chain(waiting.keys().copied())
        .collect();
    let stay = updates.sweep(&kept).map_err(fail::file)?;
    let merged = history.iter().take_while(|version| version.version > oldest).map(|version| {
        let inputs = version.inputs.iter().filter_map(|(lease, _)| Some((*lease, *stay.get(lease)?)));
        (version.version, inputs.collect())
    });
    // Oldest first, as they are removed.
    let mut merged: VecDeque<(VersionNo, Vec<(LeaseId, Digest)>)> = merged.collect();
    merged.make_contiguous().reverse();
    // What nobody outside can know: which windows are looked at, and how directions are compared.
    let secret = |bytes: [u8; 16]| (u128::from_le_bytes(bytes) as u64, (u128::from_le_bytes(bytes) >> 64) as u64);
    let (windows, directions) = secret(keys::random()?);
    let likeness = Likeness::new(directions);
    let device = Device::open(DeviceChoice::Cpu, Some(1)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut prober = Prober::new(data.clone(), shape, device, windows);
    if !other_text {
        // Windows of another text would say nothing of what was trained before this start.
        prober.add(recovered.newest.version, checkpoint.weights.clone());
    }
    let learner = Learner {
        shape,
        codec: settings.rounds.broadcast_codec,
        newest: recovered.newest.version,
        checkpoint,
        writer,
        failing: false,
        versions,
        updates,
        keep,
        waiting,
        at_hand: BTreeMap::new(),
        unkept: VecDeque::new(),
        merged,
        likeness,
        prober,
    };
    Ok((shape, data, recovered, learner))
}

/// To begin anew would put the versions aside and throw away updates that are still to be merged.
fn without_its_ledger(dir: &Path) -> Failure {
    let text = format!("{} holds versions of a model, but its ledger (hydra.db) is gone or empty", dir.display());
    Failure::new(Exit::RunFolder, text).hint(
        "put hydra.db back from a backup (docs/operations.md), or begin another run in a folder of its own (--run DIR)",
    )
}

fn without_its_key(path: &Path, key: PublicKey) -> Failure {
    let text = format!("{} is gone, and this run belongs to the coordinator key {key}", path.display());
    Failure::new(Exit::RunFolder, text).hint(
        "put that file back from a backup (docs/operations.md), or begin another run in a folder of its own (--run DIR)",
    )
}

/// A start with `--init` was cut short, and this one would begin with random weights.
fn without_its_model() -> Failure {
    Failure::new(
        Exit::Config,
        "this run was to begin from a model and has no version yet: its first start was cut short",
    )
    .hint("give that model again (--init DIR), or begin another run in a folder of its own (--run DIR)")
}

/// Says what a damaged disk cost, and puts the damaged files aside.
fn tell_repairs(repairs: &Repairs, versions: &VersionFiles, events: &Events) -> anyhow::Result<()> {
    for (version, why) in &repairs.remade {
        let aside = versions.set_aside(*version).map_err(fail::file)?;
        let kept = aside.map(|path| format!("; the damaged file is kept as {}", path.display())).unwrap_or_default();
        events.say(&format!("version {version} was damaged ({why}) and is made again from its updates{kept}"));
    }
    for (version, why) in &repairs.superseded {
        let aside = versions.set_aside(*version).map_err(fail::file)?;
        let kept = aside.map(|path| format!("; the damaged file is kept as {}", path.display())).unwrap_or_default();
        events.say(&format!("version {version} cannot be used ({why}); going on from the one before{kept}"));
    }
    if !repairs.ended.is_empty() {
        events.say(&format!("{} tasks of lost versions are called off", repairs.ended.len()));
    }
    if !repairs.reopened.is_empty() {
        events.say(&format!("{} updates that it had merged are merged again", repairs.reopened.len()));
    }
    if !repairs.lost.is_empty() {
        events.say(&format!("{} paid updates are lost to the model; their pay stays", repairs.lost.len()));
    }
    Ok(())
}

/// How updates are written until a worker's link is known to be slow.
pub const AUTO_CODEC: Codec = Codec::Int4;

/// When the run stops by itself.
pub fn stop(settings: &Settings) -> Stop {
    let hydra_config::StopSettings { after_tasks, after_tokens, after_rounds, at_loss } = settings.stop;
    Stop { after_tasks, after_tokens, after_rounds, at_loss }
}

/// The settings as the hub's rules.
pub fn rules(settings: &Settings, shape: Shape, data: &Dataset, epoch_ms: u64) -> Rules {
    let Settings { schedule, tasks, rounds, ledger, answers, .. } = settings;
    Rules {
        shape,
        recipe: settings.recipe,
        schedule: Schedule {
            peak: schedule.peak_lr as f32,
            warmup_tokens: schedule.warmup_tokens,
            horizon: schedule.horizon_tokens,
            final_ratio: schedule.final_lr_ratio as f32,
        },
        reward: ledger.reward,
        price: ledger.price,
        steps: settings.steps_per_task(),
        codec: rounds.codec.unwrap_or(AUTO_CODEC),
        sparser: rounds.codec.is_none(),
        shards: data
            .shards
            .iter()
            .map(|shard| Shard { digest: shard.digest, tokens: shard.tokens, preview: shard.preview.clone() })
            .collect(),
        queue: tasks.queue as usize,
        every: tasks.rate_per_minute.map(|rate| Duration::from_mins(1) / rate.max(1)),
        lease_first: tasks.first_lease,
        lease_min: tasks.min_lease,
        lease_factor: tasks.lease_factor,
        quorum: rounds.quorum,
        grace: rounds.grace,
        round_deadline: rounds.deadline,
        outer: outer_rule(settings),
        checked_windows: tasks.checked_windows,
        stop: stop(settings),
        sampling: Sampling {
            max_new_tokens: answers.max_new_tokens,
            temperature: answers.temperature,
            top_k: answers.top_k,
            top_p: answers.top_p,
            seed: 0,
        },
        seed: settings.seed,
        epoch_ms,
    }
}

fn outer_rule(settings: &Settings) -> OuterRule {
    OuterRule { lr: settings.rounds.outer_lr, momentum: settings.rounds.outer_momentum }
}
