//! A client that passes the handshake and then keeps still.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use hydra_core::ids::{Nonce, PublicKey, WorkerId};
use hydra_core::proto::sign::{self, Parties};
use hydra_core::proto::{self, ClientMsg, Hello, Proof, Role, ServerMsg, wire};
use hydra_shell::link::{Message, Socket};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_tungstenite::MaybeTlsStream;

/// A client's socket.
pub type Stream = Socket<MaybeTlsStream<TcpStream>>;

/// For anything that should take milliseconds: a bench must not hang.
const PATIENCE: Duration = Duration::from_mins(1);

/// An open session whose messages are read and dropped, so that pings are answered.
pub struct Idle(AbortHandle);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Microseconds since 1970: the clock that the processes share.
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_micros() as u64)
}

/// A socket with the coordinator's own small buffers.
pub async fn connect(url: &str) -> anyhow::Result<Stream> {
    let (socket, _) = tokio_tungstenite::connect_async_with_config(url, Some(Stream::config()), true).await?;
    Ok(Socket::new(socket))
}

fn keep(mut socket: Stream) -> Idle {
    Idle(tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} }).abort_handle())
}

/// An idle chat.
pub async fn chat(url: String, n: usize) -> anyhow::Result<Idle> {
    join(&url, Role::Chat, n).await.map(keep)
}

/// A worker that will be free.
pub async fn worker(url: String, n: usize) -> anyhow::Result<Stream> {
    join(&url, Role::Worker, n).await
}

/// Waits for a worker's task: its number, when it arrived, and the session.
pub async fn task(mut socket: Stream) -> anyhow::Result<(u64, u64, Idle)> {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.context("no task came")?;
        let arrived = now_us();
        if let Message::Binary(bytes) = message.context("the session ended")??
            && let ServerMsg::Task(task) = wire::decode_server(&bytes)?
        {
            return Ok((task.task.0, arrived, keep(socket)));
        }
    }
}

async fn join(url: &str, role: Role, n: usize) -> anyhow::Result<Stream> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let mut socket = connect(url).await?;
    let hello = Hello {
        protocol: proto::PROTOCOL.to_owned(),
        role,
        user: "bench".parse()?,
        key: PublicKey(key.verifying_key().to_bytes()),
        nonce: Nonce([n as u8; 32]),
        agent: "bench".to_owned(),
        worker: (role == Role::Worker).then(|| WorkerId((n as u64).to_be_bytes())),
        device: String::new(),
        holds: None,
        lease: None,
        paused: false,
    };
    say(&mut socket, &ClientMsg::Hello(hello.clone())).await?;
    let ServerMsg::Challenge(challenge) = hear(&mut socket).await? else { bail!("no challenge came") };
    let parties = Parties {
        client: &hello.key,
        server: &challenge.key,
        client_nonce: &hello.nonce,
        server_nonce: &challenge.nonce,
    };
    let statement = sign::client_statement(&parties, role, &hello.user);
    say(&mut socket, &ClientMsg::Proof(Proof { signature: sign::sign(&key, &statement) })).await?;
    match hear(&mut socket).await? {
        ServerMsg::Welcome(_) => Ok(socket),
        other => bail!("no welcome came but {other:?}"),
    }
}

async fn say(socket: &mut Stream, message: &ClientMsg) -> anyhow::Result<()> {
    Ok(socket.send(Message::Binary(wire::encode_client(message).into())).await?)
}

async fn hear(socket: &mut Stream) -> anyhow::Result<ServerMsg> {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.context("no answer came")?;
        if let Message::Binary(bytes) = message.context("the session ended")?? {
            return Ok(wire::decode_server(&bytes)?);
        }
    }
}
