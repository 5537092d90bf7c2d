-- The event log of one brain. Rows of `events` are inserted and never changed.

CREATE TABLE brain (
    id BLOB NOT NULL CHECK (length(id) = 16)
) STRICT;

-- Names are kept once: an event refers to them by number.
CREATE TABLE streams (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE event_types (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Positions run from 1 without a gap; the large columns come last, so that a filter can skip them.
CREATE TABLE events (
    position       INTEGER PRIMARY KEY,
    stream_id      INTEGER NOT NULL,
    revision       INTEGER NOT NULL,
    type_id        INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL, -- microseconds since 1970
    checksum       INTEGER NOT NULL, -- CRC-32 of everything else in the row
    id             BLOB    NOT NULL,
    data           BLOB    NOT NULL,
    metadata       BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX events_by_id ON events (id);

-- Where each stream's events are, for all positions up to `through`: a row for each run of a stream's events that was
-- written at once. It is written in large steps, see crates/event-store/src/sqlite/recent.rs.
CREATE TABLE stream_index (
    stream_id INTEGER NOT NULL,
    revision  INTEGER NOT NULL, -- of the first event
    positions BLOB    NOT NULL, -- of it and those that follow, 8 bytes each, the least significant first
    PRIMARY KEY (stream_id, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE stream_index_state (
    through INTEGER NOT NULL
) STRICT;
INSERT INTO stream_index_state (through) VALUES (0);

CREATE TABLE tracking (
    source   TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    stream   TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    format   INTEGER NOT NULL,
    data     BLOB    NOT NULL
) STRICT;
