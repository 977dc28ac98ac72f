//! A run with fixed updates, killed at every step of it: the restart goes on to the same weights and the same end of
//! the ledger, bit for bit, as the run that nobody killed.
//!
//! Steps are the orders of the hub and what is made durable on the way. A kill leaves what is on disk at that instant,
//! copied to another folder, with the half-written files that a kill in the middle of a write would leave. Time is
//! handed in and the same in every run. What the network and lost writes do to all this is the simulator's to find.

use super::*;

/// The workers whose updates make one version together, by the version. Each worker has one task of version 0.
const GROUPS: [&[u8]; 3] = [&[0, 1, 2], &[3, 4], &[5]];

/// How the run stands: the newest version, the digest of its weights, and the ledger's end.
type Stand = (VersionNo, Digest, Head);

impl Coordinator {
    /// The workers of a group come and deliver, all at once; those that were told of their pay are gone.
    fn deliver(&mut self, group: &[u8], tasks: &[Task], told: &mut BTreeMap<LeaseId, usize>) -> Result<(), Killed> {
        let due: Vec<_> =
            group.iter().filter(|worker| !told.contains_key(&tasks[usize::from(**worker)].lease)).collect();
        let mut uploads = Vec::new();
        for worker in due {
            let task = &tasks[usize::from(*worker)];
            let session = self.join(*worker, Some(task.lease))?;
            let (update, bytes) = self.update(*worker, task);
            uploads.push((session, update.blob));
            self.blobs.insert(update.blob, bytes.into());
            self.tell(Fact::Frame { session, message: ClientMsg::Update(update) })?;
        }
        let delivered = uploads
            .iter()
            .try_for_each(|(session, blob)| self.tell(Fact::Received { session: *session, blob: *blob, intact: true }));
        for (_, message) in self.heard.drain(..) {
            match message {
                ServerMsg::Credited(credited) => *told.entry(credited.lease).or_default() += 1,
                ServerMsg::Unpaid(unpaid) => panic!("{unpaid:?}"),
                ServerMsg::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
        delivered?;
        for (session, _) in uploads {
            self.tell(Fact::Left { session, reason: String::new() })?;
        }
        Ok(())
    }

    fn stand(&self, dir: &Path) -> Stand {
        let newest = Reader::open(&dir.join("run")).and_then(|reader| reader.current_versions()).expect("readable");
        (newest[0].version, newest[0].digest, self.hub.book().head())
    }
}

/// What a kill leaves: the files as they are, and what a write in progress would have left beside them.
fn remains(of: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a temporary folder");
    copy(of, to.path());
    for half in ["versions/.v00000009.safetensors.tmp", "updates/.1-2.bin.tmp", ".begun.json.tmp"] {
        std::fs::write(to.path().join("run").join(half), "half").expect("room");
    }
    to
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("room");
    for entry in std::fs::read_dir(from).expect("readable").map(|entry| entry.expect("readable")) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            match std::fs::copy(&from, &to) {
                // The newest version's file has got its name in this moment, or has not yet: a kill leaves either.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.expect("room")),
            }
        }
    }
}

fn group_at(group: usize) -> Time {
    Time(60_000_000 * (group as u64 + 1))
}

/// A run in which every worker has its task and has delivered nothing, killed.
fn prepared() -> (TempDir, Vec<Task>) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let Ok(mut coordinator) = Coordinator::start(dir.path(), Time(0), None) else { panic!("nobody kills it") };
    for worker in 0..6 {
        assert!(coordinator.join(worker, None).is_ok());
    }
    let mut tasks = std::mem::take(&mut coordinator.tasks);
    tasks.sort_by_key(|task| task.lease);
    assert_eq!(tasks.len(), 6, "each worker has a task");
    let left = remains(dir.path());
    drop(coordinator);
    (left, tasks)
}

/// Runs the script from the prepared folder, with a kill after every `every` steps if there is one; gives how it ends
/// and how many steps the last start took.
fn script(prepared: &Path, tasks: &[Task], mut kills: VecDeque<usize>) -> (Stand, usize) {
    const PLENTY: usize = 1 << 40;
    let mut dir = remains(prepared);
    let mut told = BTreeMap::new();
    let (mut group, mut now, mut steps) = (0, Time(0), 0);
    loop {
        let left = kills.pop_front();
        let mut at = (group, now);
        let mut started = None;
        let run = |at: &mut (usize, Time), started: &mut Option<Coordinator>, told: &mut _| {
            let coordinator = started.insert(Coordinator::start(dir.path(), at.1, Some(left.unwrap_or(PLENTY)))?);
            coordinator.tell(Fact::Operator(Operator::Pause))?;
            while at.0 < GROUPS.len() {
                at.1 = at.1.max(group_at(at.0));
                coordinator.wait_until(at.1)?;
                coordinator.deliver(GROUPS[at.0], tasks, told)?;
                at.1 = group_at(at.0).after(std::time::Duration::from_secs(30));
                coordinator.wait_until(at.1)?;
                at.0 += 1;
            }
            Ok::<_, Killed>(())
        };
        let ended = run(&mut at, &mut started, &mut told);
        (group, now) = at;
        let Some(coordinator) = started else { continue };
        if ended.is_ok() {
            steps += PLENTY - coordinator.left.unwrap_or_default();
            let stand = coordinator.stand(dir.path());
            drop(coordinator);
            let verified = verify(&dir.path().join("run")).expect("sound");
            assert_eq!((verified.head, verified.kinds["reward"]), (stand.2, 6));
            assert!(told.len() == 6, "everybody was told");
            return (stand, steps);
        }
        let remains = remains(dir.path());
        drop(coordinator);
        dir = remains;
    }
}

#[test]
fn a_run_killed_at_any_step_ends_as_if_nobody_had_killed_it() {
    let (prepared, tasks) = prepared();
    let (whole, steps) = script(prepared.path(), &tasks, VecDeque::new());
    assert_eq!((whole.0, whole.2.seq), (VersionNo(3), 6), "three versions of six paid updates");
    assert!(steps > 60, "{steps} steps");
    for kill in 0..steps {
        let (stand, _) = script(prepared.path(), &tasks, VecDeque::from([kill]));
        assert_eq!(stand, whole, "killed at step {kill} of {steps}");
    }
}

#[test]
fn a_run_killed_again_and_again_ends_the_same() {
    let (prepared, tasks) = prepared();
    let (whole, steps) = script(prepared.path(), &tasks, VecDeque::new());
    for every in [7, 13, 29, 31] {
        let kills = std::iter::repeat_n(every, 4 * steps / every).collect();
        let (stand, _) = script(prepared.path(), &tasks, kills);
        assert_eq!(stand, whole, "killed every {every} steps");
    }
}

#[test]
fn a_version_whose_file_is_missing_or_damaged_is_made_again() {
    let (prepared, tasks) = prepared();
    let start = |dir: &Path| Coordinator::start(dir, group_at(0), None).unwrap_or_else(|_| panic!("nobody kills it"));
    let mut coordinator = start(prepared.path());
    let delivered = coordinator
        .tell(Fact::Operator(Operator::Pause))
        .and_then(|()| coordinator.deliver(GROUPS[0], &tasks, &mut BTreeMap::new()))
        .and_then(|()| coordinator.wait_until(group_at(1)));
    assert!(delivered.is_ok());
    let stand = coordinator.stand(prepared.path());
    assert_eq!(stand.0, VersionNo(1));
    drop(coordinator);
    let dir = remains(prepared.path());
    let run = run::open(&settings(dir.path()), None, &Events::stdout(false)).expect("it opens");
    let leases = |(version, merged): &(VersionNo, Vec<(LeaseId, Digest)>)| (version.0, merged.len());
    let merged: Vec<_> = run.learner.merged.iter().map(leases).collect();
    assert_eq!(merged, [(1, GROUPS[0].len())], "their files go with the last version before");
    drop(run);
    let file = |dir: &Path| dir.join("run/versions/v00000001.safetensors");
    let whole = std::fs::read(file(prepared.path())).expect("it is on disk when the learner has ended");

    let mut flipped = whole.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    for left in [None, Some(&flipped[..]), Some(&whole[..100])] {
        let dir = remains(prepared.path());
        std::fs::remove_file(file(dir.path())).expect("it was there");
        if let Some(left) = left {
            std::fs::write(file(dir.path()), left).expect("room");
        }
        assert_eq!(start(dir.path()).stand(dir.path()), stand);
        assert!(std::fs::read(file(dir.path())).expect("made again") == whole, "the same to the last bit");
        let aside = dir.path().join("run/versions/v00000001.safetensors.damaged-1");
        assert_eq!(std::fs::read(aside).ok().as_deref(), left);
    }
    // Without the updates there is nothing to make it from: the run goes on from the version before.
    let dir = remains(prepared.path());
    std::fs::remove_file(file(dir.path())).expect("it was there");
    std::fs::remove_dir_all(dir.path().join("run/updates")).expect("it was there");
    assert_eq!(start(dir.path()).stand(dir.path()).0, VersionNo(0));
}
