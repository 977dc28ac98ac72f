//! Sessions over sockets made of channels with time at a standstill, and a few over real loopback connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hydra_core::codec::Codec;
use hydra_core::credits::Credits;
use hydra_core::ids::{LeaseId, QueryId, TaskId, VersionNo};
use hydra_core::limits::{CHUNK_BYTES, OUTBOX, PING_EVERY, QUIET, SENT_CHUNK_BYTES, SILENCE, WRITE_STALL};
use hydra_core::model::{Recipe, Shape};
use hydra_core::proto::{Bye, Chunk, Credited, Empty, Error, ErrorCode, Progress, Refused, RefusedCode};
use hydra_core::proto::{ClientMsg, ServerMsg, wire};
use hydra_core::proto::{Unpaid, UnpaidCode, Version, Welcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, advance};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_util::sync::PollSender;

use super::*;
use crate::address::Address;
use crate::client::{CONNECT_TIMEOUT, ConnectError, Connection, Event, connect};

/// The session's socket: two channels.
struct Socket {
    incoming: mpsc::UnboundedReceiver<io::Result<Message>>,
    outgoing: PollSender<Message>,
}

impl Stream for Socket {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(cx)
    }
}

impl Sink<Message> for Socket {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_ready_unpin(cx).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        self.outgoing.start_send_unpin(message).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_ready(cx))?;
        self.start_send(Message::Close(None))?;
        Poll::Ready(Ok(()))
    }
}

/// The coordinator's end of the channels, and the program's end of the session.
struct Rig {
    down: mpsc::UnboundedSender<io::Result<Message>>,
    up: mpsc::Receiver<Message>,
    connection: Connection,
    stats: Arc<LinkStats>,
}

impl Rig {
    /// `room`: messages that the network takes before the coordinator reads one.
    async fn new(room: usize) -> Self {
        let (down, incoming) = mpsc::unbounded_channel();
        let (outgoing, up) = mpsc::channel(room);
        let stats = Arc::new(LinkStats::default());
        let connection = Connection::over(
            Socket { incoming, outgoing: PollSender::new(outgoing) },
            Client::default(),
            stats.clone(),
        );
        let mut rig = Self { down, up, connection, stats };
        assert_eq!(rig.event().await, Event::Connected);
        rig
    }

    /// A session whose model takes so many bytes as f32.
    async fn welcomed() -> (Self, u64) {
        let mut rig = Self::new(8).await;
        let shape = Shape::new(256, 16, 2, 1, 16);
        rig.tell(&ServerMsg::Welcome(Welcome {
            session: 1,
            balance: Credits::ZERO,
            reward: Credits::hyd(1),
            price: Credits::hyd(1),
            version: VersionNo(0),
            shape,
            recipe: Recipe::default(),
            val_loss: None,
            val_version: None,
        }));
        assert!(matches!(rig.event().await, Event::Message(_)));
        (rig, 4 * shape.params() as u64)
    }

    fn tell(&self, message: &ServerMsg) {
        self.down.send(Ok(Message::Binary(wire::encode_server(message).into()))).unwrap();
    }

    fn tell_chunks(&self, bytes: &[u8]) {
        for (at, data) in bytes.chunks(CHUNK_BYTES).enumerate() {
            let offset = (at * CHUNK_BYTES) as u64;
            self.tell(&ServerMsg::Chunk(Chunk { blob: Digest::of(bytes), offset, data: data.to_vec() }));
        }
    }

    async fn event(&mut self) -> Event {
        self.connection.inbox.recv().await.expect("the last event is `closed`")
    }

    async fn closed(&mut self) -> Closed {
        loop {
            if let Event::Closed(closed) = self.event().await {
                assert_eq!(self.connection.inbox.recv().await, None);
                assert_eq!(self.connection.outbox.send(&status()), Err(SendError::Closed));
                return closed;
            }
        }
    }

    /// What the coordinator hears next.
    async fn hears(&mut self) -> ClientMsg {
        loop {
            match self.up.recv().await.unwrap() {
                Message::Binary(bytes) => return wire::decode_client(&bytes).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn status() -> ClientMsg {
    ClientMsg::Status(Empty {})
}

fn progress(step: u32) -> ClientMsg {
    ClientMsg::Progress(Progress { lease: LeaseId(1), step, loss: 1.0, tokens_per_s: 1.0 })
}

fn credited(task: u64) -> ServerMsg {
    let amount = Credits::hyd(1);
    ServerMsg::Credited(Credited { lease: LeaseId(1), task: TaskId(task), amount, balance: amount })
}

fn version(blob: Digest, bytes: u64) -> ServerMsg {
    let codec = Codec::F32;
    ServerMsg::Version(Version { version: VersionNo(1), digest: blob, base: None, codec, blob, bytes })
}

fn noise(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * at / 13) as u8).collect()
}

#[tokio::test(start_paused = true)]
async fn messages_pass_in_order_and_are_counted() {
    let mut rig = Rig::new(8).await;
    for step in 0..3 {
        rig.connection.outbox.send(&progress(step)).unwrap();
    }
    for step in 0..3 {
        assert_eq!(rig.hears().await, progress(step));
    }
    rig.tell(&credited(1));
    rig.tell(&credited(2));
    for task in 1..3 {
        assert_eq!(rig.event().await, Event::Message(Box::new(credited(task))));
    }
    assert_eq!(rig.stats.bytes_up(), 3 * wire::encode_client(&progress(0)).len() as u64);
    assert_eq!(rig.stats.bytes_down(), 2 * wire::encode_server(&credited(1)).len() as u64);
}

#[tokio::test(start_paused = true)]
async fn control_messages_overtake_chunks() {
    let mut rig = Rig::new(1).await;
    let bytes = noise(6 * SENT_CHUNK_BYTES + 5);
    let digest = Digest::of(&bytes);
    rig.connection.outbox.send(&progress(0)).unwrap();
    rig.connection.outbox.send_blob(digest, bytes.clone().into()).unwrap();
    assert_eq!(rig.hears().await, progress(0), "what announces a blob comes before it");
    let mut collected = Vec::new();
    let mut overtaken = None;
    while collected.len() < bytes.len() {
        match rig.hears().await {
            ClientMsg::Chunk(chunk) => {
                assert_eq!((chunk.blob, chunk.offset), (digest, collected.len() as u64));
                collected.extend(chunk.data);
                if chunk.offset == 0 {
                    rig.connection.outbox.send(&progress(1)).unwrap();
                }
            }
            message => {
                assert_eq!(message, progress(1));
                overtaken = Some(collected.len().div_ceil(SENT_CHUNK_BYTES));
            }
        }
    }
    assert_eq!(collected, bytes);
    assert!(overtaken.unwrap() <= 2, "only the chunk that the network had taken comes first: {overtaken:?}");
    assert_eq!(rig.event().await, Event::Sent(digest));
}

#[tokio::test(start_paused = true)]
async fn a_version_brings_its_blob_unasked() {
    let (mut rig, size) = Rig::welcomed().await;
    let bytes = noise(size as usize);
    let message = version(Digest::of(&bytes), size);
    rig.tell(&message);
    rig.tell_chunks(&bytes);
    assert_eq!(rig.event().await, Event::Message(Box::new(message)));
    assert_eq!(rig.event().await, Event::Blob { digest: Digest::of(&bytes), bytes });
}

#[tokio::test(start_paused = true)]
async fn only_awaited_blobs_are_kept() {
    let mut rig = Rig::new(8).await;
    let (wanted, unwanted, left) = (noise(3 * CHUNK_BYTES), noise(77), noise(5000));
    rig.connection.outbox.expect(Digest::of(&wanted), wanted.len() as u64).unwrap();
    rig.connection.outbox.expect(Digest::of(&left), left.len() as u64).unwrap();
    rig.connection.outbox.forget(Digest::of(&left)).unwrap();
    rig.connection.outbox.send(&status()).unwrap();
    // Once the coordinator hears the request, everything that was asked before it holds.
    assert_eq!(rig.hears().await, status());
    rig.tell_chunks(&unwanted);
    rig.tell_chunks(&left);
    rig.tell_chunks(&wanted);
    assert_eq!(rig.event().await, Event::Blob { digest: Digest::of(&wanted), bytes: wanted });
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_can_be_awaited_anew_while_its_rest_still_comes() {
    let mut rig = Rig::new(8).await;
    let bytes = noise(3 * CHUNK_BYTES);
    let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
    let chunk = |at: usize| {
        let data = bytes[at * CHUNK_BYTES..][..CHUNK_BYTES].to_vec();
        ServerMsg::Chunk(Chunk { blob: digest, offset: (at * CHUNK_BYTES) as u64, data })
    };
    rig.connection.outbox.expect(digest, size).unwrap();
    rig.connection.outbox.send(&status()).unwrap();
    assert_eq!(rig.hears().await, status());
    rig.tell(&chunk(0));
    rig.tell(&credited(1));
    assert!(matches!(rig.event().await, Event::Message(_)));
    rig.connection.outbox.forget(digest).unwrap();
    rig.connection.outbox.expect(digest, size).unwrap();
    rig.connection.outbox.send(&status()).unwrap();
    assert_eq!(rig.hears().await, status());
    for at in [1, 2, 0, 1, 2] {
        rig.tell(&chunk(at));
    }
    assert_eq!(rig.event().await, Event::Blob { digest, bytes });
}

#[tokio::test(start_paused = true)]
async fn a_program_that_awaits_more_and_more_loses_its_session() {
    let mut rig = Rig::new(8).await;
    // The second time it is the same blob.
    for seed in (0..=16).chain(0..=16) {
        rig.connection.outbox.expect(Digest([seed; 32]), 9).unwrap();
    }
    rig.connection.outbox.send(&status()).unwrap();
    assert_eq!(rig.hears().await, status());
    rig.connection.outbox.expect(Digest([17; 32]), 9).unwrap();
    assert_eq!(rig.closed().await, Closed::Local);
}

#[tokio::test(start_paused = true)]
async fn a_reason_is_one_line_whatever_the_coordinator_says() {
    let mut rig = Rig::new(8).await;
    let text = || "no\nhint: run this\u{1b}[2J".to_owned();
    let lease = LeaseId(1);
    let unpaid = || Unpaid { lease, task: TaskId(1), code: UnpaidCode::Expired, text: text() };
    for message in [
        ServerMsg::Error(Error { code: ErrorCode::Malformed, text: text(), fatal: true }),
        ServerMsg::Bye(Bye { text: text(), retry: true }),
        ServerMsg::Unpaid(unpaid()),
        ServerMsg::Revoked(unpaid()),
        ServerMsg::Refused(Refused {
            id: QueryId([1; 16]),
            code: RefusedCode::Failed,
            text: text(),
            balance: Credits::ZERO,
            retry_s: None,
        }),
    ] {
        rig.tell(&message);
        let Event::Message(message) = rig.event().await else { panic!("{message:?}") };
        let (ServerMsg::Error(Error { text, .. })
        | ServerMsg::Bye(Bye { text, .. })
        | ServerMsg::Unpaid(Unpaid { text, .. })
        | ServerMsg::Revoked(Unpaid { text, .. })
        | ServerMsg::Refused(Refused { text, .. })) = *message
        else {
            panic!("{message:?}")
        };
        assert_eq!(text, "no␊hint: run this␛[2J");
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_breaks_the_protocol_is_left() {
    let bytes = noise(100);
    let digest = Digest::of(&bytes);
    let chunk = |offset, data: &[u8]| ServerMsg::Chunk(Chunk { blob: digest, offset, data: data.to_vec() });
    for (told, fault) in [
        (vec![version(digest, 100), chunk(1, b"x")], "missing"),
        (vec![version(digest, 100), chunk(0, &[0; 100])], "digest"),
        (vec![version(digest, 99), chunk(0, &bytes)], "longer"),
        (vec![version(digest, 1 << 40)], "larger than its model"),
    ] {
        let (mut rig, _) = Rig::welcomed().await;
        for message in &told {
            rig.tell(message);
        }
        let Closed::Protocol(text) = rig.closed().await else { panic!("{fault}") };
        assert!(text.contains(fault), "{text}");
        let last = rig.hears().await;
        assert!(matches!(&last, ClientMsg::Bye(bye) if bye.retry), "it comes back with what it has in hand: {last:?}");
    }
    for junk in [Message::Binary(vec![0xc1, 0x1b].into()), Message::Text("hi".into())] {
        let mut rig = Rig::new(8).await;
        rig.down.send(Ok(junk)).unwrap();
        assert!(matches!(rig.closed().await, Closed::Protocol(_)));
    }
    // Before `welcome` there is no model whose version could come.
    let mut rig = Rig::new(8).await;
    rig.tell(&version(digest, 100));
    assert!(matches!(rig.closed().await, Closed::Protocol(_)));
}

#[tokio::test(start_paused = true)]
async fn pings_measure_and_silence_ends() {
    let mut rig = Rig::new(8).await;
    let start = Instant::now();
    let Some(Message::Ping(payload)) = rig.up.recv().await else { panic!() };
    assert_eq!(start.elapsed(), PING_EVERY);
    assert_eq!(rig.stats.round_trip(), None);
    assert_eq!((rig.connection.outbox.silent(), rig.stats.silent()), (None, None));
    advance(Duration::from_millis(70)).await;
    rig.down.send(Ok(Message::Pong(payload))).unwrap();
    rig.tell(&credited(1));
    assert!(matches!(rig.event().await, Event::Message(_)));
    // Tokio's paused clock moves in whole milliseconds.
    assert_eq!(rig.stats.round_trip().unwrap().as_millis(), 70);
    assert_eq!(rig.connection.outbox.round_trip(), rig.stats.round_trip());
    let heard = Instant::now();
    assert_eq!(rig.event().await, Event::Quiet);
    assert_eq!(rig.closed().await, Closed::Silent);
    assert_eq!(heard.elapsed().as_millis(), SILENCE.as_millis());
    for silent in [rig.connection.outbox.silent(), rig.stats.silent()] {
        assert_eq!(silent.map(|silent| silent.as_secs()), Some(SILENCE.as_secs()));
    }
}

#[tokio::test(start_paused = true)]
async fn who_owes_a_sign_of_life_is_quiet_until_one_comes() {
    let mut rig = Rig::new(8).await;
    let start = Instant::now();
    assert_eq!(rig.event().await, Event::Quiet);
    assert_eq!(start.elapsed(), PING_EVERY + QUIET);
    rig.tell(&credited(1));
    assert_eq!(rig.event().await, Event::Woke, "told before what came");
    assert_eq!(rig.event().await, Event::Message(Box::new(credited(1))));
    // The next ping goes out after that, and is owed anew.
    assert_eq!(rig.event().await, Event::Quiet);
    assert_eq!(start.elapsed(), 2 * PING_EVERY + QUIET);
    while let Ok(message) = rig.up.try_recv() {
        if let Message::Ping(payload) = message {
            rig.down.send(Ok(Message::Pong(payload))).unwrap();
        }
    }
    assert_eq!(rig.event().await, Event::Woke, "also by an answer to a ping");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_no_sign_of_life_from_the_other_end() {
    let mut rig = Rig::new(64).await;
    let start = Instant::now();
    advance(Duration::from_secs(20)).await;
    let blob = noise(1000);
    let digest = Digest::of(&blob);
    rig.connection.outbox.send_blob(digest, blob.into()).unwrap();
    assert_eq!(rig.event().await, Event::Sent(digest));
    assert_eq!(rig.closed().await, Closed::Silent);
    assert_eq!(start.elapsed().as_millis(), SILENCE.as_millis());
}

#[tokio::test(start_paused = true)]
async fn a_network_that_takes_nothing_ends_the_session() {
    let mut rig = Rig::new(1).await;
    let start = Instant::now();
    let blob = noise(4 * CHUNK_BYTES);
    rig.connection.outbox.send_blob(Digest::of(&blob), blob.into()).unwrap();
    // Signs of life do not help.
    rig.tell(&credited(1));
    assert_eq!(rig.closed().await, Closed::Stalled);
    assert_eq!(start.elapsed().as_millis(), WRITE_STALL.as_millis());
}

#[tokio::test(start_paused = true)]
async fn a_busy_program_loses_nothing_and_is_not_called_silence() {
    let mut rig = Rig::new(64).await;
    let count = 3 * INBOX as u64;
    (0..count).for_each(|task| rig.tell(&credited(task)));
    // With time paused, this passes once the session can do no more: its inbox is full.
    tokio::time::sleep(SILENCE * 3).await;
    for task in 0..count {
        assert_eq!(rig.event().await, Event::Message(Box::new(credited(task))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_is_an_answer() {
    let mut rig = Rig::new(1).await;
    let outbox = rig.connection.outbox.clone();
    let blob: Arc<[u8]> = noise(SENT_CHUNK_BYTES).into();
    for seed in 0..UPLOADS as u8 {
        outbox.send_blob(Digest([seed; 32]), blob.clone()).unwrap();
    }
    assert_eq!(outbox.send_blob(Digest([9; 32]), blob.clone()), Err(SendError::Full));
    for _ in UPLOADS..OUTBOX {
        outbox.send(&status()).unwrap();
    }
    assert_eq!(outbox.send(&status()), Err(SendError::Full));
    for _ in 0..OUTBOX {
        rig.hears().await;
    }
    for seed in 0..UPLOADS as u8 {
        assert_eq!(rig.event().await, Event::Sent(Digest([seed; 32])));
    }
    outbox.send(&status()).unwrap();
    outbox.send_blob(Digest([9; 32]), blob).unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_sends_the_last_words_but_no_blobs() {
    for by_dropping in [false, true] {
        let mut rig = Rig::new(64).await;
        let bye = ClientMsg::Bye(Bye { text: "done".into(), retry: false });
        let blob = noise(9 * CHUNK_BYTES);
        rig.connection.outbox.send_blob(Digest::of(&blob), blob.into()).unwrap();
        (0..20).for_each(|step| rig.connection.outbox.send(&progress(step)).unwrap());
        rig.connection.outbox.send(&bye).unwrap();
        let mut inbox = None;
        if by_dropping {
            drop(rig.connection);
        } else {
            rig.connection.outbox.close();
            assert_eq!(rig.connection.outbox.send(&bye), Err(SendError::Closed));
            inbox = Some(rig.connection.inbox);
        }
        let mut heard = Vec::new();
        while let Some(Message::Binary(bytes)) = rig.up.recv().await {
            heard.push(wire::decode_client(&bytes).unwrap());
        }
        assert_eq!(heard.pop(), Some(bye), "then the close frame");
        assert!(heard.iter().all(|message| matches!(message, ClientMsg::Progress(_) | ClientMsg::Chunk(_))));
        assert_eq!(heard.iter().filter(|message| matches!(message, ClientMsg::Progress(_))).count(), 20);
        if let Some(inbox) = &mut inbox {
            // A socket closed with unread data would take back the last words.
            assert_eq!(inbox.try_recv(), Err(mpsc::error::TryRecvError::Empty), "it reads to the end first");
        }
        drop(rig.down);
        if let Some(mut inbox) = inbox {
            assert_eq!(inbox.recv().await, Some(Event::Closed(Closed::Local)));
            assert_eq!(inbox.recv().await, None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_coordinators_last_words_are_kept_and_made_safe() {
    let mut rig = Rig::new(8).await;
    rig.tell(&credited(1));
    let frame = CloseFrame { code: 1001.into(), reason: "stopping\u{1b}[2J".into() };
    rig.down.send(Ok(Message::Close(Some(frame)))).unwrap();
    assert_eq!(rig.event().await, Event::Message(Box::new(credited(1))));
    assert_eq!(rig.closed().await, Closed::Remote("stopping␛[2J".into()));

    let mut rig = Rig::new(8).await;
    rig.down.send(Err(io::ErrorKind::ConnectionReset.into())).unwrap();
    assert_eq!(rig.closed().await.to_string(), "the connection broke: the other side is gone without a goodbye");
}

/// Serves one connection on a loopback port with `serve`.
async fn loopback<F>(serve: impl FnOnce(tokio::net::TcpStream) -> F + Send + 'static) -> Address
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    address
}

async fn refused(address: &Address) -> ConnectError {
    connect(address, Arc::default()).await.unwrap_err()
}

#[tokio::test]
async fn a_real_socket_carries_blobs_both_ways_and_the_last_word() {
    let (told, last_words) = tokio::sync::oneshot::channel();
    let address = loopback(|tcp| async move {
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        let mut last = None;
        // Sends back every chunk, without reading ahead: neither side may wait for the other for ever.
        while let Some(Ok(message)) = socket.next().await {
            let Message::Binary(bytes) = message else { continue };
            match wire::decode_client(&bytes).unwrap() {
                ClientMsg::Chunk(chunk) => {
                    let bytes = wire::encode_server(&ServerMsg::Chunk(chunk));
                    socket.send(Message::Binary(bytes.into())).await.unwrap();
                }
                message => last = Some(message),
            }
        }
        told.send(last).unwrap();
    })
    .await;
    let stats = Arc::new(LinkStats::default());
    let mut connection = connect(&address, stats.clone()).await.unwrap();
    let bytes = noise(64 * CHUNK_BYTES + 1);
    let digest = Digest::of(&bytes);
    connection.outbox.expect(digest, bytes.len() as u64).unwrap();
    connection.outbox.send_blob(digest, bytes.clone().into()).unwrap();
    assert_eq!(connection.inbox.recv().await, Some(Event::Connected));
    assert_eq!(connection.inbox.recv().await, Some(Event::Sent(digest)));
    assert_eq!(connection.inbox.recv().await, Some(Event::Blob { digest, bytes }));
    assert!(stats.bytes_up() > 8 << 20 && stats.bytes_down() == stats.bytes_up());
    let bye = ClientMsg::Bye(Bye { text: "done".into(), retry: false });
    connection.outbox.send(&bye).unwrap();
    connection.outbox.close();
    assert_eq!(connection.inbox.recv().await, Some(Event::Closed(Closed::Local)));
    assert_eq!(last_words.await.unwrap(), Some(bye));
}

#[tokio::test]
async fn a_frame_past_the_limit_ends_the_session() {
    let address = loopback(|tcp| async move {
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        let _ = socket.send(Message::Binary(vec![0; limits::FRAME_BYTES + 1].into())).await;
        let _ = socket.next().await;
    })
    .await;
    let mut connection = connect(&address, Arc::default()).await.unwrap();
    assert_eq!(connection.inbox.recv().await, Some(Event::Connected));
    let Some(Event::Closed(Closed::TooLarge(text))) = connection.inbox.recv().await else { panic!() };
    assert!(text.contains("1048577 bytes"), "{text}");
}

/// The coordinator's end of a session over loopback, and a client without manners.
async fn accepted(pace: Option<Pace>) -> (super::Connection<Coordinator>, Stranger) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let stranger = tokio::spawn(async move { tokio_tungstenite::connect_async(url).await.unwrap().0 });
    let tcp = listener.accept().await.unwrap().0;
    // What is tested comes after the upgrade; this one is the library's.
    let plain = tokio_tungstenite::accept_async_with_config(tcp, Some(super::Socket::<TcpStream>::config()));
    let socket = super::Socket::new(plain.await.unwrap());
    let connection = super::Connection::over(socket, Coordinator { update_bytes: 1 << 20, pace }, Arc::default());
    (connection, stranger.await.unwrap())
}

type Stranger = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

/// For a word that must come: many times what it takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// Reads to the end: the last error that was told, and the code of the close frame.
async fn last_words(mut stranger: Stranger) -> (Option<ErrorCode>, Option<u16>) {
    let (mut told, mut code) = (None, None);
    loop {
        let heard = tokio::time::timeout(PATIENCE, stranger.next()).await;
        let Some(Ok(message)) = heard.expect("the session says something, or ends") else { break };
        match message {
            Message::Binary(bytes) => {
                if let ServerMsg::Error(error) = wire::decode_server(&bytes).unwrap() {
                    assert!(error.fatal);
                    told = Some(error.code);
                }
            }
            Message::Close(frame) => {
                code = frame.map(|frame| frame.code.into());
                // The other end waits for this one to go.
                break;
            }
            _ => {}
        }
    }
    (told, code)
}

#[tokio::test]
async fn a_client_with_too_long_a_message_is_told_before_the_cut() {
    // Long beyond what any buffer on the way takes: the client is still writing when it is found out.
    let (mut connection, mut stranger) = accepted(None).await;
    stranger.send(Message::Binary(vec![0; 16 << 20].into())).await.ok();
    assert_eq!(last_words(stranger).await, (Some(ErrorCode::TooLarge), Some(1009)));
    assert_eq!(connection.inbox.recv().await, Some(super::Event::Connected));
    let Some(super::Event::Closed(closed)) = connection.inbox.recv().await else { panic!() };
    assert_eq!(closed.kind(), "too_large");
}

#[tokio::test]
async fn a_flood_is_told_and_cut() {
    const FLOOD: usize = 5_000;
    for flood in [Message::Binary(wire::encode_client(&status()).into()), Message::Ping(vec![1].into())] {
        let (mut connection, mut stranger) = accepted(Some(Pace::new(10))).await;
        // Far beyond what is allowed, however slow the machine; the rest finds nobody any more.
        for _ in 0..FLOOD {
            if stranger.feed(flood.clone()).await.is_err() {
                break;
            }
        }
        stranger.flush().await.ok();
        assert_eq!(last_words(stranger).await, (Some(ErrorCode::Flood), Some(1008)));
        let mut heard = 0;
        let closed = loop {
            match connection.inbox.recv().await.unwrap() {
                super::Event::Message(_) => heard += 1,
                super::Event::Closed(closed) => break closed,
                _ => {}
            }
        };
        assert_eq!(closed.kind(), "flood");
        // A slow machine may give the flood a little more time, and so a few messages more.
        assert!(heard == 0 || (100..FLOOD / 2).contains(&heard), "{heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_of_full_size_are_no_flood() {
    let (down, incoming) = mpsc::unbounded_channel();
    let (outgoing, _up) = mpsc::channel(8);
    let socket = Socket { incoming, outgoing: PollSender::new(outgoing) };
    let side = Coordinator { update_bytes: 1 << 30, pace: Some(Pace::new(1)) };
    let mut connection = super::Connection::over(socket, side, Arc::default());
    let bytes = noise(100 * CHUNK_BYTES);
    connection.outbox.expect(Digest::of(&bytes), bytes.len() as u64).unwrap();
    for (at, data) in bytes.chunks(SENT_CHUNK_BYTES).enumerate() {
        let offset = (at * SENT_CHUNK_BYTES) as u64;
        let chunk = ClientMsg::Chunk(Chunk { blob: Digest::of(&bytes), offset, data: data.to_vec() });
        down.send(Ok(Message::Binary(wire::encode_client(&chunk).into()))).unwrap();
    }
    assert_eq!(connection.inbox.recv().await, Some(super::Event::Connected));
    assert!(matches!(connection.inbox.recv().await, Some(super::Event::Blob { .. })));
    // The same bytes in crumbs are.
    for offset in 0..100 {
        let chunk = ClientMsg::Chunk(Chunk { blob: Digest([1; 32]), offset, data: vec![1] });
        down.send(Ok(Message::Binary(wire::encode_client(&chunk).into()))).unwrap();
    }
    drop(down);
    assert!(matches!(connection.inbox.recv().await, Some(super::Event::Closed(Closed::Flood(_)))));
}

#[tokio::test]
async fn who_does_not_answer_as_a_coordinator_is_told_apart() {
    // Held to the end, so that nobody else can come to listen there.
    let mute = TcpSocket::new_v4().unwrap();
    mute.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let taken = mute.local_addr().unwrap();
    let error = refused(&taken.to_string().parse().unwrap()).await;
    assert_eq!(error, ConnectError::Refused(format!("ws://{taken}/ws")));
    let failure = crate::exit::Failure::from(error);
    assert_eq!(failure.exit, crate::exit::Exit::Connect);
    assert!(failure.hint.unwrap().contains("hydra-coordinator"));

    for (answer, told) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "404"),
        ("HTTP/1.1 301 Moved\r\nlocation: https://example.org/\r\ncontent-length: 0\r\n\r\n", "https://example.org/"),
        ("220 mail.example.org ESMTP\r\n\r\n", "WebSocket"),
        ("", ""),
    ] {
        let address = loopback(move |mut tcp| async move {
            let mut request = [0; 1024];
            assert!(tcp.read(&mut request).await.unwrap() > 0);
            tcp.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let ConnectError::NotHydra { detail, .. } = refused(&address).await else { panic!("{answer:?}") };
        assert!(detail.contains(told), "{detail}");
    }
}

#[tokio::test]
async fn a_plain_port_gives_no_secure_connection() {
    let address = loopback(|mut tcp| async move {
        let mut hello = [0; 64];
        assert!(tcp.read(&mut hello).await.unwrap() > 0);
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    let secure: Address = format!("wss://127.0.0.1:{}", address.port()).parse().unwrap();
    let ConnectError::Tls { detail, .. } = refused(&secure).await else { panic!("it is not TLS") };
    assert_eq!(detail, "it answers without encryption");
}

#[tokio::test(start_paused = true)]
async fn a_mute_port_is_given_up_in_time() {
    let address = loopback(|tcp| async move {
        let _held = tcp;
        std::future::pending::<()>().await;
    })
    .await;
    let start = Instant::now();
    assert_eq!(refused(&address).await, ConnectError::Timeout(address.to_string()));
    assert!(start.elapsed() <= CONNECT_TIMEOUT + Duration::from_millis(2));
}
