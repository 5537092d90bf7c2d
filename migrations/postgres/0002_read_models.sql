-- Which generations of the read models there are, and which of them serve. Their tables are not here: each generation has
-- a schema of its own (see `read-model/`).
--
-- Row-level security holds for the owner too, who is the application. The tenant is set for each transaction; without it
-- no row is seen and none can be written. The sub-select lets the setting be read once a statement, not once a row.
CREATE SCHEMA IF NOT EXISTS cairn;

-- Every generation that has a schema, finished or not.
CREATE TABLE cairn.generations (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    projection text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, projection, number)
);

-- The one that readers of a projection are sent to.
CREATE TABLE cairn.serving (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    projection text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    -- The one before it, as long as it is kept.
    previous bigint,
    -- Up to which position erasures have been taken out of the generations that nobody keeps up.
    erased bigint NOT NULL DEFAULT 0,
    -- The schema of the generation.
    schema text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, projection)
);

ALTER TABLE cairn.generations ENABLE ROW LEVEL SECURITY;
ALTER TABLE cairn.generations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON cairn.generations
    USING (tenant = (SELECT nullif(current_setting('cairn.tenant', true), '')::uuid))
    WITH CHECK (tenant = (SELECT nullif(current_setting('cairn.tenant', true), '')::uuid));

ALTER TABLE cairn.serving ENABLE ROW LEVEL SECURITY;
ALTER TABLE cairn.serving FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON cairn.serving
    USING (tenant = (SELECT nullif(current_setting('cairn.tenant', true), '')::uuid))
    WITH CHECK (tenant = (SELECT nullif(current_setting('cairn.tenant', true), '')::uuid));
