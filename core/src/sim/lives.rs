//! Who takes part, and how their processes begin and end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::client::{Client, Role};
use super::faults::FAULTS;
use super::user::User;
use super::worker::Worker;
use super::world::{Event, World};
use crate::agent::{self, Agent};
use crate::chat::{self, Chat};
use crate::ids::WorkerId;
use crate::time::Time;

impl World {
    /// Everybody comes within the first seconds.
    pub fn populate(&mut self) {
        let options = self.options.clone();
        let counts =
            [(Role::Worker, options.workers()), (Role::Villain, options.villains()), (Role::User, options.chats())];
        for (role, count) in counts {
            for n in 0..count {
                let client = self.clients.len();
                let twin =
                    (role == Role::Villain && n % 2 == 1).then(|| self.rng.below(options.workers() as u64) as usize);
                let name = match twin {
                    Some(twin) => self.clients[twin].name,
                    None => self.rng.below(self.plan.users.len() as u64) as usize,
                };
                self.clients.push(Client {
                    life: 0,
                    role,
                    name,
                    clone_of: twin,
                    id: [0; 8],
                    conn: None,
                    since: Time(0),
                    born: Time(0),
                    apart: Time(0),
                    asleep: Time(0),
                    lag: 0,
                    due: None,
                    shards: BTreeSet::new(),
                    worker: None,
                    user: None,
                });
                let at = Time(self.rng.below(8_000_000));
                self.push(at, Event::Live(client, 0));
            }
        }
        for fault in FAULTS {
            self.next_fault(fault);
        }
        self.push(Time(options.seconds * 1_000_000), Event::Heal);
    }

    /// A process begins at this place.
    pub fn begin_life(&mut self, client: usize) {
        let place = &self.clients[client];
        let late = place.is_villain() && !self.phase.has_faults();
        if late || place.worker.is_some() || place.user.is_some() {
            return;
        }
        let (role, twin) = (place.role, place.clone_of);
        let (user, key) = self.plan.users[place.name].clone();
        let seed = self.rng.next_u64();
        let id = twin.map_or(seed.to_le_bytes(), |twin| self.clients[twin].id);
        self.clients[client].id = id;
        self.clients[client].born = self.now;
        self.mark("live", client as u64, self.clients[client].life);
        if role == Role::User {
            let settings = chat::Settings { user, key, agent: "sim".to_owned(), reconnect: true, seed, run: None };
            self.clients[client].user = Some(User::new(Chat::new(settings)));
            let (at, life) = (self.soon(0, 5_000_000), self.clients[client].life);
            self.push(at, Event::Whim(client, life));
            return self.tell_chat(client, chat::Fact::AskBalance);
        }
        let few = self.phase.has_faults() && self.rng.below(5) == 0;
        let rests = self.one_in(5);
        let settings = agent::Settings {
            user,
            key,
            worker: WorkerId(id),
            device: "sim".to_owned(),
            agent: "sim".to_owned(),
            tasks: few.then(|| 1 + self.rng.below(4)),
            pause: Duration::from_millis(self.rng.below(3000) * u64::from(rests)),
            seed,
        };
        // From a third of a second to half a minute for a task.
        let step = 200_000 << self.rng.below(5);
        let agent = Agent::new(self.clients[client].local(self.now), settings);
        self.clients[client].worker = Some(Worker::new(agent, step, role == Role::Villain, self.now));
        // Any fact makes it connect.
        self.tell_agent(client, agent::Fact::Resume);
    }

    /// The process at this place has ended; another one begins, unless it is a villain and all is well.
    pub fn end_client(&mut self, client: usize) {
        let villain = self.clients[client].is_villain();
        let place = &mut self.clients[client];
        place.life += 1;
        place.worker = None;
        place.user = None;
        place.born = self.now;
        let life = place.life;
        self.rewake(client);
        if self.phase.has_faults() || !villain {
            let at = self.soon(1_000_000, 9_000_000);
            self.push(at, Event::Live(client, life));
        }
    }
}
