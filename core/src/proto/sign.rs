//! What the two sides of a handshake sign, and the check. Each statement begins with a label of its own and binds
//! both nonces and both keys, so that a signature made for one coordinator is worth nothing at another.

use ed25519_dalek::{Signature as Ed25519Signature, Signer, SigningKey, VerifyingKey};

use super::{Challenge, KeyAct, Proof, Role};
use crate::ids::{Digest, Nonce, PublicKey, Signature, UserName};

/// Both sides' contributions to one handshake.
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    /// The client's key.
    pub client: &'a PublicKey,
    /// The coordinator's key.
    pub server: &'a PublicKey,
    /// From `hello`.
    pub client_nonce: &'a Nonce,
    /// From `challenge`.
    pub server_nonce: &'a Nonce,
}

impl Parties<'_> {
    fn write(&self, label: &str) -> Vec<u8> {
        let mut statement = label.as_bytes().to_vec();
        for part in [&self.server.0, &self.client.0, &self.server_nonce.0, &self.client_nonce.0] {
            statement.extend_from_slice(part);
        }
        statement
    }
}

/// What the coordinator signs in `challenge`: `hydra.v1 coordinator` ‖ server key ‖ client key ‖ server nonce ‖
/// client nonce.
pub fn server_statement(parties: &Parties<'_>) -> Vec<u8> {
    parties.write("hydra.v1 coordinator")
}

/// What the client signs in `proof`: `hydra.v1 client` ‖ the same four ‖ `worker` or `chat` ‖ user name.
pub fn client_statement(parties: &Parties<'_>, role: Role, user: &UserName) -> Vec<u8> {
    let mut statement = parties.write("hydra.v1 client");
    statement.extend_from_slice(match role {
        Role::Worker => b"worker",
        Role::Chat => b"chat",
    });
    statement.extend_from_slice(user.as_str().as_bytes());
    statement
}

/// What a client signs in `api_key`: `hydra.v1 api key` ‖ server key ‖ server nonce of the session ‖ `add`, `revoke` or
/// `list` ‖ digest, or 32 zero bytes without one ‖ user name. Whoever sits on the way of an unencrypted session can so
/// neither add a key of their own nor say again in another session what was said in this one.
pub fn api_key_statement(
    server: &PublicKey,
    nonce: &Nonce,
    act: KeyAct,
    digest: Option<&Digest>,
    user: &UserName,
) -> Vec<u8> {
    let mut statement = b"hydra.v1 api key".to_vec();
    statement.extend_from_slice(&server.0);
    statement.extend_from_slice(&nonce.0);
    statement.extend_from_slice(match act {
        KeyAct::Add => b"add",
        KeyAct::Revoke => b"revoke",
        KeyAct::List => b"list",
    });
    statement.extend_from_slice(digest.map_or(&[0; 32], |digest| &digest.0));
    statement.extend_from_slice(user.as_str().as_bytes());
    statement
}

/// A client's answer to a challenge, with the nonce of its own `hello`; nothing if the coordinator did not prove its key.
pub fn answer(key: &SigningKey, nonce: &Nonce, challenge: &Challenge, role: Role, user: &UserName) -> Option<Proof> {
    let own = PublicKey(key.verifying_key().to_bytes());
    let parties = Parties { client: &own, server: &challenge.key, client_nonce: nonce, server_nonce: &challenge.nonce };
    verify(&challenge.key, &server_statement(&parties), &challenge.signature)
        .then(|| Proof { signature: sign(key, &client_statement(&parties, role, user)) })
}

/// Signs a statement.
pub fn sign(key: &SigningKey, statement: &[u8]) -> Signature {
    Signature(key.sign(statement).to_bytes())
}

/// Whether `signature` over `statement` was made by `key`; false too for bytes that are no key.
pub fn verify(key: &PublicKey, statement: &[u8], signature: &Signature) -> bool {
    VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|key| key.verify_strict(statement, &Ed25519Signature::from_bytes(&signature.0)).is_ok())
}
