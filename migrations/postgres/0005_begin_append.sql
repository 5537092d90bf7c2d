-- Begins an append, as before, but looks every row up by key. The plans of these queries are kept for as long as a connection lives.
-- The planner, which knows nothing of a table that has just begun to fill, might settle for reading all events of the brain
-- at once to find a few ids, and appends would get slower with every event until the first ANALYZE.
CREATE OR REPLACE FUNCTION cairn.begin_append(
    the_tenant text, the_streams text[], the_ids uuid[], the_sources text[]
)
RETURNS TABLE (head bigint, recorded_at timestamptz, revisions bigint[], taken uuid[], tracked bigint[])
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_bitmapscan = off
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
    -- The limit keeps it from being turned into a join.
    SELECT array_agg(found.id) INTO begin_append.taken
    FROM unnest(the_ids) AS given(id) CROSS JOIN LATERAL (
        SELECT e.id FROM cairn.events e WHERE e.brain = the_brain AND e.id = given.id LIMIT 1
    ) found;
    SELECT array_agg(
        (SELECT t.position FROM cairn.tracking t WHERE t.brain = the_brain AND t.source = s.name) ORDER BY s.n)
    INTO begin_append.tracked FROM unnest(the_sources) WITH ORDINALITY s(name, n);
    RETURN NEXT;
END
$$;
