-- The end of the chain under the coordinator's signature: one row, replaced with every transaction that adds transfers.
CREATE TABLE head (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    seq       INTEGER NOT NULL CHECK (seq >= 0),
    hash      BLOB NOT NULL CHECK (length(hash) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;

-- Only a start may sign what earlier programs left unsigned, after it has checked all of it.
INSERT INTO meta (key, value) VALUES ('unsigned', 1);

CREATE TRIGGER head_goes_on BEFORE UPDATE ON head
WHEN new.seq < old.seq
BEGIN
    SELECT raise(ABORT, 'the signed head never goes back');
END;

CREATE TRIGGER head_remains BEFORE DELETE ON head
BEGIN
    SELECT raise(ABORT, 'the signed head is never deleted');
END;

-- The same rows without a row id. Beside one, SQLite stores the primary key a second time, as a null that nobody
-- reads, so that a changed byte there would be seen by nobody.
ALTER TABLE transfers RENAME TO earlier_transfers;

CREATE TABLE transfers (
    seq    INTEGER PRIMARY KEY CHECK (seq > 0),
    id     BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    kind   TEXT NOT NULL CHECK (kind IN ('reward', 'hold', 'post', 'void')),
    debit  TEXT NOT NULL,
    credit TEXT NOT NULL CHECK (credit <> debit),
    amount INTEGER NOT NULL CHECK (amount > 0 AND amount <= 9007199254740992),
    hold   BLOB REFERENCES transfers (id) CHECK ((hold IS NOT NULL) = (kind IN ('post', 'void'))),
    memo   TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    prev   BLOB NOT NULL CHECK (length(prev) = 32),
    hash   BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT, WITHOUT ROWID;

INSERT INTO transfers SELECT * FROM earlier_transfers ORDER BY seq;
-- Its index and triggers go with it.
DROP TABLE earlier_transfers;

CREATE UNIQUE INDEX transfers_resolve_once ON transfers (hold) WHERE hold IS NOT NULL;

-- "OR REPLACE" would delete without a trigger noticing: hence the look at the id.
CREATE TRIGGER transfers_continue BEFORE INSERT ON transfers
WHEN new.seq <> coalesce((SELECT max(seq) FROM transfers), 0) + 1
  OR new.prev <> coalesce((SELECT hash FROM transfers WHERE seq = new.seq - 1), zeroblob(32))
  OR EXISTS (SELECT 1 FROM transfers WHERE id = new.id)
BEGIN
    SELECT raise(ABORT, 'a transfer must continue the chain with a new id');
END;

CREATE TRIGGER transfers_sum AFTER INSERT ON transfers
BEGIN
    INSERT INTO accounts SELECT new.debit, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE name = new.debit);
    INSERT INTO accounts SELECT new.credit, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE name = new.credit);
    UPDATE accounts SET debits = debits + new.amount WHERE name = new.debit;
    UPDATE accounts SET credits = credits + new.amount WHERE name = new.credit;
END;

CREATE TRIGGER transfers_stay BEFORE UPDATE ON transfers
BEGIN
    SELECT raise(ABORT, 'transfers are never changed: correct one with another transfer');
END;

CREATE TRIGGER transfers_remain BEFORE DELETE ON transfers
BEGIN
    SELECT raise(ABORT, 'transfers are never deleted: correct one with another transfer');
END;
