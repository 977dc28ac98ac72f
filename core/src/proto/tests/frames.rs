//! One example of every message, with values that make every field visible; optional fields once present, once absent.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::*;
use crate::codec::Codec;
use crate::ids::{Digest, LeaseId, Nonce, PublicKey, QueryId, Signature, TaskId, WorkerId};
use crate::model::{Recipe, Shape};

/// A message of either side.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Frame {
    Client(ClientMsg),
    Server(ServerMsg),
}

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL.into(),
        role: Role::Worker,
        user: "alice".parse().unwrap(),
        key: PublicKey([0x11; 32]),
        nonce: Nonce([0x22; 32]),
        agent: "hydra-worker 0.1.0".into(),
        worker: Some(WorkerId([1, 2, 3, 4, 5, 6, 7, 8])),
        device: "cpu ×2".into(),
        holds: Some(Held { version: VersionNo(7), digest: digest(0x33) }),
        lease: Some(LeaseId(19)),
        paused: false,
    }
}

fn query() -> Query {
    Query {
        id: QueryId([0x44; 16]),
        prompt: "What is Python?".into(),
        max_new_tokens: Some(64),
        temperature: Some(0.75),
        top_k: Some(40),
        top_p: Some(0.5),
        seed: Some(1 << 40),
        raw: false,
        stop: Vec::new(),
    }
}

fn api_key(act: KeyAct, digest: Option<Digest>) -> ApiKey {
    ApiKey { act, digest, signature: Signature([0x78; 64]) }
}

fn version() -> Version {
    Version {
        version: VersionNo(8),
        digest: digest(0x34),
        base: Some(VersionNo(7)),
        codec: Codec::Int4,
        blob: digest(0x55),
        bytes: 2_136_024,
    }
}

fn chunk() -> Chunk {
    Chunk { blob: digest(0x55), offset: 131_072, data: vec![0, 0x38, 0x97, 0xf1, 0x02] }
}

fn welcome() -> Welcome {
    Welcome {
        session: 3,
        balance: Credits(12_500_000),
        reward: Credits::hyd(1),
        price: Credits(500_000),
        version: VersionNo(8),
        shape: Shape::new(10_000, 256, 4, 2, 512),
        recipe: Recipe::default(),
        val_loss: Some(4.125),
        val_version: None,
    }
}

fn task() -> Task {
    Task {
        lease: LeaseId(21),
        task: TaskId(20),
        version: VersionNo(8),
        shard: digest(0x66),
        shard_tokens: 70_000,
        steps: 25,
        batch: 8,
        context: 512,
        seed: u64::MAX,
        lr_start: 0.003,
        lr_end: 0.0025,
        codec: Codec::Int4,
        deadline_ms: 120_000,
        preview: "A neural network is".into(),
    }
}

fn update() -> Update {
    Update {
        lease: LeaseId(21),
        version: VersionNo(8),
        codec: Codec::Int4,
        blob: digest(0x55),
        bytes: 2_136_024,
        steps: 25,
        tokens: 102_400,
        loss_first: 4.5,
        loss_last: 4.25,
        train_ms: 61_250,
        more: true,
    }
}

fn unpaid(code: UnpaidCode, text: &str) -> Unpaid {
    Unpaid { lease: LeaseId(21), task: TaskId(20), code, text: text.into() }
}

fn answer() -> Answer {
    Answer {
        id: QueryId([0x44; 16]),
        version: VersionNo(8),
        averaged: false,
        pieces: 40,
        tokens: 64,
        val_loss: Some(4.125),
        val_version: None,
        charged: Credits(500_000),
        balance: Credits::hyd(12),
        finish: Finish::Length,
    }
}

fn status() -> Status {
    Status {
        version: VersionNo(8),
        workers: 2,
        tasks: 20,
        tokens: 2_048_000,
        params: 4_142_592,
        queries: 1,
        val_loss: Some(4.125),
        val_version: None,
        val_bits_per_byte: Some(1.75),
        paused: false,
    }
}

fn client_frames() -> Vec<(&'static str, ClientMsg)> {
    use ClientMsg as C;
    let text = || "shutting down".to_owned();
    let short_hello = Hello {
        role: Role::Chat,
        agent: "hydra-query 0.1.0".into(),
        worker: None,
        device: String::new(),
        holds: None,
        lease: None,
        paused: false,
        ..hello()
    };
    let short_query =
        Query { max_new_tokens: None, temperature: None, top_k: None, top_p: None, seed: None, ..query() };
    vec![
        ("hello of a worker", C::Hello(hello())),
        ("hello of a chat", C::Hello(short_hello)),
        ("proof", C::Proof(Proof { signature: Signature([0x77; 64]) })),
        ("ready", C::Ready(Ready::new(true))),
        ("ready on another device", C::Ready(Ready { accepting: false, device: "cpu ×1".into() })),
        ("fetch", C::Fetch(Fetch { shard: digest(0x66) })),
        ("progress", C::Progress(Progress { lease: LeaseId(21), step: 5, loss: 4.5, tokens_per_s: 3_700.0 })),
        ("update", C::Update(update())),
        ("chunk", C::Chunk(chunk())),
        ("release", C::Release(Release { lease: LeaseId(21), text: text() })),
        ("query", C::Query(query())),
        ("query without settings", C::Query(short_query)),
        ("raw query with stops", C::Query(Query { raw: true, stop: vec!["\n".into(), "END".into()], ..query() })),
        ("cancel", C::Cancel(Cancel { id: QueryId([0x44; 16]) })),
        ("balance", C::Balance(Empty {})),
        ("status", C::Status(Empty {})),
        ("api key added", C::ApiKey(api_key(KeyAct::Add, Some(digest(0x67))))),
        ("api keys revoked", C::ApiKey(api_key(KeyAct::Revoke, None))),
        ("bye", C::Bye(Bye { text: text(), retry: false })),
    ]
}

fn server_frames() -> Vec<(&'static str, ServerMsg)> {
    use ServerMsg as S;
    let challenge =
        Challenge { key: PublicKey([0x88; 32]), nonce: Nonce([0x99; 32]), signature: Signature([0xaa; 64]) };
    let credited =
        Credited { lease: LeaseId(21), task: TaskId(20), amount: Credits::hyd(1), balance: Credits(13_500_000) };
    let piece = Piece { id: QueryId([0x44; 16]), index: 0, text: "Python is".into() };
    let refused = Refused {
        id: QueryId([0x44; 16]),
        code: RefusedCode::Insufficient,
        text: "a query costs 0.5: run hydra-worker to earn credits".into(),
        balance: Credits::ZERO,
        retry_s: None,
    };
    // The loss is that of a version before.
    let earlier = Some(VersionNo(6));
    let error = Error { code: ErrorCode::NameTaken, text: "alice belongs to another key".into(), fatal: true };
    vec![
        ("challenge", S::Challenge(challenge)),
        ("welcome", S::Welcome(welcome())),
        ("welcome after an earlier evaluation", S::Welcome(Welcome { val_version: earlier, ..welcome() })),
        ("welcome before any evaluation", S::Welcome(Welcome { val_loss: None, ..welcome() })),
        ("version as a difference", S::Version(version())),
        ("version as a whole", S::Version(Version { base: None, codec: Codec::F32, bytes: 16_570_368, ..version() })),
        ("task", S::Task(task())),
        ("chunk", S::Chunk(chunk())),
        ("credited", S::Credited(credited)),
        ("unpaid", S::Unpaid(unpaid(UnpaidCode::Stale, "it began 3 versions ago"))),
        ("revoked", S::Revoked(unpaid(UnpaidCode::Expired, "the lease ended"))),
        ("piece", S::Piece(piece)),
        ("answer", S::Answer(answer())),
        ("answer after an earlier evaluation", S::Answer(Answer { val_version: earlier, ..answer() })),
        ("answer of an average", S::Answer(Answer { averaged: true, ..answer() })),
        ("answer before any evaluation", S::Answer(Answer { val_loss: None, finish: Finish::Stop, ..answer() })),
        ("refused", S::Refused(refused)),
        ("balance", S::Balance(Balance { balance: Credits::hyd(12), held: Credits(500_000) })),
        ("status", S::Status(status())),
        ("status after an earlier evaluation", S::Status(Status { val_version: earlier, ..status() })),
        ("status while it is paused", S::Status(Status { paused: true, ..status() })),
        ("status before any evaluation", S::Status(Status { val_loss: None, val_bits_per_byte: None, ..status() })),
        ("api keys", S::ApiKeys(ApiKeys { keys: vec![KnownKey { digest: digest(0x67), at_ms: 1_800_000_000_000 }] })),
        ("bye", S::Bye(Bye { text: "the coordinator is restarting".into(), retry: true })),
        ("error", S::Error(error)),
    ]
}

/// Every example under its name in `docs/protocol.md`.
pub(super) fn frames() -> Vec<(String, Frame)> {
    let client = client_frames().into_iter().map(|(name, m)| (format!("client: {name}"), Frame::Client(m)));
    let server = server_frames().into_iter().map(|(name, m)| (format!("coordinator: {name}"), Frame::Server(m)));
    client.chain(server).collect()
}
