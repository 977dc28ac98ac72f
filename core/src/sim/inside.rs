//! What takes time inside the coordinator's process: its disk, its learner and its voice.

use super::Bug;
use super::audit::{merged_digest, next_weights};
use super::net::Content;
use super::world::World;
use crate::codec::Codec;
use crate::hub::{Fact, Findings, Gain, MergeInput, QueryNo, Row, Sample, Source, Twin};
use crate::ids::{Digest, LeaseId, SessionId, VersionNo};
use crate::ledger::Kind;
use crate::proto::{Finish, UnpaidCode};
use crate::time::Time;

/// One in so many rows is reported before it is durable, with [`Bug::EarlyAck`], or updates refused, with [`Bug::Unfair`].
const SELDOM: u64 = 50;

/// What happens inside the coordinator's process.
#[derive(Debug, Clone)]
pub enum Inside {
    /// The disk has synced what waits.
    Fsync,
    Persisted(u64),
    Checked {
        lease: LeaseId,
        blob: Digest,
        content: Content,
        /// How it is encoded, and on how many windows its use is to be measured.
        asked: (Codec, u32),
    },
    Merge {
        version: VersionNo,
        inputs: Vec<MergeInput>,
    },
    /// A version's file is on disk.
    Written(VersionNo),
    Measured(VersionNo),
    Word(QueryNo),
    SessionOver(SessionId),
    /// A ping was not answered in time; and something came after that.
    Quiet(SessionId),
    Woke(SessionId),
}

impl World {
    pub fn persist(&mut self, seq: u64, mut rows: Vec<Row>) {
        self.audit.ordered(seq, &rows);
        let Some(coordinator) = &mut self.coordinator else { return };
        if self.options.bug == Some(Bug::LostHold) && seq == 1 {
            rows.retain(|row| !matches!(row, Row::Transfer(transfer) if transfer.kind == Kind::Void));
        }
        coordinator.writer.push_back((seq, rows));
        let idle = !std::mem::replace(&mut coordinator.syncing, true);
        if self.options.bug == Some(Bug::EarlyAck) && self.one_in(SELDOM) {
            self.inside(100, Inside::Persisted(seq));
        }
        if idle {
            self.inside(self.plan.fsync_ms * 1000, Inside::Fsync);
        }
    }

    /// Rows become durable.
    pub fn commit(&mut self, rows: &[Row]) {
        for row in rows {
            if let Row::Accepted(accepted) = row {
                let kept = self.disk.updates.get(&accepted.lease);
                let copied = kept.is_some_and(|(_, content)| *content == Content::Copy);
                self.audit.expect(!copied, || format!("the copy of lease {} was paid", accepted.lease));
            }
        }
        self.disk.write(rows);
        self.audit.durable(rows);
    }

    /// Makes some or all of what waits durable, all of it if `all`.
    pub fn sync(&mut self, all: bool) {
        let waiting = self.coordinator.as_ref().map_or(0, |c| c.writer.len());
        let take = if all { waiting } else { 1 + self.rng.below(waiting as u64) as usize };
        let mut upto = None;
        for _ in 0..take.min(waiting) {
            let next = self.coordinator.as_mut().and_then(|c| c.writer.pop_front());
            if let Some((seq, rows)) = next {
                self.commit(&rows);
                upto = Some(seq);
            }
        }
        if let Some(upto) = upto {
            self.inside(2_000, Inside::Persisted(upto));
        }
        if take < waiting {
            self.inside(self.plan.fsync_ms * 1000, Inside::Fsync);
        } else if let Some(coordinator) = &mut self.coordinator {
            coordinator.syncing = false;
        }
    }

    pub fn learn(&mut self, what: Inside) {
        let took = 1 + self.rng.below(self.plan.learner_ms * 1000);
        let now = self.now;
        let Some(coordinator) = &mut self.coordinator else { return };
        let at = Time(coordinator.learner_free.max(now).0 + took);
        coordinator.learner_free = at;
        self.inside_at(at, what);
    }

    pub fn on_inside(&mut self, what: Inside) {
        match what {
            Inside::Fsync => self.sync(false),
            Inside::Persisted(upto) => {
                self.audit.reported(upto);
                self.tell_hub(Fact::Persisted { upto });
            }
            Inside::Checked { lease, blob, content, asked } => {
                let verdict = self.verdict(lease, &content, asked);
                if verdict.is_ok() {
                    self.disk.updates.insert(lease, (blob, content));
                }
                self.tell_hub(Fact::Checked { lease, verdict });
            }
            Inside::Merge { version, inputs } => self.merge(version, &inputs),
            Inside::Written(version) => self.written(version),
            Inside::Measured(version) => {
                let (averaged, loss) = (version.0 % 3 == 2, 5.0 / (1.0 + version.0 as f64));
                let (bits_per_byte, bytes_up, bytes_down) = (loss, 0, 0);
                self.tell_hub(Fact::Evaluated { version, averaged, loss, bits_per_byte, bytes_up, bytes_down });
            }
            Inside::Word(query) => self.say_word(query),
            Inside::Quiet(session) => self.quiet(session),
            Inside::Woke(session) => self.woke(session),
            Inside::SessionOver(session) => self.session_over(session),
        }
    }

    fn verdict(
        &mut self,
        lease: LeaseId,
        content: &Content,
        (codec, windows): (Codec, u32),
    ) -> Result<Findings, (UnpaidCode, String)> {
        let norm = 0.02 + 0.01 * self.rng.unit();
        // A sparse update gains less than a dense one.
        let part = if codec == self.plan.rules.codec { 1.0 } else { 0.3 };
        match content {
            Content::Update { base } => {
                let due = self.audit.task_base(lease);
                let right = due == Some(*base);
                self.audit.expect(right, || format!("lease {lease} was trained from {base}, not from {due:?}"));
                if self.options.bug == Some(Bug::Unfair) && self.one_in(SELDOM) {
                    return Err((UnpaidCode::Norm, "for nothing".to_owned()));
                }
                let gain = self.gain(0.02 * part, 0.008 * part, windows);
                Ok(Findings { gain, ..Findings::of_norm(norm) })
            }
            Content::Noise => {
                let gain = self.gain(0.0, 0.0015, windows);
                Ok(Findings { gain, ..Findings::of_norm(norm) })
            }
            Content::Copy => {
                let of = LeaseId(lease.0 - 1);
                // One's own work is told from new work that is like it only where tasks have some steps; of a lease that
                // ended before this start the hub does not know whose it was, nor does the learner know its direction.
                let of_this_start = of.0 >> 30 == self.disk.boots();
                let others = of_this_start && self.audit.are_of_two_users(lease, of);
                let told = self.plan.rules.steps >= 4 || others;
                let twin = Some(Twin { of: Source::Update(of), cosine: if told { 0.98 } else { 0.999 } });
                let gain = self.gain(0.02 * part, 0.008 * part, windows);
                Ok(Findings { norm, twin, gain })
            }
            Content::Loud => Ok(Findings::of_norm(1e9)),
            _ => Err((UnpaidCode::NotFinite, "numbers that are none".to_owned())),
        }
    }

    /// What an update does to the loss, if that was asked for: about so much, within half of how windows scatter.
    fn gain(&mut self, mean: f64, deviation: f64, windows: u32) -> Option<Gain> {
        let mut sample = |mean: f64, count| {
            let mean = mean + deviation * (self.rng.unit() - 0.5);
            Sample { count, mean, deviation }
        };
        (windows > 0).then(|| Gain {
            halves: [windows / 2, windows - windows / 2].map(|count| sample(mean, count)),
            held_out: sample(0.3 * mean, 8),
        })
    }

    fn merge(&mut self, version: VersionNo, inputs: &[MergeInput]) {
        if self.phase.has_faults() && self.rng.below(1000) < self.plan.rates.failed_merge {
            return self.tell_hub(Fact::MergeFailed { version });
        }
        for input in inputs {
            let kept = self.disk.updates.get(&input.lease).is_some_and(|(blob, _)| *blob == input.blob);
            self.audit.expect(kept, || format!("lease {} is to be merged, but its update is gone", input.lease));
        }
        let Some(coordinator) = &mut self.coordinator else { return };
        let before = coordinator.versions.get(&VersionNo(version.0 - 1)).map(|(digest, _)| *digest);
        let Some(before) = before else {
            return self.audit.fail(format!("version {version} is to be made from one that is not at hand"));
        };
        let delta = merged_digest(inputs.iter().map(|input| (input.lease, input.share, &input.blob)));
        let digest = next_weights(&before, &delta);
        coordinator.versions.insert(version, (digest, Some(delta)));
        while coordinator.versions.len() > 4 {
            coordinator.versions.pop_first();
        }
        coordinator.unwritten.push((version, Vec::new()));
        // Not every version gets a file; a few are told at most before one does.
        if version.0 - coordinator.file.0 == 4 {
            self.written(version);
        } else if self.one_in(2) {
            self.inside(600_000, Inside::Written(version));
        }
        self.mark("merged", version.0, inputs.len() as u64);
        self.tell_hub(Fact::Merged { version, digest });
    }

    fn written(&mut self, version: VersionNo) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let Some((digest, _)) = coordinator.versions.get(&version).filter(|_| version > coordinator.file) else {
            return;
        };
        self.disk.weights.insert(version, *digest);
        let before = std::mem::replace(&mut coordinator.file, version);
        for (_, merged) in coordinator.unwritten.extract_if(.., |(of, _)| *of <= before) {
            self.disk.updates.retain(|lease, _| !merged.contains(lease));
        }
    }

    fn say_word(&mut self, query: QueryNo) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let Some(answer) = coordinator.answers.get_mut(&query) else { return };
        let begins = !std::mem::replace(&mut answer.begun, true);
        let left = answer.left;
        answer.left = left.saturating_sub(1);
        if self.phase.has_faults() && self.rng.below(1000) < self.plan.rates.failed_answer {
            self.coordinator.as_mut().and_then(|c| c.answers.remove(&query));
            return self.tell_hub(Fact::AnswerFailed { query, text: "out of words".to_owned() });
        }
        if left == 0 {
            coordinator.answers.remove(&query);
            return self.tell_hub(Fact::Answered { query, tokens: 3, finish: Finish::Stop });
        }
        let (version, averaged) = (coordinator.hub.status().version, coordinator.hub.averaged());
        if begins {
            let (version, averaged) = (averaged.unwrap_or(version), averaged.is_some());
            self.tell_hub(Fact::Begun { query, version, averaged });
        }
        self.inside(300_000, Inside::Word(query));
        self.tell_hub(Fact::Piece { query, text: "word ".to_owned(), tokens: 1 });
    }
}
