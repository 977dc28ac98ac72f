//! Which codec a worker gets: by the speed of its link, with a reason that is told, and never in a fixed run.

use super::*;
use crate::limits;

/// A model whose updates are large enough to tell a link's speed: 34 kB in `int4`.
fn large(sparser: bool) -> Lab {
    Lab::with(Rules { shape: Shape::new(2048, 32, 1, 1, 8), sparser, ..rules() }, recovered())
}

impl Lab {
    /// Trains for `training`, sends for `sending`, and gives the codec of the next task.
    fn next_codec(&mut self, session: SessionId, training: Duration, sending: Duration) -> Codec {
        let task = self.task(session).expect("a free worker gets a task");
        self.now = self.now.after(training);
        // Sparse updates are shorter than they may be.
        let most = task.codec.max_len(self.hub.rules.shape.params()) as u64;
        let bytes = if task.codec.is_sparse() { most * 19 / 20 } else { most };
        let update = Update { bytes, more: false, ..Self::update(&task) };
        let blob = update.blob;
        self.says(session, ClientMsg::Update(update));
        self.now = self.now.after(sending);
        self.tell(Fact::Received { session, blob, intact: true });
        self.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
        if self.merge_ordered().is_some() {
            self.merge();
        }
        self.says(session, ClientMsg::Ready(proto::Ready::new(true)));
        // It may be held back for a version that is about to come.
        self.wait(Duration::from_secs(1));
        let (_, next) = self.pushed.iter().rfind(|(to, _)| *to == session).expect("the next task was pushed");
        next.codec
    }

    fn told_codecs(&self) -> Vec<(Codec, Codec)> {
        let notes = self.orders.iter().filter_map(|order| match order {
            Order::Note(Event::Codec { codec, before, .. }) => Some((*before, *codec)),
            _ => None,
        });
        notes.collect()
    }
}

const TASK: Duration = Duration::from_secs(10);

#[test]
fn a_fast_link_keeps_four_bits() {
    let mut lab = large(true);
    let session = lab.worker("alice", 1);
    for _ in 0..5 {
        assert_eq!(lab.next_codec(session, TASK, Duration::from_millis(100)), Codec::Int4);
    }
    assert_eq!(lab.told_codecs(), []);
}

#[test]
fn a_slow_link_gets_fewer_bytes_and_says_why() {
    let mut lab = large(true);
    let session = lab.worker("alice", 1);
    // 34 kB in two seconds is a fifth of a task; the 4 kB of `sparse256` are a fortieth.
    assert_eq!(lab.next_codec(session, TASK, Duration::from_secs(2)), Codec::Sparse256);
    assert_eq!(lab.told_codecs(), [(Codec::Int4, Codec::Sparse256)]);
    // Small uploads tell nothing about the link, so it stays.
    assert_eq!(lab.next_codec(session, TASK, Duration::from_millis(1)), Codec::Sparse256);
}

#[test]
fn a_link_that_small_uploads_tell_nothing_about_is_measured_again() {
    let mut lab = large(true);
    let session = lab.worker("alice", 1);
    assert_eq!(lab.next_codec(session, TASK, Duration::from_secs(100)), Codec::Sparse64);
    let uploads = |lab: &mut Lab, sending: Duration| {
        let few = |lab: &mut Lab| lab.next_codec(session, TASK, Duration::from_millis(1)) == Codec::Sparse64;
        let tried = (0..200).take_while(|_| few(lab)).count();
        (tried, lab.next_codec(session, TASK, sending))
    };
    // Still as slow: a single update in 65 finds that out.
    assert_eq!(uploads(&mut lab, Duration::from_secs(100)), (63, Codec::Sparse64));
    assert_eq!(uploads(&mut lab, Duration::from_millis(10)), (63, Codec::Int4));
    assert_eq!(lab.next_codec(session, TASK, Duration::from_millis(10)), Codec::Int4);
    let (dense, few) = (Codec::Int4, Codec::Sparse64);
    assert_eq!(lab.told_codecs(), [(dense, few), (few, dense), (dense, few), (few, dense)]);
}

#[test]
fn an_update_that_measures_a_link_again_tells_something_even_if_it_is_shorter_than_it_may_be() {
    let shape = Shape::new(16_400, 32, 1, 1, 8);
    let longest = Codec::Sparse256.max_len(shape.params());
    assert!((32 * 1024..34 * 1024).contains(&longest), "as it happens to be it tells nothing: {longest}");
    let mut lab = Lab::with(Rules { shape, sparser: true, ..rules() }, recovered());
    let session = lab.worker("alice", 1);
    let next = |lab: &mut Lab| lab.next_codec(session, TASK, Duration::from_millis(1));
    assert_eq!(lab.next_codec(session, TASK, Duration::from_secs(100)), Codec::Sparse64);
    assert_eq!((0..200).take_while(|_| next(&mut lab) == Codec::Sparse64).count(), 63);
    assert_eq!(next(&mut lab), Codec::Int4);
}

#[test]
fn a_hopeless_link_gets_the_fewest_bytes() {
    let mut lab = large(true);
    let session = lab.worker("alice", 1);
    assert_eq!(lab.next_codec(session, TASK, Duration::from_secs(100)), Codec::Sparse64);
}

#[test]
fn a_fixed_codec_stays_whatever_the_link() {
    let mut lab = large(false);
    let session = lab.worker("alice", 1);
    assert_eq!(lab.next_codec(session, TASK, Duration::from_secs(100)), Codec::Int4);
}

#[test]
fn each_worker_has_its_own() {
    let mut lab = large(true);
    let (slow, fast) = (lab.worker("alice", 1), lab.worker("bob", 2));
    lab.next_codec(fast, TASK, Duration::from_millis(10));
    assert_eq!(lab.next_codec(slow, TASK, Duration::from_secs(100)), Codec::Sparse64);
    assert_eq!(lab.next_codec(fast, TASK, Duration::from_millis(10)), Codec::Int4);
}

#[test]
fn a_link_that_is_too_slow_for_a_single_update_gets_fewer_bytes_too() {
    let mut lab = large(true);
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a free worker gets a task");
    let bytes = task.codec.max_len(lab.hub.rules.shape.params()) as u64;
    lab.says(session, ClientMsg::Update(Update { bytes, more: false, ..Lab::update(&task) }));
    lab.wait(Duration::from_secs(121));
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Err(proto::UnpaidCode::Expired)));
    lab.says(session, ClientMsg::Ready(proto::Ready::new(true)));
    lab.wait(Duration::from_secs(1));
    // Nothing ever came of it, so it is only known to be slow: 34 kB in two minutes at the most.
    assert_eq!(lab.task(session).expect("another try").codec, Codec::Sparse64);
    assert_eq!(lab.told_codecs(), [(Codec::Int4, Codec::Sparse64)]);
}

#[test]
fn nor_does_a_long_task_make_an_upload_affordable_that_is_never_done_in_time() {
    let mut lab = Lab::with(
        Rules { shape: Shape::new(2048, 32, 1, 1, 8), sparser: true, lease_first: Duration::from_hours(1), ..rules() },
        recovered(),
    );
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a free worker gets a task");
    let bytes = task.codec.max_len(lab.hub.rules.shape.params()) as u64;
    lab.says(session, ClientMsg::Update(Update { bytes, more: false, ..Lab::update(&task) }));
    lab.wait(Duration::from_secs(121));
    lab.says(session, ClientMsg::Ready(proto::Ready::new(true)));
    lab.wait(Duration::from_secs(1));
    assert_ne!(lab.task(session).expect("another try").codec, Codec::Int4);
}

/// The codec of the first task after a connection that ended so long after an update was announced through it.
fn after_a_lost_upload(sending: Duration) -> Codec {
    let mut lab = large(true);
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a free worker gets a task");
    let bytes = task.codec.max_len(lab.hub.rules.shape.params()) as u64;
    lab.says(session, ClientMsg::Update(Update { bytes, more: false, ..Lab::update(&task) }));
    lab.wait(sending);
    lab.tell(Fact::Left { session, reason: String::new() });
    let session = lab.worker("alice", 1);
    lab.wait(Duration::from_secs(1));
    lab.task(session).expect("another try").codec
}

#[test]
fn a_slow_link_is_not_forgotten_at_a_reconnect() {
    let mut lab = large(true);
    let session = lab.worker("alice", 1);
    assert_eq!(lab.next_codec(session, TASK, Duration::from_secs(100)), Codec::Sparse64);
    lab.tell(Fact::Left { session, reason: String::new() });
    lab.pushed.clear();
    let session = lab.worker("alice", 1);
    assert_eq!(lab.task(session).expect("a task").codec, Codec::Sparse64);
    // Nor where no upload ever came to its end, but a link that died is not a slow one.
    assert_eq!(after_a_lost_upload(Duration::from_secs(110)), Codec::Sparse64);
    assert_eq!(after_a_lost_upload(limits::SILENCE), Codec::Int4);
}

#[test]
fn a_codec_for_a_slow_link_outlives_a_restart_until_it_is_measured_again() {
    let old = rows::Lease { codec: Codec::Sparse64, ..lease_row(1, "alice", 1) };
    let settled = vec![(old, accepted_row(1, 10_000))];
    let shape = Shape::new(2048, 32, 1, 1, 8);
    let rules = Rules { shape, sparser: true, ..rules() };
    let mut lab = Lab::with(rules, Recovered { settled, boot: 2, ..recovered() });
    let session = lab.worker("alice", 1);
    let few = |lab: &mut Lab| lab.next_codec(session, TASK, Duration::from_millis(1)) == Codec::Sparse64;
    assert_eq!((0..200).take_while(|_| few(&mut lab)).count(), 63);
    assert_eq!(lab.next_codec(session, TASK, Duration::from_millis(10)), Codec::Int4);
}
