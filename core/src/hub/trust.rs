//! What an update is worth, and what is known of the workers: the rules that judge [`Findings`].
//!
//! - *Copies.* A direction that is almost that of an earlier update (anybody's, in whatever version) or of a step that
//!   was broadcast is no work of its own. Almost is meant beside how alike updates are anyway: the more tokens a step takes
//!   in, the less noise is left in it, and honest updates of large steps have cosines of 0.98.
//! - *Usefulness.* The windows that a task prescribes are known to the coordinator, so it can see whether a part of the
//!   update lowers the loss on some of them. That is compared with what the updates of others from the same version do:
//!   how much there is to gain changes with every version, while whoever trained shows about the same gain as the
//!   others who did. Random numbers gain nothing, reversed updates lose, updates that were trained from other weights
//!   or on other windows gain less or lose. One sample is noisy late in training, so a moving average of each worker
//!   decides, unless the sample is clear by itself.
//!   Whoever leaves out a part of the steps gains on one half of its windows and hardly on the other. That is a
//!   difference of a factor of two in numbers that scatter by a third, so what is seen of each half is gathered over
//!   several updates (`record.rs`). So is what is seen of all windows: whoever trains from weights that are some
//!   versions old gains about half of the usual again and again, which no single sample tells from bad luck.
//!   A worker that is alone with its encoding has nobody to compare with but itself: its own noise must not become what
//!   is usual, so it is compared loosely with what everybody gains.
//!   What is usual is meant at the task's own learning rate: while it rises the first of a version's tasks are trained at
//!   lower ones than the last and gain less, a quarter in the first version. How gain grows with the rate is between not
//!   at all and in proportion, so a task at a lower rate is expected to gain less in proportion, one at a higher rate no
//!   more.
//! - *Harm.* Held-out text is looked at too, for updates that gain on their windows and destroy the rest.
//!
//! Others can shift what is usual by training *better* on their own windows: most of a version's updates, of three
//! users or more, would have to gain more than 1/`WHOLE` (`record.rs`) times as much again and again to make that an attack on the
//! rest. Norms are not compared with others' for that reason: they could be shifted at no cost;
//! merging clips them instead ([`crate::merge::shares`]).
//!
//! Nothing here is stored: after a restart everybody is new, which costs some arithmetic and nobody's pay.

use std::collections::VecDeque;

use super::findings::{Findings, Gain, Sample, Source};
use super::memory::{Memory, Who};
use crate::codec::Codec;
use crate::ids::{UserName, VersionNo, WorkerId};
use crate::limits;
use crate::proto::UnpaidCode;

mod record;
mod usual;

use record::Record;
use usual::{Usual, error};

#[cfg(test)]
mod tests;

/// Directions closer than this are one direction. A copy that was rounded to four bits anew keeps 0.985; updates of
/// different windows from the same version stay below 0.78 (measured, from the first version on).
const COPY: f64 = 0.95;
/// Updates of different windows from a run's first version, in which they are most alike, are about so alike as if each
/// had noise of this many parts of what they have in common, by the tokens of a step: cosines of 0.77 with 768 tokens, of
/// 0.96 to 0.98 with 16,384 (measured).
const NOISE: f64 = 230.0;
/// A copy is so many times nearer than that.
const NEARER: f64 = 4.0;
/// An update gains at least this part of what is usual among updates of its version. Honest ones scatter around 1.
const LEAST: f64 = 0.5;
/// The same where only updates of earlier versions, or in other codecs, are known. Low, since in the first versions of
/// a run each gains up to twelve times less than the one before (measured), and a sparse update less than a dense one.
const LEAST_BEFORE: f64 = 0.01;
/// So many updates of other users say what is usual among updates that are alike.
const ENOUGH: usize = 3;
/// Updates whose gains are remembered.
const REMEMBERED: usize = 64;
/// A sample is clear by itself if this many standard errors do not change what it says.
const CLEAR: f64 = 2.0;
/// The usual gain shows in a sample if it is so many of the standard errors that a sample of so many windows usually has.
/// Honest ones are seldom below half of it.
const SHOWS: f64 = 4.0;
/// Beyond what is usual, an update may cost this many times the usual gain on held-out text.
const HARM: f64 = 2.0;
/// So much a single sample can count for or against a worker.
const MOST: f64 = 2.0;
/// A worker that gains this part of what is usual, on average, was right.
const RIGHT: f64 = 0.75;
/// Two windows a half are the fewest that show how sure a gain is.
const FEWEST: u32 = 4;
/// After so many samples a worker is known.
const KNOWN: u32 = 4;
/// What is known of workers, and what updates usually gain.
#[derive(Debug, Default)]
pub(super) struct Trust {
    records: Memory<Record>,
    /// Updates that were found useful, oldest first.
    usual: VecDeque<Useful>,
    /// Updates that came before enough others of their version, oldest first; what they show is seen later.
    early: VecDeque<(WorkerId, Useful)>,
}

/// What an update was trained for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Task {
    /// From which version.
    pub version: VersionNo,
    /// How it is encoded.
    pub codec: Codec,
    /// Tokens of each step.
    pub step_tokens: u64,
    /// At which learning rate, on average; unknown of what was leased before a restart.
    pub rate: Option<f32>,
}

/// An update that was found useful.
#[derive(Debug)]
struct Useful {
    task: Task,
    user: UserName,
    gain: Gain,
}

impl Useful {
    /// The part of its gain that is expected at a task's rate.
    fn part(&self, rate: Option<f32>) -> f64 {
        let (Some(rate), Some(own)) = (rate, self.task.rate) else { return 1.0 };
        let part = f64::from(rate) / f64::from(own);
        // No number if both are nothing.
        if part < 1.0 { part } else { 1.0 }
    }
}

/// A verdict on findings: why there is no pay.
pub(super) type Refusal = (UnpaidCode, String);

impl Trust {
    /// How many windows of a worker's next update to score, where `few` do for a worker that is known and was right.
    pub fn windows(&self, who: &Who, few: u32) -> u32 {
        // Of fewer no scatter can be told, and nothing could be held against anybody.
        let few = if few == 0 { 0 } else { few.max(FEWEST) };
        if self.is_known(who) { few } else { few.saturating_mul(2) }
    }

    /// Whether a worker has been right for a while.
    fn is_known(&self, who: &Who) -> bool {
        self.records.get(who).is_some_and(|record| record.samples >= KNOWN && record.gain > RIGHT)
    }

    /// Judges an update, and remembers what it shows.
    pub fn judge(&mut self, who: &Who, task: Task, findings: &Findings) -> Result<(), Refusal> {
        if let Some(twin) = findings.twin.filter(|twin| twin.cosine >= copy_from(task.step_tokens)) {
            let of = match twin.of {
                Source::Update(_) => "an earlier update".to_owned(),
                Source::Step(version) => format!("the step to version {version}"),
            };
            return Err((UnpaidCode::Copied, format!("the update is {of} again (cosine {:.3})", twin.cosine)));
        }
        let Some(gain) = findings.gain.filter(|gain| gain.own().count > 0) else { return Ok(()) };
        self.look_back(task.version);
        self.judge_gain(who, task, &gain)?;
        remember(&mut self.usual, Useful { task, user: who.0.clone(), gain });
        self.look_back(task.version);
        Ok(())
    }

    /// Notes what updates show that came before enough others of their version, where these have come by `newest`. Where
    /// nobody will come any more, what is held against a worker fades: it must not be refused for ever for want of
    /// company.
    fn look_back(&mut self, newest: VersionNo) {
        for (worker, one) in std::mem::take(&mut self.early) {
            let same = self.same(&one.user, one.task);
            let usual = if same.len() >= ENOUGH { Usual::of(&same, one.task.rate, true) } else { None };
            match usual {
                Some(usual) => self.records.used(&(one.user, worker)).note(&one.gain, &usual),
                _ if one.task.version.0 + limits::STALENESS < newest.0 => {
                    self.records.used(&(one.user, worker)).fade();
                }
                _ => self.early.push_back((worker, one)),
            }
        }
    }

    fn judge_gain(&mut self, who: &Who, task: Task, gain: &Gain) -> Result<(), Refusal> {
        let useless = |text: String| Err((UnpaidCode::Useless, text));
        let own = gain.own();
        if !own.mean.is_finite() || !gain.held_out.mean.is_finite() {
            return useless("the model is lost with the update: it predicts nothing any more".to_owned());
        }
        let clearly_below = |bar: f64, errors: f64| own.mean + errors * error(&own) < bar;
        let Some(usual) = self.usual(&who.0, task) else {
            // The first of a run, with much to gain, or of a start, where nothing may be left: there is nothing to compare with.
            return if clearly_below(0.0, CLEAR) { useless(loses(&own)) } else { Ok(()) };
        };
        if usual.own <= CLEAR * usual.error {
            // Nobody's gain can be told from nothing: that is no reason to pay nobody.
            return if clearly_below(0.0, 2.0 * CLEAR) { useless(loses(&own)) } else { Ok(()) };
        }
        let known = self.is_known(who);
        let score = (own.mean / usual.own).clamp(-MOST, MOST);
        let record = self.records.used(who);
        record.move_average(score);
        let average = record.move_compared(score, usual.fresh);
        if usual.fresh {
            record.note(gain, &usual);
        } else {
            remember(&mut self.early, (who.1, Useful { task, user: who.0.clone(), gain: *gain }));
        }
        let poor = if usual.fresh {
            average < LEAST || clearly_below(LEAST * usual.own, CLEAR)
        } else {
            // How much there is to gain is not known well: who is not known either has to show that it gains at all, where
            // honest work would show it. It hardly does once a text is known by heart.
            let gains = own.mean > CLEAR * error(&own);
            let shows = usual.own > SHOWS * usual.deviation / f64::from(own.count).sqrt();
            (shows && !known && !gains) || clearly_below(LEAST_BEFORE * usual.own, CLEAR)
        };
        if poor {
            let text = "the update does not help on the windows of its task: it gains";
            return useless(if usual.fresh {
                format!("{text} {score:.2} of what is usual, {average:.2} on average")
            } else {
                format!("{text} {score:.2} of what was usual before, which its windows do not show clearly")
            });
        }
        if let Some(fault) = self.records.get(who).and_then(Record::fault) {
            return useless(fault);
        }
        let held = gain.held_out;
        if held.count > 0 && held.mean + CLEAR * error(&held) < usual.held_out - HARM * usual.own {
            let cost = (usual.held_out - held.mean) / usual.own;
            return useless(format!("the update harms the model on held-out text, by {cost:.1} times the usual gain"));
        }
        Ok(())
    }

    /// What an update of `user` would usually gain: from those of others with the same version and codec if there are
    /// enough, else from those with the codec that came last. A sparse update gains less than a dense one, so where
    /// others use the same codec only those count; where nobody does, all are compared with, loosely.
    fn usual(&self, user: &UserName, task: Task) -> Option<Usual> {
        let Task { version, codec, rate, .. } = task;
        let same = self.same(user, task);
        if same.len() >= ENOUGH {
            return Usual::of(&same, rate, true);
        }
        // What is long past says nothing: where gains have fallen since, nobody would be paid any more.
        let recent = || self.usual.iter().filter(|one| one.task.version.0 + limits::STALENESS + 1 >= version.0);
        let others: Vec<&Useful> = recent().filter(|one| one.user != *user).collect();
        let alike: Vec<&Useful> = others.iter().copied().filter(|one| one.task.codec == codec).collect();
        let known = if alike.len() >= ENOUGH {
            alike
        } else if !others.is_empty() {
            others
        } else {
            recent().collect()
        };
        Usual::of(&known[known.len().saturating_sub(2 * ENOUGH)..], rate, false)
    }

    /// What others gained with the same version and codec. Who sends the most must not set its own measure, unless
    /// nobody else sends any more.
    fn same(&self, user: &UserName, task: Task) -> Vec<&Useful> {
        let of = |task: &Task| (task.version, task.codec);
        let alike = |one: &&Useful| of(&one.task) == of(&task) && one.user != *user;
        self.usual.iter().filter(alike).collect()
    }
}

/// From which cosine on two directions are one, with so many tokens in a step.
fn copy_from(step_tokens: u64) -> f64 {
    let noise = NOISE / step_tokens.max(1) as f64;
    let alike = 1.0 / (1.0 + noise);
    (1.0 - (1.0 - alike) / NEARER).max(COPY)
}

/// Keeps the newest.
fn remember<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() == REMEMBERED {
        kept.pop_front();
    }
    kept.push_back(new);
}

fn loses(own: &Sample) -> String {
    format!("the update does not help on the windows of its task: the loss rises by {:.2e} nats a token", -own.mean)
}
