-- The function that begins an append looks rows up by key and by nothing else. Its plans are kept for as long as a connection
-- lives. The planner, which knows nothing of tables that have just begun to fill, might settle for reading them from end to
-- end, and appends would get slower with every event until the first ANALYZE.
ALTER FUNCTION cairn.begin_append(text, text[], uuid[], text[])
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off;
