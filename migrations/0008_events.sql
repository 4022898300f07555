-- Events: what has happened to a tenant's things, for the tenant to hear of.
--
-- A transaction tells of what it did with a row, so that nothing goes untold and nothing is told that did not happen. The row gets
-- its number when the transaction commits, as in the feed (0002_feed.sql): the tenant's counter is locked from then to the end, so a
-- tenant's numbers grow in the order of commits and none is missing. A transaction that tells edges as well tells of events first:
-- counters of tenants are locked before that of all edges, never after it.

-- The number of each tenant's newest event.
CREATE TABLE event_heads (
    tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    seq bigint NOT NULL
);
CALL isolate('event_heads');
REVOKE INSERT, UPDATE, DELETE ON event_heads FROM calotype_app, calotype_worker;

CREATE TABLE events (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Grows with each of the tenant's events; NULL until the transaction commits.
    seq bigint,
    -- `control-plane/src/events.rs` has all of them.
    kind text NOT NULL CHECK (kind ~ '^[a-z]+\.[a-z_]+$'),
    -- What it is about, as it is then.
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX events_seq ON events (tenant_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX events_kind ON events (tenant_id, kind, seq) WHERE seq IS NOT NULL;
CREATE TABLE events_default PARTITION OF events DEFAULT;

-- Told, never changed: the numbers are given by the trigger.
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON events FOR SELECT TO calotype_app, calotype_worker
    USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY new_rows ON events FOR INSERT TO calotype_app, calotype_worker
    WITH CHECK (tenant_id = (SELECT current_tenant()) AND seq IS NULL);
CREATE POLICY all_rows ON events TO calotype_owner USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON events TO calotype_app, calotype_worker;

CREATE FUNCTION number_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    next bigint;
BEGIN
    INSERT INTO event_heads AS head (tenant_id, seq) VALUES (NEW.tenant_id, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET seq = head.seq + 1
    RETURNING head.seq INTO next;
    UPDATE events SET seq = next
    WHERE tenant_id = NEW.tenant_id AND id = NEW.id AND created_at = NEW.created_at;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER number_event AFTER INSERT ON events
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION number_event();

-- Tells of jobs that have ended, whatever ended them: a worker, its death, or another job.
CREATE FUNCTION tell_of_ended_job() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO events (tenant_id, kind, data)
    VALUES (NEW.tenant_id, 'job.' || NEW.state, jsonb_build_object(
        'id', NEW.id, 'kind', NEW.kind, 'state', NEW.state, 'attempts', NEW.attempts, 'result', NEW.result,
        'error', NEW.error, 'created_at', NEW.created_at, 'finished_at', NEW.finished_at));
    RETURN NULL;
END
$$;
CREATE TRIGGER tell_of_ended_job AFTER UPDATE OF state ON jobs
    FOR EACH ROW WHEN (NEW.state IN ('done', 'failed', 'cancelled') AND OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION tell_of_ended_job();

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
