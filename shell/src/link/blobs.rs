//! Blobs in pieces: cutting one into chunks, and putting chunks together while checking size, order and digest.

use std::sync::Arc;

use hydra_core::ids::Digest;
use hydra_core::limits::SENT_CHUNK_BYTES;
use hydra_core::proto::Chunk;

/// Memory that an announced size gets at once; beyond it memory grows with the bytes that really come.
const TRUSTED_BYTES: u64 = 1 << 20;

/// A blob that is being sent.
#[derive(Debug)]
pub struct Upload {
    digest: Digest,
    bytes: Arc<[u8]>,
    at: usize,
}

impl Upload {
    pub fn new(digest: Digest, bytes: Arc<[u8]>) -> Self {
        Self { digest, bytes, at: 0 }
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next chunk; empty once done.
    pub fn chunk(&mut self) -> Chunk {
        let end = self.bytes.len().min(self.at + SENT_CHUNK_BYTES);
        let chunk = Chunk { blob: self.digest, offset: self.at as u64, data: self.bytes[self.at..end].to_vec() };
        self.at = end;
        chunk
    }
}

/// A blob that is being received.
#[derive(Debug)]
pub struct Download {
    bytes: u64,
    data: Vec<u8>,
    /// Whether the program asked for it. It may have done so before and given it up, and the rest of that comes first.
    asked: bool,
    // Fed chunk by chunk, so that a large blob's check does not hold up the session at its end.
    hasher: blake3::Hasher,
}

impl Download {
    pub fn new(bytes: u64) -> Self {
        Self { bytes, data: Vec::new(), asked: false, hasher: blake3::Hasher::new() }
    }

    /// One that the program asks for.
    pub fn asked(bytes: u64) -> Self {
        Self { asked: true, ..Self::new(bytes) }
    }

    /// Whether the chunk belongs to an earlier try at the same blob.
    pub fn is_of_before(&self, chunk: &Chunk) -> bool {
        self.asked && self.data.is_empty() && chunk.offset > 0
    }

    /// Adds a chunk; errors end the session, as the socket itself neither loses nor reorders.
    pub fn take(&mut self, chunk: &Chunk) -> Result<(), &'static str> {
        let have = self.data.len() as u64;
        if chunk.offset != have {
            return Err("a chunk is missing or came twice");
        }
        if chunk.data.is_empty() {
            return Err("a chunk is empty");
        }
        let end = have + chunk.data.len() as u64;
        if end > self.bytes {
            return Err("a blob is longer than announced");
        }
        if end > self.data.capacity() as u64 {
            let capacity = end.saturating_mul(2).max(TRUSTED_BYTES).min(self.bytes);
            self.data.reserve_exact((capacity - have) as usize);
        }
        self.data.extend_from_slice(&chunk.data);
        self.hasher.update(&chunk.data);
        Ok(())
    }

    pub fn is_complete(&self) -> bool {
        self.data.len() as u64 == self.bytes
    }

    /// The bytes, if they are those that `digest` names.
    pub fn finish(self, digest: &Digest) -> Result<Vec<u8>, &'static str> {
        if self.hasher.finalize().as_bytes() == &digest.0 {
            Ok(self.data)
        } else {
            Err("a blob does not match its digest")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(bytes: &[u8]) -> Vec<u8> {
        let digest = Digest::of(bytes);
        let mut upload = Upload::new(digest, bytes.into());
        let mut download = Download::new(bytes.len() as u64);
        while !upload.is_done() {
            assert!(!download.is_complete());
            download.take(&upload.chunk()).unwrap();
        }
        assert!(download.is_complete());
        assert_eq!(download.data.capacity(), bytes.len());
        download.finish(&digest).unwrap()
    }

    #[test]
    fn what_is_cut_comes_together() {
        const CHUNK: usize = SENT_CHUNK_BYTES;
        for size in [1, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK + 7] {
            let bytes: Vec<u8> = (0..size).map(|at| (at * 7 / 3) as u8).collect();
            assert_eq!(transfer(&bytes), bytes);
        }
    }

    #[test]
    fn faults_are_found() {
        let digest = Digest::of(b"abcd");
        let chunk = |offset, data: &[u8]| Chunk { blob: digest, offset, data: data.to_vec() };
        for (offset, data) in [(1, &b"bcd"[..]), (0, b""), (0, b"abcde"), (u64::MAX, b"a")] {
            assert!(Download::new(4).take(&chunk(offset, data)).is_err());
        }
        let mut download = Download::new(4);
        download.take(&chunk(0, b"ab")).unwrap();
        assert!(download.take(&chunk(0, b"ab")).is_err());
        download.take(&chunk(2, b"cx")).unwrap();
        assert!(download.is_complete() && download.finish(&digest).is_err());
    }

    #[test]
    fn an_announced_size_costs_nothing_by_itself() {
        let mut download = Download::new(u64::MAX);
        download.take(&Chunk { blob: Digest([0; 32]), offset: 0, data: vec![1] }).unwrap();
        assert_eq!(download.data.capacity() as u64, TRUSTED_BYTES);
    }
}
