//! The loop on a paused clock with a console that notes when frames were drawn.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tokio::sync::watch;

use super::*;
use crate::ui::Binding;
use crate::ui::keys::{self, Key};

#[derive(Clone, Debug, PartialEq)]
enum Msg {
    Quit,
    Count,
    Tick,
    Size(u16, u16),
    Stopped,
}

#[derive(Default)]
struct Counter {
    count: u32,
    ticks: u32,
    sizes: Vec<(u16, u16)>,
    stopped: bool,
    tick_at: Option<Time>,
}

const KEYS: &[Binding<Msg>] = &[Binding::new("q", Msg::Quit, "quit"), Binding::new("c", Msg::Count, "count")];

impl App for Counter {
    type Msg = Msg;
    type Cmd = ();

    fn keys(&self) -> &[Binding<Msg>] {
        KEYS
    }

    fn keymap(&self, event: &Event) -> Option<Msg> {
        match event {
            Event::Resize(width, height) => Some(Msg::Size(*width, *height)),
            event => keys::lookup(KEYS, event),
        }
    }

    fn update(&mut self, now: Time, msg: Msg) -> Vec<()> {
        match msg {
            Msg::Quit => return vec![()],
            Msg::Count => self.count += 1,
            Msg::Tick => {
                self.ticks += 1;
                self.tick_at = (self.ticks < 5).then(|| now.after(Duration::from_secs(1)));
            }
            Msg::Size(width, height) => self.sizes.push((width, height)),
            Msg::Stopped => self.stopped = true,
        }
        Vec::new()
    }

    fn view(&self, frame: &mut Frame<'_>) {
        frame.render_widget(format!("{}", self.count), frame.area());
    }

    fn wake_at(&self) -> Option<Time> {
        self.tick_at
    }

    fn on_wake(&self) -> Option<Msg> {
        Some(Msg::Tick)
    }
}

/// What a test sees of its console.
#[derive(Default)]
struct Seen {
    frames: Vec<(Time, String)>,
    suspended: u32,
    /// Times after which everything is drawn.
    cleared: u32,
}

struct Fake {
    events: mpsc::UnboundedReceiver<Happening>,
    terminal: Terminal<TestBackend>,
    size: (u16, u16),
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    room: watch::Receiver<bool>,
    /// How often room comes only after the question whether there is any.
    late: AtomicU32,
}

impl Console for Fake {
    fn size(&self) -> (u16, u16) {
        self.size
    }

    async fn next(&mut self, room: bool) -> Happening {
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => event,
            Ok(()) = async { self.room.wait_for(|room| *room).await.map(drop) }, if room => Happening::Room,
            else => std::future::pending().await,
        }
    }

    fn resize(&mut self, size: (u16, u16)) -> io::Result<()> {
        self.size = size;
        self.seen.lock().unwrap().cleared += 1;
        self.terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let late = self.late.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |late| late.checked_sub(1));
        late.is_err() && *self.room.borrow()
    }

    fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(view).unwrap();
        let text = crate::ui::testkit::text_of(self.terminal.backend().buffer());
        self.seen.lock().unwrap().frames.push((self.clock.now(), text.trim().to_owned()));
        Ok(())
    }

    fn suspend(&mut self) -> io::Result<()> {
        self.seen.lock().unwrap().suspended += 1;
        Ok(())
    }
}

/// A running loop and its strings.
struct Bench {
    events: mpsc::UnboundedSender<Happening>,
    messages: mpsc::Sender<Msg>,
    room: watch::Sender<bool>,
    seen: Arc<Mutex<Seen>>,
    ended: tokio::task::JoinHandle<(End, Counter)>,
}

impl Bench {
    fn start(app: Counter) -> Self {
        Self::start_late(app, 0)
    }

    /// With a console that says `late` times that there is no room when there is some the moment after.
    fn start_late(mut app: Counter, late: u32) -> Self {
        let clock = Clock::start();
        let (events, receiver) = mpsc::unbounded_channel();
        let (messages, inbox) = mpsc::channel(1_000);
        let (room, has_room) = watch::channel(true);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let terminal = Terminal::new(TestBackend::new(20, 2)).unwrap();
        let (seen_by, late, size) = (seen.clone(), AtomicU32::new(late), (20, 2));
        let console = Fake { events: receiver, terminal, size, clock, seen: seen_by, room: has_room, late };
        let ended = tokio::spawn(async move {
            let this = Loop {
                app: &mut app,
                clock,
                on_stop: |_| Msg::Stopped,
                perform: |()| ControlFlow::Break(()),
                pacer: Pacer::default(),
            };
            let end = this.drive(console, inbox).await;
            (end, app)
        });
        Self { events, messages, room, seen, ended }
    }

    fn press(&self, key: &str) {
        self.events.send(Happening::Event(key.parse::<Key>().unwrap().event())).unwrap();
    }

    fn frames(&self) -> Vec<(Time, String)> {
        self.seen.lock().unwrap().frames.clone()
    }

    /// Lets the loop run for a while of the paused clock.
    async fn pass(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn quit(self) -> Counter {
        self.press("q");
        let (end, app) = self.ended.await.unwrap();
        assert!(matches!(end, End::Left), "{end:?}");
        app
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_drawn_at_once_and_idleness_never() {
    let bench = Bench::start(Counter::default());
    bench.pass(10_000).await;
    assert_eq!(bench.frames(), [(Time(0), "0".to_owned())]);
    bench.press("c");
    bench.pass(1).await;
    let (at, text) = bench.frames().pop().unwrap();
    assert_eq!((at, text.as_str()), (Time(10_000_000), "1"));
    bench.press("x");
    bench.pass(1_000).await;
    assert_eq!(bench.frames().len(), 2, "a key without meaning changes nothing");
    assert_eq!(bench.quit().await.sizes, [(20, 2)]);
}

#[tokio::test(start_paused = true)]
async fn floods_are_paced_and_all_taken() {
    let bench = Bench::start(Counter::default());
    for _ in 0..1_000 {
        bench.messages.send(Msg::Count).await.unwrap();
        bench.pass(2).await;
    }
    bench.pass(100).await;
    let frames = bench.frames();
    assert!((45..=62).contains(&frames.len()), "{} frames in two seconds", frames.len());
    assert_eq!(frames.last().unwrap().1, "1000");
    assert_eq!(bench.quit().await.count, 1_000);
}

#[tokio::test(start_paused = true)]
async fn wake_ups_come_when_asked_for() {
    let bench = Bench::start(Counter { tick_at: Some(Time(500_000)), ..Counter::default() });
    bench.pass(10_000).await;
    let at: Vec<u64> = bench.frames().iter().map(|(at, _)| at.0 / 1_000).collect();
    assert_eq!(at, [0, 500, 1_500, 2_500, 3_500, 4_500]);
    assert_eq!(bench.quit().await.ticks, 5);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_terminal_holds_frames_not_work() {
    let bench = Bench::start(Counter::default());
    bench.pass(100).await;
    bench.room.send(false).unwrap();
    for _ in 0..300 {
        bench.messages.send(Msg::Count).await.unwrap();
    }
    bench.pass(5_000).await;
    assert_eq!(bench.messages.capacity(), 1_000, "messages are taken while no frame can be drawn");
    assert_eq!(bench.frames().len(), 1);
    bench.room.send(true).unwrap();
    bench.pass(1).await;
    assert_eq!(bench.frames().last().unwrap().1, "300");
    bench.quit().await;
}

#[tokio::test(start_paused = true)]
async fn room_that_comes_between_two_looks_is_not_missed() {
    // Asked once before it draws and once before it waits.
    let bench = Bench::start_late(Counter::default(), 2);
    bench.pass(1).await;
    assert_eq!(bench.frames(), [(Time(0), "0".to_owned())]);
    bench.quit().await;
}

#[tokio::test(start_paused = true)]
async fn sizes_stops_and_suspension_reach_the_app() {
    let bench = Bench::start(Counter::default());
    for size in [(0, 0), (300, 80), (1, 1)] {
        bench.events.send(Happening::Event(Event::Resize(size.0, size.1))).unwrap();
        bench.pass(100).await;
    }
    bench.events.send(Happening::Stop(Stop::Cleanly)).unwrap();
    bench.press("ctrl-z");
    bench.events.send(Happening::Back).unwrap();
    bench.pass(100).await;
    assert_eq!(bench.seen.lock().unwrap().suspended, u32::from(cfg!(unix)));
    assert_eq!(bench.frames().len(), 6, "{:?}", bench.frames());
    bench.press("ctrl-l");
    bench.pass(100).await;
    assert_eq!((bench.frames().len(), bench.seen.lock().unwrap().cleared), (7, 4), "Ctrl-L draws everything");
    let app = bench.quit().await;
    assert_eq!(app.sizes, [(20, 2), (0, 0), (300, 80), (1, 1), (1, 1), (1, 1)]);
    assert!(app.stopped);
}

#[tokio::test(start_paused = true)]
async fn a_lost_terminal_ends_the_loop_with_its_reason() {
    let bench = Bench::start(Counter::default());
    bench.events.send(Happening::Lost(io::ErrorKind::UnexpectedEof.into())).unwrap();
    let (end, _) = bench.ended.await.unwrap();
    assert!(matches!(end, End::Lost(error) if error.kind() == io::ErrorKind::UnexpectedEof));
}
