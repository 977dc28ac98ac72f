//! What arrives: messages become events, chunks become blobs, and what was never awaited is dropped.

use std::collections::{BTreeMap, VecDeque};

use hydra_core::ids::Digest;
use hydra_core::proto::{Chunk, ErrorCode};

use super::Event;
use super::blobs::Download;
use super::side::{Side, Sorted};

/// Announced blobs that may be awaited at one time; with them one more that the program asks for.
const DOWNLOADS: usize = 16;

/// The receiving side of a session.
#[derive(Debug)]
pub struct Incoming<S: Side> {
    side: S,
    /// What the program has not been told yet.
    pub events: VecDeque<Event<S::In>>,
    downloads: BTreeMap<Digest, Download>,
}

impl<S: Side> Incoming<S> {
    pub fn new(side: S) -> Self {
        Self { side, events: VecDeque::from([Event::Connected]), downloads: BTreeMap::new() }
    }

    /// Awaits a blob no longer.
    pub fn forget(&mut self, digest: &Digest) {
        self.downloads.remove(digest);
    }

    /// Takes a message; the error says how it breaks the protocol.
    pub fn take(&mut self, message: S::In) -> Result<(), (ErrorCode, String)> {
        let broken = |text: String| (ErrorCode::Malformed, text);
        let (message, announced) = match self.side.sort(message).map_err(broken)? {
            Sorted::Chunk(chunk) => return self.collect(&chunk).map_err(broken),
            Sorted::Message(message, announced) => (message, announced),
        };
        if announced.is_some() && self.downloads.len() >= DOWNLOADS {
            return Err((ErrorCode::Unexpected, "it announces more blobs before the ones ahead of them".to_owned()));
        }
        self.events.push_back(Event::Message(Box::new(message)));
        if let Some((digest, bytes)) = announced {
            self.wait_for(digest, bytes, Download::new);
        }
        Ok(())
    }

    /// Awaits a blob that the program asks for; whether there is room for one more.
    pub fn expect(&mut self, digest: Digest, bytes: u64) -> bool {
        if self.downloads.len() > DOWNLOADS && !self.downloads.contains_key(&digest) {
            return false;
        }
        self.wait_for(digest, bytes, Download::asked);
        true
    }

    fn wait_for(&mut self, digest: Digest, bytes: u64, download: fn(u64) -> Download) {
        if bytes == 0 {
            self.events.push_back(Event::Blob { digest, bytes: Vec::new() });
        } else {
            self.downloads.entry(digest).or_insert_with(|| download(bytes));
        }
    }

    fn collect(&mut self, chunk: &Chunk) -> Result<(), String> {
        let Some(download) = self.downloads.get_mut(&chunk.blob) else {
            // Still on its way when the blob was given up.
            tracing::debug!(blob = %chunk.blob, offset = chunk.offset, "a chunk that nobody awaits");
            return Ok(());
        };
        if download.is_of_before(chunk) {
            tracing::debug!(blob = %chunk.blob, offset = chunk.offset, "the rest of a blob that was given up");
            return Ok(());
        }
        download.take(chunk)?;
        if download.is_complete()
            && let Some(download) = self.downloads.remove(&chunk.blob)
        {
            match download.finish(&chunk.blob) {
                Ok(bytes) => self.events.push_back(Event::Blob { digest: chunk.blob, bytes }),
                Err(_) if S::TELLS_DAMAGE => self.events.push_back(Event::Damaged(chunk.blob)),
                Err(text) => return Err(text.to_owned()),
            }
        }
        Ok(())
    }
}
