//! Databases as every layout's own program wrote them (`layouts/N.db.gz`: the sample run, closed): each opens, loads
//! and is read as the run that it is.
//!
//! Before a layout is added, the file of the newest one is made by its own program:
//! `cargo test --release -p hydra-coordinator write_the_newest_layout -- --ignored`.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::seal::Sealed;
use super::verify::{export_transfers, verify};
use super::*;

fn packed(layout: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/store/tests/layouts/{layout}.db.gz"))
}

fn unpacked(layout: u32) -> TempDir {
    let mut bytes = Vec::new();
    let packed = std::fs::read(packed(layout)).expect("every layout has its file");
    GzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("sound");
    let dir = folder();
    std::fs::write(dir.path().join(schema::FILE), bytes).expect("room");
    dir
}

fn shown(recovered: &Recovered) -> String {
    let Recovered { users, book, newest, evaluated, open, unmerged, settled, last_task, .. } = recovered;
    format!("{:?}", (users, book, newest, evaluated, open, unmerged, settled, last_task))
}

#[test]
fn every_earlier_layout_opens_and_is_the_run_that_it_was() {
    let expected = recovered(&mut open(sample_run().0.path()));
    for layout in 1..=schema::LAYOUT {
        let dir = unpacked(layout);
        let path = dir.path().join(schema::FILE);
        let before = std::fs::read(&path).expect("readable");
        assert_eq!(u32::from_be_bytes(before[60..64].try_into().expect("four bytes")), layout);

        // Readers leave the file as it is.
        let found = verify(dir.path()).expect("sound");
        assert_eq!(found.head, expected.book.head());
        assert_eq!(found.sealed, if layout < 2 { Sealed::NotYet } else { Sealed::Signed }, "layout {layout}");
        let reader = Reader::open(dir.path()).expect("readable");
        assert_eq!(reader.users().expect("readable").len(), 2);
        assert_eq!(reader.status().expect("readable").transfers, 10);
        assert_eq!(reader.current_versions().expect("readable").len(), 3);
        assert_eq!(export_transfers(dir.path(), &mut Vec::new()).expect("readable"), 10);
        drop(reader);
        assert!(std::fs::read(&path).expect("readable") == before, "layout {layout} was written to");

        // A start brings it up to date.
        let mut store = open(dir.path());
        let found = recovered(&mut store);
        assert_eq!(shown(&found), shown(&expected), "layout {layout}");
        assert_eq!(found.api_keys, if layout < 3 { Vec::new() } else { expected.api_keys.clone() }, "layout {layout}");
        store.write(&[named("carol"), api_key("carol", 2)]).expect("it takes rows");
        assert_eq!(recovered(&mut store).api_keys.len(), found.api_keys.len() + 1);
        drop(store);
        let found = verify(dir.path()).expect("sound");
        assert_eq!((found.sealed, found.key), (Sealed::Signed, public_key(&opening().key)));
    }
}

#[test]
#[ignore = "writes the file that it is named after"]
fn write_the_newest_layout() {
    let (dir, _) = sample_run();
    raw(dir.path()).execute_batch("PRAGMA journal_mode = DELETE; VACUUM; PRAGMA journal_mode = WAL;").expect("alone");
    let bytes = std::fs::read(dir.path().join(schema::FILE)).expect("readable");
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(&bytes).expect("room");
    std::fs::write(packed(schema::LAYOUT), out.finish().expect("room")).expect("writable");
}
