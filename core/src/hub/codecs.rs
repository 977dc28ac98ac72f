//! Which codec a worker's next update is to be written with: few bytes where its link is slow.
//!
//! A worker begins with the run's codec. Its link is measured by its own uploads, from the announcement to the last
//! byte, or to the end of the time that they have: who is too slow for even one update must get fewer bytes, or it never
//! earns. What was measured stays when a worker connects again, and a codec for slow links also over a restart. Sending
//! should take at most a twentieth of a task's time (or a quarter of a second), so that training and not the link sets the
//! pace, and in any case no more than half of the time that an upload has.

use std::time::Duration;

use super::leases::{Held, State};
use super::records::Record;
use super::updates::UPLOAD;
use super::{Event, Hub};
use crate::codec::Codec;
use crate::ids::SessionId;
use crate::limits;
use crate::time::Time;

/// Sending takes at most this part of a task's time, where a codec can do that.
const SHARE: f64 = 0.05;
/// Sending that is over sooner is always cheap enough: the next task is training meanwhile, and on a busy machine the
/// time of a short transfer tells more about the machine than about the link.
const SHORT: f64 = 0.25;
/// A codec with more bytes is taken again only if it would take at most this part of that: measured times are noisy.
const MARGIN: f64 = 0.5;
/// Fewer bytes tell more about the delay than about the speed.
const TELLING: u64 = 32 * 1024;
/// After so many that tell nothing the link is measured anew: what made it slow may be long over.
const UNTOLD: u32 = 64;
/// No upload counts as faster: what lies in buffers already comes in no time.
const LEAST: Duration = Duration::from_millis(1);

impl Record {
    /// An update's bytes did not come within `took`: the link is at most so fast.
    fn is_late(&mut self, bytes: u64, took: Duration) {
        if bytes >= TELLING {
            let most = bytes as f64 / took.max(LEAST).as_secs_f64();
            self.link = Some(self.link.map_or(most, |old| old.min(most)));
        }
    }
}

impl Hub {
    /// An update's bytes came within `took`.
    pub(super) fn measure_link(&mut self, id: SessionId, bytes: u64, took: Duration) {
        let speed = bytes as f64 / took.max(LEAST).as_secs_f64();
        if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
            let record = &mut seat.record;
            if bytes < TELLING {
                record.untold += 1;
                return;
            }
            record.link = Some(record.link.map_or(speed, |old| 0.5 * old + 0.5 * speed));
        }
    }

    /// An update's bytes did not come within `took`.
    pub(super) fn measure_late(&mut self, id: SessionId, bytes: u64, took: Duration) {
        if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
            seat.record.is_late(bytes, took);
        }
    }

    /// A session ends with updates on their way: nor did their bytes come, in whatever time they had before the link can
    /// have died.
    pub(super) fn measure_left(&self, now: Time, id: SessionId, record: &mut Record) {
        for lease in self.leases.uploads_of(id) {
            let Some(Held { state: State::Receiving { since, update, .. }, .. }) = self.leases.get(lease) else {
                continue;
            };
            let took = now.since(*since).saturating_sub(limits::SILENCE);
            if !took.is_zero() {
                record.is_late(update.bytes, took);
            }
        }
    }

    /// The codec for this worker's next update.
    pub(super) fn choose_codec(&mut self, id: SessionId) -> Codec {
        let first = self.rules.codec;
        let params = self.rules.shape.params();
        let tokens = self.rules.task_tokens() as f64;
        let Some(session) = self.sessions.get_mut(&id).filter(|_| self.rules.sparser) else { return first };
        let Some(user) = session.peer().map(|peer| peer.user.clone()) else { return first };
        let Some(seat) = session.seat_mut() else { return first };
        let (worker, record) = (seat.worker, &mut seat.record);
        let before = record.codec.unwrap_or(first);
        // Of a start before only the codec is known; in time the link is measured anew.
        let unknown = (record.untold >= UNTOLD).then_some(f64::INFINITY);
        let Some(link) = record.link.or(unknown) else { return before };
        let seconds = |codec: Codec| codec.max_len(params) as f64 / link;
        // Of a worker that never delivered it is known only how long it may take.
        let task = record.speed.map_or(self.rules.lease_first.as_secs_f64(), |speed| tokens / speed);
        let most = (SHARE * task).clamp(SHORT, UPLOAD.as_secs_f64() / 2.0);
        let affordable = |codec: &Codec| {
            let denser = codec.max_len(params) > before.max_len(params);
            seconds(*codec) <= most * if denser { MARGIN } else { 1.0 }
        };
        let sparser = [first, Codec::Sparse256, Codec::Sparse64];
        let codec = if record.untold < UNTOLD {
            sparser.into_iter().find(affordable).unwrap_or(Codec::Sparse64)
        } else {
            // One update that tells something, with the fewest bytes that do. A sparse one is some percent shorter than the
            // longest there can be.
            (record.link, record.untold) = (None, 0);
            let telling = |codec: &Codec| codec.max_len(params) as u64 * 4 / 5 >= TELLING;
            sparser.into_iter().rfind(telling).unwrap_or(first)
        };
        record.codec = Some(codec);
        if codec != before {
            let (send_ms, task_ms) = ((seconds(before) * 1e3) as u64, (task * 1e3) as u64);
            self.note(Event::Codec { worker, user, codec, before, send_ms, task_ms });
        }
        codec
    }
}
