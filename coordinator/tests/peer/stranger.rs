//! Somebody who speaks WebSocket without the manners that the shell's own link has.

use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use hydra_core::proto::{ClientMsg, Error, Role, ServerMsg, wire};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{Process, hello, in_time, proof};

/// Somebody who speaks WebSocket, but not necessarily the protocol.
pub struct Stranger(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Stranger {
    pub async fn connect(to: &Process) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", to.address)).await.unwrap();
        Self(socket)
    }

    /// One who has passed the handshake, as a chat.
    pub async fn join(to: &Process, user: &str, key: &SigningKey) -> Self {
        let mut stranger = Self::connect(to).await;
        let hello = hello(Role::Chat, user, key);
        stranger.raw(wire::encode_client(&ClientMsg::Hello(hello.clone()))).await;
        let ServerMsg::Challenge(challenge) = stranger.hears().await else { panic!("a challenge") };
        stranger.raw(wire::encode_client(&ClientMsg::Proof(proof(&hello, &challenge, key, false)))).await;
        assert!(matches!(stranger.hears().await, ServerMsg::Welcome(_)));
        stranger
    }

    async fn hears(&mut self) -> ServerMsg {
        loop {
            if let Message::Binary(bytes) = in_time(self.0.next()).await.unwrap().unwrap() {
                return wire::decode_server(&bytes).unwrap();
            }
        }
    }

    /// Sends bytes as one frame, whatever they are.
    pub async fn raw(&mut self, bytes: Vec<u8>) {
        // The coordinator may cut in the middle of a frame that is too large.
        self.0.send(Message::Binary(bytes.into())).await.ok();
    }

    /// Sends the same many times, and reads nothing meanwhile; ends early if it is cut.
    pub async fn pour(&mut self, bytes: Vec<u8>, times: usize) {
        let message = Message::Binary(bytes.into());
        for _ in 0..times {
            if self.0.feed(message.clone()).await.is_err() {
                return;
            }
        }
        self.0.flush().await.ok();
    }

    /// Reads to the session's end; gives the error that it ended with, if one was told.
    pub async fn last_word(&mut self) -> Option<Error> {
        let mut last = None;
        while let Some(Ok(message)) = in_time(self.0.next()).await {
            if let Message::Binary(bytes) = message
                && let Ok(ServerMsg::Error(error)) = wire::decode_server(&bytes)
            {
                last = Some(error);
            }
        }
        last
    }
}
