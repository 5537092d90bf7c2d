-- The tables of `migrations/sqlite/read-model/timeline.sql`: the same columns in the same order, after the tenant.
CREATE TABLE timeline (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    position bigint NOT NULL PRIMARY KEY,
    memory uuid NOT NULL,
    revision bigint NOT NULL,
    event uuid NOT NULL,
    type text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    principal uuid NOT NULL,
    truth smallint NOT NULL,
    origin text COLLATE "C" NOT NULL,
    command uuid NOT NULL,
    field text COLLATE "C",
    value text COLLATE "C",
    outcome text COLLATE "C",
    summary text COLLATE "C" NOT NULL
);

-- All that is left of memories whose content was destroyed.
CREATE TABLE tombstones (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    memory uuid NOT NULL PRIMARY KEY,
    at timestamptz NOT NULL,
    position bigint NOT NULL
);

-- The writes need it too: an erasure looks the memory's rows up.
CREATE INDEX timeline_memory ON timeline (memory, position);
