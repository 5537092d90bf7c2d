-- The rest of the transaction sees the rows of the tenant, and the tables of the generation that serves a read model. False
-- where none does. All of it is one round trip of the many that a query costs.
CREATE FUNCTION cairn.begin_read(the_tenant text, the_model text, the_limit text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    the_schema text;
BEGIN
    PERFORM set_config('cairn.tenant', the_tenant, true), set_config('jit', 'off', true),
        set_config('statement_timeout', the_limit, true);
    SELECT s.schema INTO the_schema FROM cairn.serving s WHERE s.projection = the_model;
    IF the_schema IS NULL THEN
        RETURN false;
    END IF;
    -- Whoever drops a generation takes the other side of the lock first. Without it the two could wait for each other, one with
    -- the first table read and the other with the last one locked.
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(the_schema, 0)),
        set_config('search_path', quote_ident(the_schema) || ', pg_temp', true);
    RETURN true;
END
$$;
