-- The job queue. `crates/jobs` owns all statements on it.
--
-- A job belongs to a worker for as long as its lease lasts by this database's clock. Each claim gives a new token, and whoever has an
-- older one can change nothing any more: a worker that was thought dead loses its job and nothing else.

CREATE SEQUENCE job_tokens;

CREATE TABLE jobs (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    id uuid NOT NULL,
    -- What is to be done; decides which workers take it.
    kind text NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]{0,62}$'),
    -- 'blocked': waits for other jobs; 'delayed': for `run_at`; 'queued': for a worker.
    state text NOT NULL
        CHECK (state IN ('blocked', 'delayed', 'queued', 'running', 'done', 'failed', 'cancelled')),
    -- Higher ones go first among those of a tenant.
    priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
    payload jsonb NOT NULL,
    -- The span that it was put in by, as W3C Trace Context writes it, where requests are traced.
    trace text CHECK (length(trace) <= 600),
    -- What came of it.
    result jsonb,
    -- Why it failed, the last time.
    error text,
    -- Claims so far.
    attempts smallint NOT NULL DEFAULT 0,
    attempts_max smallint NOT NULL DEFAULT 5 CHECK (attempts_max BETWEEN 1 AND 100),
    -- Not before.
    run_at timestamptz NOT NULL DEFAULT now(),
    -- Jobs that it waits for and that are not done.
    waits_for integer NOT NULL DEFAULT 0 CHECK (waits_for >= 0),
    -- Of the last claim.
    token bigint,
    worker text,
    leased_until timestamptz,
    -- From 0 to 1, by the worker's own word.
    progress real NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    cancel_requested boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CHECK ((state = 'running') = (leased_until IS NOT NULL)),
    CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (state <> 'queued' OR waits_for = 0)
);
CREATE INDEX jobs_queued ON jobs (kind, tenant_id, priority DESC, run_at, id) WHERE state = 'queued';
CREATE INDEX jobs_delayed ON jobs (run_at) WHERE state = 'delayed';
CREATE INDEX jobs_running ON jobs (leased_until) WHERE state = 'running';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_of_tenant ON jobs (tenant_id, state, id);
CALL isolate('jobs');

-- Which jobs wait for which.
CREATE TABLE job_dependencies (
    tenant_id uuid NOT NULL,
    job_id uuid NOT NULL,
    needs_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, needs_id, job_id),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, needs_id) REFERENCES jobs ON DELETE CASCADE,
    CHECK (job_id <> needs_id)
);
CREATE INDEX job_dependencies_job ON job_dependencies (tenant_id, job_id);
CALL isolate('job_dependencies');

-- Wakes workers.
CREATE FUNCTION tell_of_queued_job() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM pg_notify('calotype_jobs', NEW.kind);
    RETURN NULL;
END
$$;
CREATE TRIGGER tell_of_queued_job AFTER INSERT OR UPDATE OF state ON jobs
    FOR EACH ROW WHEN (NEW.state = 'queued') EXECUTE FUNCTION tell_of_queued_job();

-- Lets those that wait for a job go on without it, or fail with it, once it has ended.
CREATE FUNCTION settle_dependents() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.state = 'done' THEN
        UPDATE jobs SET
            waits_for = jobs.waits_for - 1,
            state = CASE
                WHEN jobs.waits_for > 1 THEN 'blocked' WHEN jobs.run_at > now() THEN 'delayed' ELSE 'queued'
            END
        FROM job_dependencies AS needed
        WHERE needed.tenant_id = NEW.tenant_id AND needed.needs_id = NEW.id
            AND jobs.tenant_id = needed.tenant_id AND jobs.id = needed.job_id AND jobs.state = 'blocked';
    ELSE
        UPDATE jobs SET
            state = NEW.state,
            error = format('job %s, which this one needs, was %s', NEW.id, NEW.state),
            finished_at = now()
        FROM job_dependencies AS needed
        WHERE needed.tenant_id = NEW.tenant_id AND needed.needs_id = NEW.id
            AND jobs.tenant_id = needed.tenant_id AND jobs.id = needed.job_id AND jobs.state = 'blocked';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER settle_dependents AFTER UPDATE OF state ON jobs
    FOR EACH ROW WHEN (NEW.state IN ('done', 'failed', 'cancelled') AND OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION settle_dependents();

-- Gives a job to a worker: of the tenants with the fewest jobs running, the one whose next job has waited longest; of its jobs, the
-- most urgent. No row when there is none, or only of tenants for which this worker does so many already: jobs that take long must not
-- take all of its hands.
CREATE FUNCTION claim_job(kinds text[], claimer text, lease interval, per_tenant integer) RETURNS SETOF jobs
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 1 AS $$
DECLARE
    candidate record;
    claimed jobs;
BEGIN
    -- One claim of a worker at a time, so that each counts the ones before.
    PERFORM pg_advisory_xact_lock(hashtextextended('claim_job ' || claimer, 0));

    UPDATE jobs SET state = 'queued' FROM (
        SELECT due.tenant_id, due.id FROM jobs AS due
        WHERE due.state = 'delayed' AND due.run_at <= now()
        ORDER BY due.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE jobs.tenant_id = due.tenant_id AND jobs.id = due.id;

    FOR candidate IN
        -- Each tenant with a queued job once, by stepping through the index and not through the jobs.
        WITH RECURSIVE waiting AS (
            SELECT kind.name AS kind, first.tenant_id
            FROM unnest(kinds) AS kind (name)
            CROSS JOIN LATERAL (
                SELECT jobs.tenant_id FROM jobs WHERE jobs.state = 'queued' AND jobs.kind = kind.name
                ORDER BY jobs.tenant_id LIMIT 1
            ) AS first
            UNION ALL
            SELECT waiting.kind, following.tenant_id
            FROM waiting
            CROSS JOIN LATERAL (
                SELECT jobs.tenant_id FROM jobs
                WHERE jobs.state = 'queued' AND jobs.kind = waiting.kind AND jobs.tenant_id > waiting.tenant_id
                ORDER BY jobs.tenant_id LIMIT 1
            ) AS following
        ),
        running AS (
            SELECT jobs.tenant_id, count(*) AS count, count(*) FILTER (WHERE jobs.worker = claimer) AS here FROM jobs
            WHERE jobs.state = 'running' AND jobs.kind = ANY (kinds) GROUP BY jobs.tenant_id
        )
        SELECT waiting.tenant_id, waiting.kind
        FROM waiting
        LEFT JOIN running USING (tenant_id)
        CROSS JOIN LATERAL (
            SELECT jobs.priority, jobs.run_at FROM jobs
            WHERE jobs.state = 'queued' AND jobs.kind = waiting.kind AND jobs.tenant_id = waiting.tenant_id
            ORDER BY jobs.priority DESC, jobs.run_at, jobs.id LIMIT 1
        ) AS next
        WHERE coalesce(running.here, 0) < per_tenant
        ORDER BY coalesce(running.count, 0), next.run_at, next.priority DESC
    LOOP
        UPDATE jobs SET
            state = 'running', token = nextval('job_tokens'), worker = claimer, attempts = jobs.attempts + 1,
            leased_until = now() + lease, started_at = now(), progress = 0
        FROM (
            SELECT free.tenant_id, free.id FROM jobs AS free
            WHERE free.state = 'queued' AND free.kind = candidate.kind AND free.tenant_id = candidate.tenant_id
            ORDER BY free.priority DESC, free.run_at, free.id LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS free
        WHERE jobs.tenant_id = free.tenant_id AND jobs.id = free.id
        RETURNING jobs.* INTO claimed;
        IF FOUND THEN
            RETURN NEXT claimed;
            RETURN;
        END IF;
    END LOOP;
END
$$;

-- How long a job rests before its next attempt: 1 s, 4 s, 16 s … up to an hour, and up to a quarter more by chance.
CREATE FUNCTION job_backoff(attempts smallint) RETURNS interval
LANGUAGE sql VOLATILE
RETURN least(power(4, greatest(attempts, 1) - 1), 3600) * (1 + random() / 4) * interval '1 second';

-- Takes jobs from workers whose lease has run out: to be tried again, or given up when that was the last attempt.
CREATE FUNCTION reap_jobs(page_size integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    WITH lost AS (
        SELECT tenant_id, id FROM jobs WHERE state = 'running' AND leased_until < now()
        ORDER BY leased_until LIMIT page_size FOR UPDATE SKIP LOCKED
    ),
    reaped AS (
        UPDATE jobs SET
            state = CASE
                WHEN cancel_requested THEN 'cancelled' WHEN attempts < attempts_max THEN 'delayed' ELSE 'failed'
            END,
            run_at = now() + job_backoff(attempts),
            finished_at = CASE WHEN cancel_requested OR attempts >= attempts_max THEN now() END,
            error = format('worker %s was not heard of any more', worker),
            leased_until = NULL,
            token = NULL
        FROM lost WHERE jobs.tenant_id = lost.tenant_id AND jobs.id = lost.id
        RETURNING 1
    )
    SELECT count(*)::integer FROM reaped;
END;

-- Forgets jobs that ended long ago.
CREATE FUNCTION trim_jobs(older_than timestamptz, page_size integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    WITH old AS (
        SELECT tenant_id, id FROM jobs WHERE finished_at < older_than
        ORDER BY finished_at LIMIT page_size FOR UPDATE SKIP LOCKED
    ),
    gone AS (
        DELETE FROM jobs USING old WHERE jobs.tenant_id = old.tenant_id AND jobs.id = old.id RETURNING 1
    )
    SELECT count(*)::integer FROM gone;
END;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_job(text[], text, interval, integer), reap_jobs(integer), trim_jobs(timestamptz, integer)
    TO calotype_worker;
GRANT EXECUTE ON FUNCTION job_backoff(smallint) TO calotype_worker;
