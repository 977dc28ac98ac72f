-- API keys, by the BLAKE3 digest of their text; the text itself is nowhere. Revoked ones are deleted.
CREATE TABLE api_keys (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    user   TEXT NOT NULL REFERENCES users (name),
    at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
