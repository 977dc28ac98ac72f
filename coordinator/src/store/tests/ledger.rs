//! Money in SQL: what the database itself refuses, and what `ledger verify` finds.

use hydra_core::ledger::audit::Fault;

use super::seal::Sealed;
use super::verify::{VerifyError, export_transfers, verify};
use super::*;

fn refusal(dir: &Path, sql: &str) -> String {
    raw(dir).execute_batch(sql).expect_err(sql).to_string()
}

#[test]
fn transfers_cannot_be_changed_or_deleted() {
    let (dir, _) = sample_run();
    assert!(refusal(dir.path(), "UPDATE transfers SET amount = 2").contains("never changed"));
    assert!(refusal(dir.path(), "DELETE FROM transfers WHERE seq = 3").contains("never deleted"));
    let again = "INSERT OR REPLACE INTO transfers SELECT 11, id, kind, debit, credit, 9, hold, memo, at_ms,
                 (SELECT hash FROM transfers WHERE seq = 10), hash FROM transfers WHERE seq = 1";
    assert!(refusal(dir.path(), again).contains("new id"));
    assert!(verify(dir.path()).is_ok());
}

#[test]
fn sql_refuses_overdrafts_gaps_and_second_ends() {
    let (dir, book) = sample_run();
    let mut store = open(dir.path());
    let (seq, prev) = (book.head().seq + 1, book.head().hash);
    let good = book.clone().hold(id(9), &user("alice"), Credits(500_000), String::new(), 9).expect("covered");
    let ended = book.clone().post(id(102), 9).expect("open");
    assert_eq!((good.seq, good.prev), (seq, prev));
    let bad = [
        ("never_below_zero", Transfer { amount: Credits(2_000_001), ..good.clone() }),
        ("amount > 0", Transfer { amount: Credits(0), ..good.clone() }),
        ("continue the chain", Transfer { seq: seq + 1, ..good.clone() }),
        ("continue the chain", Transfer { prev: Digest([1; 32]), ..good.clone() }),
        ("new id", Transfer { id: id(1), ..good.clone() }),
        ("FOREIGN KEY", Transfer { hold: Some(id(77)), ..ended.clone() }),
        ("transfers.hold", Transfer { hold: Some(id(100)), ..ended.clone() }),
    ];
    for (why, transfer) in bad {
        let refused = store.write(&[Row::Transfer(transfer)]).expect_err(why);
        assert_eq!(refused.trouble(), Trouble::Bug);
        assert!(refused.to_string().contains(why), "{refused} instead of {why}");
        assert_eq!(recovered(&mut store).book, book);
    }
    store.write(&[Row::Transfer(good)]).expect("the good one fits");
}

#[test]
fn a_refused_row_takes_its_whole_transaction_with_it() {
    let (dir, book) = sample_run();
    let mut store = open(dir.path());
    let late = Row::Accepted(accepted(7));
    let refused = store.write(&[named("carol"), late]).expect_err("lease 7 has ended");
    assert!(matches!(refused, StoreError::Unfit(_)), "{refused}");
    let twice = Row::Version(version(3, &[3]));
    assert!(matches!(store.write(&[twice]), Err(StoreError::Unfit(_))));
    let found = recovered(&mut store);
    assert_eq!((found.users.len(), found.newest.version, found.book), (2, VersionNo(2), book));
}

#[test]
fn verify_agrees_with_the_book_while_the_coordinator_runs_and_on_a_copy() {
    let (dir, book) = sample_run();
    let _running = open(dir.path());
    let copy = snapshot(dir.path());
    for path in [dir.path().to_owned(), copy.path().to_owned(), copy.path().join(schema::FILE)] {
        let found = verify(&path).expect("sound");
        assert_eq!((found.head, found.sealed, found.open_holds), (book.head(), Sealed::Signed, 1));
        let (issued, held, revenue) = book.totals();
        let sums = ["issuance", "holds", "revenue"].map(|name| found.net[name]);
        assert_eq!(sums, [-i128::from(issued.0), i128::from(held.0), i128::from(revenue.0)]);
        assert_eq!(found.kinds.into_iter().collect::<Vec<_>>(), [("hold", 3), ("post", 1), ("reward", 5), ("void", 1)]);
    }
}

/// Changes one row behind the program's back.
fn tamper(dir: &Path, sql: &str) {
    let unguarded = "DROP TRIGGER transfers_stay; DROP TRIGGER transfers_remain; PRAGMA ignore_check_constraints = ON;";
    let connection = raw(dir);
    connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; {unguarded}")).expect("no guard left");
    assert_eq!(connection.execute(sql, []).expect(sql), 1);
}

#[test]
fn every_change_to_a_row_is_found_at_that_row() {
    let flips = (0..16).map(|n| ("id", n)).chain((0..32).flat_map(|n| [("prev", n), ("hash", n)]));
    let mut changes: Vec<String> = flips
        .map(|(column, n)| {
            // SQL has no xor of bytes: another byte at that place is written as hex.
            let other = format!("iif(substr(hex({column}), {at}, 1) = '0', '1', '0')", at = 2 * n + 1);
            let text = format!("hex(substr({column}, 1, {n})) || {other} || substr(hex({column}), {})", 2 * n + 2);
            format!("{column} = unhex({text})")
        })
        .collect();
    changes.extend(
        [
            "kind = 'void'",
            "kind = 'gift'",
            "debit = 'user:bob'",
            "credit = 'user:mallory'",
            "credit = 'nobody'",
            "amount = amount + 1",
            "amount = -amount",
            "amount = 0",
            "hold = zeroblob(16)",
            "hold = zeroblob(3)",
            "memo = memo || ' '",
            "memo = CAST(x'ff' AS TEXT)",
            "at_ms = at_ms + 1",
            "prev = zeroblob(32)",
            "hash = zeroblob(31)",
        ]
        .map(str::to_owned),
    );
    let (dir, _) = sample_run();
    for seq in [2, 6, 9] {
        for change in &changes {
            let copy = snapshot(dir.path());
            tamper(copy.path(), &format!("UPDATE transfers SET {change} WHERE seq = {seq}"));
            match verify(copy.path()) {
                Err(VerifyError::Fault(fault)) => assert_eq!(fault.seq, seq, "{change}: {fault}"),
                other => panic!("{change} of row {seq}: {other:?}"),
            }
        }
    }
}

#[test]
fn removed_rows_and_touched_balances_are_found_and_stop_a_start() {
    let cases = [
        ("DELETE FROM transfers WHERE seq = 4", Some(5)),
        ("DELETE FROM transfers WHERE seq = 10", None),
        ("UPDATE transfers SET seq = 40 WHERE seq = 4", Some(5)),
        ("UPDATE accounts SET credits = credits + 1000000 WHERE name = 'user:bob'", None),
        ("INSERT INTO accounts VALUES ('user:mallory', 0, 5)", None),
    ];
    for (sql, row) in cases {
        let (dir, _) = sample_run();
        tamper(dir.path(), sql);
        let found = verify(dir.path()).expect_err(sql);
        match (&found, row) {
            (VerifyError::Fault(Fault { seq, .. }), Some(expected)) => assert_eq!(*seq, expected, "{sql}"),
            (VerifyError::Account { .. }, None) => {}
            _ => panic!("{sql}: {found:?}"),
        }
        let refused = open(dir.path()).load(&mut |_| Ok(()), &mut never, &mut |_, _| Ok(true)).expect_err(sql);
        assert!(matches!(refused, StoreError::BrokenLedger { .. }), "{refused}");
        assert!(refused.to_string().contains("hydra-coordinator ledger verify"));
    }
}

/// What somebody can do who has the file and not the coordinator's key.
#[test]
fn a_chain_cut_short_or_made_anew_does_not_fit_its_signed_head() {
    let unguarded = "DROP TRIGGER transfers_remain; DROP TRIGGER head_goes_on; DROP TRIGGER head_remains;
                     PRAGMA foreign_keys = OFF;";
    let shorter = "DELETE FROM transfers WHERE seq > 8;
                   UPDATE accounts SET credits = credits - 500000 WHERE name IN ('user:alice', 'revenue');
                   UPDATE accounts SET debits = debits - 1000000 WHERE name = 'holds';";
    let cases = [
        (shorter, 9, "missing"),
        ("UPDATE head SET seq = 9, hash = (SELECT hash FROM transfers WHERE seq = 9)", 9, "not the coordinator's"),
        ("UPDATE head SET signature = zeroblob(64)", 10, "not the coordinator's"),
        ("UPDATE meta SET value = zeroblob(16) WHERE key = 'run'", 10, "not the coordinator's"),
        ("DELETE FROM head", 10, "is missing"),
    ];
    for (sql, row, why) in cases {
        let (dir, _) = sample_run();
        raw(dir.path()).execute_batch(&format!("{unguarded} {sql}")).expect(sql);
        let Err(VerifyError::Fault(fault)) = verify(dir.path()) else { panic!("{sql} was not found") };
        assert!(fault.seq == row && fault.why.contains(why), "{sql}: {fault}");
        let refused = open(dir.path()).load(&mut |_| Ok(()), &mut never, &mut |_, _| Ok(true)).expect_err(sql);
        assert!(matches!(refused, StoreError::BrokenLedger { seq, .. } if seq == row), "{refused}");
    }
    let (dir, mut book) = sample_run();
    let old = raw(dir.path()).query_row("SELECT seq, hash, signature FROM head", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
    });
    let old = old.expect("signed");
    open(dir.path()).write(&[Row::Transfer(book.void(id(102), 900).expect("open"))]).expect("it fits");
    let put = "UPDATE head SET seq = ?1, hash = ?2, signature = ?3";
    let connection = raw(dir.path());
    let back = connection.execute(put, params![old.0, old.1, old.2]).expect_err("a trigger");
    assert!(back.to_string().contains("never goes back"), "{back}");
    connection.execute_batch(unguarded).expect("no guard left");
    connection.execute(put, params![old.0, old.1, old.2]).expect("unguarded");
    let Err(VerifyError::Fault(fault)) = verify(dir.path()) else { panic!("an older head") };
    assert!(fault.seq == 11 && fault.why.contains("without a signature"), "{fault}");
}

#[test]
fn damage_to_the_file_is_found() {
    let (dir, _) = sample_run();
    let path = dir.path().join(schema::FILE);
    let root: i64 = raw(dir.path())
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name LIKE 'sqlite_autoindex_transfers_%'", [], |row| {
            row.get(0)
        })
        .expect("the index of ids");
    let mut bytes = std::fs::read(&path).expect("readable");
    // The last bytes of the page: an entry of the index.
    bytes[root as usize * 4096 - 9] ^= 0x40;
    std::fs::write(&path, bytes).expect("writable");
    let found = verify(dir.path()).expect_err("an index that differs from its table");
    assert!(matches!(found, VerifyError::File(_)), "{found:?}");
}

#[test]
fn the_export_has_every_transfer_and_the_chain_can_be_followed() {
    let (dir, book) = sample_run();
    let mut out = Vec::new();
    assert_eq!(export_transfers(dir.path(), &mut out).expect("readable"), 10);
    let text = String::from_utf8(out).expect("JSON is text");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 10);
    assert!(lines.windows(2).all(|pair| pair[1]["prev"] == pair[0]["hash"]));
    assert_eq!(lines[9]["hash"], book.head().hash.to_string());
    assert_eq!(lines[5]["amount"], 500_000);
    assert_eq!(lines[8]["hold"], id(100).to_string());
}

#[test]
fn reports_show_balances_and_progress_while_the_coordinator_runs() {
    let (dir, book) = sample_run();
    let _running = open(dir.path());
    let reader = Reader::open(dir.path()).expect("readable");
    let users = reader.users().expect("readable");
    let shown: Vec<_> = users.iter().map(|u| (u.user.as_str(), u.balance, u.held, u.tasks)).collect();
    let (half, two) = (Credits(500_000), Credits::hyd(2));
    assert_eq!(shown, [("alice", two, half, 3), ("bob", two, Credits::ZERO, 2)]);
    assert_eq!(users[0].balance, book.balance(&user("alice")));
    assert_eq!(reader.user(&user("alice")).expect("readable").as_ref(), Some(&users[0]));
    assert_eq!(reader.user(&user("carol")).expect("readable"), None);
    let json = serde_json::to_value(&users[0]).expect("JSON");
    assert_eq!((&json["balance"], &json["held"]), (&serde_json::json!(2.0), &serde_json::json!(0.5)));

    // What ends a hold has its words, though the hold itself is older than what was asked for.
    let ends = |(transfer, held): &(Transfer, Option<String>)| transfer.hold.map(|hold| (hold, held.clone()));
    let whole = reader.newest_transfers(100).expect("readable");
    let memo = |hold| whole.iter().find(|(held, _)| held.id == hold).map(|(held, _)| held.memo.clone());
    for count in 1..=whole.len() {
        let newest = reader.newest_transfers(count).expect("readable");
        assert_eq!(newest, whole[..count]);
        assert!(newest.iter().filter_map(ends).all(|(hold, held)| held.is_some() && held == memo(hold)));
    }
    assert!(whole.iter().filter_map(ends).count() > 0);

    let status = reader.status().expect("readable");
    assert_eq!((status.version, status.boots, status.tasks, status.waiting), (Some(VersionNo(2)), 2, 5, 1));
    assert_eq!((status.tokens, status.users, status.transfers), (2000, 2, 10));
    assert_eq!(
        (status.evaluated, status.val_loss, status.val_bits_per_byte),
        (Some(VersionNo(2)), Some(4.5), Some(2.25))
    );
    assert_eq!((status.issued, status.held, status.revenue), book.totals());
}

#[test]
fn the_manual_shows_a_true_chain() {
    let manual = include_str!("../../../../docs/ledger.md");
    let lines: Vec<serde_json::Value> =
        manual.lines().filter(|l| l.starts_with("{\"seq\"")).map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let (alice, query) = (user("alice"), hydra_core::ids::QueryId([0x44; 16]));
    let mut book = Book::default();
    let paid_for = TransferId::derive("reward", &[&1_073_741_825_u64.to_le_bytes()]);
    let asked = TransferId::derive("query", &[b"alice", &query.0]);
    let rows = [
        book.reward(paid_for, &alice, Credits::hyd(1), "task 1".into(), 1_767_225_600_000).expect("a reward"),
        book.hold(asked, &alice, Credits(500_000), format!("query {query}"), 1_767_225_660_000).expect("covered"),
        book.post(asked, 1_767_225_661_500).expect("open"),
    ];
    let dir = folder();
    open(dir.path()).write(&rows.map(Row::Transfer)).expect("they fit");
    let mut out = Vec::new();
    export_transfers(dir.path(), &mut out).expect("readable");
    let exported: Vec<serde_json::Value> = out
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    assert_eq!(lines, exported);
}
