-- What admins ask of projections that several processes share, wherever they ask it, and what the one that runs a
-- projection tells the others.

CREATE TABLE cairn.projections (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    projection text COLLATE "C" NOT NULL,
    -- While it is, no process folds for it.
    paused boolean NOT NULL DEFAULT false,
    -- How the process that runs it says it fares, as JSON.
    told text COLLATE "C",
    PRIMARY KEY (tenant, projection)
);

-- Orders that wait for the process that runs the projection, and its answers, until whoever asked has taken them. Both
-- are JSON.
CREATE TABLE cairn.projection_orders (
    tenant uuid NOT NULL DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
    id uuid NOT NULL,
    projection text COLLATE "C" NOT NULL,
    wanted text COLLATE "C" NOT NULL,
    answer text COLLATE "C",
    ordered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id)
);

ALTER TABLE cairn.projections ENABLE ROW LEVEL SECURITY;
ALTER TABLE cairn.projections FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON cairn.projections
    USING (tenant = (SELECT nullif(current_setting('cairn.tenant', true), '')::uuid))
    WITH CHECK (tenant = (SELECT nullif(current_setting('cairn.tenant', true), '')::uuid));

ALTER TABLE cairn.projection_orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE cairn.projection_orders FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON cairn.projection_orders
    USING (tenant = (SELECT nullif(current_setting('cairn.tenant', true), '')::uuid))
    WITH CHECK (tenant = (SELECT nullif(current_setting('cairn.tenant', true), '')::uuid));
