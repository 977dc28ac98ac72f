//! The settings as the coordinator uses them: typed, with units, every bound checked.

use std::path::PathBuf;
use std::time::Duration;

use hydra_core::codec::Codec;
use hydra_core::credits::Credits;
use hydra_core::model::Recipe;

use crate::layers::Values;
use crate::names::{self, Preset, TokenizerSpec};

/// Everything that can be set; `docs/configuration.md` describes each key.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `host:port` to accept connections on.
    pub listen: String,
    /// Folder of the run.
    pub run_dir: PathBuf,
    /// Decides the first weights and the order of the data.
    pub seed: u64,
    /// Text to train on; empty: the built-in primer.
    pub data: Vec<PathBuf>,
    /// Text to measure on; empty: a part of the training text is kept aside.
    pub val_data: Vec<PathBuf>,
    /// Where sizes and recipe started from.
    pub preset: Preset,
    /// How text becomes tokens.
    pub tokenizer: TokenizerSpec,
    /// Sizes, but for the vocabulary.
    pub model: ModelSettings,
    /// How workers train.
    pub recipe: Recipe,
    /// The learning rate over the run.
    pub schedule: ScheduleSettings,
    /// Generating and leasing work.
    pub tasks: TaskSettings,
    /// Merging updates.
    pub rounds: RoundSettings,
    /// Rewards and prices.
    pub ledger: LedgerSettings,
    /// Answering queries.
    pub answers: AnswerSettings,
    /// What strangers may take up.
    pub limits: LimitSettings,
    /// Measuring versions.
    pub eval: EvalSettings,
    /// When to stop.
    pub stop: StopSettings,
}

/// Sizes of the model, without the vocabulary: that is known once the tokenizer is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSettings {
    /// Width of the residual stream.
    pub width: u32,
    /// Attention heads.
    pub heads: u32,
    /// Transformer layers.
    pub layers: u32,
    /// Longest window, in tokens.
    pub context: u32,
    /// Inner width of the MLP; the family's usual if absent.
    pub ffn: Option<u32>,
}

/// The learning rate as a function of the tokens that the run has trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleSettings {
    /// Learning rate after the warm-up.
    pub peak_lr: f64,
    /// Tokens over which it rises to the peak.
    pub warmup_tokens: u64,
    /// Learning rate at the horizon, as a part of the peak.
    pub final_lr_ratio: f64,
    /// Tokens at which it has fallen; absent: it stays at the peak. May lie within the warm-up, which it then cuts off.
    pub horizon_tokens: Option<u64>,
}

/// Generating and leasing work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskSettings {
    /// Tokens trained in one task; a multiple of batch × context.
    pub task_tokens: u64,
    /// Generated tasks that wait for a free worker.
    pub queue: u32,
    /// Tasks generated a minute at most; absent: as fast as workers take them.
    pub rate_per_minute: Option<u32>,
    /// Lease of a worker whose speed is not known; at least `min_lease`.
    pub first_lease: Duration,
    /// Shortest lease.
    pub min_lease: Duration,
    /// Lease of a known worker, as a multiple of the time that it needs.
    pub lease_factor: f64,
    /// Windows of its task on which a known worker's update is measured, twice as many of another's; 0: none.
    pub checked_windows: u32,
}

/// Merging updates into versions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundSettings {
    /// A round may close once this part of the working workers' updates has come.
    pub quorum: f64,
    /// After its quorum, a round waits for updates expected within this part of a typical task's time.
    pub grace: f64,
    /// A round with any update closes after this at the latest.
    pub deadline: Duration,
    /// Outer learning rate, in rounds of several updates.
    pub outer_lr: f32,
    /// Outer Nesterov momentum, in rounds of several updates.
    pub outer_momentum: f32,
    /// How updates are encoded; nothing: by each worker's link.
    pub codec: Option<Codec>,
    /// How versions are encoded for workers that have the one before.
    pub broadcast_codec: Codec,
    /// Newest versions kept on disk; more than [`hydra_core::limits::STALENESS`].
    pub keep_versions: u32,
}

/// Rewards and prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerSettings {
    /// What an accepted task pays; never zero.
    pub reward: Credits,
    /// What an answered query costs; may be zero.
    pub price: Credits,
}

/// Answering queries; a query may bring its own numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerSettings {
    /// Longest answer, in tokens.
    pub max_new_tokens: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// Only the k likeliest tokens; 0: all.
    pub top_k: u32,
    /// Only the likeliest tokens that together reach p; 1: all.
    pub top_p: f32,
    /// What the model is given; holds `{prompt}`.
    pub template: String,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// What measured versions answer on the coordinator's screen; empty: nothing.
    pub sample_prompt: String,
}

/// What strangers may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// Connections at one time.
    pub connections: u32,
    /// Connections at one time from one host other than this one.
    pub connections_per_host: u32,
    /// Messages of one session.
    pub messages_per_second: u32,
}

/// Measuring versions on held-out text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalSettings {
    /// Tokens that a version is measured on; at least one window.
    pub tokens: u64,
    /// Shortest time between measurements; absent: every version is measured.
    pub every: Option<Duration>,
}

/// When the run stops; the first that is met counts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StopSettings {
    /// After so many accepted tasks.
    pub after_tasks: Option<u64>,
    /// After so many trained tokens.
    pub after_tokens: Option<u64>,
    /// After so many rounds.
    pub after_rounds: Option<u64>,
    /// When the held-out loss is this or less, in nats a token.
    pub at_loss: Option<f64>,
}

/// Why a value must be there: every key without a fault has one of its kind, and faults end before this is asked.
const SOUND: &str = "settings are built from values without faults";

impl ModelSettings {
    /// Nothing if one of the sizes is faulty.
    pub(crate) fn from_values(values: &Values) -> Option<Self> {
        let size = |path| values.whole(path).map(|size| size as u32);
        // Absent for a faulty value, `Unset` for the usual width.
        values.get("model.ffn")?;
        Some(Self {
            width: size("model.width")?,
            heads: size("model.heads")?,
            layers: size("model.layers")?,
            context: size("model.context")?,
            ffn: size("model.ffn"),
        })
    }
}

impl Settings {
    /// Optimiser steps in one task.
    pub fn steps_per_task(&self) -> u32 {
        (self.tasks.task_tokens / (u64::from(self.recipe.batch) * u64::from(self.model.context))) as u32
    }

    /// The typed form of values in which no fault was found.
    pub(crate) fn from_values(values: &Values) -> Self {
        let whole = |path| values.whole(path).expect(SOUND);
        let count = |path| whole(path) as u32;
        let number = |path| values.number(path).expect(SOUND);
        let small = |path| number(path) as f32;
        let seconds = |path| Duration::from_secs_f64(number(path));
        let credits = |path| values.credits(path).expect(SOUND);
        let text = |path| values.text(path).expect(SOUND);
        let list = |path| values.list(path).expect(SOUND);
        let paths = |path| list(path).iter().map(PathBuf::from).collect();
        Self {
            listen: text("listen").to_owned(),
            run_dir: text("run").into(),
            seed: whole("seed"),
            data: paths("data"),
            val_data: paths("val_data"),
            preset: text("preset").parse().expect(SOUND),
            tokenizer: text("tokenizer").parse().expect(SOUND),
            model: ModelSettings::from_values(values).expect(SOUND),
            recipe: Recipe {
                batch: count("recipe.batch"),
                beta1: small("recipe.beta1"),
                beta2: small("recipe.beta2"),
                weight_decay: small("recipe.weight_decay"),
                clip: small("recipe.clip"),
            },
            schedule: ScheduleSettings {
                peak_lr: number("schedule.peak_lr"),
                warmup_tokens: whole("schedule.warmup_tokens"),
                final_lr_ratio: number("schedule.final_lr_ratio"),
                horizon_tokens: values.whole("schedule.horizon_tokens"),
            },
            tasks: TaskSettings {
                task_tokens: whole("tasks.task_tokens"),
                queue: count("tasks.queue"),
                rate_per_minute: values.whole("tasks.rate_per_minute").map(|rate| rate as u32),
                first_lease: seconds("tasks.first_lease_seconds"),
                min_lease: seconds("tasks.min_lease_seconds"),
                lease_factor: number("tasks.lease_factor"),
                checked_windows: count("tasks.checked_windows"),
            },
            rounds: RoundSettings {
                quorum: number("rounds.quorum"),
                grace: number("rounds.grace"),
                deadline: seconds("rounds.deadline_seconds"),
                outer_lr: small("rounds.outer_lr"),
                outer_momentum: small("rounds.outer_momentum"),
                // "auto" names no codec.
                codec: names::codec(text("rounds.codec")),
                broadcast_codec: names::codec(text("rounds.broadcast_codec")).expect(SOUND),
                keep_versions: count("rounds.keep_versions"),
            },
            ledger: LedgerSettings { reward: credits("ledger.reward"), price: credits("ledger.price") },
            answers: AnswerSettings {
                max_new_tokens: count("answers.max_new_tokens"),
                temperature: small("answers.temperature"),
                top_k: count("answers.top_k"),
                top_p: small("answers.top_p"),
                template: text("answers.template").to_owned(),
                stop: list("answers.stop").to_vec(),
                sample_prompt: text("answers.sample_prompt").to_owned(),
            },
            limits: LimitSettings {
                connections: count("limits.connections"),
                connections_per_host: count("limits.connections_per_host"),
                messages_per_second: count("limits.messages_per_second"),
            },
            eval: EvalSettings {
                tokens: whole("eval.tokens"),
                every: values.number("eval.every_seconds").map(Duration::from_secs_f64),
            },
            stop: StopSettings {
                after_tasks: values.whole("stop.after_tasks"),
                after_tokens: values.whole("stop.after_tokens"),
                after_rounds: values.whole("stop.after_rounds"),
                at_loss: values.number("stop.at_loss"),
            },
        }
    }
}
