//! What logs say, and where they go.

use super::*;
use crate::events::Events;

fn with_logs(options: &LogOptions, level: &str, body: impl FnOnce()) -> Ring {
    let (subscriber, logs) = build(options, level).unwrap();
    tracing::subscriber::with_default(subscriber, body);
    logs.ring.clone()
}

#[test]
fn a_mistyped_level_is_told_and_silences_nothing() {
    for level in ["inf", "info,hydra_shell", "info;hydra_shell=debug", "info hydra_shell=debug", "debug=", "x=inf"] {
        let failure = build(&LogOptions::default(), level).err().expect(level);
        assert!(failure.exit == Exit::Config && failure.to_string().contains(level), "{failure}");
    }
    for (level, lines) in [("", 1), (" ", 1), ("debug ", 2), ("WARN", 0), ("off", 0), ("warn, hydra_shell=info,", 1)] {
        let ring = with_logs(&LogOptions::default(), level, || {
            tracing::info!("one");
            tracing::debug!("two");
        });
        assert_eq!(ring.total(), lines, "{level}");
    }
    assert!(build(&LogOptions::default(), "info,[span{field=value}]=debug").is_ok());
}

#[test]
fn the_ring_keeps_the_last_lines_clean() {
    let ring = with_logs(&LogOptions::default(), "", || {
        for number in 0..RING_LINES + 5 {
            tracing::info!(number, "line");
        }
        tracing::debug!("too fine");
        tracing::warn!(text = "\u{1b}[2J", "from afar\u{9b}");
    });
    assert_eq!(ring.total(), RING_LINES as u64 + 6);
    let all = ring.last(usize::MAX);
    assert_eq!(all.len(), RING_LINES);
    assert!(all[0].contains("number=6"), "{}", all[0]);
    let newest = &ring.last(1)[0];
    assert!(newest.contains("WARN") && newest.contains("from afar"), "{newest}");
    assert!(!newest.chars().any(char::is_control), "{newest:?}");
}

#[test]
fn a_long_line_is_cut() {
    let ring = Ring::default();
    ring.push(&"é".repeat(RING_LINE_BYTES));
    assert_eq!(ring.last(1)[0].len(), RING_LINE_BYTES);
}

#[test]
fn the_level_is_taken_or_refused() {
    let ring = with_logs(&LogOptions::default(), "warn,hydra_shell=debug", || tracing::debug!("seen"));
    assert_eq!((ring.total(), ring.finest()), (1, LevelFilter::DEBUG));
    let failure = build(&LogOptions::default(), "info,=,x=loud").err().unwrap();
    assert_eq!(failure.exit, Exit::Config);
}

#[test]
fn the_file_has_the_date_and_the_name_leads_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new/hydra.log");
    let options = LogOptions { file: Some(file.clone()), stderr: true };
    with_logs(&options, "", || tracing::info!("hello \u{1b}[1m"));
    let dated = std::fs::read_dir(dir.path().join("new"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.len() == "hydra.2025-01-31.log".len())
        .unwrap();
    let text = std::fs::read_to_string(dir.path().join("new").join(dated)).unwrap();
    assert!(text.contains("hello") && !text.contains('\u{1b}'), "{text:?}");
    if cfg!(unix) {
        assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    }
}

#[test]
fn the_file_has_the_lines_for_people_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hydra.log");
    let (subscriber, logs) = build(&LogOptions { file: Some(file.clone()), stderr: true }, "").unwrap();
    let sink = || Box::new(io::sink());
    tracing::subscriber::with_default(subscriber, || {
        let events = Events::made(false, false, true, sink(), sink());
        events.say("ready on");
        events.caution("not used");
        events.begin_screen();
        events.say("round 1");
        events.end_screen();
        events.say("stopped, as asked");
        logs.end(&Err(anyhow::anyhow!("the disk is full")));
        logs.end(&Ok(()));
    });
    let told = logs.ring.all().0;
    drop(logs);
    let said = ["ready on", "not used", "round 1", "stopped, as asked", "the disk is full"];
    assert_eq!(told.len(), said.len(), "{told:?}");
    if cfg!(unix) {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), said.len(), "{text}");
        assert!(lines.iter().zip(said).all(|(line, said)| line.ends_with(said)), "{text}");
        assert!(lines[1].contains("WARN") && lines[4].contains("ERROR"), "{text}");
    }
}

#[test]
fn a_persons_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes");
    std::fs::write(&file, "mine").unwrap();
    with_logs(&LogOptions { file: Some(file.clone()), stderr: false }, "", || tracing::info!("hello"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    let options = LogOptions { file: Some(file.clone()), stderr: false };
    let note = |options| build(options, "").unwrap().1.note;
    assert!(note(&options).unwrap().contains("goes beside it"));
    assert_eq!(note(&LogOptions { file: Some(dir.path().join("other")), stderr: false }), None);
    for wrong in [dir.path().to_owned(), file.join("below"), PathBuf::from("/")] {
        let options = LogOptions { file: Some(wrong.clone()), stderr: false };
        assert_eq!(build(&options, "").err().unwrap().exit, Exit::Config, "{}", wrong.display());
    }
}
