//! The ledger's head under the coordinator's signature: what makes a shortened or rewritten chain visible.
//!
//! The signature covers [`statement`], and is written in the transaction of the transfers that it covers, so that a
//! stored chain always ends where its signature says. Only a database of before layout 2 has no signed head; the first
//! start of a newer program signs it, once the whole chain was checked.

use ed25519_dalek::SigningKey;
use hydra_core::ids::{Digest, PublicKey, Signature};
use hydra_core::ledger::Head;
use hydra_core::proto::sign;
use rusqlite::{Connection, OptionalExtension, params};

use super::rows;

/// Signs heads for one run.
#[derive(Debug, Clone)]
pub struct Seal {
    key: SigningKey,
    run: [u8; 16],
}

/// How a stored chain's end stands to the signature beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// Signed by the run's coordinator.
    Signed,
    /// Written by a program that signed nothing; no newer one has started on it yet.
    NotYet,
}

/// What a head's signature covers: `hydra ledger head v1` ‖ the run's id (16 bytes) ‖ the number of the last transfer
/// (64-bit little-endian) ‖ its digest.
pub fn statement(run: &[u8; 16], head: &Head) -> Vec<u8> {
    [&b"hydra ledger head v1"[..], run, &head.seq.to_le_bytes(), &head.hash.0].concat()
}

impl Seal {
    /// For the run with this id.
    pub fn new(key: SigningKey, run: [u8; 16]) -> Self {
        Self { key, run }
    }

    /// Signs the chain's end, within the transaction that made it the end.
    pub fn put(&self, to: &Connection, head: &Head) -> rusqlite::Result<()> {
        let signature = sign::sign(&self.key, &statement(&self.run, head));
        let sql = "INSERT INTO head (only, seq, hash, signature) VALUES (1, ?1, ?2, ?3)
                   ON CONFLICT (only) DO UPDATE SET seq = ?1, hash = ?2, signature = ?3";
        to.prepare_cached(sql)?.execute(params![head.seq as i64, head.hash.0, signature.0])?;
        Ok(())
    }

    /// Signs, for the first time, a chain that was checked from its first row to this end.
    pub fn begin(&self, to: &Connection, head: &Head) -> rusqlite::Result<()> {
        self.put(to, head)?;
        to.execute("DELETE FROM meta WHERE key = 'unsigned'", []).map(|_| ())
    }
}

/// Compares the stored signature with the end that the transfers were found to have; what does not fit is told with
/// the first row that it concerns.
pub fn check(from: &Connection, found: &Head) -> rusqlite::Result<Result<Sealed, (u64, String)>> {
    let stored = from.query_row("SELECT seq, hash, signature FROM head", [], |row| {
        Ok((Head { seq: rows::whole(row, 0)?, hash: Digest(row.get(1)?) }, Signature(row.get(2)?)))
    });
    let Some((head, signature)) = stored.optional()? else {
        let unsigned = from.query_row("SELECT value FROM meta WHERE key = 'unsigned'", [], |_| Ok(())).optional()?;
        let missing = || Err((found.seq, "the signed head of the ledger is missing".to_owned()));
        return Ok(unsigned.map_or_else(missing, |()| Ok(Sealed::NotYet)));
    };
    let run = from.query_row("SELECT value FROM meta WHERE key = 'run'", [], |row| row.get(0))?;
    let key = from.query_row("SELECT value FROM meta WHERE key = 'server_key'", [], |row| row.get(0)).map(PublicKey)?;
    Ok(if !sign::verify(&key, &statement(&run, &head), &signature) {
        Err((head.seq, "the signature of the ledger's head is not the coordinator's".to_owned()))
    } else if head.seq > found.seq {
        Err((found.seq + 1, format!("it is missing, and so is all up to the signed head, transfer {}", head.seq)))
    } else if head.seq < found.seq {
        Err((head.seq + 1, format!("it follows the signed head, transfer {}, without a signature", head.seq)))
    } else if head.hash != found.hash {
        Err((found.seq, "it is not the transfer that the signed head names".to_owned()))
    } else {
        Ok(Sealed::Signed)
    })
}
