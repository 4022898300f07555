-- Events: what has happened to a tenant's things, for the tenant to hear of; and webhooks, which send them to where it wants them.
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
    -- No reference to the tenant: tables by month have none. What is told of a tenant that is gone, nobody sees any more.
    tenant_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Grows with each of the tenant's events; NULL until the transaction commits.
    seq bigint,
    -- `control-plane/src/events.rs` has all of them.
    kind text NOT NULL CHECK (kind ~ '^[a-z]+\.[a-z_]+$'),
    -- What it is about, as it is then.
    data jsonb NOT NULL,
    -- The only webhook that it is for; NULL for all that want its kind.
    webhook_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX events_seq ON events (tenant_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX events_kind ON events (tenant_id, kind, seq) WHERE seq IS NOT NULL;
CALL keep_by_month('events', 3);

-- Told, never changed: the numbers are given by the trigger.
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON events FOR SELECT TO calotype_app, calotype_worker
    USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY new_rows ON events FOR INSERT TO calotype_app, calotype_worker
    WITH CHECK (tenant_id = (SELECT current_tenant()) AND seq IS NULL);
CREATE POLICY all_rows ON events TO calotype_owner USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON events TO calotype_app, calotype_worker;

-- Where events are sent.
CREATE TABLE webhooks (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- Later ones are greater (UUID version 7): lists go by it.
    id uuid NOT NULL,
    url text NOT NULL CHECK (octet_length(url) BETWEEN 1 AND 2048),
    -- For people.
    description text NOT NULL DEFAULT '' CHECK (octet_length(description) <= 500),
    -- What it wants to hear of; empty is everything.
    kinds text[] NOT NULL DEFAULT '{}' CHECK (cardinality(kinds) <= 100),
    -- To one that is disabled nothing is sent, and nothing that happens meanwhile is put in its queue.
    state text NOT NULL DEFAULT 'enabled' CHECK (state IN ('enabled', 'disabled')),
    -- 'asked': by its tenant; 'gone': it answered 410; 'failing': nothing had been taken for days.
    disabled_reason text CHECK (disabled_reason IN ('asked', 'gone', 'failing')),
    disabled_at timestamptz,
    -- Sealed with the master key.
    secret bytea NOT NULL,
    -- The one before, which signs as well until its time is over; sealed as well.
    old_secret bytea,
    old_secret_until timestamptz,
    -- Grows with each change, for ETags.
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CHECK ((state = 'disabled') = (disabled_reason IS NOT NULL)),
    CHECK ((disabled_reason IS NULL) = (disabled_at IS NULL)),
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL))
);
CALL isolate('webhooks');
CALL audit('webhooks', 'webhook', quiet => '{disabled_at,old_secret_until}');

-- Who sends to a webhook, and when: apart from what its tenant has set, because it changes with everything that is sent.
--
-- One worker at a time has the queue, for as long as its lease lasts by this database's clock, and sends one thing after the other:
-- that is what keeps the order. Whoever locks a queue and its deliveries locks the queue first; and whoever makes deliveries locks the
-- queue before it commits, so that a worker that holds the lock sees all that there is to send before it says that there is nothing.
CREATE TABLE webhook_queues (
    tenant_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    -- When there is something to send; NULL while there is nothing.
    due_at timestamptz,
    -- Of the last claim.
    token bigint,
    leased_until timestamptz,
    -- Since when nothing was taken; NULL when the last thing was.
    failing_since timestamptz,
    PRIMARY KEY (tenant_id, webhook_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
) WITH (fillfactor = 50);
CREATE INDEX webhook_queues_due_at ON webhook_queues (due_at) WHERE due_at IS NOT NULL;
CREATE SEQUENCE webhook_tokens;
CALL isolate('webhook_queues');

-- An event on its way to a webhook, or there.
-- No reference to the webhook, not only because tables by month have none: it may be deleted while an event is being numbered, and whatever
-- has happened must not fail for that. What is left over of it goes with its month.
CREATE TABLE webhook_deliveries (
    tenant_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    event_id uuid NOT NULL,
    -- The event's: both are in parts of the same month.
    created_at timestamptz NOT NULL,
    kind text NOT NULL,
    seq bigint NOT NULL,
    -- Where it is in the queue: as events have happened, but for tests, which are tried once and before everything else.
    place bigint NOT NULL,
    -- 'failed': it was tried as often as may be, or cannot be sent.
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts smallint NOT NULL DEFAULT 0,
    -- Not before.
    try_at timestamptz NOT NULL DEFAULT now(),
    -- Of the last attempt: when it ended, how long it took, and what was answered or why nothing was.
    tried_at timestamptz,
    duration_ms integer,
    status smallint,
    error text,
    answer text,
    PRIMARY KEY (tenant_id, webhook_id, event_id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX webhook_deliveries_seq ON webhook_deliveries (tenant_id, webhook_id, seq);
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (tenant_id, webhook_id, place, seq) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (tenant_id, webhook_id, seq) WHERE state = 'failed';
CALL keep_by_month('webhook_deliveries', 3);
CALL isolate('webhook_deliveries');

-- Gives an event its number, and puts it in the queues of those who want it.
CREATE FUNCTION number_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    next bigint;
    wanting uuid[];
BEGIN
    INSERT INTO event_heads AS head (tenant_id, seq) VALUES (NEW.tenant_id, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET seq = head.seq + 1
    RETURNING head.seq INTO next;
    UPDATE events SET seq = next
    WHERE tenant_id = NEW.tenant_id AND id = NEW.id AND created_at = NEW.created_at;

    SELECT array_agg(id ORDER BY id) INTO wanting FROM webhooks
    WHERE tenant_id = NEW.tenant_id AND state = 'enabled'
        AND CASE WHEN NEW.webhook_id IS NULL THEN kinds = '{}' OR NEW.kind = ANY (kinds) ELSE id = NEW.webhook_id END;
    IF wanting IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO webhook_deliveries (tenant_id, webhook_id, event_id, created_at, kind, seq, place)
    SELECT NEW.tenant_id, id, NEW.id, NEW.created_at, NEW.kind, next, CASE WHEN NEW.webhook_id IS NULL THEN next ELSE 0 END
    FROM unnest(wanting) AS wanting (id);

    PERFORM FROM webhook_queues WHERE tenant_id = NEW.tenant_id AND webhook_id = ANY (wanting)
    ORDER BY webhook_id FOR NO KEY UPDATE;
    -- One that waits for its next attempt goes on waiting.
    UPDATE webhook_queues SET due_at = now()
    WHERE tenant_id = NEW.tenant_id AND webhook_id = ANY (wanting) AND (due_at IS NULL OR NEW.webhook_id IS NOT NULL);
    IF FOUND THEN
        PERFORM pg_notify('calotype_webhooks', '');
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER number_event AFTER INSERT ON events
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION number_event();

-- Gives queues that are due to a worker: of the tenants with the fewest at work, those that have waited longest. A tenant has a bounded
-- number at work, so that endpoints of one that all hang do not use up whole workers.
CREATE FUNCTION claim_webhooks(lease interval, per_tenant integer, page_size integer)
RETURNS TABLE (tenant_id uuid, webhook_id uuid, token bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 10
BEGIN ATOMIC
    WITH due AS (
        SELECT queues.tenant_id, queues.webhook_id, queues.due_at FROM webhook_queues AS queues
        WHERE queues.due_at <= now() AND (queues.leased_until IS NULL OR queues.leased_until < now())
        ORDER BY queues.due_at LIMIT 1000
    ),
    busy AS (
        SELECT queues.tenant_id, count(*) AS count FROM webhook_queues AS queues
        WHERE queues.due_at <= now() AND queues.leased_until >= now() GROUP BY queues.tenant_id
    ),
    turns AS (
        SELECT due.*, coalesce(busy.count, 0) + row_number() OVER (PARTITION BY due.tenant_id ORDER BY due.due_at) AS turn
        FROM due LEFT JOIN busy USING (tenant_id)
    ),
    free AS (
        SELECT queues.tenant_id, queues.webhook_id FROM turns
        JOIN webhook_queues AS queues USING (tenant_id, webhook_id)
        WHERE turns.turn <= per_tenant
            -- Again, under the lock: another worker may have been first.
            AND queues.due_at <= now() AND (queues.leased_until IS NULL OR queues.leased_until < now())
        ORDER BY turns.turn, turns.due_at LIMIT least(page_size, 1000) FOR NO KEY UPDATE OF queues SKIP LOCKED
    )
    UPDATE webhook_queues AS queues SET token = nextval('webhook_tokens'), leased_until = now() + lease
    FROM free WHERE queues.tenant_id = free.tenant_id AND queues.webhook_id = free.webhook_id
    RETURNING queues.tenant_id, queues.webhook_id, queues.token;
END;

-- In how many milliseconds a queue is due that nobody has, 0 for one that is; NULL when there is none.
CREATE FUNCTION webhooks_due_in() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    SELECT ceil(extract(epoch FROM greatest(min(due_at) - now(), interval '0')) * 1000)::bigint FROM webhook_queues
    WHERE due_at IS NOT NULL AND (leased_until IS NULL OR leased_until < now());
END;

-- How webhooks are, for who operates them. More than 100,000 waiting deliveries are counted as that many.
CREATE FUNCTION webhooks_state(
    OUT pending bigint, OUT late_seconds double precision, OUT working bigint, OUT failing bigint, OUT disabled bigint
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    SELECT
        (
            SELECT count(*) FROM (
                SELECT FROM webhook_queues AS queues
                JOIN webhook_deliveries AS deliveries USING (tenant_id, webhook_id)
                WHERE queues.due_at IS NOT NULL AND deliveries.state = 'pending' LIMIT 100000
            ) AS counted
        ),
        -- What a worker has is not late, nor what waits for its next attempt.
        coalesce((
            SELECT extract(epoch FROM greatest(now() - min(due_at), interval '0')) FROM webhook_queues
            WHERE due_at IS NOT NULL AND (leased_until IS NULL OR leased_until < now())
        ), 0),
        count(*) FILTER (WHERE webhooks.state = 'enabled' AND queues.failing_since IS NULL),
        count(*) FILTER (WHERE webhooks.state = 'enabled' AND queues.failing_since IS NOT NULL),
        count(*) FILTER (WHERE webhooks.state = 'disabled')
    FROM webhooks JOIN webhook_queues AS queues ON queues.tenant_id = webhooks.tenant_id AND queues.webhook_id = webhooks.id;
END;

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
GRANT EXECUTE ON FUNCTION claim_webhooks(interval, integer, integer), webhooks_due_in(), webhooks_state() TO calotype_worker;
