//! The door over real sockets, with a driver that does exactly what a test tells it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use hydra_core::credits::Credits;
use hydra_core::hub::Fact;
use hydra_core::ids::{SessionId, VersionNo};
use hydra_core::model::{Recipe, Shape as Sizes};
use hydra_core::proto::{
    Answer, ClientMsg, Error, ErrorCode, Finish, Piece, Query, Refused, RefusedCode, ServerMsg, Welcome,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::super::gate::{Gate, Room};
use super::super::listen;
use super::*;

/// The driver's side of a door.
struct Door {
    address: SocketAddr,
    inputs: mpsc::Receiver<Input>,
    callers: Callers,
    tasks: TaskTracker,
}

const ROOM: Room = Room { all: 100, host: 100 };

async fn door(room: Room) -> Door {
    door_that_counts(room, Arc::new(str::len)).await
}

async fn door_that_counts(room: Room, count: Count) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, inputs) = mpsc::channel(100);
    let tasks = TaskTracker::new();
    let desk = Desk {
        inputs: sender,
        next: Arc::new(AtomicU64::new(1)),
        tasks: tasks.clone(),
        template: "Q: {prompt}\nA:".to_owned(),
        count,
    };
    tokio::spawn(listen::serve(listener, router(Arc::new(desk)), Gate::new(room)));
    Door { address, inputs, callers: Callers::default(), tasks }
}

impl Door {
    /// A request that comes: its session, and the digest of its key.
    async fn asked(&mut self) -> (SessionId, Digest) {
        let Some(Input::Asked(session, key, caller)) = self.inputs.recv().await else { panic!("a request") };
        self.callers.add(session, caller);
        (session, key)
    }

    fn say(&mut self, session: SessionId, message: ServerMsg) {
        assert_eq!(self.callers.pass(session, message), None);
    }

    /// Lets a request in; what it asks.
    async fn query(&mut self) -> (SessionId, Query) {
        let (session, _) = self.asked().await;
        self.say(session, ServerMsg::Welcome(welcome()));
        match self.inputs.recv().await {
            Some(Input::Fact(Fact::Frame { message: ClientMsg::Query(query), session: from })) if from == session => {
                (session, query)
            }
            _ => panic!("a query"),
        }
    }

    /// The next fact is that this session has left.
    async fn leaves(&mut self, session: SessionId) -> bool {
        matches!(self.inputs.recv().await, Some(Input::Fact(Fact::Left { session: left, .. })) if left == session)
    }
}

fn welcome() -> Welcome {
    Welcome {
        session: 1,
        balance: Credits::hyd(1),
        reward: Credits::hyd(1),
        price: Credits(500_000),
        version: VersionNo(3),
        shape: Sizes::new(16, 8, 1, 1, 8),
        recipe: Recipe::default(),
        val_loss: None,
        val_version: None,
    }
}

fn piece(query: &Query, index: u32, text: &str) -> ServerMsg {
    ServerMsg::Piece(Piece { id: query.id, index, text: text.to_owned() })
}

fn answer(query: &Query) -> ServerMsg {
    ServerMsg::Answer(Answer {
        id: query.id,
        version: VersionNo(3),
        averaged: false,
        pieces: 2,
        tokens: 2,
        val_loss: Some(2.5),
        val_version: None,
        charged: Credits(500_000),
        balance: Credits(500_000),
        finish: Finish::Length,
    })
}

fn head(length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: bearer  hydra-key \r\n\
         content-length: {length}\r\n\r\n"
    )
}

fn body(stream: bool) -> String {
    serde_json::json!({ "model": "hydra", "messages": [{ "role": "user", "content": "Hi" }], "stream": stream,
        "stream_options": { "include_usage": true } })
    .to_string()
}

async fn connect(door: &Door, words: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(door.address).await.unwrap();
    tcp.write_all(words.as_bytes()).await.unwrap();
    tcp
}

async fn post(door: &Door, body: &str) -> TcpStream {
    connect(door, &format!("{}{body}", head(body.len()))).await
}

async fn rest(mut tcp: TcpStream) -> String {
    let mut heard = String::new();
    tcp.read_to_string(&mut heard).await.unwrap();
    heard
}

/// Reads until this text has come.
async fn until(tcp: &mut TcpStream, text: &str) -> String {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(text) {
        assert!(tcp.read_buf(&mut heard).await.unwrap() > 0, "{}", String::from_utf8_lossy(&heard));
    }
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn pieces_go_out_as_they_come() {
    let mut door = door(ROOM).await;
    let mut tcp = post(&door, &body(true)).await;
    let (session, query) = door.query().await;
    assert_eq!((query.prompt.as_str(), query.raw), ("Hi", false));
    door.say(session, piece(&query, 0, "Hel"));
    let begun = until(&mut tcp, "Hel").await;
    assert!(begun.starts_with("HTTP/1.1 200") && begun.contains("content-type: text/event-stream"), "{begun}");
    assert!(begun.contains("\"role\":\"assistant\"") && !begun.contains("[DONE]"), "{begun}");
    door.say(session, piece(&query, 1, "lo\r\n"));
    door.say(session, answer(&query));
    let ended = rest(tcp).await;
    assert!(ended.contains(r#""content":"lo\r\n""#) && ended.contains(r#""finish_reason":"length""#), "{ended}");
    // The template's characters count.
    assert!(ended.contains(r#""prompt_tokens":8,"#) && ended.contains("data: [DONE]\n"), "{ended}");
    assert!(door.leaves(session).await);
    door.tasks.close();
    door.tasks.wait().await;
}

#[tokio::test]
async fn who_hangs_up_has_left() {
    for stream in [true, false] {
        let mut door = door(ROOM).await;
        let mut tcp = post(&door, &body(stream)).await;
        let (session, query) = door.query().await;
        door.say(session, piece(&query, 0, "Hello"));
        if stream {
            until(&mut tcp, "Hello").await;
        }
        drop(tcp);
        assert!(door.leaves(session).await, "stream: {stream}");
    }
}

#[tokio::test]
async fn the_key_comes_before_the_body() {
    let mut door = door(ROOM).await;
    let mut tcp = connect(&door, &head(body(false).len())).await;
    let (session, key) = door.asked().await;
    assert_eq!(key, Digest::of(b"hydra-key"));
    let error = Error { code: ErrorCode::BadProof, text: "nobody has this".to_owned(), fatal: true };
    door.say(session, ServerMsg::Error(error));
    tcp.write_all(body(false).as_bytes()).await.unwrap();
    let heard = rest(tcp).await;
    assert!(heard.starts_with("HTTP/1.1 401") && heard.contains("nobody has this"), "{heard}");
    assert!(door.leaves(session).await);
}

#[tokio::test]
async fn refusals_have_their_status() {
    for (code, text, retry_s, status, header) in [
        (RefusedCode::Insufficient, "the balance", None, "402", ""),
        (RefusedCode::HugePrompt, "shorten it", None, "400", ""),
        (RefusedCode::Busy, "too many", None, "503", "\r\nretry-after: 1\r\n"),
        (RefusedCode::Busy, "too many", Some(42), "503", "\r\nretry-after: 42\r\n"),
        (RefusedCode::Stopping, "is stopping", None, "503", "\r\nretry-after: 1\r\n"),
        (RefusedCode::Failed, "nothing to say", None, "500", "\r\nx-should-retry: false\r\n"),
    ] {
        let mut door = door(ROOM).await;
        let tcp = post(&door, &body(true)).await;
        let (session, query) = door.query().await;
        let (text, balance) = (text.to_owned(), Credits::ZERO);
        door.say(session, ServerMsg::Refused(Refused { id: query.id, code, text: text.clone(), balance, retry_s }));
        let heard = rest(tcp).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}")) && heard.contains(&text), "{heard}");
        assert!(heard.contains(header), "{heard}");
        assert!(heard.contains(r#""error":{"#) && heard.contains("application/json"), "{heard}");
    }
}

#[tokio::test]
async fn an_end_in_mid_answer_is_told_in_the_stream() {
    let mut door = door(ROOM).await;
    let mut tcp = post(&door, &body(true)).await;
    let (session, query) = door.query().await;
    door.say(session, piece(&query, 0, "Hello"));
    until(&mut tcp, "Hello").await;
    // The driver is gone, and everything with it.
    door.callers.forget(session);
    let heard = rest(tcp).await;
    assert!(heard.contains("\"error\"") && heard.contains("--balance") && !heard.contains("[DONE]"), "{heard}");
}

#[tokio::test]
async fn what_is_no_request_is_told_so() {
    let mut door = door(ROOM).await;
    for (request, status) in [
        ("GET /v1/models", "200"),
        ("GET /v1/models/hydra", "200"),
        ("GET /v1/models/gpt-4", "404"),
        ("GET /v1/models/%FF", "404"),
        ("GET /v1/embeddings", "404"),
        ("GET /v1/completions", "405"),
        ("POST /v1/completions", "401"),
    ] {
        let heard =
            rest(connect(&door, &format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {heard}");
        assert!(heard.contains(if status == "200" { "\"id\":\"hydra\"" } else { "\"error\":{" }), "{request}: {heard}");
    }
    let tcp = post(&door, &"x".repeat(BODY + 1)).await;
    let (session, _) = door.asked().await;
    door.say(session, ServerMsg::Welcome(welcome()));
    let heard = rest(tcp).await;
    assert!(heard.starts_with("HTTP/1.1 413"), "{heard}");
    assert!(door.leaves(session).await);
}

#[tokio::test]
async fn pages_in_browsers_may_ask() {
    let door = door(ROOM).await;
    let asked = "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: http://page\r\n\
                 access-control-request-method: POST\r\naccess-control-request-headers: authorization,x-any\r\n\r\n";
    let heard = rest(connect(&door, asked).await).await;
    assert!(heard.starts_with("HTTP/1.1 204"), "{heard}");
    assert!(heard.contains("access-control-allow-headers: authorization,x-any\r\n"), "{heard}");
    assert!(heard.contains("access-control-allow-methods: GET, POST\r\n"), "{heard}");
    let asked = "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: http://page\r\n\r\n";
    let refused = rest(connect(&door, asked).await).await;
    for heard in [heard, refused.clone()] {
        assert!(heard.contains("access-control-allow-origin: *\r\n"), "{heard}");
    }
    assert!(refused.contains("www-authenticate: Bearer\r\n"), "{refused}");
}

#[tokio::test]
async fn a_prompt_that_takes_long_to_count_keeps_no_answer_back() {
    for stream in [true, false] {
        let (counted, counting) = std::sync::mpsc::channel::<()>();
        let counting = std::sync::Mutex::new(counting);
        let count = move |text: &str| {
            counting.lock().unwrap().recv().ok();
            text.len()
        };
        let mut door = door_that_counts(ROOM, Arc::new(count)).await;
        let tcp = post(&door, &body(stream)).await;
        let (session, query) = door.query().await;
        let pieces = 3 * limits::OUTBOX as u32;
        for index in 0..pieces {
            while door.callers.room(session).is_some_and(|room| room < limits::OUTBOX / 2) {
                tokio::task::yield_now().await;
            }
            door.say(session, piece(&query, index, &format!("<{index}>")));
        }
        door.say(session, answer(&query));
        counted.send(()).unwrap();
        let heard = rest(tcp).await;
        assert!(heard.contains("<0>") && heard.contains(&format!("<{}>", pieces - 1)), "{heard}");
        assert!(heard.contains(r#""prompt_tokens":8,"#), "{heard}");
    }
}

#[tokio::test]
async fn nothing_is_counted_for_who_is_refused() {
    let counted = Arc::new(AtomicU64::new(0));
    let counts = counted.clone();
    let count = move |text: &str| {
        counts.fetch_add(1, Ordering::Relaxed);
        text.len()
    };
    let mut door = door_that_counts(ROOM, Arc::new(count)).await;
    for (refused, counts) in [(true, 0), (false, 1)] {
        let tcp = post(&door, &body(false)).await;
        let (session, query) = door.query().await;
        if refused {
            let (code, text) = (RefusedCode::Busy, "too many".to_owned());
            let (balance, retry_s) = (Credits::ZERO, None);
            door.say(session, ServerMsg::Refused(Refused { id: query.id, code, text, balance, retry_s }));
        } else {
            door.say(session, piece(&query, 0, "Hello"));
            door.say(session, answer(&query));
        }
        rest(tcp).await;
        assert_eq!(counted.load(Ordering::Relaxed), counts);
        assert!(door.leaves(session).await);
    }
}

#[tokio::test]
async fn who_has_no_room_is_told_so() {
    let door = door(Room { all: 0, host: 0 }).await;
    let heard = rest(post(&door, &body(true)).await).await;
    assert!(heard.starts_with("HTTP/1.1 503") && heard.contains("overloaded"), "{heard}");
}

#[tokio::test]
async fn a_refusal_is_not_lost_behind_a_long_body() {
    let long = "x".repeat(OVERLONG - 1);
    for (all, request, status) in
        [(1, "POST /v1/embeddings", "404"), (1, "PUT /v1/completions", "405"), (0, "POST /v1/completions", "503")]
    {
        let door = door(Room { all, host: 1 }).await;
        let length = long.len();
        let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        let heard = rest(connect(&door, &format!("{head}{long}")).await).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {heard}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let mut door = door(ROOM).await;
    let tcp = connect(&door, &head(100)).await;
    let (session, _) = door.asked().await;
    // Not before: the clock would leap while the request is still on its way.
    tokio::time::pause();
    let start = Instant::now();
    door.say(session, ServerMsg::Welcome(welcome()));
    let heard = rest(tcp).await;
    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
    let passed = start.elapsed();
    assert!((COMING..COMING + 2 * PAUSE).contains(&passed), "{passed:?}");
}

#[tokio::test]
async fn a_connection_lasts_as_long_as_its_answer_and_no_longer() {
    let mut door = door(ROOM).await;
    let body = body(true);
    let kept = head(body.len()).replace("connection: close\r\n", "");
    let mut tcp = connect(&door, &format!("{kept}{body}")).await;
    let (session, query) = door.query().await;
    tokio::time::pause();
    let start = Instant::now();
    sleep(Duration::from_mins(10)).await;
    door.say(session, piece(&query, 0, "Hello"));
    until(&mut tcp, "Hello").await;
    sleep(Duration::from_mins(10)).await;
    door.say(session, answer(&query));
    until(&mut tcp, "[DONE]").await;
    let answered = Instant::now();
    assert!(answered.duration_since(start) >= Duration::from_mins(20));
    let mut end = Vec::new();
    tcp.read_to_end(&mut end).await.unwrap();
    assert!(answered.elapsed() <= Duration::from_mins(1), "{:?}", answered.elapsed());
}
