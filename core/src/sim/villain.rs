//! Workers that do not keep to the protocol: what they say of their own accord, and how they twist what they should say.

use super::net::{Frame, Side};
use super::world::World;
use crate::ids::{Digest, LeaseId, QueryId, VersionNo};
use crate::proto::{self, ClientMsg};
use crate::rng::Rng;

impl World {
    /// A villain says something of its own accord.
    pub fn villainy(&mut self, client: usize) {
        let lease = LeaseId(self.some_lease());
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.rng.next_u64().to_le_bytes());
        let digest = Digest::of(&id);
        let update = proto::Update {
            lease,
            version: VersionNo(self.rng.below(20)),
            codec: self.plan.rules.codec,
            blob: digest,
            bytes: self.plan.rules.codec.max_len(self.plan.rules.shape.params()) as u64,
            steps: self.plan.rules.steps,
            tokens: self.plan.rules.task_tokens(),
            loss_first: 1.0,
            loss_last: f32::NAN,
            train_ms: self.rng.next_u64() >> self.rng.below(64),
            more: true,
        };
        let message = match self.rng.below(9) {
            0 => return self.send_from(client, Side::Coordinator, Frame::Bad),
            1 => ClientMsg::Release(proto::Release { lease, text: String::new() }),
            2 => ClientMsg::Ready(proto::Ready::new(self.rng.below(2) == 0)),
            3 => ClientMsg::Fetch(proto::Fetch { shard: digest }),
            4 => ClientMsg::Progress(proto::Progress { lease, step: 1, loss: 0.0, tokens_per_s: 1e-9 }),
            5 => ClientMsg::Cancel(proto::Cancel { id: QueryId(id) }),
            6 => ClientMsg::Status(proto::Empty {}),
            _ => {
                for _ in 0..=self.rng.below(20) {
                    self.send_from(client, Side::Coordinator, Frame::Client(ClientMsg::Update(update.clone())));
                }
                ClientMsg::Update(update)
            }
        };
        self.send_from(client, Side::Coordinator, Frame::Client(message));
    }
}

/// What a villain makes of a message.
pub fn lie(message: ClientMsg, rng: &mut Rng) -> ClientMsg {
    match message {
        ClientMsg::Update(mut update) => {
            match rng.below(12) {
                0 => update.lease.0 = update.lease.0.wrapping_sub(1),
                1 => update.version.0 += 1,
                2 => update.bytes += 1,
                3 => update.steps += 1,
                4 => update.loss_first = f32::INFINITY,
                5 => update.codec = crate::codec::Codec::F32,
                6 => update.train_ms = u64::MAX,
                7 => update.train_ms = 0,
                8 => return ClientMsg::Release(proto::Release { lease: update.lease, text: String::new() }),
                _ => {}
            }
            ClientMsg::Update(update)
        }
        ClientMsg::Progress(mut progress) if rng.below(3) == 0 => {
            progress.tokens_per_s = [f32::NAN, 0.0, 1e-30, 1e30][rng.below(4) as usize];
            progress.step = u32::MAX >> rng.below(32);
            ClientMsg::Progress(progress)
        }
        other => other,
    }
}
