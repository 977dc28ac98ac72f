//! Real sockets on the loopback; time stands still, and so leaps to the next limit, where nothing is awaited but that.

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

use super::super::board;
use super::super::gate::Room;
use super::super::http::{Doors, router};
use super::*;

/// A port that is served, and the sessions that were welcomed there.
async fn port(room: Room) -> (SocketAddr, mpsc::UnboundedReceiver<Visitor>) {
    port_of(board::tests::board(), room).await
}

/// The same of a run with this board.
async fn port_of(board: Arc<board::Board>, room: Room) -> (SocketAddr, mpsc::UnboundedReceiver<Visitor>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (welcomed, sessions) = mpsc::unbounded_channel();
    let doors = Doors {
        welcome: Arc::new(move |_, visitor| drop(welcomed.send(visitor))),
        metrics: PrometheusBuilder::new().build_recorder().handle(),
        board,
    };
    tokio::spawn(serve(listener, router(doors), Gate::new(room)));
    (address, sessions)
}

const ROOM: Room = Room { all: 100, host: 100 };

async fn say(address: SocketAddr, words: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(words.as_bytes()).await.unwrap();
    let mut heard = String::new();
    tcp.read_to_string(&mut heard).await.ok();
    heard
}

#[test]
fn the_command_to_join_names_an_address_that_others_can_reach() {
    let own = Some("192.168.1.20".parse().unwrap());
    for (addr, own, join) in [
        ("127.0.0.1:5000", own, "hydra-worker NAME"),
        ("127.0.0.1:5001", own, "hydra-worker NAME 127.0.0.1:5001"),
        ("0.0.0.0:5000", own, "hydra-worker NAME 192.168.1.20:5000"),
        ("[::]:5001", None, "hydra-worker NAME THIS-HOST:5001"),
        ("10.0.0.1:5000", own, "hydra-worker NAME 10.0.0.1:5000"),
    ] {
        assert_eq!(super::join(addr.parse().unwrap(), own), join);
    }
}

#[tokio::test]
async fn a_run_that_stops_is_no_longer_ready() {
    let board = board::tests::board();
    let (address, _sessions) = port_of(board.clone(), ROOM).await;
    board.stop();
    for (path, status) in [("/readyz", 503), ("/healthz", 200)] {
        let heard = say(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}")), "{heard}");
    }
}

#[tokio::test]
async fn requests_are_answered() {
    let (address, _sessions) = port(ROOM).await;
    for (path, answer) in
        [("/healthz", "ok\n"), ("/readyz", "ready\n"), ("/", "HydraAI"), ("/status.json", "\"workers\":2")]
    {
        let heard = say(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!(heard.starts_with("HTTP/1.1 200") && heard.contains(answer), "{heard}");
    }
    for odd in ["", "upgrade: websocket\r\nsec-websocket-key: eA==\r\nsec-websocket-version: 8\r\n"] {
        let heard = say(address, &format!("GET /ws HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{odd}\r\n")).await;
        assert!(heard.starts_with("HTTP/1.1 400") && heard.contains("WebSocket"), "{heard}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let (half, whole) = ("GET /ws HTTP/1.1\r\nhost: x\r\n", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    let recorder = PrometheusBuilder::new().build_recorder();
    let counts = recorder.handle();
    // The test's tasks are all on its own thread.
    let _counting = ::metrics::set_default_local_recorder(&recorder);
    for (beginning, answer, refused) in [("", "", 1), (half, "", 2), (whole, "ok\n", 2)] {
        let (address, _sessions) = port(ROOM).await;
        let start = Instant::now();
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(beginning.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(answer.as_bytes()) {
            assert!(tcp.read_buf(&mut heard).await.unwrap() > 0, "{beginning:?}");
        }
        // Not before: the clock would leap while the sockets are still at work.
        tokio::time::pause();
        let mut rest = String::new();
        tcp.read_to_string(&mut rest).await.ok();
        assert!(!rest.contains("ok\n"), "{rest}");
        let passed = start.elapsed();
        assert!(passed >= HANDSHAKE && passed < PLAIN, "{beginning:?}: {passed:?}");
        tokio::time::resume();
        tokio::task::yield_now().await;
        // Who was answered before is not among the refused.
        let counted = format!("hydra_connections_refused_total{{reason=\"slow_request\"}} {refused}\n");
        assert!(counts.render().contains(&counted), "{beginning:?}: {}", counts.render());
    }
}

/// Lets time pass, and all that was due by then happen.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_old_connection_is_closed_with_an_answer_and_not_between_two() {
    let (address, _sessions) = port(ROOM).await;
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let step = HANDSHAKE * 9 / 10;
    for n in 0.. {
        tcp.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"ok\n") {
            assert!(tcp.read_buf(&mut heard).await.unwrap() > 0, "{n}");
        }
        let closes = String::from_utf8(heard).unwrap().contains("connection: close");
        assert_eq!(closes, n * step >= PLAIN, "{n}");
        if closes {
            break;
        }
        pass(step).await;
    }
    assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_answer_is_whole_for_who_reads_slowly_and_ends_for_who_does_not_read() {
    const WHOLE: usize = 2 << 20;
    const ROUND: usize = 256 << 10;
    // Less than a round is on its way.
    const BUFFER: u32 = 32 << 10;
    for reads in [true, false] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(BUFFER).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(8).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(|| async { vec![b'x'; WHOLE] });
        tokio::spawn(serve(listener, router, Gate::new(ROOM)));
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(BUFFER).unwrap();
        let mut tcp = socket.connect(address).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut heard = vec![0; ROUND];
        tcp.read_exact(&mut heard).await.unwrap();
        for _ in 0..4 {
            // Timers are a millisecond late at most.
            pass(PLAIN + Duration::from_secs(1)).await;
            if reads {
                let mut more = vec![0; ROUND];
                tcp.read_exact(&mut more).await.unwrap();
                heard.append(&mut more);
            }
        }
        tcp.read_to_end(&mut heard).await.ok();
        // The head comes on top.
        let whole = heard.len() > WHOLE;
        assert_eq!(whole, reads, "{}", heard.len());
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let (address, _sessions) = port(ROOM).await;
    let heard = say(address, &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2 * HEAD))).await;
    assert!(heard.starts_with("HTTP/1.1 431"), "{heard}");
}

#[tokio::test]
async fn who_has_no_room_is_told_so() {
    let (address, mut sessions) = port(Room { all: 1, host: 1 }).await;
    let url = format!("ws://{address}/ws");
    let (_first, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    let held = sessions.recv().await.unwrap();
    assert!(held.pass.full().is_none());
    let heard = say(address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 503") && heard.contains("no room"), "{heard}");
    let (_second, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    assert!(sessions.recv().await.unwrap().pass.full().is_some());
    drop(held);
    let (_third, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    assert!(sessions.recv().await.unwrap().pass.full().is_none());
}
