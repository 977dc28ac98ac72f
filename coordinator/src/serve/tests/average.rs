//! What the average of the versions is made of, where not every version is measured.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::average::Average;
use crate::serve::eval::{self, Evaluator};
use crate::serve::served::Source;

#[test]
fn versions_that_are_not_measured_are_in_the_average_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let run = run::open(&settings, None, &Events::stdout(false)).unwrap();
    let (shape, folder) = (run.shape, settings.run_dir.clone());
    let device = hydra_engine::Device::open(hydra_engine::DeviceChoice::Cpu, Some(1)).unwrap();
    let over = Arc::<AtomicBool>::default();
    let evaluator = Evaluator { data: run.data, shape, device, windows: 4, run: folder.clone(), average: None, over };
    let (tell, told) = channel();
    let report = move |result: Result<(eval::Score, Source), VersionNo>| {
        tell.send(result.map(|(score, _)| score.version)).unwrap();
    };
    let (queue, thread) = eval::spawn(evaluator, None, report).unwrap();

    let weights = |version| Arc::new(shape.initial_weights(version));
    let mut average = Average::new(VersionNo(1), weights(1));
    for (number, due) in (1..).zip([true, false, false, false, true]) {
        let version = VersionNo(number);
        average.add(version, &weights(number));
        queue.put(Source { version, averaged: false, shape, weights: weights(number) }, due);
        assert_eq!(told.recv().unwrap(), if due { Ok(version) } else { Err(version) });
    }
    drop(queue);
    thread.join().unwrap();
    let kept = Average::read(&folder, &shape, VersionNo(5)).expect("it was written at the end");
    assert_eq!((kept.version, kept.weights), (average.version, average.weights));
}
