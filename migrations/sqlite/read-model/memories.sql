-- Every id is the 16 bytes of a UUID, every time is in milliseconds since 1970, every truth is its level.
CREATE TABLE memories (
    id BLOB NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    -- The title in lower case: what is sorted by and searched in.
    title_key TEXT NOT NULL,
    excerpt TEXT NOT NULL,
    archived INTEGER NOT NULL,
    -- The time it is about: a due date, the start of an event, the day of a log.
    about_at INTEGER,
    created_at INTEGER NOT NULL,
    created_by BLOB NOT NULL,
    created_origin TEXT NOT NULL,
    created_truth INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    position INTEGER NOT NULL,
    truth INTEGER NOT NULL,
    origin TEXT NOT NULL,
    source_event BLOB NOT NULL,
    suggestions INTEGER NOT NULL,
    conflicts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Apart from the rest, so that a change of anything else does not write the text again.
CREATE TABLE bodies (
    memory BLOB NOT NULL PRIMARY KEY,
    text TEXT NOT NULL
) STRICT;

-- The effective claim of every field but tags and links. The body's value is in `bodies`.
CREATE TABLE fields (
    memory BLOB NOT NULL,
    field TEXT NOT NULL,
    value TEXT,
    truth INTEGER NOT NULL,
    origin TEXT NOT NULL,
    principal BLOB NOT NULL,
    event BLOB NOT NULL,
    at INTEGER NOT NULL,
    accepted BLOB,
    accepted_origin TEXT,
    PRIMARY KEY (memory, field)
) STRICT, WITHOUT ROWID;

CREATE TABLE suggestions (
    memory BLOB NOT NULL,
    field TEXT NOT NULL,
    event BLOB NOT NULL,
    value TEXT,
    diff TEXT,
    truth INTEGER NOT NULL,
    origin TEXT NOT NULL,
    principal BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (memory, field, event)
) STRICT, WITHOUT ROWID;

-- Every side of every conflict.
CREATE TABLE conflicts (
    memory BLOB NOT NULL,
    field TEXT NOT NULL,
    event BLOB NOT NULL,
    value TEXT NOT NULL,
    truth INTEGER NOT NULL,
    origin TEXT NOT NULL,
    principal BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (memory, field, event)
) STRICT, WITHOUT ROWID;

CREATE TABLE tags (
    memory BLOB NOT NULL,
    tag TEXT NOT NULL,
    truth INTEGER NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (memory, tag)
) STRICT, WITHOUT ROWID;

CREATE TABLE links (
    source BLOB NOT NULL,
    relation TEXT NOT NULL,
    target BLOB NOT NULL,
    truth INTEGER NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (source, relation, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE files (
    memory BLOB NOT NULL PRIMARY KEY,
    vault BLOB NOT NULL,
    path TEXT NOT NULL,
    part TEXT NOT NULL,
    digest TEXT NOT NULL,
    unresolved TEXT NOT NULL,
    vanished INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE principals (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    ceiling INTEGER NOT NULL,
    origin TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

-- All that is left of memories whose content was destroyed.
CREATE TABLE tombstones (
    memory BLOB NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE notes (
    memory BLOB NOT NULL PRIMARY KEY,
    words INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    memory BLOB NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    priority TEXT NOT NULL,
    due_date TEXT,
    completed_at INTEGER,
    assigned_to TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE people (
    memory BLOB NOT NULL PRIMARY KEY,
    email TEXT,
    phone TEXT,
    organization TEXT,
    role TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE projects (
    memory BLOB NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    start_date TEXT,
    end_date TEXT
) STRICT, WITHOUT ROWID;

-- Things in a calendar; events of the log have no table here.
CREATE TABLE calendar_events (
    memory BLOB NOT NULL PRIMARY KEY,
    start_time INTEGER,
    end_time INTEGER,
    location TEXT,
    attendees TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE places (
    memory BLOB NOT NULL PRIMARY KEY,
    address TEXT,
    latitude REAL,
    longitude REAL,
    place_type TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE daily_logs (
    memory BLOB NOT NULL PRIMARY KEY,
    log_date TEXT
) STRICT, WITHOUT ROWID;
