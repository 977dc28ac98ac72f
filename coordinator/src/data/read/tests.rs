//! Every form that is read, and every refusal.

use std::io::Write;

use tempfile::TempDir;

use super::*;

fn put(dir: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zst(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).unwrap()
}

fn documents(paths: &[PathBuf]) -> Vec<Vec<String>> {
    read(paths).unwrap().into_iter().map(|source| source.documents).collect()
}

fn refused(path: PathBuf) -> String {
    read(&[path]).unwrap_err().to_string()
}

#[test]
fn each_form_is_read() {
    let dir = TempDir::new().unwrap();
    let lines = b"{\"text\": \"one\", \"other\": 1}\r\n\n{\"text\":\"two\\nlines\"}\n{\"text\": \" \"}";
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("a.txt", b"\xef\xbb\xbfplain\r\n".to_vec(), &["plain\r\n"]),
        ("a.md", "# é".into(), &["# é"]),
        ("a.rs", b"fn main() {}".to_vec(), &["fn main() {}"]),
        ("a.jsonl", lines.to_vec(), &["one", "two\nlines"]),
        ("a.TXT.gz", [gz(b"first "), gz(b"second")].concat(), &["first second"]),
        ("b.txt.zst", [zst(b"first "), zst(b"second")].concat(), &["first second"]),
        ("c.jsonl.gz", gz(lines), &["one", "two\nlines"]),
        ("d.jsonl.zst", zst(lines), &["one", "two\nlines"]),
    ];
    for (name, content, expected) in cases {
        let path = put(&dir, name, &content);
        let sources = read(std::slice::from_ref(&path)).unwrap();
        assert_eq!(sources.len(), 1, "{name}");
        assert_eq!(sources[0].documents, expected, "{name}");
        assert_eq!(sources[0].name, path.display().to_string());
        assert_eq!(sources[0].origin, Some(path.canonicalize().unwrap()));
        assert_eq!(sources[0].bytes(), expected.concat().len() as u64);
    }
}

#[test]
fn folders_are_read_in_the_order_of_names() {
    let dir = TempDir::new().unwrap();
    for (name, content) in [
        ("f/b.txt", "3"),
        ("f/a/z.md", "2"),
        ("f/a/a.txt", "1"),
        ("f/c.jsonl", "{\"text\": \"4\"}"),
        ("f/.hidden.txt", "x"),
        ("f/.git/x.txt", "x"),
        ("f/picture.png", "x"),
        ("f/empty.txt", ""),
        ("f/blank.txt", " \n"),
    ] {
        put(&dir, name, content.as_bytes());
    }
    let folder = dir.path().join("f");
    assert_eq!(documents(std::slice::from_ref(&folder)), [["1"], ["2"], ["3"], ["4"]]);
    // The file given first is not read again with its folder, nor the folder when it is given again.
    assert_eq!(documents(&[folder.join("b.txt"), folder.clone(), folder]), [["3"], ["1"], ["2"], ["4"]]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_once() {
    use std::os::unix::fs::symlink;
    let dir = TempDir::new().unwrap();
    put(&dir, "f/a.txt", b"1");
    put(&dir, "other/b.txt", b"2");
    let folder = dir.path().join("f");
    symlink(&folder, folder.join("loop")).unwrap();
    symlink(dir.path().join("other"), folder.join("other")).unwrap();
    symlink(dir.path().join("other"), folder.join("same")).unwrap();
    symlink(folder.join("a.txt"), folder.join("again.txt")).unwrap();
    symlink(folder.join("nowhere"), folder.join("dangling.txt")).unwrap();
    symlink(folder.join("self.txt"), folder.join("self.txt")).unwrap();
    assert_eq!(documents(std::slice::from_ref(&folder)), [["1"], ["2"]]);
    // Named by the user, a link to itself is worth an error.
    assert!(matches!(read(&[folder.join("self.txt")]), Err(ReadError::Unreadable { .. })));
}

#[test]
fn refusals_name_the_path_and_what_to_do() {
    let dir = TempDir::new().unwrap();
    let case = |name: &str, content: &[u8]| {
        let path = put(&dir, name, content);
        let text = refused(path.clone());
        text.strip_prefix(&path.display().to_string()).expect(&text).to_owned()
    };
    let cases = [
        (case("e.txt", b""), " is empty; give"),
        (case("s.txt", b"\n \n"), " is empty; give"),
        (case("e.jsonl", b"{\"text\": \"\"}\n"), " is empty; give"),
        (case("n.txt", b"ab\0\xff"), " is not UTF-8 text: 0x00, a NUL, at byte 2; give"),
        (case("l.txt", b"caf\xe9 \0"), " is not UTF-8 text: 0xe9, no valid character, at byte 3; give"),
        (
            case("w.txt", b"\xff\xfea\0"),
            " is not UTF-8 text: 0xff, no valid character, at byte 0; it looks like UTF-16",
        ),
        (case("c.txt", "é".as_bytes().split_last().unwrap().1), " is not UTF-8 text: 0xc3"),
        (case("g.txt.gz", b"no gzip"), " is not a whole gzip file"),
        (case("h.txt.gz", &gz(b"some text")[..20]), " is not a whole gzip file"),
        (case("z.txt.zst", b"no zstd"), " is not a whole Zstandard file"),
        (case("y.txt.zst", &zst(b"some text")[..12]), " is not a whole Zstandard file"),
        (
            case("t.txt.gz", &[gz(b"some text"), b"tail".to_vec()].concat()),
            " is not a whole gzip file and nothing else",
        ),
        (case("b.txt.gz", &gz(b"\0")), " is not UTF-8 text: 0x00"),
        (case("j.jsonl", b"{\"text\": \"a\"}\n\nnot json"), ", line 3: not JSON (column"),
        (case("k.jsonl", b"{\"text\": 3}"), ", line 1: no field \"text\" that is a string; each"),
        (case("t.jsonl", b"{\"text\": \"a\", \"text\": \"b\"}"), ", line 1: more than one field \"text\"; each"),
        (case("m.jsonl", b"{\"txt\": \"a\"}"), ", line 1: no field \"text\""),
        (case("o.jsonl", b"{\"text\": \"a\\u0000\"}"), ", line 1: a NUL"),
    ];
    for (text, start) in cases {
        assert!(text.starts_with(start), "{text:?} should start with {start:?}");
    }
}

#[test]
fn missing_paths_and_folders_without_text() {
    let dir = TempDir::new().unwrap();
    let file = put(&dir, "a.txt", b"text");
    put(&dir, "f/picture.png", b"x");
    put(&dir, "f/empty.txt", b"");
    assert!(matches!(read(&[dir.path().join("no")]), Err(ReadError::NotFound { path }) if path.ends_with("no")));
    assert!(matches!(read(&[file.join("below")]), Err(ReadError::NotFound { .. })));
    let text = refused(dir.path().join("f"));
    assert!(text.contains(".txt, .md or .jsonl"), "{text}");
    let denied = failed(&file, io::ErrorKind::PermissionDenied.into()).to_string();
    assert!(denied.contains("cannot be read: permission denied; check"), "{denied}");
}

#[cfg(unix)]
#[test]
fn sockets_are_no_text() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s.txt");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(read(&[path]), Err(ReadError::NotAFile { .. })));
}

#[test]
fn the_bound_holds_for_all_files_together_and_inside_compressed_ones() {
    let dir = TempDir::new().unwrap();
    let ten = put(&dir, "a.txt", &[b'a'; 10]);
    let other = put(&dir, "b.txt", &[b'b'; 10]);
    assert_eq!(read_bounded(&[ten.clone(), other.clone()], 20).unwrap().len(), 2);
    assert!(matches!(read_bounded(&[ten, other.clone()], 19), Err(ReadError::TooLarge { path }) if path == other));
    for (name, content) in [("z.txt.gz", gz(&vec![b'z'; 100_000])), ("z.txt.zst", zst(&vec![b'z'; 100_000]))] {
        let bomb = put(&dir, name, &content);
        assert!(content.len() < 1_000);
        assert!(matches!(read_bounded(std::slice::from_ref(&bomb), 99_999), Err(ReadError::TooLarge { .. })));
        assert!(read_bounded(&[bomb], 100_000).is_ok());
    }
}

#[test]
fn what_this_program_wrote_is_not_read_with_a_folder() {
    let dir = TempDir::new().unwrap();
    let card = b"A language model, exported with `hydra-coordinator export`.";
    for (name, content) in [
        ("f/book.txt", &b"1"[..]),
        ("f/export/README.md", card),
        ("f/notes/README.md", b"2"),
        ("f/run/hydra.db", b"x"),
        ("f/run/samples.jsonl", b"{\"prompt\": \"p\", \"text\": \"it said\"}"),
        ("f/samples.jsonl", b"{\"text\": \"3\"}"),
    ] {
        put(&dir, name, content);
    }
    let folder = dir.path().join("f");
    assert_eq!(documents(std::slice::from_ref(&folder)), [["1"], ["2"], ["3"]]);
    // Where the run's folder is the one that is named, its own text counts.
    put(&dir, "f/run/mine.txt", b"4");
    assert_eq!(documents(&[folder.join("run")]), [["4"]]);
    // A file that is named is meant.
    assert_eq!(documents(&[folder.join("run/samples.jsonl")]), [["it said"]]);
}
