-- The feed: what edges have to know of each change, in the order in which changes became visible.
--
-- A transaction announces a change with a row. The row gets its number when the transaction commits, by a trigger that runs after
-- everything else: the counter's row is locked from then to the end, so numbers grow in the order of commits, no number is
-- missing, and the lock is held for next to no time.

CREATE TABLE feed_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Another one after the database was set back: numbers are then given out again, for other changes.
    epoch uuid NOT NULL,
    -- The number of the newest change.
    seq bigint NOT NULL
);
INSERT INTO feed_head (epoch, seq) VALUES (gen_random_uuid(), 0);

CREATE TABLE feed_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    -- NULL until the transaction commits.
    seq bigint UNIQUE,
    -- No reference: the end of a tenant is an event, too.
    tenant_id uuid NOT NULL,
    -- What has changed: 'tenant', 'policy', 'preset', 'image', 'origin', 'domain', 'signing_key', 'media' or 'purge'.
    kind text NOT NULL,
    -- Which of them; empty where a tenant has one.
    name text NOT NULL DEFAULT '',
    -- What it is now; NULL when it is no more. Secrets are sealed.
    body jsonb,
    announced_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX feed_events_announced_at ON feed_events (announced_at);

-- Announced, never changed: the numbers are given by the trigger.
ALTER TABLE feed_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE feed_events FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON feed_events FOR INSERT TO calotype_app, calotype_worker
    WITH CHECK (tenant_id = (SELECT current_tenant()) AND seq IS NULL);
CREATE POLICY all_rows ON feed_events TO calotype_owner USING (true) WITH CHECK (true);
GRANT INSERT ON feed_events TO calotype_app, calotype_worker;

CREATE FUNCTION number_feed_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    next bigint;
BEGIN
    UPDATE feed_head SET seq = seq + 1 RETURNING seq INTO next;
    UPDATE feed_events SET seq = next WHERE id = NEW.id;
    -- Told to listeners once the transaction has committed.
    PERFORM pg_notify('calotype_feed', next::text);
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER number_feed_event AFTER INSERT ON feed_events
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION number_feed_event();

-- Where the feed is.
CREATE FUNCTION feed_position(OUT epoch uuid, OUT seq bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    SELECT feed_head.epoch, feed_head.seq FROM feed_head;
END;

-- The changes after a number, oldest first.
CREATE FUNCTION feed_after(after bigint, page_size integer) RETURNS SETOF feed_events
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100
BEGIN ATOMIC
    SELECT * FROM feed_events WHERE seq > after ORDER BY seq LIMIT least(page_size, 10000);
END;

-- The oldest change that is still told; whoever is further behind starts from a snapshot. NULL when none is.
CREATE FUNCTION feed_oldest() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    SELECT min(seq) FROM feed_events;
END;

-- Begins a new epoch, unless another one than `old` has begun already: the database was set back, so that edges know more than it.
CREATE FUNCTION restart_feed(old uuid) RETURNS uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    UPDATE feed_head SET epoch = gen_random_uuid() WHERE epoch = old;
    SELECT epoch FROM feed_head;
END;

-- Forgets changes that are older than what any edge that still runs can have missed.
CREATE FUNCTION trim_feed(older_than timestamptz) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    WITH gone AS (DELETE FROM feed_events WHERE announced_at < older_than AND seq IS NOT NULL RETURNING 1)
    SELECT count(*) FROM gone;
END;

-- Everything that edges know of tenants, a page of tenants at a time.
CREATE FUNCTION feed_snapshot(after uuid, page_size integer)
RETURNS TABLE (
    tenant_id uuid, slug text, state text, policy jsonb, presets jsonb, images jsonb, origins jsonb, domains jsonb,
    signing_keys jsonb
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100
BEGIN ATOMIC
    SELECT
        tenants.id,
        tenants.slug,
        tenants.state,
        (SELECT document FROM policies WHERE policies.tenant_id = tenants.id),
        (SELECT jsonb_object_agg(name, ops) FROM presets WHERE presets.tenant_id = tenants.id),
        (SELECT jsonb_object_agg(name, source) FROM images WHERE images.tenant_id = tenants.id),
        (
            SELECT jsonb_object_agg(name, jsonb_build_object('config', config, 'sealed', encode(secrets, 'base64')))
            FROM origins WHERE origins.tenant_id = tenants.id
        ),
        (
            SELECT jsonb_agg(host ORDER BY host) FROM domains
            WHERE domains.tenant_id = tenants.id AND proved_at IS NOT NULL
        ),
        (
            SELECT jsonb_object_agg(kid, jsonb_build_object('sealed', encode(secret, 'base64'))) FROM signing_keys
            WHERE signing_keys.tenant_id = tenants.id
        )
    FROM tenants
    WHERE after IS NULL OR tenants.id > after
    ORDER BY tenants.id
    LIMIT least(page_size, 10000);
END;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION feed_position(), feed_after(bigint, integer), feed_oldest(), restart_feed(uuid),
    feed_snapshot(uuid, integer) TO calotype_app;
GRANT EXECUTE ON FUNCTION trim_feed(timestamptz) TO calotype_worker;
