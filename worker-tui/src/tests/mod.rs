//! The worker from its orders to the wire, against the real hub over connections in memory.
//!
//! Where time matters it stands still and the test itself plays the compute thread; one test trains for real.

mod hub;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ed25519_dalek::SigningKey;
use hydra_core::agent::{Agent, Event, Settings, Why};
use hydra_core::codec::Codec;
use hydra_core::credits::Credits;
use hydra_core::hub as core_hub;
use hydra_core::ids::{Digest, VersionNo, WorkerId};
use hydra_core::proto::{self, ServerMsg, UnpaidCode};
use hydra_engine::DeviceChoice;
use hydra_shell::client::ConnectError;
use hydra_shell::clock::Clock;
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::keys::{Identity, Remember};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Duration, Instant};

use self::hub::{Handle, Meddle};
use crate::cache::{Cache, LIMIT};
use crate::compute::{self, Command, Report, Thread};
use crate::driver::{Driver, News, Request, Sink};
use crate::unsent::Unsent;
use hydra_shell::client::line::Line;

/// After so long, of time that stands still, a test has failed.
const LONG: Duration = Duration::from_hours(1);

/// Keeps every event and lets tests wait for one.
#[derive(Clone, Default)]
struct Seen {
    events: Arc<Mutex<Vec<Event>>>,
    news: Arc<Mutex<Vec<News>>>,
    changed: Arc<Notify>,
}

impl Sink for Seen {
    fn show(&mut self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
        self.changed.notify_one();
    }

    fn tell(&mut self, news: News) {
        self.news.lock().unwrap().push(news);
        self.changed.notify_one();
    }
}

impl Seen {
    fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| wanted(event)).count()
    }

    /// Waits for so many events of this kind.
    async fn reach(&self, count: usize, wanted: impl Fn(&Event) -> bool) {
        let reached = async {
            while self.count(&wanted) < count {
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(LONG, reached).await.unwrap_or_else(|_| panic!("{:?}", self.events.lock().unwrap()));
    }

    fn last(&self) -> Event {
        self.events.lock().unwrap().last().unwrap().clone()
    }
}

fn credited(event: &Event) -> bool {
    matches!(event, Event::Credited { .. })
}

fn begun(event: &Event) -> bool {
    matches!(event, Event::Task { .. })
}

fn unpaid(event: &Event) -> bool {
    matches!(event, Event::Unpaid { .. })
}

/// An end before anything was paid.
fn stopped(reason: Why) -> Event {
    Event::Stopped { reason, tasks: 0, earned: Credits::ZERO, balance: Credits::ZERO, unanswered: 0, undelivered: 0 }
}

/// A worker, and what a test holds of it.
struct Rig {
    seen: Seen,
    requests: mpsc::Sender<Request>,
    /// What the compute thread is told; the test plays it.
    commands: mpsc::UnboundedReceiver<Command>,
    reports: mpsc::Sender<Report>,
    cache: TempDir,
    ended: tokio::task::JoinHandle<anyhow::Result<()>>,
}

fn settings(tasks: Option<u64>) -> Settings {
    Settings {
        user: "alice".parse().unwrap(),
        key: SigningKey::from_bytes(&[1; 32]),
        worker: WorkerId([7; 8]),
        device: "test".to_owned(),
        agent: "test".to_owned(),
        tasks,
        pause: Duration::ZERO,
        seed: 1,
    }
}

fn line(coordinator: &Handle) -> Line {
    let coordinator = coordinator.clone();
    Line::new(move || {
        let coordinator = coordinator.clone();
        async move { Ok(coordinator.connect().await) }
    })
}

impl Rig {
    fn new(line: Line, tasks: Option<u64>) -> Self {
        let (seen, cache, clock) = (Seen::default(), tempfile::tempdir().unwrap(), Clock::start());
        let (sender, commands) = mpsc::unbounded_channel();
        let (reports, mut told) = mpsc::channel(64);
        let (requests, mut asked) = mpsc::channel(4);
        let agent = Agent::new(clock.now(), settings(tasks));
        let driver = Driver::new(agent, line, clock, Cache::at(cache.path(), LIMIT), sender, seen.clone());
        let ended = tokio::spawn(async move { driver.run(&mut told, &mut asked).await });
        Self { seen, requests, commands, reports, cache, ended }
    }

    /// Plays the compute thread until it is told to train.
    async fn work(&mut self) -> compute::Work {
        loop {
            let command = tokio::time::timeout(LONG, self.commands.recv()).await;
            match command.expect("a task within an hour").expect("the driver still runs") {
                Command::Setup { shape, .. } => assert_eq!(shape, hub::shape()),
                Command::Install { version, .. } => {
                    let installed = Report::Installed { version: version.version, digest: version.digest };
                    self.reports.send(installed).await.unwrap();
                }
                Command::Threads(_) => panic!("nobody asked for threads"),
                Command::Complete => panic!("the run goes on"),
                Command::Train(work) => return work,
            }
        }
    }

    /// Pretends to have trained; every update is a little different.
    async fn trained(&self, work: &compute::Work) {
        let delta = vec![1e-2 + 1e-3 * (work.number % 8) as f32; hub::shape().params()];
        let bytes: Arc<[u8]> = Codec::Int4.encode(&delta).into();
        let (blob, loss_first, loss_last) = (Digest::of(&bytes), 4.0, 3.0);
        let trained = Report::Trained { work: work.number, blob, bytes, loss_first, loss_last, train_ms: 5 };
        self.reports.send(trained).await.unwrap();
    }

    /// How it ended; what it kept on disk.
    async fn end(self) -> Result<TempDir, Failure> {
        let ended = tokio::time::timeout(LONG, self.ended).await.expect("an end within an hour");
        ended.unwrap().map(|()| self.cache).map_err(|error| error.downcast().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_are_paid_and_counted() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), Some(3));
    for _ in 0..3 {
        let work = rig.work().await;
        assert_eq!(work.shard, hub::shard());
        rig.trained(&work).await;
    }
    rig.seen.reach(3, credited).await;
    rig.seen.reach(1, |event| matches!(event, Event::Stopped { .. })).await;
    assert_eq!(
        rig.seen.last(),
        Event::Stopped {
            reason: Why::Tasks,
            tasks: 3,
            earned: Credits::hyd(3),
            balance: Credits::hyd(3),
            unanswered: 0,
            undelivered: 0
        }
    );
    let left =
        |event: &core_hub::Event| matches!(event, core_hub::Event::Left { reason, .. } if reason == "left by itself");
    let folder = rig.end().await.unwrap();
    assert!(coordinator.events.lock().unwrap().iter().any(left));
    // The shard is kept.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_costs_no_work() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), Some(1));
    let work = rig.work().await;
    coordinator.meddle.send(Meddle::Cut).unwrap();
    rig.seen.reach(1, |event| matches!(event, Event::Disconnected { .. })).await;
    // Done while nobody was there to hear of it.
    rig.trained(&work).await;
    rig.seen.reach(1, credited).await;
    let seen = rig.seen.clone();
    rig.end().await.unwrap();
    assert_eq!((seen.count(credited), coordinator.joined()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn finishing_delivers_what_is_in_hand() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), None);
    let work = rig.work().await;
    rig.requests.send(Request::Finish).await.unwrap();
    rig.trained(&work).await;
    let seen = rig.seen.clone();
    rig.end().await.unwrap();
    assert_eq!((seen.count(begun), seen.count(credited)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_screen_is_told_and_can_pause() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), None);
    let work = rig.work().await;
    rig.requests.send(Request::Pause).await.unwrap();
    for step in 1..=3 {
        rig.reports.send(Report::Step { work: work.number, step, loss: 4.0, tokens_per_s: 9.0 }).await.unwrap();
    }
    // Of work that is not under way.
    let other = work.number + 1;
    rig.reports.send(Report::Step { work: other, step: 9, loss: 4.0, tokens_per_s: 9.0 }).await.unwrap();
    rig.trained(&work).await;
    rig.seen.reach(1, credited).await;
    // The coordinator has queued tasks and would push one at once.
    assert!(tokio::time::timeout(Duration::from_mins(5), rig.work()).await.is_err());
    rig.requests.send(Request::Resume).await.unwrap();
    rig.work().await;
    let news = rig.seen.news.lock().unwrap().clone();
    let steps = news.iter().filter(|news| matches!(news, News::Step { .. })).count();
    assert_eq!(steps, 3, "every step and no other: {news:?}");
    assert_eq!(news[..3], [News::Connecting, News::Balance(Credits::ZERO), News::Model]);
    assert!(news.contains(&News::Preview(work.task.preview)), "{news:?}");
    assert!(news.contains(&News::Balance(Credits::hyd(1))), "{news:?}");
}

#[tokio::test(start_paused = true)]
async fn stopping_at_once_stops_the_training_too() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), None);
    let work = rig.work().await;
    rig.requests.send(Request::Stop).await.unwrap();
    let seen = rig.seen.clone();
    let failure = rig.end().await.unwrap_err();
    assert_eq!(failure.exit, Exit::Interrupted);
    assert_eq!(seen.last(), stopped(Why::AtOnce));
    assert!(work.stop.load(std::sync::atomic::Ordering::Relaxed));
}

#[tokio::test]
async fn an_end_before_the_device_is_open_is_told() {
    let args = <crate::Args as clap::Parser>::parse_from(["hydra-worker", "alice", "127.0.0.1:1"]);
    let (commands, _taken) = mpsc::unbounded_channel();
    let ((_open, mut reports), (requests, mut asked)) = (mpsc::channel(1), mpsc::channel(1));
    requests.send(Request::Finish).await.unwrap();
    let seen = Seen::default();
    let settings = settings(None);
    let identity =
        Identity { user: settings.user, key: settings.key, path: PathBuf::new(), remember: Remember::default() };
    let ended =
        crate::Work::new(&args, identity).run(&args, commands, &mut reports, &mut asked, seen.clone(), |_| ()).await;
    let failure: Failure = ended.unwrap_err().downcast().unwrap();
    assert_eq!(failure.exit, Exit::Interrupted);
    assert_eq!(seen.last(), stopped(Why::Asked));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_task_is_stopped_and_the_next_one_taken() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), Some(1));
    // Nothing happens for so long that the lease ends.
    let work = rig.work().await;
    rig.seen.reach(1, unpaid).await;
    let next = rig.work().await;
    assert!(work.stop.load(std::sync::atomic::Ordering::Relaxed));
    assert!(!next.stop.load(std::sync::atomic::Ordering::Relaxed));
    // What the first was about to answer is nobody's by now.
    let text = "it was stopped".to_owned();
    rig.reports.send(Report::Step { work: work.number, step: 1, loss: 4.0, tokens_per_s: 9.0 }).await.unwrap();
    rig.reports.send(Report::Failed { work: work.number, text }).await.unwrap();
    rig.trained(&work).await;
    rig.trained(&next).await;
    let seen = rig.seen.clone();
    rig.end().await.unwrap();
    assert!(!seen.news.lock().unwrap().iter().any(|news| matches!(news, News::Step { .. })));
    let submitted = seen.count(|event| matches!(event, Event::Submitted { .. }));
    assert_eq!((submitted, seen.count(credited)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_keeps_failing_ends_the_worker_after_what_it_has_delivered() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), None);
    let first = rig.work().await;
    rig.trained(&first).await;
    let second = rig.work().await;
    let text = "CUDA error: unspecified launch failure".to_owned();
    rig.reports.send(Report::Failed { work: second.number, text: text.clone() }).await.unwrap();
    rig.reports.send(Report::Useless(text)).await.unwrap();
    let seen = rig.seen.clone();
    let failure = rig.end().await.unwrap_err();
    assert_eq!((failure.exit, seen.count(credited)), (Exit::NoDevice, 1));
    assert!(failure.message.contains("unspecified launch failure"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_after_all_that_was_asked_for_is_no_failure() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), Some(1));
    let work = rig.work().await;
    rig.reports.send(Report::Useless("CUDA error".to_owned())).await.unwrap();
    rig.trained(&work).await;
    let seen = rig.seen.clone();
    rig.end().await.unwrap();
    assert!(matches!(seen.last(), Event::Stopped { reason: Why::Tasks, tasks: 1, .. }), "{:?}", seen.last());
}

#[tokio::test(start_paused = true)]
async fn threads_are_asked_for_and_told() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), Some(2));
    let first = rig.work().await;
    rig.requests.send(Request::Threads(3)).await.unwrap();
    assert!(matches!(rig.commands.recv().await, Some(Command::Threads(3))));
    let opened = Report::Opened { device: "cpu ×3".to_owned(), threads: Some(3) };
    rig.reports.send(opened).await.unwrap();
    rig.trained(&first).await;
    let second = rig.work().await;
    let told = News::Device { device: "cpu ×3".to_owned(), threads: Some(3) };
    assert!(rig.seen.news.lock().unwrap().contains(&told), "before the next task is trained");
    rig.trained(&second).await;
    rig.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_garbled_delta_is_fetched_anew() {
    let coordinator = hub::start();
    coordinator.meddle.send(Meddle::Garble).unwrap();
    let mut rig = Rig::new(line(&coordinator), Some(2));
    let first = rig.work().await;
    rig.trained(&first).await;
    // The real thread would find that the digest is not the announced one.
    let mut wholes = 0;
    let second = loop {
        match rig.commands.recv().await.unwrap() {
            Command::Install { version, bytes } => {
                wholes += usize::from(version.base.is_none());
                let right = version.base.is_none() && Digest::of(&bytes) == version.digest;
                let digest = if right { version.digest } else { Digest([0; 32]) };
                rig.reports.send(Report::Installed { version: version.version, digest }).await.unwrap();
            }
            Command::Train(work) if wholes > 0 => break work,
            // Begun before the answer was there.
            Command::Train(work) => {
                let failed = Report::Failed { work: work.number, text: "version 1 is not here".to_owned() };
                rig.reports.send(failed).await.unwrap();
            }
            Command::Setup { .. } | Command::Threads(_) | Command::Complete => {
                panic!("the model and its threads are the same")
            }
        }
    };
    assert!(rig.seen.news.lock().unwrap().contains(&News::Stopped), "a task that ends without an event is told");
    rig.trained(&second).await;
    rig.end().await.unwrap();
    assert_eq!(coordinator.joined(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_shard_beyond_the_bound_is_not_awaited() {
    let coordinator = hub::start_with(1 << 40);
    let rig = Rig::new(line(&coordinator), None);
    rig.seen.reach(1, unpaid).await;
    let text = format!("{:?}", rig.seen.last());
    assert!(text.contains("larger than"), "{text}");
    assert_eq!(rig.seen.count(begun), 0);
    rig.requests.send(Request::Finish).await.unwrap();
    rig.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_complete_run_ends_the_worker() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), None);
    rig.work().await;
    let bye = proto::Bye { text: "the run is complete".to_owned(), retry: false };
    coordinator.meddle.send(Meddle::Say(Box::new(ServerMsg::Bye(bye)))).unwrap();
    let Rig { seen, mut commands, ended, .. } = rig;
    tokio::time::timeout(LONG, ended).await.expect("an end within an hour").unwrap().unwrap();
    assert_eq!(seen.last(), stopped(Why::Complete));
    assert!(matches!(commands.recv().await, Some(Command::Complete)), "nothing is kept for later");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_coordinator_is_told() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), None);
    rig.work().await;
    let code = proto::ErrorCode::NameTaken;
    let error = proto::Error { code, text: "the name alice belongs to another key".to_owned(), fatal: true };
    coordinator.meddle.send(Meddle::Say(Box::new(ServerMsg::Error(error)))).unwrap();
    let failure = rig.end().await.unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.message.contains("another key"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_told_after_a_while() {
    let started = Instant::now();
    let nobody = || async { Err(ConnectError::Refused("ws://x/ws".to_owned())) };
    let rig = Rig::new(Line::new(nobody), None);
    let seen = rig.seen.clone();
    let failure = rig.end().await.unwrap_err();
    assert_eq!(failure.exit, Exit::Connect);
    assert!(failure.message.contains("ws://x/ws") && failure.hint.unwrap().contains("hydra-coordinator"));
    assert!(seen.count(|event| matches!(event, Event::Disconnected { .. })) > 2);
    assert!((Duration::from_secs(10)..Duration::from_secs(30)).contains(&started.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_compute_thread_that_dies_is_a_bug() {
    let coordinator = hub::start();
    let mut rig = Rig::new(line(&coordinator), None);
    rig.work().await;
    let Rig { reports, ended, .. } = rig;
    drop(reports);
    let error = ended.await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<Failure>().is_none() && error.to_string().contains("compute thread"), "{error}");
}

/// Everything for real except the network: versions as deltas, four-bit updates, payment.
#[tokio::test]
async fn real_training_is_paid_and_moves_the_model() {
    let coordinator = hub::start();
    let cache = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let Thread { commands, mut reports, handle } =
        compute::start(DeviceChoice::Cpu, Some(1), Unsent::at(None)).unwrap();
    assert!(matches!(reports.recv().await, Some(Report::Opened { device, .. }) if device == "cpu ×1"));
    let seen = Seen::default();
    let agent = Agent::new(clock.now(), settings(Some(3)));
    let cache = Cache::at(cache.path(), LIMIT);
    let driver = Driver::new(agent, line(&coordinator), clock, cache, commands, seen.clone());
    let (_requests, mut asked) = mpsc::channel(1);
    driver.run(&mut reports, &mut asked).await.unwrap();
    while reports.recv().await.is_some() {}
    handle.join().unwrap();
    assert_eq!((seen.count(credited), seen.count(unpaid)), (3, 0));
    let versions: Vec<VersionNo> = seen
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| match event {
            Event::Task { version, .. } => Some(*version),
            _ => None,
        })
        .collect();
    assert!(versions.last() > versions.first(), "{versions:?}");
    assert_eq!(coordinator.joined(), 1);
    assert!(seen.count(|event| matches!(event, Event::Progress { step: 5, .. })) == 3);
    let revoked = seen.count(|event| matches!(event, Event::Unpaid { reason: UnpaidCode::Expired, .. }));
    assert_eq!(revoked, 0);
}

#[test]
fn who_is_in_a_hurry_waits_less_for_the_disk() {
    let interrupted = Failure::new(Exit::Interrupted, "stopped at once");
    assert_eq!(crate::patience(&Err(interrupted.into())), crate::LAST_STEP);
    let refused = Failure::new(Exit::Refused, "the coordinator refuses");
    for ended in [Ok(()), Err(refused.into()), Err(anyhow::anyhow!("a bug"))] {
        assert_eq!(crate::patience(&ended), crate::LAST_WRITE);
    }
}

#[test]
fn threads_are_cores_of_this_machine() {
    assert_eq!([1, 4, 99].map(|wanted| crate::at_most(wanted, 4)), [1, 4, 4]);
    assert!(crate::cores() >= 1);
}
