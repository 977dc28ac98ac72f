//! A TCP proxy that treats connections badly: it delays, stalls and cuts them, and keeps dead ones alive.
//!
//! What is *duplicated* is what a network can duplicate. Bytes within a TCP stream arrive once, so a second copy of
//! them would only be garbage; a second copy of a message comes about when its answer is lost and the peer sends it
//! again over another connection, while the first connection still looks alive. [`End::Deaf`] makes both: requests
//! still reach the coordinator, answers do not reach the peer, and the old connection lingers beside the new one.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::chance::Chance;

/// How often a waiting pump looks at the clock.
const LOOK: Duration = Duration::from_millis(20);
/// How long a deaf connection still carries what the peer sends.
const LAST_WORDS: Duration = Duration::from_millis(700);

/// What happened to connections, counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// All of them.
    pub connections: AtomicU64,
    /// The coordinator was down.
    pub refused: AtomicU64,
    /// Every piece was held up.
    pub delayed: AtomicU64,
    /// Stood still once.
    pub stalled: AtomicU64,
    /// Ended in both directions at once.
    pub cut: AtomicU64,
    /// Lost the coordinator's answers.
    pub deaf: AtomicU64,
    /// Stayed open towards the coordinator after the peer was gone.
    pub lingering: AtomicU64,
}

/// Where a connection comes to harm, counted from its beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// Nowhere.
    Never,
    /// Both directions end.
    Cut(Duration),
    /// Nothing passes for a while, then all of it.
    Stall(Duration, Duration),
    /// What the coordinator says is lost from here on; soon after, the peer is cut off.
    Deaf(Duration),
}

/// What will become of one connection.
#[derive(Debug, Clone)]
pub struct Fate {
    /// How it ends.
    pub end: End,
    /// Every piece is held up by up to this.
    pub delay: Duration,
    /// Bytes carried at a time: small pieces split frames.
    pub piece: usize,
    /// How long the coordinator's side stays open after the peer's has ended.
    pub linger: Duration,
}

impl Fate {
    /// Draws one.
    pub fn draw(chance: &mut Chance) -> Self {
        let end = match chance.below(100) {
            0..45 => End::Never,
            45..65 => End::Cut(chance.seconds(0.0, 15.0)),
            65..75 => End::Stall(chance.seconds(0.0, 10.0), chance.seconds(0.5, 4.0)),
            _ => End::Deaf(chance.seconds(0.0, 12.0)),
        };
        let (delay, piece) = match chance.below(100) {
            0..70 => (Duration::ZERO, 64 * 1024),
            70..90 => (chance.seconds(0.001, 0.03), 16 * 1024),
            _ => (chance.seconds(0.0, 0.002), 700),
        };
        let linger = if chance.below(100) < 40 { chance.seconds(0.5, 8.0) } else { Duration::ZERO };
        Self { end, delay, piece, linger }
    }
}

/// Starts a proxy before `upstream`; it lives as long as the process.
pub fn start(upstream: SocketAddr, mut chance: Chance) -> Result<(SocketAddr, Arc<Counts>)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port for the proxy")?;
    let address = listener.local_addr()?;
    let counts = Arc::new(Counts::default());
    let told = counts.clone();
    thread::Builder::new().name("proxy".to_owned()).spawn(move || {
        for peer in listener.incoming().flatten() {
            let (fate, chance, counts) = (Fate::draw(&mut chance), chance.split(), told.clone());
            // A thread that cannot be started is one more lost connection.
            let _ = thread::Builder::new().spawn(move || carry(&peer, upstream, &fate, chance, &counts));
        }
    })?;
    Ok((address, counts))
}

fn carry(peer: &TcpStream, upstream: SocketAddr, fate: &Fate, mut chance: Chance, counts: &Counts) {
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    count(&counts.connections);
    let Ok(server) = TcpStream::connect_timeout(&upstream, Duration::from_secs(2)) else {
        // The coordinator is down: the peer sees its connection end at once.
        count(&counts.refused);
        return;
    };
    if fate.delay > Duration::ZERO {
        count(&counts.delayed);
    }
    let begun = Instant::now();
    let reached = |at: Duration| begun.elapsed() >= at;
    let (for_down, for_up) = (chance.split(), chance);
    thread::scope(|scope| {
        scope.spawn(|| {
            pump(&server, peer, fate, begun, true, for_down);
            // The coordinator is gone, or the connection's time is over: so it is for the peer.
            let _ = peer.shutdown(Shutdown::Both);
        });
        pump(peer, &server, fate, begun, false, for_up);
        match fate.end {
            End::Cut(at) if reached(at) => count(&counts.cut),
            End::Stall(at, _) if reached(at) => count(&counts.stalled),
            End::Deaf(at) if reached(at) => count(&counts.deaf),
            _ => 0,
        };
        let _ = peer.shutdown(Shutdown::Both);
        if fate.linger > Duration::ZERO && !matches!(fate.end, End::Cut(_)) {
            // Half-open, as after a power cut at the worker's.
            count(&counts.lingering);
            thread::sleep(fate.linger);
        }
        let _ = server.shutdown(Shutdown::Both);
    });
}

/// Carries one direction until it ends or its fate does; `answers` is the direction from the coordinator.
fn pump(mut from: &TcpStream, mut to: &TcpStream, fate: &Fate, begun: Instant, answers: bool, mut chance: Chance) {
    let mut buffer = vec![0; fate.piece];
    let mut stalled = false;
    if from.set_read_timeout(Some(LOOK)).is_err() {
        return;
    }
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let age = begun.elapsed();
        match fate.end {
            End::Cut(at) if age >= at => return,
            End::Stall(at, length) if age >= at && !stalled => {
                stalled = true;
                thread::sleep(length);
            }
            End::Deaf(at) if age >= at + LAST_WORDS && !answers => return,
            // Read and lost, until the other direction ends the connection.
            End::Deaf(at) if age >= at && answers => continue,
            _ => {}
        }
        if read > 0 {
            if fate.delay > Duration::ZERO {
                thread::sleep(fate.delay.mul_f64(chance.unit()));
            }
            if to.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A coordinator that sends back whatever it gets, for one connection.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = peer.read(&mut buffer) {
                peer.write_all(&buffer[..read]).unwrap();
            }
        });
        address
    }

    fn through(fate: Fate) -> (TcpStream, thread::JoinHandle<Arc<Counts>>) {
        let (upstream, listener) = (echo(), TcpListener::bind("127.0.0.1:0").unwrap());
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let carried = thread::spawn(move || {
            let counts = Arc::new(Counts::default());
            carry(&peer, upstream, &fate, Chance::new(1, 1), &counts);
            counts
        });
        (client, carried)
    }

    fn fate(end: End) -> Fate {
        Fate { end, delay: Duration::from_micros(10), piece: 7, linger: Duration::ZERO }
    }

    #[test]
    fn bytes_pass_whole_in_small_pieces() {
        let (mut client, carried) = through(fate(End::Never));
        let sent: Vec<u8> = (0..=255).cycle().take(2000).collect();
        client.write_all(&sent).unwrap();
        let mut got = vec![0; sent.len()];
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, sent);
        drop(client);
        assert_eq!(carried.join().unwrap().delayed.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_cut_connection_ends_and_a_deaf_one_hears_nothing_before_it_ends() {
        for (end, cut, deaf) in [(End::Cut(Duration::ZERO), 1, 0), (End::Deaf(Duration::ZERO), 0, 1)] {
            let (mut client, carried) = through(fate(end));
            // The cut may be faster than the write.
            let _ = client.write_all(b"lost");
            let mut got = Vec::new();
            let _ = client.read_to_end(&mut got);
            assert_eq!(got, b"", "{end:?}");
            let counts = carried.join().unwrap();
            let counted = [&counts.cut, &counts.deaf].map(|counter| counter.load(Ordering::Relaxed));
            assert_eq!(counted, [cut, deaf], "{end:?}");
        }
    }
}
