-- Tenants, and what each of them has set: keys, domains, presets, images, origins, policy.
--
-- Rows of a tenant are seen and changed only by a transaction that works for this tenant:
--     SELECT set_config('calotype.tenant', '<id>', true)
-- README.md tells the rules that every migration keeps.

-- Whom the current transaction works for; NULL, which no row has, when nobody was named.
CREATE FUNCTION current_tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('calotype.tenant', true), '')::uuid;

-- Lets a table's rows be touched only by the tenant that a column names. The owner, whom the functions listed in README.md
-- run as, sees all of them.
CREATE PROCEDURE isolate(relation regclass, tenant_column name DEFAULT 'tenant_id')
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
    -- A subquery is evaluated once, so that the planner can use it as an index condition.
    EXECUTE format(
        'CREATE POLICY own_rows ON %1$s TO calotype_app, calotype_worker'
        ' USING (%2$I = (SELECT current_tenant())) WITH CHECK (%2$I = (SELECT current_tenant()))',
        relation, tenant_column);
    EXECUTE format('CREATE POLICY all_rows ON %s TO calotype_owner USING (true) WITH CHECK (true)', relation);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO calotype_app, calotype_worker', relation);
END
$$;

CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    -- The name in URLs.
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9-]{1,63}$'),
    -- For people.
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    -- A suspended tenant's pictures are not served and its keys do not work; nothing of it is lost.
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
    -- Grows with each change, for ETags.
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CALL isolate('tenants', 'id');

CREATE TABLE api_keys (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    -- The key's visible start, to tell keys apart by.
    prefix text NOT NULL,
    -- SHA-256 of the key, which is 256 random bits: nothing slower is needed.
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    scopes text[] NOT NULL
        CHECK (scopes <@ ARRAY['media:read', 'media:write', 'delivery:write', 'admin'] AND cardinality(scopes) > 0),
    expires_at timestamptz,
    revoked_at timestamptz,
    -- Behind by up to a minute: uses are written in batches.
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash);
CALL isolate('api_keys');

CREATE TABLE signing_keys (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- The name of the key in URLs.
    kid text NOT NULL CHECK (kid ~ '^[A-Za-z0-9_-]{1,64}$'),
    -- Sealed with the master key.
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kid)
);
CALL isolate('signing_keys');

CREATE TABLE domains (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    host text NOT NULL CHECK (host = lower(host) AND octet_length(host) BETWEEN 1 AND 253),
    -- What the domain's TXT record has to say.
    challenge text NOT NULL,
    proved_at timestamptz,
    checked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, host)
);
-- Whoever proves it has it: a claim alone keeps nobody else from it.
CREATE UNIQUE INDEX domains_proved ON domains (host) WHERE proved_at IS NOT NULL;
CALL isolate('domains');

CREATE TABLE presets (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name text NOT NULL,
    ops text NOT NULL CHECK (octet_length(ops) BETWEEN 1 AND 4096),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
CALL isolate('presets');

-- Images for `overlay` and `fallback`.
CREATE TABLE images (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name text NOT NULL,
    -- A source as URLs name it.
    source text NOT NULL CHECK (octet_length(source) BETWEEN 1 AND 2048),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
CALL isolate('images');

CREATE TABLE origins (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name text NOT NULL,
    -- As in the policy file, without what is secret.
    config jsonb NOT NULL,
    -- What is, in the same form, sealed with the master key; NULL when there is nothing.
    secrets bytea,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
CALL isolate('origins');

-- Everything else that a tenant is allowed, as one document.
CREATE TABLE policies (
    tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    document jsonb NOT NULL DEFAULT '{}',
    version bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CALL isolate('policies');

-- The key that a request came with, whosever it is.
CREATE FUNCTION find_api_key(wanted bytea)
RETURNS TABLE (tenant_id uuid, slug text, key_id uuid, scopes text[], expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 1
BEGIN ATOMIC
    SELECT keys.tenant_id, tenants.slug, keys.id, keys.scopes, keys.expires_at
    FROM api_keys AS keys JOIN tenants ON tenants.id = keys.tenant_id
    WHERE keys.hash = wanted
        AND keys.revoked_at IS NULL
        AND (keys.expires_at IS NULL OR keys.expires_at > now())
        AND tenants.state = 'active';
END;

-- Notes when keys were used: many at once, of any tenants. Returns of how many that is news.
CREATE FUNCTION note_key_uses(tenant_ids uuid[], key_ids uuid[], used_at timestamptz[])
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    WITH noted AS (
        UPDATE api_keys SET last_used_at = used.at
        FROM unnest(tenant_ids, key_ids, used_at) AS used (tenant_id, key_id, at)
        WHERE api_keys.tenant_id = used.tenant_id AND api_keys.id = used.key_id
            AND (api_keys.last_used_at IS NULL OR api_keys.last_used_at < used.at)
        RETURNING 1
    )
    SELECT count(*) FROM noted;
END;

-- A tenant by its name in URLs, for whoever administers all of them.
CREATE FUNCTION find_tenant(wanted text) RETURNS SETOF tenants
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 1
BEGIN ATOMIC
    SELECT * FROM tenants WHERE slug = wanted;
END;

-- A page of all tenants in the order of their names in URLs, for whoever administers them. One more than the largest page, which
-- tells that there is another.
CREATE FUNCTION list_tenants(after text, page_size integer) RETURNS SETOF tenants
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100
BEGIN ATOMIC
    SELECT * FROM tenants WHERE slug > after ORDER BY slug LIMIT least(page_size, 1001);
END;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_tenant() TO calotype_app, calotype_worker;
GRANT EXECUTE ON FUNCTION find_api_key(bytea), note_key_uses(uuid[], uuid[], timestamptz[]), find_tenant(text),
    list_tenants(text, integer) TO calotype_app;
