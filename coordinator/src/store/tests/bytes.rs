//! Every byte of every stored transfer, flipped in the file: found, without exception.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::verify::{VerifyError, verify};
use super::*;

/// Enough for a tree of two levels.
const TRANSFERS: u64 = 32;

/// A database file as its pages: <https://www.sqlite.org/fileformat2.html#b_tree_pages>.
struct Pages {
    file: Vec<u8>,
    size: usize,
}

impl Pages {
    fn new(file: Vec<u8>) -> Self {
        let size = usize::from(u16::from_be_bytes([file[16], file[17]]));
        Self { file, size }
    }

    fn number(&self, at: usize, bytes: usize) -> usize {
        self.file[at..at + bytes].iter().fold(0, |n, byte| n << 8 | usize::from(*byte))
    }

    /// A varint and where it ends.
    fn varint(&self, mut at: usize) -> (usize, usize) {
        let mut n = 0;
        loop {
            let byte = self.file[at];
            n = n << 7 | usize::from(byte & 0x7f);
            at += 1;
            if byte < 0x80 {
                return (n, at);
            }
        }
    }

    /// Where the rows of a table without row ids are: on each page of its tree the kind, the number of cells, their
    /// places, and the cells with all that is in them. What a page leaves free belongs to no row.
    fn rows_of(&self, root: usize, places: &mut Vec<Range<usize>>) -> usize {
        let page = (root - 1) * self.size;
        let (kind, cells) = (self.file[page], self.number(page + 3, 2));
        let inner = match kind {
            2 => true,
            10 => false,
            kind => panic!("page {root} is of kind {kind}"),
        };
        let (header, child) = if inner { (12, 4) } else { (8, 0) };
        places.extend([page..page + 1, page + 3..page + 5, page + 8..page + header + 2 * cells]);
        let mut rows = cells;
        for cell in 0..cells {
            let start = page + self.number(page + header + 2 * cell, 2);
            let (length, content) = self.varint(start + child);
            assert!(length < 1000, "a row that fits its page");
            places.push(start..content + length);
            if inner {
                rows += self.rows_of(self.number(start, 4), places);
            }
        }
        if inner { rows + self.rows_of(self.number(page + 8, 4), places) } else { rows }
    }
}

#[test]
fn each_flipped_byte_of_a_stored_transfer_is_found() {
    each_flip_is_found(|at| [1 << (at % 8), 0xff].to_vec());
}

#[test]
#[ignore = "takes minutes"]
fn each_flipped_bit_of_a_stored_transfer_is_found() {
    each_flip_is_found(|_| (0..8).map(|bit| 1 << bit).collect());
}

/// Flips every byte by each of the masks that belong to its place.
fn each_flip_is_found(masks: impl Fn(usize) -> Vec<u8>) {
    let dir = folder();
    let mut book = Book::default();
    let mut rows = vec![Row::Version(version(0, &[])), named("alice")];
    for n in 1..=TRANSFERS / 4 {
        rows.extend(paid(&mut book, n, "alice", 0));
        let (first, second) = (id(1000 + n), id(2000 + n));
        let price = Credits(300_000 + n);
        for query in [first, second] {
            let hold = book.hold(query, &user("alice"), price, format!("query {query}"), 1_767_225_600_000 + n);
            rows.push(Row::Transfer(hold.expect("covered")));
        }
        let ended = if n % 2 == 0 { book.post(first, 600 + n) } else { book.void(first, 600 + n) };
        rows.push(Row::Transfer(ended.expect("open")));
    }
    let mut store = open(dir.path());
    store.write(&rows).expect("they fit");
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'transfers'";
    let root: i64 = store.connection.query_row(root, [], |row| row.get(0)).expect("the table");
    drop(store);

    let path = dir.path().join(schema::FILE);
    let pages = Pages::new(std::fs::read(&path).expect("readable"));
    let mut places = Vec::new();
    assert_eq!(pages.rows_of(root as usize, &mut places) as u64, TRANSFERS, "every row is on some page");
    assert_eq!(pages.file[(root as usize - 1) * pages.size], 2, "a tree of two levels");
    let content: usize = places.iter().map(ExactSizeIterator::len).sum();
    assert!(content as u64 > 140 * TRANSFERS, "{content} bytes");

    verify(dir.path()).expect("sound");
    let file = File::options().write(true).open(&path).expect("writable");
    let put = |at: usize, byte: u8| file.write_all_at(&[byte], at as u64).expect("room");
    let mut unnoticed = Vec::new();
    for at in places.into_iter().flatten() {
        for flip in masks(at) {
            put(at, pages.file[at] ^ flip);
            match verify(dir.path()) {
                Ok(_) => unnoticed.push((at, pages.file[at], flip)),
                Err(VerifyError::Fault(_) | VerifyError::Account { .. } | VerifyError::File(_)) => {}
                Err(VerifyError::Store(error)) => assert_eq!(error.trouble(), Trouble::Damaged, "{error}"),
            }
            put(at, pages.file[at]);
        }
    }
    assert_eq!(unnoticed, [], "flips (place, byte, mask) that nothing found");
    verify(dir.path()).expect("sound again");
}
