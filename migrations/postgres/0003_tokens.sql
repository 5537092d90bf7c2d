-- Who may ask. Secrets are not here, only their hashes. Tokens are revoked, never deleted, so that what a principal wrote can
-- always be told from whom it was.
CREATE TABLE cairn.tokens (
    brain uuid NOT NULL,
    -- Also the id of the principal it stands for.
    id uuid NOT NULL,
    name text NOT NULL,
    -- The highest truth it may write at: 1 to 5.
    ceiling smallint NOT NULL,
    origin text NOT NULL,
    -- BLAKE3 of the secret, in hexadecimal.
    hash text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (brain, id),
    CONSTRAINT tokens_hash UNIQUE (brain, hash)
);

-- One row a brain. Every change holds its lock and counts it up, so that changes come one after the other, and nodes see from
-- one number whether what they remember still holds.
CREATE TABLE cairn.token_lists (
    brain uuid PRIMARY KEY,
    version bigint NOT NULL
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tokens', 'token_lists'] LOOP
        EXECUTE format('ALTER TABLE cairn.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE cairn.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON cairn.%I USING (brain = cairn.tenant()) WITH CHECK (brain = cairn.tenant())', name
        );
    END LOOP;
END
$$;
