//! The newest version on its way to the disk, beside other work.
//!
//! A version is told before its file is durable: its row names what it was merged from, the updates and the file of
//! the version before stay until it is, and from those a start makes the very same weights again (`remake.rs`).

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use hydra_core::ids::{Digest, VersionNo};

use crate::store::{Checkpoint, FileError, VersionFiles};

/// A version that may not be durable yet.
pub struct Writing {
    pub version: VersionNo,
    content: Arc<(Digest, Checkpoint)>,
    /// Absent when it is to be written again.
    thread: Option<JoinHandle<Result<(), FileError>>>,
}

impl Writing {
    /// Begins to write.
    pub fn begin(files: &VersionFiles, version: VersionNo, digest: Digest, checkpoint: Checkpoint) -> Self {
        let content = Arc::new((digest, checkpoint));
        let (files, to_write) = (files.clone(), content.clone());
        let thread = Builder::new().name("version".into()).spawn(move || write(&files, version, &to_write));
        // Without a thread it is written when somebody waits for it.
        Self { version, content, thread: thread.ok() }
    }

    /// Waits until it is durable; where that failed, the next call tries again.
    pub fn finish(&mut self, files: &VersionFiles) -> Result<(), FileError> {
        match self.thread.take() {
            Some(thread) => thread.join().expect("writing does not panic"),
            None => write(files, self.version, &self.content),
        }
    }
}

fn write(files: &VersionFiles, version: VersionNo, content: &(Digest, Checkpoint)) -> Result<(), FileError> {
    let (digest, Checkpoint { weights, outer }) = content;
    files.write(version, digest, weights, outer).map(|_| ())
}
