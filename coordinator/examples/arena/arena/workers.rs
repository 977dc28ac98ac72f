//! The workers of a run: how they come and go, what they hear, and what they hand in.

use super::{
    Arc, Arena, Attack, ClientMsg, Digest, Ends, FRESH, Fact, Hello, Job, Loot, Nonce, PublicKey, Role, Seen,
    ServerMsg, SessionId, SigningKey, TASK, VersionNo, Work, Worker, WorkerId, attack, proto, sign,
};

impl Arena<'_> {
    pub(super) fn join(&mut self, seat: usize) {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let attacker = seat.checked_sub(self.plan.honest.len());
        let attack = attacker.map(|attacker| self.plan.attackers[attacker]);
        let key = SigningKey::from_bytes(&[1 + seat as u8; 32]);
        let pace = self.plan.honest.get(seat).copied().unwrap_or(1.0);
        let place = attacker.unwrap_or(seat);
        let worker = Worker { seat, key, attack, place, pace, free: None, past: FRESH, before: None };
        self.workers.insert(session, worker);
        self.facts.push_back(Fact::Joined { session, nonce: Nonce([session.0 as u8; 32]), host: None });
        let message = ClientMsg::Hello(self.hello(session));
        self.facts.push_back(Fact::Frame { session, message });
    }

    /// Some leave, and come back after about a task.
    pub(super) fn scatter(&mut self) {
        if self.plan.leave <= 0.0 {
            return;
        }
        let leaving: Vec<_> = self.workers.keys().copied().filter(|_| self.rng.unit() < self.plan.leave).collect();
        for session in leaving {
            let Some(worker) = self.workers.remove(&session) else { continue };
            self.due.retain(|(_, whose), _| *whose != session);
            self.facts.push_back(Fact::Left { session, reason: "gone".to_owned() });
            self.away.insert((self.now.after(TASK), worker.seat));
            self.outcome.departures += 1;
        }
    }

    fn hello(&self, session: SessionId) -> Hello {
        let Worker { key, seat, .. } = &self.workers[&session];
        Hello {
            protocol: proto::PROTOCOL.to_owned(),
            role: Role::Worker,
            user: format!("worker{}", seat + 1).parse().expect("a plain name"),
            key: PublicKey(key.verifying_key().to_bytes()),
            nonce: Nonce([1; 32]),
            agent: "arena".to_owned(),
            worker: Some(WorkerId([*seat as u8 + 1; 8])),
            device: String::new(),
            holds: None,
            lease: None,
            paused: false,
        }
    }

    pub(super) fn hear(&mut self, session: SessionId, message: ServerMsg) {
        match message {
            ServerMsg::Challenge(challenge) => {
                if !self.workers.contains_key(&session) {
                    return;
                }
                let hello = self.hello(session);
                let key = &self.workers[&session].key;
                let proof = sign::answer(key, &hello.nonce, &challenge, hello.role, &hello.user);
                let message = ClientMsg::Proof(proof.expect("the coordinator proves its key"));
                self.facts.push_back(Fact::Frame { session, message });
            }
            ServerMsg::Credited(_) if self.is_attacker(session) => self.outcome.attackers_paid += 1,
            // It was called off while it trained.
            ServerMsg::Revoked(revoked) => self.due.retain(|_, task| task.lease != revoked.lease),
            ServerMsg::Unpaid(unpaid) => {
                let code = serde_json::to_value(unpaid.code).ok();
                let code = code.and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default();
                let reasons = if self.is_attacker(session) {
                    &mut self.outcome.reasons
                } else {
                    self.outcome.honest_refused += 1;
                    let newest = self.versions.keys().next_back().map_or(0, |version| version.0);
                    eprintln!("    honest {session} refused at version {newest}: {}", unpaid.text);
                    &mut self.outcome.honest_reasons
                };
                *reasons.entry(code).or_default() += 1;
            }
            _ => {}
        }
    }

    /// A worker's first step is done; one that is gone says nothing.
    pub(super) fn report_step(&mut self) {
        let Some(((_, session), progress)) = self.steps.pop_first() else { return };
        if self.workers.contains_key(&session) {
            self.facts.push_back(Fact::Frame { session, message: ClientMsg::Progress(progress) });
        }
    }

    /// The task in hand is this honest worker's last one.
    pub(super) fn finish(&mut self, session: SessionId) {
        if !self.is_attacker(session) {
            let message = ClientMsg::Ready(proto::Ready::new(false));
            self.facts.push_back(Fact::Frame { session, message });
        }
    }

    fn is_attacker(&self, session: SessionId) -> bool {
        self.workers.get(&session).is_some_and(|worker| worker.attack.is_some())
    }

    /// The next task is handed in.
    pub(super) fn deliver(&mut self) -> anyhow::Result<()> {
        let Some(((at, session), task)) = self.due.pop_first() else { return Ok(()) };
        self.now = self.now.max(at);
        let params = self.rules.shape.params();
        let (values, bytes, losses) = self.work(session, &task)?;
        let blob = match &bytes {
            Some(bytes) => Digest::of(bytes),
            // Without checks there are no copies either.
            None => Digest::of(&task.lease.0.to_le_bytes()),
        };
        let newest = self.versions.keys().next_back().map_or(0, |version| version.0);
        *self.outcome.staleness.entry(newest - task.version.0).or_default() += 1;
        let worker = self.workers.get_mut(&session).expect("who has a task is here");
        if worker.attack.is_some() {
            self.outcome.attackers_delivered += 1;
        } else {
            self.outcome.honest_delivered += 1;
            self.last = Some(values.clone());
        }
        // As at the end of a run whose end is known: the honest work until all their tasks are taken.
        let more = worker.attack.is_some() || self.plan.tasks.is_none_or(|tasks| self.begun < tasks);
        self.begun += u32::from(more && worker.attack.is_none());
        let all_begun = self.plan.tasks.is_some_and(|tasks| self.begun >= tasks);
        worker.free = Some(at);
        let worker_pace = worker.pace;
        worker.before = Some(values.clone());
        self.outcome.bytes_up += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let size = bytes.as_ref().map_or_else(|| task.codec.max_len(params), |bytes| bytes.len());
        let update = proto::Update {
            lease: task.lease,
            version: task.version,
            codec: task.codec,
            blob,
            bytes: size as u64,
            steps: task.steps,
            tokens: u64::from(task.steps) * u64::from(task.batch) * u64::from(task.context),
            loss_first: losses.0,
            loss_last: losses.1,
            train_ms: (1000.0 * worker_pace * TASK.as_secs_f64()) as u64,
            more,
        };
        self.uploads.insert((session, blob), bytes.unwrap_or_else(|| Arc::from([])));
        if !self.plan.checks {
            self.plain.insert(task.lease, values);
        }
        self.facts.push_back(Fact::Frame { session, message: ClientMsg::Update(update) });
        self.facts.push_back(Fact::Received { session, blob, intact: true });
        if all_begun {
            let training: Vec<_> = self.due.keys().map(|(_, session)| *session).collect();
            for session in training {
                self.finish(session);
            }
        }
        Ok(())
    }

    /// What a worker hands in: numbers, and their bytes if somebody will look at them.
    fn work(&mut self, session: SessionId, task: &proto::Task) -> anyhow::Result<(Vec<f32>, Seen, Ends)> {
        let params = self.rules.shape.params();
        let Worker { attack, place, .. } = self.workers[&session];
        let Some(attack) = attack else {
            let (values, bytes, losses) = self.train(session, task, None)?;
            return Ok((values, self.plan.checks.then_some(bytes), losses));
        };
        let own = if attack.trains() { Some(self.train(session, task, Some(attack))?.0) } else { None };
        let step = self.step();
        let before = self.workers[&session].before.clone();
        let loot = Loot { own, before: before.as_deref(), others: self.last.as_deref(), step: step.as_deref() };
        if let Some(values) = attack::forge(attack, place, params, loot, &mut self.rng) {
            let bytes = self.plan.checks.then(|| task.codec.encode(&values).into());
            return Ok((values, bytes, (3.0, 2.5)));
        }
        // Nothing to take yet: it has to work for once.
        let (values, bytes, losses) = self.train(session, task, None)?;
        Ok((values, self.plan.checks.then_some(bytes), losses))
    }

    fn train(
        &mut self,
        session: SessionId,
        task: &proto::Task,
        attack: Option<Attack>,
    ) -> anyhow::Result<(Vec<f32>, Arc<[u8]>, Ends)> {
        let proto::Task { mut steps, batch, context, seed, lr_start, lr_end, mut version, codec, .. } = *task;
        match attack {
            Some(Attack::Half) => steps /= 2,
            Some(Attack::Stale) => version = VersionNo(version.0.saturating_sub(5)),
            _ => {}
        }
        let job = Job { steps, batch, context, seed, lr_start, lr_end };
        let past = self.workers[&session].past;
        let work = Work { base: self.versions[&version].clone(), shard: task.shard, job, codec };
        let seat = self.workers[&session].seat;
        let done = self.gym.train(seat, past, work)?;
        if let Some(worker) = self.workers.get_mut(&session) {
            worker.past = done.past;
        }
        let values = attack::seen(codec, &done.bytes, self.rules.shape.params()).expect("what was encoded decodes");
        Ok((values, done.bytes, done.losses))
    }

    /// The last step, as everybody saw it.
    fn step(&self) -> Option<Vec<f32>> {
        let mut newest = self.versions.values().rev();
        let (new, old) = (newest.next()?, newest.next()?);
        Some(old.weights.iter().zip(new.weights.iter()).map(|(old, new)| old - new).collect())
    }
}
