//! OpenAI-style clients of a real coordinator: who may ask, what comes, what it costs.
#![allow(clippy::unwrap_used)]

mod peer;

use hydra_core::credits::Credits;
use hydra_core::proto::{ClientMsg, Empty, KeyAct, Role, ServerMsg};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use peer::{Peer, Process, key};

const KEY: &str = "hydra-test-key";
const CHAT: &str = "/v1/chat/completions";

/// A request over a connection of its own: status and body.
async fn request(to: &Process, line: &str, key: Option<&str>, body: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(to.address()).await.unwrap();
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let length = body.len();
    // HTTP/1.0, so that the body comes without chunks.
    let text = format!("{line} HTTP/1.0\r\nhost: x\r\n{key}content-length: {length}\r\n\r\n{body}");
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn post(to: &Process, path: &str, key: Option<&str>, body: &Value) -> (u16, Value) {
    let (status, body) = request(to, &format!("POST {path}"), key, &body.to_string()).await;
    (status, serde_json::from_str(&body).unwrap())
}

fn chat(stream: bool) -> Value {
    json!({ "model": "hydra", "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 6,
        "temperature": 0, "stream": stream })
}

/// Alice with so many credits, her API key known.
async fn alice(coordinator: &Process, tasks: usize) -> Peer {
    let mut worker = Peer::join(coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    for _ in 0..tasks {
        worker.earn().await;
    }
    let mut chat = Peer::join(coordinator, Role::Chat, "alice", &key(1)).await.unwrap();
    assert_eq!(chat.api_key("alice", &key(1), KeyAct::Add, Some(KEY)).await, 1);
    chat
}

async fn balance(chat: &mut Peer) -> (Credits, Credits) {
    chat.say(ClientMsg::Balance(Empty {}));
    let ServerMsg::Balance(balance) = chat.hears().await else { panic!("a balance") };
    (balance.balance, balance.held)
}

#[tokio::test]
async fn an_answer_comes_whole_or_in_pieces_and_is_charged() {
    let coordinator = Process::start(&[]);
    let mut own = alice(&coordinator, 2).await;
    let (status, whole) = post(&coordinator, CHAT, Some(KEY), &chat(false)).await;
    assert_eq!((status, &whole["object"]), (200, &json!("chat.completion")), "{whole}");
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());
    assert_eq!(whole["usage"]["completion_tokens"], 6);
    assert_eq!((&whole["hydra"]["charged"], &whole["hydra"]["balance"]), (&json!(0.5), &json!(1.5)));

    let (status, stream) = request(&coordinator, &format!("POST {CHAT}"), Some(KEY), &chat(true).to_string()).await;
    assert_eq!(status, 200);
    let mut lines: Vec<_> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(lines.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
    let pieces: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(pieces, text, "greedy, from the same version");
    assert_eq!(balance(&mut own).await, (Credits::hyd(1), Credits::ZERO));

    // A stop of the client's own cuts the same text off before it, and is charged as complete.
    let stop = text.chars().last().unwrap().to_string();
    let mut stopped = chat(false);
    stopped["stop"] = json!(stop);
    let (status, whole) = post(&coordinator, CHAT, Some(KEY), &stopped).await;
    let before = text.split(&stop).next().unwrap();
    if before.is_empty() {
        assert_eq!(status, 500, "nothing is left to say: {whole}");
    } else {
        assert_eq!((status, &whole["choices"][0]["finish_reason"]), (200, &json!("stop")), "{whole}");
        assert_eq!(whole["choices"][0]["message"]["content"], before);
    }
}

#[tokio::test]
async fn a_completion_continues_the_prompt_as_it_is() {
    let coordinator = Process::start(&[]);
    let mut own = alice(&coordinator, 1).await;
    let asked = json!({ "model": "hydra", "prompt": "Hello", "max_tokens": 3, "temperature": 0 });
    let (status, whole) = post(&coordinator, "/v1/completions", Some(KEY), &asked).await;
    assert_eq!((status, &whole["object"]), (200, &json!("text_completion")), "{whole}");
    // Bytes are its tokens, and no template is counted.
    assert_eq!((&whole["usage"]["prompt_tokens"], &whole["usage"]["total_tokens"]), (&json!(5), &json!(8)));
    assert_eq!(balance(&mut own).await, (Credits(500_000), Credits::ZERO));
    let metrics = coordinator.get("/metrics");
    assert!(metrics.contains("hydra_api_requests_total{status=\"200\"} 1"), "{metrics}");
}

#[tokio::test]
async fn without_key_credit_or_sense_there_is_a_clear_error() {
    let coordinator = Process::start(&[]);
    let mut own = alice(&coordinator, 0).await;
    for stranger in [None, Some("hydra-of-nobody")] {
        let (status, body) = post(&coordinator, CHAT, stranger, &chat(true)).await;
        assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")));
    }
    let (status, body) = post(&coordinator, CHAT, Some(KEY), &chat(true)).await;
    assert_eq!((status, &body["error"]["code"]), (402, &json!("insufficient_quota")));
    assert!(body["error"]["message"].as_str().unwrap().contains("hydra-worker earns"), "{body}");

    let mut other = chat(false);
    other["model"] = json!("gpt-4");
    let (status, body) = post(&coordinator, CHAT, Some(KEY), &other).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("model_not_found")));
    let mut huge = chat(false);
    huge["messages"][0]["content"] = json!("x".repeat(70_000));
    let (status, body) = post(&coordinator, CHAT, Some(KEY), &huge).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("context_length_exceeded")));
    let mut tools = chat(false);
    tools["tools"] = json!([{ "type": "function" }]);
    let (status, body) = post(&coordinator, CHAT, Some(KEY), &tools).await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("tools")));
    let (status, models) = request(&coordinator, "GET /v1/models", None, "").await;
    assert!(status == 200 && models.contains("\"id\":\"hydra\""), "{models}");

    assert_eq!(own.api_key("alice", &key(1), KeyAct::Revoke, Some(KEY)).await, 0);
    let (status, body) = post(&coordinator, CHAT, Some(KEY), &chat(false)).await;
    assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")), "revoked");
}

#[tokio::test]
async fn a_key_outlives_the_coordinator_s_death_and_so_does_its_end() {
    let mut coordinator = Process::start(&[]);
    let mut own = alice(&coordinator, 1).await;
    assert_eq!(own.api_key("alice", &key(1), KeyAct::Add, Some("hydra-other")).await, 2);
    assert_eq!(own.api_key("alice", &key(1), KeyAct::Revoke, Some("hydra-other")).await, 1);
    coordinator.kill();
    coordinator.restart();
    assert_eq!(post(&coordinator, CHAT, Some("hydra-other"), &chat(false)).await.0, 401);
    assert_eq!(post(&coordinator, CHAT, Some(KEY), &chat(false)).await.0, 200);
    coordinator.stop();
    assert!(coordinator.verify().contains("\"ok\":true"));
}
