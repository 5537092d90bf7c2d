-- The tables of `migrations/sqlite/read-model/memories.sql`: the same columns in the same order, after the tenant.
-- They are created in a schema of their own for each generation; row-level security is put on every one of them then.
-- Text is sorted by its bytes, as SQLite does.
CREATE TABLE memories (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    id uuid NOT NULL PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    title text COLLATE "C" NOT NULL,
    -- The title in lower case: what is sorted by and searched in.
    title_key text COLLATE "C" NOT NULL,
    excerpt text COLLATE "C" NOT NULL,
    archived boolean NOT NULL,
    -- The time it is about: a due date, the start of an event, the day of a log.
    about_at timestamptz,
    created_at timestamptz NOT NULL,
    created_by uuid NOT NULL,
    created_origin text COLLATE "C" NOT NULL,
    created_truth smallint NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL,
    position bigint NOT NULL,
    truth smallint NOT NULL,
    origin text COLLATE "C" NOT NULL,
    source_event uuid NOT NULL,
    suggestions bigint NOT NULL,
    conflicts bigint NOT NULL
);

-- Apart from the rest, so that a change of anything else does not write the text again.
CREATE TABLE bodies (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    text text COLLATE "C" NOT NULL
);

-- The effective claim of every field but tags and links. The body's value is in `bodies`.
CREATE TABLE fields (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL,
    field text COLLATE "C" NOT NULL,
    value text COLLATE "C",
    truth smallint NOT NULL,
    origin text COLLATE "C" NOT NULL,
    principal uuid NOT NULL,
    event uuid NOT NULL,
    at timestamptz NOT NULL,
    accepted uuid,
    accepted_origin text COLLATE "C",
    PRIMARY KEY (memory, field)
);

CREATE TABLE suggestions (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL,
    field text COLLATE "C" NOT NULL,
    event uuid NOT NULL,
    value text COLLATE "C",
    diff text COLLATE "C",
    truth smallint NOT NULL,
    origin text COLLATE "C" NOT NULL,
    principal uuid NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (memory, field, event)
);

-- Every side of every conflict.
CREATE TABLE conflicts (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL,
    field text COLLATE "C" NOT NULL,
    event uuid NOT NULL,
    value text COLLATE "C" NOT NULL,
    truth smallint NOT NULL,
    origin text COLLATE "C" NOT NULL,
    principal uuid NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (memory, field, event)
);

CREATE TABLE tags (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL,
    tag text COLLATE "C" NOT NULL,
    truth smallint NOT NULL,
    event uuid NOT NULL,
    PRIMARY KEY (memory, tag)
);

CREATE TABLE links (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    source uuid NOT NULL,
    relation text COLLATE "C" NOT NULL,
    target uuid NOT NULL,
    truth smallint NOT NULL,
    event uuid NOT NULL,
    PRIMARY KEY (source, relation, target)
);

CREATE TABLE files (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    vault uuid NOT NULL,
    path text COLLATE "C" NOT NULL,
    part text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    unresolved text COLLATE "C" NOT NULL,
    vanished boolean NOT NULL
);

CREATE TABLE principals (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    id uuid NOT NULL PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    ceiling smallint NOT NULL,
    origin text COLLATE "C" NOT NULL,
    registered_at timestamptz NOT NULL,
    revoked_at timestamptz
);

-- All that is left of memories whose content was destroyed.
CREATE TABLE tombstones (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    at timestamptz NOT NULL,
    position bigint NOT NULL
);

CREATE TABLE notes (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    words bigint NOT NULL
);

CREATE TABLE tasks (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    status text COLLATE "C" NOT NULL,
    priority text COLLATE "C" NOT NULL,
    due_date text COLLATE "C",
    completed_at timestamptz,
    assigned_to text COLLATE "C"
);

CREATE TABLE people (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    email text COLLATE "C",
    phone text COLLATE "C",
    organization text COLLATE "C",
    role text COLLATE "C"
);

CREATE TABLE projects (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    status text COLLATE "C" NOT NULL,
    start_date text COLLATE "C",
    end_date text COLLATE "C"
);

-- Things in a calendar; events of the log have no table here.
CREATE TABLE calendar_events (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    start_time timestamptz,
    end_time timestamptz,
    location text COLLATE "C",
    attendees text COLLATE "C" NOT NULL
);

CREATE TABLE places (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    address text COLLATE "C",
    latitude double precision,
    longitude double precision,
    place_type text COLLATE "C"
);

CREATE TABLE daily_logs (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    log_date text COLLATE "C"
);
