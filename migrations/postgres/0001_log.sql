-- The logs of brains. Every table that holds a brain's data is kept apart by row-level security, also from the owner of
-- the table: a transaction that has not said which brain it is for sees nothing and writes nothing.
CREATE SCHEMA IF NOT EXISTS cairn;

-- The brain that the transaction is for; none where it has not said.
CREATE FUNCTION cairn.tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('cairn.tenant', true), '')::uuid;

-- One row a brain. Whoever appends holds its lock until the commit, so positions become visible in their order.
CREATE TABLE cairn.logs (
    brain uuid PRIMARY KEY,
    -- The last position; 0 before the first event.
    head bigint NOT NULL DEFAULT 0,
    -- When the last event was recorded: the log's time never runs back.
    recorded_at timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00'
);

CREATE TABLE cairn.events (
    brain uuid NOT NULL,
    position bigint NOT NULL,
    stream text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    id uuid NOT NULL,
    type text COLLATE "C" NOT NULL,
    schema_version integer NOT NULL,
    recorded_at timestamptz NOT NULL,
    -- JSON; sealed where it is personal.
    data bytea NOT NULL,
    metadata bytea NOT NULL,
    PRIMARY KEY (brain, position),
    CONSTRAINT events_stream UNIQUE (brain, stream, revision),
    CONSTRAINT events_id UNIQUE (brain, id)
);

-- How far imports from other logs have got, written in the same transaction as what came from there.
CREATE TABLE cairn.tracking (
    brain uuid NOT NULL,
    source text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (brain, source)
);

-- Folded streams. Losing one loses nothing.
CREATE TABLE cairn.snapshots (
    brain uuid NOT NULL,
    stream text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    format bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (brain, stream)
);

-- How far subscribers outside of this database have got.
CREATE TABLE cairn.checkpoints (
    brain uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (brain, name)
);

-- The keys that seal memories, wrapped by the brain's key. One that is not here any more was destroyed.
CREATE TABLE cairn.key_slots (
    brain uuid NOT NULL,
    slot bigint NOT NULL,
    wrapped bytea NOT NULL,
    PRIMARY KEY (brain, slot)
);

CREATE TABLE cairn.keyrings (
    brain uuid PRIMARY KEY,
    -- Something known, encrypted: tells whether the wrapping key is the right one.
    probe bytea NOT NULL,
    -- The first slot that was never made.
    end_slot bigint NOT NULL DEFAULT 0,
    -- Every erasure in the log up to here is done.
    mended_to bigint NOT NULL DEFAULT 0
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'logs', 'events', 'tracking', 'snapshots', 'checkpoints', 'key_slots', 'keyrings'
    ] LOOP
        EXECUTE format('ALTER TABLE cairn.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE cairn.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON cairn.%I USING (brain = cairn.tenant()) WITH CHECK (brain = cairn.tenant())', name
        );
    END LOOP;
END
$$;

-- Takes the lock of a brain's log and tells what an append must know of it. A function, so that the lock is held for as
-- few round trips as can be; each of its statements sees what was committed before the lock was got.
CREATE FUNCTION cairn.begin_append(the_tenant text, the_streams text[], the_ids uuid[], the_sources text[])
RETURNS TABLE (head bigint, recorded_at timestamptz, revisions bigint[], taken uuid[], tracked bigint[])
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    the_brain uuid := the_tenant::uuid;
BEGIN
    PERFORM set_config('cairn.tenant', the_tenant, true);
    SELECT l.head, l.recorded_at INTO begin_append.head, begin_append.recorded_at
    FROM cairn.logs l WHERE l.brain = the_brain FOR UPDATE;
    SELECT array_agg(
        (SELECT e.revision FROM cairn.events e WHERE e.brain = the_brain AND e.stream = s.name
         ORDER BY e.revision DESC LIMIT 1) ORDER BY s.n)
    INTO begin_append.revisions FROM unnest(the_streams) WITH ORDINALITY s(name, n);
    SELECT array_agg(e.id) INTO begin_append.taken
    FROM unnest(the_ids) AS given(id) JOIN cairn.events e ON e.brain = the_brain AND e.id = given.id;
    SELECT array_agg(
        (SELECT t.position FROM cairn.tracking t WHERE t.brain = the_brain AND t.source = s.name) ORDER BY s.n)
    INTO begin_append.tracked FROM unnest(the_sources) WITH ORDINALITY s(name, n);
    RETURN NEXT;
END
$$;
