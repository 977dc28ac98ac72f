-- Whole numbers that the program keeps as 64 bits without sign (seeds, leases) are stored by their bits, so that one
-- past 2^63 shows as negative here. Credits are micro-credits and never negative.

PRAGMA application_id = 0x48594452;

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    name  TEXT PRIMARY KEY,
    key   BLOB NOT NULL CHECK (length(key) = 32),
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a lease: a task that was leased twice has two.
CREATE TABLE tasks (
    lease      INTEGER PRIMARY KEY,
    task       INTEGER NOT NULL,
    user       TEXT NOT NULL REFERENCES users (name),
    worker     BLOB NOT NULL CHECK (length(worker) = 8),
    version    INTEGER NOT NULL,
    shard      INTEGER NOT NULL,
    seed       INTEGER NOT NULL,
    steps      INTEGER NOT NULL,
    tokens     INTEGER NOT NULL,
    codec      TEXT NOT NULL,
    leased_ms  INTEGER NOT NULL,
    state      TEXT NOT NULL DEFAULT 'leased' CHECK (state IN ('leased', 'accepted', 'ended')),
    done_ms    INTEGER CHECK ((done_ms IS NULL) = (state = 'leased')),
    -- Of an ended lease: why.
    code       TEXT CHECK ((code IS NOT NULL) = (state = 'ended')),
    -- Of an accepted one: its update. A number that was not finite is null.
    blob       BLOB CHECK ((blob IS NOT NULL) = (state = 'accepted') AND length(coalesce(blob, zeroblob(32))) = 32),
    bytes      INTEGER CHECK ((bytes IS NOT NULL) = (state = 'accepted')),
    norm       REAL,
    loss_first REAL,
    loss_last  REAL,
    train_ms   INTEGER CHECK ((train_ms IS NOT NULL) = (state = 'accepted')),
    -- The current version that merged it.
    merged     INTEGER CHECK (merged IS NULL OR state = 'accepted'),
    -- Paid, but its bytes are gone, so that no version can merge it.
    lost       INTEGER NOT NULL DEFAULT 0 CHECK (lost = 0 OR (lost = 1 AND state = 'accepted' AND merged IS NULL))
) STRICT;
CREATE INDEX tasks_by_task ON tasks (task);
CREATE INDEX tasks_by_version ON tasks (version);
CREATE INDEX tasks_by_user ON tasks (user) WHERE state = 'accepted';
CREATE INDEX tasks_waiting ON tasks (lease) WHERE state = 'accepted' AND merged IS NULL AND lost = 0;

-- A number may occur again after its version was superseded (its weights were found damaged); current ones are unique.
CREATE TABLE versions (
    id                INTEGER PRIMARY KEY,
    version           INTEGER NOT NULL,
    digest            BLOB NOT NULL CHECK (length(digest) = 32),
    tokens            INTEGER NOT NULL,
    tasks             INTEGER NOT NULL,
    at_ms             INTEGER NOT NULL,
    val_loss          REAL,
    val_bits_per_byte REAL,
    state             TEXT NOT NULL DEFAULT 'current' CHECK (state IN ('current', 'superseded'))
) STRICT;
CREATE UNIQUE INDEX versions_current ON versions (version) WHERE state = 'current';

CREATE TABLE merged (
    id       INTEGER NOT NULL REFERENCES versions (id),
    position INTEGER NOT NULL,
    lease    INTEGER NOT NULL REFERENCES tasks (lease),
    weight   REAL NOT NULL,
    PRIMARY KEY (id, position)
) STRICT, WITHOUT ROWID;

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
) STRICT;
CREATE UNIQUE INDEX transfers_resolve_once ON transfers (hold) WHERE hold IS NOT NULL;

-- What the transfers add up to. A cache: `ledger verify` recomputes it. Its check refuses an overdraft.
CREATE TABLE accounts (
    name    TEXT PRIMARY KEY,
    debits  INTEGER NOT NULL CHECK (debits >= 0),
    credits INTEGER NOT NULL CHECK (credits >= 0),
    CONSTRAINT never_below_zero CHECK (credits >= debits OR name = 'issuance')
) STRICT, WITHOUT ROWID;

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
