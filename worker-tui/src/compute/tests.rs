//! Real training of a tiny model, and everything that a hostile coordinator may ask for.

use std::path::Path;
use std::sync::Mutex;

use hydra_core::codec::Codec;
use hydra_core::ids::{LeaseId, TaskId};
use hydra_core::merge::{OuterRule, OuterState};
use hydra_core::rng::Rng;
use hydra_engine::MOST_THREADS;

use super::*;

const RUN: PublicKey = PublicKey([1; 32]);
const RECIPE: Recipe = Recipe { batch: 2, beta1: 0.9, beta2: 0.99, weight_decay: 0.1, clip: 1.0 };

fn shape() -> Shape {
    Shape::new(64, 16, 2, 1, 16)
}

fn device() -> Device {
    Device::open(DeviceChoice::Cpu, Some(1)).unwrap()
}

fn snapshot(version: u64, weights: &[f32]) -> (proto::Version, Vec<u8>) {
    let bytes = merge::weights_to_bytes(weights);
    let digest = merge::weights_digest(weights);
    let length = bytes.len() as u64;
    let version = proto::Version {
        version: VersionNo(version),
        digest,
        base: None,
        codec: Codec::F32,
        blob: digest,
        bytes: length,
    };
    (version, bytes)
}

/// Text whose next token is easy to guess.
fn shard() -> Arc<[u8]> {
    (0..200u16).flat_map(|at| (at * at % 7).to_le_bytes()).collect()
}

fn task(codec: Codec) -> proto::Task {
    proto::Task {
        lease: LeaseId(1),
        task: TaskId(1),
        version: VersionNo(0),
        shard: Digest::of(&shard()),
        shard_tokens: 200,
        steps: 12,
        batch: 2,
        context: 16,
        seed: 7,
        lr_start: 1e-2,
        lr_end: 1e-3,
        codec,
        deadline_ms: 1000,
        preview: String::new(),
    }
}

/// The steps' losses, as far as a report is of a step.
fn losses(reports: &[Report]) -> Vec<f32> {
    let loss = |report: &Report| match report {
        Report::Step { loss, .. } => Some(*loss),
        _ => None,
    };
    reports.iter().filter_map(loss).collect()
}

#[test]
fn another_number_of_threads_trains_the_same_task() {
    let mut rig = Rig::new();
    let one = losses(&rig.train(task(Codec::F32), shard()));
    assert!(rig.tell(Command::Threads(2)).is_empty(), "not before the next task");
    let reports = rig.train(task(Codec::F32), shard());
    let told = &reports[0];
    assert!(matches!(told, Report::Opened { device, threads: Some(2) } if device == "cpu ×2"), "{told:?}");
    let two = losses(&reports);
    assert_eq!(one.len(), two.len());
    // Sums in another order, and an optimiser that begins afresh on the same weights.
    assert!(one.iter().zip(&two).all(|(a, b)| (a - b).abs() < 1e-3), "{one:?} {two:?}");
}

#[test]
fn the_same_number_of_threads_forgets_nothing() {
    let (mut asked, mut left) = (Rig::new(), Rig::new());
    for threads in [None, Some([2, 3, 1])] {
        for number in threads.into_iter().flatten() {
            asked.tell(Command::Threads(number));
        }
        // The second task goes on with the first one's moments; a fresh optimiser would step otherwise.
        let (with, without) = (asked.train(task(Codec::F32), shard()), left.train(task(Codec::F32), shard()));
        assert!(!with.iter().any(|report| matches!(report, Report::Opened { .. })), "{with:?}");
        assert_eq!(losses(&with), losses(&without));
    }
}

#[test]
fn threads_that_the_device_does_not_take_change_nothing() {
    let mut rig = Rig::new();
    rig.compute.device = rig.compute.device.with_threads(MOST_THREADS);
    rig.tell(Command::Threads(MOST_THREADS + 1));
    let reports = rig.train(task(Codec::F32), shard());
    assert!(!reports.iter().any(|report| matches!(report, Report::Opened { .. })), "{reports:?}");
}

#[test]
fn a_trainer_that_could_not_be_made_is_tried_again() {
    let mut rig = Rig::new();
    rig.compute.model.as_mut().unwrap().trainer = Err(Unable::Why("out of memory".to_owned()));
    rig.update(task(Codec::F32));
}

#[test]
fn a_trainer_whose_thread_has_died_is_made_anew() {
    let mut rig = Rig::new();
    rig.update(task(Codec::F32));
    let device = rig.compute.device;
    let model = rig.compute.model.as_mut().unwrap();
    model.on_failure(&EngineError::Diverged { step: 1 }, device);
    assert!(model.trainer.is_ok(), "it is the task's fault, and what the optimiser has learned is kept");
    let ended = EngineError::Libtorch("a training thread ended unexpectedly; see the log".to_owned());
    let Unable::Why(text) = model.on_failure(&ended, device) else { panic!("the task goes back") };
    assert!(text.contains("ended unexpectedly"), "{text}");
    assert!(model.trainer.is_err());
    rig.update(task(Codec::F32));
}

struct Rig {
    compute: Compute,
    weights: Vec<f32>,
}

impl Rig {
    /// A thread's inside, with version 0 installed.
    fn new() -> Self {
        Self::beside(None, 0)
    }

    /// The same with another version, and with a folder for what updates lack.
    fn beside(folder: Option<&Path>, version: u64) -> Self {
        let mut rig = Self::empty(folder);
        assert!(rig.tell(Command::Setup { run: RUN, shape: shape(), recipe: RECIPE }).is_empty());
        let (version, bytes) = snapshot(version, &rig.weights.clone());
        assert_eq!(rig.install(version, bytes), version.digest);
        rig
    }

    /// Without a model.
    fn empty(folder: Option<&Path>) -> Self {
        let compute = Compute {
            device: device(),
            unsent: Unsent::at(folder),
            wanted: None,
            model: None,
            failures: Failures::default(),
        };
        Self { compute, weights: shape().initial_weights(3) }
    }

    fn residual(&self) -> &[f32] {
        &self.compute.model.as_ref().unwrap().residual
    }

    fn tell(&mut self, command: Command) -> Vec<Report> {
        let reports = Mutex::new(Vec::new());
        self.compute.carry_out(command, &|report| reports.lock().unwrap().push(report));
        reports.into_inner().unwrap()
    }

    fn install(&mut self, version: proto::Version, bytes: Vec<u8>) -> Digest {
        match self.tell(Command::Install { version, bytes })[..] {
            [Report::Installed { version: told, digest }] if told == version.version => digest,
            ref other => panic!("{other:?}"),
        }
    }

    fn train(&mut self, task: proto::Task, shard: Arc<[u8]>) -> Vec<Report> {
        self.tell(Command::Train(Work { number: 1, task, shard, stop: Arc::default() }))
    }

    fn update(&mut self, task: proto::Task) -> Vec<u8> {
        match self.train(task, shard()).pop() {
            Some(Report::Trained { bytes, .. }) => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn fails(&mut self, task: proto::Task, shard: Arc<[u8]>) -> String {
        match &self.train(task, shard)[..] {
            [Report::Failed { work: 1, text }] => text.clone(),
            other => panic!("{other:?}"),
        }
    }
}

/// What the task's training alone makes of `weights`.
fn trained(weights: &[f32], task: &proto::Task) -> Vec<f32> {
    let proto::Task { steps, batch, context, seed, lr_start, lr_end, .. } = *task;
    let tokens: Vec<u16> = shard().as_chunks().0.iter().map(|&two| u16::from_le_bytes(two)).collect();
    let mut trainer = Trainer::new(shape(), RECIPE, device()).unwrap();
    let job = Job { steps, batch, context, seed, lr_start, lr_end };
    trainer.train(weights, &job, &tokens, &mut |_| ControlFlow::Continue(())).unwrap().weights
}

#[test]
fn an_update_is_the_base_less_the_trained_weights() {
    let mut rig = Rig::new();
    let reports = rig.train(task(Codec::F32), shard());
    assert_eq!(reports.len(), 13);
    for (at, report) in reports[..12].iter().enumerate() {
        assert!(matches!(report, Report::Step { work: 1, step, .. } if *step == at as u32 + 1), "{report:?}");
    }
    let Report::Trained { work: 1, blob, bytes, loss_first, loss_last, .. } = &reports[12] else {
        panic!("{:?}", reports[12])
    };
    assert_eq!(*blob, Digest::of(bytes));
    assert!(loss_last < loss_first, "{loss_last} after {loss_first}");
    let expected: Vec<f32> =
        rig.weights.iter().zip(trained(&rig.weights, &task(Codec::F32))).map(|(base, new)| base - new).collect();
    assert!(Codec::F32.decode(bytes, shape().params()).unwrap() == expected);
}

#[test]
fn what_rounding_took_is_in_the_next_update() {
    let mut rig = Rig::new();
    let bytes = rig.update(task(Codec::Int4));
    let sent = Codec::Int4.decode(&bytes, shape().params()).unwrap();
    let residual = rig.residual().to_owned();
    let whole = trained(&rig.weights, &task(Codec::Int4));
    assert!(residual.iter().any(|lack| *lack != 0.0));
    for ((base, new), (sent, lack)) in rig.weights.iter().zip(&whole).zip(sent.iter().zip(&residual)) {
        assert!((base - new - sent - lack).abs() < 1e-6);
    }
    // A step of rate zero changes nothing: what is sent is what was lacking.
    let idle = proto::Task { steps: 1, lr_start: 0.0, lr_end: 0.0, codec: Codec::F32, ..task(Codec::F32) };
    assert!(Codec::F32.decode(&rig.update(idle), shape().params()).unwrap() == residual);
}

#[test]
fn what_a_sparse_update_left_out_is_begun_with_and_lost_nowhere() {
    let mut rig = Rig::new();
    let sparse = |lr| proto::Task { steps: 1, lr_start: lr, lr_end: lr, ..task(Codec::Sparse64) };
    rig.update(sparse(0.01));
    let lacking = rig.residual().to_owned();
    let (start, left) = Codec::Sparse64.start(&rig.weights, &lacking);
    assert!(start[..] != rig.weights[..] && left < 1.0);
    // A step of rate zero changes nothing: what was lacking is sent, or is lacking still.
    let sent = Codec::Sparse64.decode(&rig.update(sparse(0.0)), shape().params()).unwrap();
    let still = rig.residual();
    for ((lacked, sent), still) in lacking.iter().zip(&sent).zip(still) {
        assert!((lacked - sent - still).abs() < 1e-6, "{lacked} {sent} {still}");
    }
}

#[test]
fn what_an_ended_worker_left_out_is_the_next_ones() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Some(folder.path());
    let sparse = |version| proto::Task { version: VersionNo(version), ..task(Codec::Sparse64) };
    let mut first = Rig::beside(folder, 0);
    first.update(sparse(0));
    let lacking = first.residual().to_owned();
    assert!(lacking.iter().any(|lack| *lack != 0.0));
    first.compute.leave();
    let mut second = Rig::beside(folder, 9);
    assert_eq!(second.residual(), lacking);
    assert!(Rig::beside(folder, 9).residual().iter().all(|lack| *lack == 0.0), "taken once");
    // Too old, and from a version that there never was.
    for (left, found) in [(9, 9 + LACKS + 1), (9, 8)] {
        assert_eq!(second.compute.model.as_ref().unwrap().newest, VersionNo(left));
        second.compute.leave();
        assert!(Rig::beside(folder, found).residual().iter().all(|lack| *lack == 0.0));
        second = Rig::beside(folder, left);
        second.update(sparse(left));
    }
    // Who ends before a version came passes it on as it was.
    let lacking = second.residual().to_owned();
    second.compute.leave();
    let mut idle = Rig::empty(folder);
    idle.tell(Command::Setup { run: RUN, shape: shape(), recipe: RECIPE });
    idle.compute.leave();
    assert_eq!(Rig::beside(folder, 10).residual(), lacking);
}

#[test]
fn what_updates_lacked_in_a_complete_run_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::beside(Some(folder.path()), 0);
    rig.update(task(Codec::Sparse64));
    rig.tell(Command::Complete);
    rig.compute.leave();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn versions_follow_each_other_bit_by_bit() {
    let mut rig = Rig::new();
    let update = Codec::F32.decode(&rig.update(task(Codec::F32)), shape().params()).unwrap();
    let mut weights = rig.weights.clone();
    let input = merge::Input { share: 1.0, delta: &update };
    let mut state = OuterState::new(weights.len());
    let bytes = merge::outer_step(&mut weights, &mut state, &[input], OuterRule::MEAN, Codec::Int4);
    let next = proto::Version {
        version: VersionNo(1),
        digest: merge::weights_digest(&weights),
        base: Some(VersionNo(0)),
        codec: Codec::Int4,
        blob: Digest::of(&bytes),
        bytes: bytes.len() as u64,
    };
    assert_eq!(rig.install(next, bytes), next.digest);
    assert!(rig.compute.model.as_ref().unwrap().weights == weights);
    assert!(rig.fails(task(Codec::F32), shard()).contains("version 0 is not here"));
    rig.update(proto::Task { version: VersionNo(1), ..task(Codec::F32) });
}

#[test]
fn a_bad_version_is_none_until_a_whole_one_comes() {
    let (good, bytes) = snapshot(0, &shape().initial_weights(3));
    let delta = proto::Version { version: VersionNo(1), base: Some(VersionNo(0)), ..good };
    let mut endless = bytes.clone();
    endless[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    for (version, bytes) in [
        (good, Vec::new()),
        (good, bytes[4..].to_vec()),
        (good, endless.clone()),
        (proto::Version { codec: Codec::Int4, ..good }, bytes.clone()),
        (proto::Version { digest: Digest([1; 32]), ..good }, bytes.clone()),
        (delta, endless),
        (delta, bytes.clone()),
        (proto::Version { base: Some(VersionNo(7)), ..delta }, bytes.clone()),
    ] {
        let mut rig = Rig::new();
        assert_eq!(rig.install(version, bytes.clone()), NO_VERSION, "{version:?}");
        assert!(rig.fails(task(Codec::F32), shard()).contains("is not here"));
        let (good, bytes) = snapshot(0, &rig.weights);
        assert_eq!(rig.install(good, bytes), good.digest);
        rig.update(task(Codec::F32));
    }
}

#[test]
fn hostile_tasks_are_refused() {
    let mut rig = Rig::new();
    let good = task(Codec::F32);
    for bad in [
        proto::Task { steps: 0, ..good.clone() },
        proto::Task { steps: u32::MAX, ..good.clone() },
        proto::Task { batch: 0, ..good.clone() },
        proto::Task { batch: u32::MAX, ..good.clone() },
        proto::Task { context: 0, ..good.clone() },
        proto::Task { context: 17, ..good.clone() },
        proto::Task { context: u32::MAX, batch: u32::MAX, steps: u32::MAX, ..good.clone() },
        proto::Task { lr_start: f32::NAN, ..good.clone() },
        proto::Task { lr_end: f32::INFINITY, ..good.clone() },
        proto::Task { lr_start: -1.0, ..good.clone() },
        proto::Task { shard_tokens: 199, ..good.clone() },
        proto::Task { shard_tokens: u64::MAX, ..good.clone() },
        proto::Task { shard_tokens: 1 << 63, ..good.clone() },
        proto::Task { version: VersionNo(u64::MAX), ..good.clone() },
    ] {
        rig.fails(bad, shard());
    }
    let of = |tokens: u64| proto::Task { shard_tokens: tokens, ..good.clone() };
    rig.fails(of(0), Arc::default());
    rig.fails(of(16), vec![0; 32].into());
    rig.fails(of(200), vec![0; 399].into());
    let foreign = [64, 0].repeat(200);
    assert!(rig.fails(of(200), foreign.into()).contains("token 64"));
    // And after all that it still works.
    rig.update(good);
}

#[test]
fn a_model_that_runs_away_is_given_back() {
    let mut rig = Rig::new();
    let wild = proto::Task { steps: 2000, lr_start: 10.0, lr_end: 10.0, ..task(Codec::F32) };
    let reports = rig.train(wild, shard());
    // Whether it diverges is the optimiser's matter; that the answer is one of the two is ours.
    assert!(matches!(reports.last(), Some(Report::Failed { .. } | Report::Trained { .. })));
    let huge = vec![3e38; rig.weights.len()];
    let (version, bytes) = snapshot(0, &huge);
    rig.install(version, bytes);
    let reports = rig.train(task(Codec::F32), shard());
    assert!(matches!(reports.last(), Some(Report::Failed { .. })), "{reports:?}");
}

#[test]
fn a_stopped_task_ends_without_a_word() {
    let mut rig = Rig::new();
    let stop: Arc<AtomicBool> = Arc::default();
    let steps = Mutex::new(0);
    let work = Work { number: 1, task: task(Codec::F32), shard: shard(), stop: stop.clone() };
    rig.compute.carry_out(Command::Train(work), &|report| match report {
        Report::Step { step, .. } => {
            *steps.lock().unwrap() = step;
            stop.store(step == 3, Ordering::Relaxed);
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(*steps.lock().unwrap(), 3);
    let work = Work { number: 1, task: task(Codec::F32), shard: shard(), stop };
    assert!(rig.tell(Command::Train(work)).is_empty());
}

#[test]
fn without_a_model_everything_is_answered() {
    let mut rig = Rig::empty(None);
    rig.fails(task(Codec::F32), shard());
    let (version, bytes) = snapshot(0, &shape().initial_weights(3));
    assert_eq!(rig.install(version, bytes), NO_VERSION);
    rig.tell(Command::Setup { run: RUN, shape: Shape { heads: 0, ..shape() }, recipe: RECIPE });
    rig.fails(task(Codec::F32), shard());
}

#[test]
fn any_setup_of_bounded_size_is_survived() {
    let mut rng = Rng::new(5);
    for _ in 0..50 {
        let odd = |rng: &mut Rng| f32::from_bits(rng.next_u64() as u32);
        let recipe = Recipe {
            batch: rng.next_u64() as u32,
            beta1: odd(&mut rng),
            beta2: odd(&mut rng),
            weight_decay: odd(&mut rng),
            clip: odd(&mut rng),
        };
        let mut rig = Rig::empty(None);
        rig.tell(Command::Setup { run: RUN, shape: shape(), recipe });
        let (version, bytes) = snapshot(0, &rig.weights);
        rig.install(version, bytes);
        let reports = rig.train(task(Codec::Int4), shard());
        assert!(matches!(reports.last(), Some(Report::Failed { .. } | Report::Trained { .. })), "{recipe:?}");
    }
}

#[test]
fn the_ends_of_the_losses() {
    assert_eq!(ends(&[4.0, 2.0, 1.0]), (4.0, 1.0));
    let losses: Vec<f32> = (0..25).map(|at| at as f32).collect();
    assert_eq!(ends(&losses), (0.5, 23.5));
    assert_eq!(ends(&[]), (0.0, 0.0));
}
