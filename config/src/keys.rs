//! The table of keys: every setting's path, kind, bounds, default and meaning, in the order in which they are shown.
//!
//! Parsing, printing and the tables of `docs/configuration.md` all come from here.

use hydra_core::credits::Credits;
use hydra_core::limits;

use crate::names::{CODEC_CHOICES, CODEC_NAMES, Preset};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `host:port`.
    Address,
    /// A path.
    Path,
    /// Paths; one alone may stand without brackets.
    Paths,
    /// Text that holds `{prompt}` once, at most [`limits::TEXT_BYTES`] bytes.
    Template,
    /// Text of at most [`limits::TEXT_BYTES`] bytes, possibly none.
    Words,
    /// Texts that end an answer; one alone may stand without brackets.
    Stops,
    /// `bytes` or `bpe:N`.
    Tokenizer,
    /// One of these names.
    Choice(&'static [&'static str]),
    /// A whole number within bounds, of some unit.
    Whole(u64, u64, &'static str),
    /// A number within bounds, of some unit.
    Number(f64, f64, &'static str),
    /// Credits (HYD) within bounds.
    Credits(Credits, Credits),
}

/// Where a key's value comes from when no layer sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This value, as TOML.
    Toml(&'static str),
    /// Every preset sets it.
    Preset,
    /// No value; this word, as text, says so too, so that a stronger layer can take a weaker one's value away.
    Unset(&'static str),
    /// Worked out from other settings, as these words say.
    Derived(&'static str),
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Its section and name, such as `ledger.reward`.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value when nobody sets it.
    pub default: Fallback,
    /// What it means, in one line.
    pub help: &'static str,
}

impl Key {
    /// The environment variable that sets it: `HYDRA_LEDGER_REWARD` for `ledger.reward`.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.path.replace('.', "_").to_uppercase())
    }

    /// What it takes, in words.
    pub fn allowed(&self) -> String {
        let unit = |unit: &str| if unit.is_empty() { String::new() } else { format!(" {unit}") };
        let base = match self.kind {
            Kind::Address => "host:port, such as 127.0.0.1:5000 (port 0: any free one)".to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Paths => "a list of paths".to_owned(),
            Kind::Template => format!("text of at most {} bytes that holds {{prompt}} once", limits::TEXT_BYTES),
            Kind::Words => format!("text of at most {} bytes", limits::TEXT_BYTES),
            Kind::Stops => {
                format!("a list of at most {} texts of 1 to {} bytes", limits::STOPS, limits::LABEL_BYTES)
            }
            Kind::Tokenizer => crate::names::TokenizerSpecError.to_string().replace("a tokenizer is ", ""),
            Kind::Choice(names) => format!("one of {}", names.join(", ")),
            Kind::Whole(min, max, of) => format!("a whole number from {min} to {}{}", grouped(max), unit(of)),
            Kind::Number(min, max, of) => format!("a number from {min:?} to {max:?}{}", unit(of)),
            Kind::Credits(min, max) => format!("from {min} to {max} credits, with at most six decimals"),
        };
        match self.default {
            Fallback::Unset(word) => format!("{base}, or {word:?}"),
            _ => base,
        }
    }
}

/// The number as TOML lets people write it: `16_384`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let begins_group = |at: usize| at > 0 && digits.len() > 4 && (digits.len() - at).is_multiple_of(3);
    let groups =
        digits.char_indices().map(|(at, digit)| if begins_group(at) { format!("_{digit}") } else { digit.into() });
    groups.collect()
}

/// How the names of environment variables begin.
pub const ENV_PREFIX: &str = "HYDRA_";

/// The key with this path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether keys lie under this path.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

use Fallback::{Derived, Preset as OfPreset, Toml, Unset};
use Kind::{Address, Choice, Credits as Money, Number, Path, Paths, Stops, Template, Tokenizer, Whole, Words};

const fn key(path: &'static str, kind: Kind, default: Fallback, help: &'static str) -> Key {
    Key { path, kind, default, help }
}

/// The most that one task or query moves: nine million such transfers fill an account.
const MOST: Credits = Credits::hyd(1000);
/// The most of anything that is counted over a whole run.
const MANY: u64 = 1_000_000_000_000_000;
/// The largest seed: what TOML's integers carry.
const SEED: u64 = i64::MAX as u64;
/// A week, for spans in seconds.
const WEEK: f64 = 604_800.0;

/// Every key; the top level first, then section by section.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("listen", Address, Toml("\"127.0.0.1:5000\""), "where the coordinator accepts connections"),
    key("run", Path, Toml("\"./hydra-run\""), "folder of the run: ledger, versions, tokenizer, text"),
    key("seed", Whole(0, SEED, ""), Toml("1"), "decides the first weights and the order of the data"),
    key("data", Paths, Toml("[]"), "text files or folders to train on; empty: the built-in primer"),
    key("val_data", Paths, Toml("[]"), "text files or folders to measure on; empty: a part of `data` is kept aside"),
    key("preset", Choice(Preset::NAMES), Toml("\"small\""), "the named set of sizes that the other settings start from"),
    key("tokenizer", Tokenizer, OfPreset, "how text becomes tokens"),

    key("model.width", Whole(8, 16_384, ""), OfPreset, "width of the residual stream"),
    key("model.heads", Whole(1, 256, ""), OfPreset, "attention heads; `width` must be a multiple of 2 × `heads`"),
    key("model.layers", Whole(1, 256, ""), OfPreset, "transformer layers"),
    key("model.context", Whole(8, 65_536, "tokens"), OfPreset, "longest window"),
    key("model.ffn", Whole(8, 65_536, ""), Unset("auto"), "inner width of the gated MLP; auto: 8/3 of the width, rounded up"),

    key("recipe.batch", Whole(1, 4096, "windows"), OfPreset, "windows in one optimiser step; × `model.context` at most 4,194,304 tokens"),
    key("recipe.beta1", Number(0.0, 0.9999, ""), Toml("0.9"), "AdamW's decay of the mean of gradients"),
    key("recipe.beta2", Number(0.0, 0.999_999, ""), Toml("0.99"), "AdamW's decay of the mean of squared gradients"),
    key("recipe.weight_decay", Number(0.0, 1.0, ""), Toml("0.1"), "AdamW's weight decay, on matrices alone"),
    key("recipe.clip", Number(0.001, 1000.0, ""), Toml("1.0"), "the gradient's norm is clipped to this"),

    key("schedule.peak_lr", Number(1e-8, 1.0, ""), OfPreset, "learning rate after the warm-up"),
    key("schedule.warmup_tokens", Whole(0, MANY, "tokens"), OfPreset, "trained tokens over which the learning rate rises to its peak"),
    key("schedule.final_lr_ratio", Number(0.01, 1.0, ""), OfPreset, "learning rate at the horizon, as a part of the peak"),
    key("schedule.horizon_tokens", Whole(1, MANY, "tokens"), Unset("none"), "trained tokens at which the learning rate has fallen; unset: `stop.after_tokens`; without either it stays at the peak"),

    key("tasks.task_tokens", Whole(1, 1 << 30, "tokens"), OfPreset, "tokens trained in one task; a multiple of `recipe.batch` × `model.context`, at most 1,048,576 times that"),
    key("tasks.queue", Whole(1, 4096, "tasks"), Toml("8"), "generated tasks that wait for a free worker"),
    key("tasks.rate_per_minute", Whole(1, 1_000_000, "tasks a minute"), Unset("none"), "tasks generated at most; none: as fast as workers take them"),
    key("tasks.first_lease_seconds", Number(1.0, WEEK, "seconds"), OfPreset, "lease of a worker whose speed is not known; 6 hours at most"),
    key("tasks.min_lease_seconds", Number(1.0, WEEK, "seconds"), Toml("30"), "shortest lease; 6 hours at most"),
    key("tasks.lease_factor", Number(1.0, 100.0, ""), Toml("3.0"), "lease of a known worker, as a multiple of the time that it needs"),
    key("tasks.checked_windows", Whole(0, 4096, "windows"), Toml("4"), "windows of its task on which a known worker's update is measured before it is paid, twice as many of another's, once three users train; 1 to 3 count as 4; 0: its use is not measured, only its likeness to others"),

    key("rounds.quorum", Number(0.01, 1.0, ""), Toml("0.7"), "a round may close once this part of the working workers' updates has come"),
    key("rounds.grace", Number(0.0, 10.0, ""), Toml("0.25"), "after its quorum, a round waits for updates expected within this part of a typical task's time"),
    key("rounds.deadline_seconds", Number(1.0, WEEK, "seconds"), OfPreset, "a round with any update closes after this at the latest"),
    key("rounds.outer_lr", Number(0.01, 2.0, ""), Toml("1.0"), "outer learning rate, in rounds of several updates"),
    key("rounds.outer_momentum", Number(0.0, 0.99, ""), Toml("0.0"), "outer Nesterov momentum, in rounds of several updates"),
    key("rounds.codec", Choice(CODEC_CHOICES), Toml("\"auto\""), "how updates are encoded; auto: int4, or fewer bytes for a worker that would need more than a twentieth of a task's time to send that"),
    key("rounds.broadcast_codec", Choice(CODEC_NAMES), Toml("\"int4\""), "how versions are encoded for those who have the one before"),
    key("rounds.keep_versions", Whole(limits::STALENESS + 1, 64, "versions"), Toml("8"), "newest versions kept on disk"),

    key("ledger.reward", Money(Credits(1), MOST), Toml("1.0"), "what an accepted task pays"),
    key("ledger.price", Money(Credits::ZERO, MOST), Toml("0.5"), "what an answered query costs; 0: nothing"),

    key("answers.max_new_tokens", Whole(1, limits::NEW_TOKENS as u64, "tokens"), Toml("128"), "longest answer, unless the query says otherwise"),
    key("answers.temperature", Number(0.0, 10.0, ""), Derived("`0.8`; with the primer `0.3`"), "how freely tokens are drawn; 0: always the likeliest"),
    key("answers.top_k", Whole(0, 65_536, "tokens"), Toml("40"), "only the k likeliest tokens are drawn; 0: all"),
    key("answers.top_p", Number(0.01, 1.0, ""), Toml("1.0"), "only the likeliest tokens that together reach p are drawn; 1: all"),
    key("answers.template", Template, Derived("`\"{prompt}\"`; with the primer `\"Question: {prompt}\\nAnswer:\"`"), "what the model is given; {prompt} stands for the user's words"),
    key("answers.stop", Stops, Derived("`[]`; with the primer `[\"\\nQuestion:\", \"\\n\\n\"]`"), "texts that end an answer"),
    key("answers.sample_prompt", Words, Derived("`\"The\"`; with the primer `\"What is a neural network?\"`"), "prompt that measured versions answer on the coordinator's screen and page; empty: none"),

    key("limits.connections", Whole(1, limits::SESSIONS as u64, "connections"), Toml("10_000"), "connections at one time"),
    key("limits.connections_per_host", Whole(1, limits::SESSIONS as u64, "connections"), Toml("256"), "connections at one time from one address (of IPv6: from one /64 network); this machine may have any number"),
    key("limits.messages_per_second", Whole(10, 1_000_000, "messages a second"), Toml("200"), "messages of one session, full chunks not counted; ten seconds' worth may come at once"),

    key("eval.tokens", Whole(8, 1 << 30, "tokens"), Derived("`8192`, or one window if that is longer"), "held-out tokens on which each version is measured; at least one window"),
    key("eval.every_seconds", Number(1.0, WEEK, "seconds"), Unset("none"), "shortest time between measurements; none: every version is measured. All are in the average, measured or not"),

    key("stop.after_tasks", Whole(1, MANY, "tasks"), Unset("none"), "stop after so many accepted tasks"),
    key("stop.after_tokens", Whole(1, MANY, "tokens"), Unset("none"), "stop after so many trained tokens"),
    key("stop.after_rounds", Whole(1, MANY, "rounds"), Unset("none"), "stop after so many rounds"),
    key("stop.at_loss", Number(0.0, 100.0, "nats a token"), Unset("none"), "stop when the held-out loss is this or less"),
];
