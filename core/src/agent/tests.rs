//! The worker's rules with facts made by hand.

mod session;
mod versions;

use super::*;
use crate::codec::Codec;
use crate::ids::{PublicKey, UserName, WorkerId};
use crate::proto::sign::{self, Parties};
use crate::proto::{Bye, Challenge, Credited, ErrorCode, Held, ServerMsg, Unpaid, UnpaidCode, Welcome};
use ed25519_dalek::SigningKey;

const SERVER: [u8; 32] = [9; 32];
const NONCE: Nonce = Nonce([4; 32]);

/// The agent and what it ordered.
struct Lab {
    agent: Agent,
    now: Time,
    orders: Vec<Order>,
}

fn settings() -> Settings {
    Settings {
        user: "alice".parse::<UserName>().expect("a plain name"),
        key: SigningKey::from_bytes(&[1; 32]),
        worker: WorkerId([1; 8]),
        device: "test".to_owned(),
        agent: "test".to_owned(),
        tasks: None,
        pause: Duration::ZERO,
        seed: 1,
    }
}

fn digest(version: u64) -> Digest {
    Digest::of(&version.to_le_bytes())
}

fn blob(version: u64) -> Digest {
    Digest::of(&(1000 + version).to_le_bytes())
}

const SHARD: Digest = Digest([7; 32]);

fn welcome() -> Welcome {
    Welcome {
        session: 1,
        balance: Credits::ZERO,
        reward: Credits::hyd(1),
        price: Credits::ZERO,
        version: VersionNo(0),
        shape: Shape::new(16, 8, 1, 1, 8),
        recipe: Recipe::default(),
        val_loss: None,
        val_version: None,
    }
}

fn version(number: u64, base: Option<u64>) -> ServerMsg {
    ServerMsg::Version(proto::Version {
        version: VersionNo(number),
        digest: digest(number),
        base: base.map(VersionNo),
        codec: Codec::F32,
        blob: blob(number),
        bytes: 4,
    })
}

fn task(lease: u64, version: u64) -> ServerMsg {
    ServerMsg::Task(proto::Task {
        lease: LeaseId(lease),
        task: TaskId(lease),
        version: VersionNo(version),
        shard: SHARD,
        shard_tokens: 100,
        steps: 2,
        batch: 1,
        context: 8,
        seed: 0,
        lr_start: 1e-3,
        lr_end: 1e-3,
        codec: Codec::Int4,
        deadline_ms: 1000,
        preview: String::new(),
    })
}

fn credited(lease: u64) -> ServerMsg {
    let (amount, balance) = (Credits::hyd(1), Credits::hyd(lease));
    ServerMsg::Credited(Credited { lease: LeaseId(lease), task: TaskId(lease), amount, balance })
}

fn over(lease: u64, code: UnpaidCode) -> Unpaid {
    Unpaid { lease: LeaseId(lease), task: TaskId(lease), code, text: String::new() }
}

impl Lab {
    fn new(settings: Settings) -> Self {
        let agent = Agent::new(Time(0), settings);
        let mut lab = Self { agent, now: Time(0), orders: Vec::new() };
        assert!(matches!(lab.take()[..], [Order::Connect]));
        lab
    }

    /// Connected and with version 0 installed.
    fn open(settings: Settings) -> Self {
        let mut lab = Self::new(settings);
        lab.connect();
        lab.install(0, None);
        lab.take();
        lab
    }

    fn tell(&mut self, fact: Fact) {
        self.agent.handle(self.now, fact);
        self.orders.extend(std::iter::from_fn(|| self.agent.poll()));
    }

    fn hear(&mut self, message: ServerMsg) {
        self.tell(Fact::Message(message));
    }

    fn take(&mut self) -> Vec<Order> {
        self.orders.extend(std::iter::from_fn(|| self.agent.poll()));
        std::mem::take(&mut self.orders)
    }

    fn said(&mut self) -> Vec<ClientMsg> {
        let sent = |order| if let Order::Send(message) = order { Some(message) } else { None };
        self.take().into_iter().filter_map(sent).collect()
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now.after(span);
        while let Some((due, _)) = self.agent.deadline().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.agent.expire(self.now);
            self.orders.extend(std::iter::from_fn(|| self.agent.poll()));
            assert!(self.agent.deadline().is_none_or(|(due, _)| due > self.now));
        }
        self.now = end;
    }

    /// Goes through the handshake; gives the hello.
    fn connect(&mut self) -> proto::Hello {
        self.connect_to(welcome())
    }

    fn connect_to(&mut self, welcome: Welcome) -> proto::Hello {
        self.take();
        self.tell(Fact::Connected { nonce: Nonce([3; 32]) });
        let hello = match &self.said()[..] {
            [ClientMsg::Hello(hello)] => hello.clone(),
            other => panic!("a hello: {other:?}"),
        };
        self.challenge(&hello, &SigningKey::from_bytes(&SERVER));
        assert!(matches!(self.said()[..], [ClientMsg::Proof(_)]));
        self.hear(ServerMsg::Welcome(welcome));
        hello
    }

    fn challenge(&mut self, hello: &proto::Hello, key: &SigningKey) {
        let server = PublicKey(SigningKey::from_bytes(&SERVER).verifying_key().to_bytes());
        let parties = Parties { client: &hello.key, server: &server, client_nonce: &hello.nonce, server_nonce: &NONCE };
        let signature = sign::sign(key, &sign::server_statement(&parties));
        self.hear(ServerMsg::Challenge(Challenge { key: server, nonce: NONCE, signature }));
    }

    fn reconnect(&mut self) -> proto::Hello {
        self.reconnect_to(welcome())
    }

    fn reconnect_to(&mut self, welcome: Welcome) -> proto::Hello {
        self.tell(Fact::Closed { reason: "cut".to_owned() });
        self.wait(Duration::from_secs(20));
        assert!(self.take().iter().any(|order| matches!(order, Order::Connect)));
        self.connect_to(welcome)
    }

    /// A version is announced, comes and is installed.
    fn install(&mut self, number: u64, base: Option<u64>) {
        self.hear(version(number, base));
        self.tell(Fact::Blob { digest: blob(number) });
        self.tell(Fact::Installed { version: VersionNo(number), digest: digest(number) });
    }

    /// A task comes and begins.
    fn begin(&mut self, lease: u64, version: u64) {
        self.hear(task(lease, version));
        self.tell(Fact::ShardReady { shard: SHARD });
        assert!(self.take().iter().any(|o| matches!(o, Order::Train(t) if t.lease == LeaseId(lease))), "it trains");
    }

    fn train(&mut self, lease: u64) {
        let update = Digest::of(&(2000 + lease).to_le_bytes());
        let (loss_first, loss_last) = (3.0, 2.0);
        self.tell(Fact::Trained { lease: LeaseId(lease), blob: update, bytes: 9, loss_first, loss_last, train_ms: 5 });
    }
}

fn updates(said: &[ClientMsg]) -> Vec<(u64, bool)> {
    said.iter().filter_map(|m| if let ClientMsg::Update(u) = m { Some((u.lease.0, u.more)) } else { None }).collect()
}

fn why(orders: &[Order]) -> Option<Why> {
    let stopped = |order: &Order| match order {
        Order::Note(Event::Stopped { reason, .. }) => Some(*reason),
        _ => None,
    };
    orders.iter().find_map(stopped)
}

fn exit(orders: &[Order]) -> Option<&Exit> {
    orders.iter().find_map(|order| if let Order::Exit(exit) = order { Some(exit) } else { None })
}

#[test]
fn a_task_is_trained_delivered_and_credited() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.train(1);
    let said = lab.said();
    assert_eq!(updates(&said), [(1, true)]);
    let ClientMsg::Update(update) = &said[0] else { panic!("an update first") };
    assert_eq!((update.version, update.codec, update.steps, update.tokens), (VersionNo(0), Codec::Int4, 2, 16));
    lab.hear(credited(1));
    let orders = lab.take();
    assert!(matches!(&orders[..], [Order::Drop { .. }, Order::Note(Event::Credited { .. })]), "{orders:?}");
    lab.hear(credited(1));
    assert!(lab.take().is_empty(), "a second answer is no second credit");
    assert_eq!(lab.agent.balance(), Credits::hyd(1));
}

#[test]
fn what_was_not_answered_is_sent_again_after_a_reconnect() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.train(1);
    lab.begin(2, 0);
    let hello = lab.reconnect();
    assert_eq!(hello.lease, Some(LeaseId(2)), "it goes on training");
    assert_eq!(hello.holds, Some(Held { version: VersionNo(0), digest: digest(0) }));
    assert_eq!(updates(&lab.said()), [(1, true)]);
    lab.hear(credited(1));
    lab.reconnect();
    assert_eq!(updates(&lab.said()), []);
    lab.train(2);
    assert_eq!(updates(&lab.said()), [(2, true)]);
}

#[test]
fn what_is_trained_without_a_session_waits_for_one() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.tell(Fact::Closed { reason: "cut".to_owned() });
    lab.train(1);
    assert_eq!(lab.said(), []);
    lab.wait(Duration::from_secs(20));
    assert_eq!(lab.connect().lease, None);
    assert_eq!(updates(&lab.said()), [(1, true)]);
}

#[test]
fn whether_more_is_wanted_is_said_as_it_is_when_sent() {
    let mut lab = Lab::open(Settings { pause: Duration::from_secs(5), ..settings() });
    lab.begin(1, 0);
    lab.train(1);
    assert_eq!(updates(&lab.said()), [(1, false)], "it rests");
    lab.tell(Fact::Closed { reason: "cut".to_owned() });
    lab.wait(Duration::from_secs(20));
    lab.connect();
    let said = lab.said();
    assert_eq!(updates(&said), [(1, true)], "it has rested");
    assert!(!said.iter().any(|m| matches!(m, ClientMsg::Ready(_))));
    lab.tell(Fact::Pause);
    lab.tell(Fact::Pause);
    assert_eq!(lab.said(), [ClientMsg::Ready(proto::Ready::new(false))]);
    assert!(lab.reconnect().paused);
    let said = lab.said();
    assert_eq!(updates(&said), [(1, false)]);
    lab.hear(credited(1));
    assert!(lab.reconnect().paused);
    assert_eq!(lab.said(), [], "hello has said it");
    lab.hear(task(2, 0));
    let said = lab.said();
    let paused = ClientMsg::Ready(proto::Ready::new(false));
    assert!(matches!(&said[..], [ready, ClientMsg::Release(_)] if *ready == paused), "who does not know is told");
    lab.tell(Fact::Resume);
    assert_eq!(lab.said(), [ClientMsg::Ready(proto::Ready::new(true))]);
    assert!(!lab.reconnect().paused);
}

#[test]
fn another_device_is_told_once() {
    let mut lab = Lab::open(settings());
    let device = settings().device;
    lab.tell(Fact::Device { device });
    assert_eq!(lab.said(), [], "it is the one that hello named");
    let other = || "cpu ×3".to_owned();
    lab.tell(Fact::Device { device: other() });
    lab.tell(Fact::Device { device: other() });
    assert_eq!(lab.said(), [ClientMsg::Ready(proto::Ready { accepting: true, device: other() })]);
    // A change without a session is told by the next hello.
    lab.tell(Fact::Closed { reason: "cut".to_owned() });
    lab.tell(Fact::Device { device: "cpu ×4".to_owned() });
    lab.wait(Duration::from_secs(20));
    lab.connect();
    let said = lab.said();
    assert!(!said.iter().any(|m| matches!(m, ClientMsg::Ready(_))), "{said:?}");
}

#[test]
fn updates_do_not_pile_up() {
    let mut lab = Lab::open(settings());
    for lease in 1..=4 {
        lab.begin(lease, 0);
        lab.train(lease);
        assert_eq!(updates(&lab.said()), [(lease, lease < 4)]);
    }
    lab.hear(credited(2));
    assert_eq!(lab.said(), [ClientMsg::Ready(proto::Ready::new(true))]);
}

#[test]
fn a_rest_ends_by_itself() {
    let mut lab = Lab::open(Settings { pause: Duration::from_secs(5), ..settings() });
    lab.begin(1, 0);
    lab.train(1);
    lab.hear(credited(1));
    lab.take();
    lab.wait(Duration::from_secs(4));
    assert_eq!(lab.said(), []);
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.said(), [ClientMsg::Ready(proto::Ready::new(true))]);
}

#[test]
fn another_run_gets_nothing_of_the_one_before() {
    let mut lab = Lab::open(settings());
    lab.hear(credited(6));
    lab.begin(7, 0);
    lab.train(7);
    lab.begin(8, 0);
    lab.tell(Fact::Closed { reason: "cut".to_owned() });
    lab.wait(Duration::from_secs(20));
    lab.take();
    lab.tell(Fact::Connected { nonce: Nonce([3; 32]) });
    assert!(matches!(&lab.said()[..], [ClientMsg::Hello(hello)] if hello.lease == Some(LeaseId(8))));
    let key = SigningKey::from_bytes(&[8; 32]);
    let server = PublicKey(key.verifying_key().to_bytes());
    let client = lab.agent.settings.key.verifying_key().to_bytes();
    let parties =
        Parties { client: &PublicKey(client), server: &server, client_nonce: &Nonce([3; 32]), server_nonce: &NONCE };
    let signature = sign::sign(&key, &sign::server_statement(&parties));
    lab.hear(ServerMsg::Challenge(Challenge { key: server, nonce: NONCE, signature }));
    assert!(matches!(
        lab.take()[..],
        [
            Order::StopTraining { lease: LeaseId(8) },
            Order::Drop { .. },
            Order::Note(Event::Unpaid { task: TaskId(7), .. }),
            Order::Note(Event::OtherRun),
            Order::Send(ClientMsg::Proof(_))
        ]
    ));
    assert_eq!(lab.agent.balance(), Credits::ZERO, "unknown until it says so");
    lab.hear(ServerMsg::Welcome(welcome()));
    let orders = lab.take();
    assert!(orders.iter().any(|order| matches!(order, Order::Setup { run, .. } if *run == server)), "{orders:?}");
    let of_before = |order: &Order| matches!(order, Order::Send(ClientMsg::Update(_) | ClientMsg::Release(_)));
    assert!(!orders.iter().any(of_before), "{orders:?}");
}

#[test]
fn who_knows_no_lease_does_not_know_its_task_either() {
    let mut lab = Lab::open(settings());
    lab.begin(7, 0);
    lab.train(7);
    lab.take();
    lab.hear(ServerMsg::Unpaid(Unpaid { task: TaskId(0), ..over(7, UnpaidCode::UnknownLease) }));
    assert!(matches!(lab.take()[..], [Order::Drop { .. }, Order::Note(Event::Unpaid { task: TaskId(7), .. })]));
}

#[test]
fn a_revoked_task_is_stopped_and_a_revoked_update_waits_for_its_answer() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.hear(ServerMsg::Revoked(over(1, UnpaidCode::Expired)));
    assert!(matches!(lab.take()[0], Order::StopTraining { lease: LeaseId(1) }));
    lab.begin(2, 0);
    lab.train(2);
    lab.take();
    lab.hear(ServerMsg::Revoked(over(2, UnpaidCode::Expired)));
    assert!(lab.take().is_empty());
    lab.hear(ServerMsg::Unpaid(over(2, UnpaidCode::Expired)));
    assert!(matches!(lab.take()[..], [Order::Drop { .. }, Order::Note(Event::Unpaid { .. })]));
}

#[test]
fn a_shard_is_awaited_no_longer_than_its_task_is_in_hand() {
    let gave_up = |lab: &mut Lab| lab.take().iter().any(|o| matches!(o, Order::Drop { blob } if *blob == SHARD));
    let ends: [fn(&mut Lab); 7] = [
        |lab| lab.hear(ServerMsg::Revoked(over(1, UnpaidCode::Expired))),
        |lab| lab.tell(Fact::Failed { lease: LeaseId(1), text: "too large".to_owned() }),
        |lab| lab.tell(Fact::Pause),
        |lab| lab.tell(Fact::Finish),
        |lab| lab.install(5, None),
        |lab| {
            let (code, text) = (proto::ErrorCode::UnknownShard, "this run has no such shard".to_owned());
            lab.hear(ServerMsg::Error(proto::Error { code, text, fatal: false }));
        },
        |lab| {
            lab.tell(Fact::Closed { reason: "cut".to_owned() });
            lab.agent.server = Some(PublicKey([2; 32]));
            lab.wait(Duration::from_secs(20));
            lab.connect();
        },
    ];
    for (at, end) in ends.into_iter().enumerate() {
        let mut lab = Lab::open(settings());
        // Its version is still on its way, too.
        lab.hear(task(1, 3));
        lab.tell(Fact::ShardMissing { shard: SHARD });
        assert!(!gave_up(&mut lab));
        end(&mut lab);
        assert_eq!(lab.agent.lease(), None, "{at}");
        // Connecting has taken its orders already.
        assert!(at == 6 || gave_up(&mut lab), "{at}");
    }
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.hear(ServerMsg::Revoked(over(1, UnpaidCode::Expired)));
    assert!(!gave_up(&mut lab), "it is here, and the next task may use it");
}
