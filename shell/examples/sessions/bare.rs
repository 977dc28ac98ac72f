//! The bare push: the same socket library, a frame of 256 bytes, nothing around it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use hydra_shell::link::Message;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{PACE_MS, client};

const FRAME: usize = 256;

/// Takes `idle + pushes` connections, then pushes one frame to each of the last ones. Two threads would serve it no
/// better: only one push is on its way at a time.
pub async fn serve(idle: usize, pushes: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut sockets = Vec::new();
    while sockets.len() < idle + pushes {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        sockets.push(tokio_tungstenite::accept_async(tcp).await?);
    }
    let mut pace = tokio::time::interval(Duration::from_millis(PACE_MS));
    for socket in &mut sockets[idle..] {
        pace.tick().await;
        let mut frame = vec![0; FRAME];
        frame[..8].copy_from_slice(&client::now_us().to_be_bytes());
        socket.send(Message::Binary(frame.into())).await?;
    }
    // The clients go first.
    for mut socket in sockets {
        while let Some(Ok(_)) = socket.next().await {}
    }
    Ok(())
}

/// Runs the server in a process of its own; microseconds from push to arrival.
pub async fn measure(idle: usize, pushes: usize) -> anyhow::Result<Vec<f64>> {
    let mut server = tokio::process::Command::new(std::env::current_exe()?)
        .args(["bare", &idle.to_string(), &pushes.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(server.stdout.take().context("its output is piped")?).lines();
    let url = format!("ws://{}/", lines.next_line().await?.context("it says its address")?);
    let mut sockets = Vec::new();
    // In order: which ones are pushed to is known from when they came.
    for _ in 0..idle + pushes {
        sockets.push(client::connect(&url).await?);
    }
    let mut arriving: JoinSet<anyhow::Result<f64>> = JoinSet::new();
    for mut socket in sockets.drain(idle..) {
        arriving.spawn(async move {
            let message = socket.next().await.context("the session ended")??;
            let arrived = client::now_us();
            let frame = message.into_data();
            let sent = frame.first_chunk().context("a frame begins with its time")?;
            Ok(arrived.saturating_sub(u64::from_be_bytes(*sent)) as f64)
        });
    }
    let mut waits = Vec::new();
    while let Some(wait) = arriving.join_next().await {
        waits.push(wait??);
    }
    Ok(waits)
}
