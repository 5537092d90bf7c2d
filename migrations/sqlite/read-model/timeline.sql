-- Every id is the 16 bytes of a UUID, every time is in milliseconds since 1970, every truth is its level.
CREATE TABLE timeline (
    position INTEGER NOT NULL PRIMARY KEY,
    memory BLOB NOT NULL,
    revision INTEGER NOT NULL,
    event BLOB NOT NULL,
    type TEXT NOT NULL,
    at INTEGER NOT NULL,
    principal BLOB NOT NULL,
    truth INTEGER NOT NULL,
    origin TEXT NOT NULL,
    command BLOB NOT NULL,
    field TEXT,
    value TEXT,
    outcome TEXT,
    summary TEXT NOT NULL
) STRICT;

-- All that is left of memories whose content was destroyed.
CREATE TABLE tombstones (
    memory BLOB NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The writes need it too: an erasure looks the memory's rows up.
CREATE INDEX timeline_memory ON timeline (memory, position);
