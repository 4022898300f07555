-- Usage: what edges have sent and made for each tenant, and what is stored, by days of UTC. Quotas: how much of that a tenant may have.

-- What edges report. No reference to the tenant: edges do not wait for one that is being deleted, and what it has used may still have
-- to be paid for.
CREATE TABLE usage_days (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    requests bigint NOT NULL DEFAULT 0,
    -- Of bodies sent.
    bytes bigint NOT NULL DEFAULT 0,
    -- Requests answered out of an edge's own cache.
    hits bigint NOT NULL DEFAULT 0,
    -- Requests answered with a status of 400 or more.
    errors bigint NOT NULL DEFAULT 0,
    -- Renditions made.
    transforms bigint NOT NULL DEFAULT 0,
    -- Microseconds on threads that make renditions.
    cpu_us bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, day)
) PARTITION BY RANGE (day);
CALL isolate('usage_days');
CALL keep_by_month('usage_days', 36);

-- The last batch of each life of an edge: no batch up to it is counted again. Of nobody: only functions touch it.
CREATE TABLE usage_reports (
    edge text NOT NULL CHECK (octet_length(edge) BETWEEN 1 AND 64),
    boot uuid NOT NULL,
    number bigint NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (edge, boot)
);
CREATE INDEX usage_reports_reported_at ON usage_reports (reported_at);

-- How much media there is of a tenant, kept true by triggers on `media`.
CREATE TABLE stored_totals (
    tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    bytes bigint NOT NULL,
    files bigint NOT NULL
);
CALL isolate('stored_totals');

-- By how much that changed on a day. What there was at the end of a day is what there is now, less all changes after it.
CREATE TABLE stored_days (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    bytes bigint NOT NULL,
    files bigint NOT NULL,
    PRIMARY KEY (tenant_id, day)
) PARTITION BY RANGE (day);
CALL isolate('stored_days');
CALL keep_by_month('stored_days', 36);

-- How much a tenant may have; NULL is without limit. No row is without any.
CREATE TABLE quotas (
    tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    -- Of its media.
    storage_bytes bigint CHECK (storage_bytes >= 0),
    -- Media.
    files bigint CHECK (files >= 0),
    -- Of bodies that edges send in a calendar month.
    bandwidth_bytes bigint CHECK (bandwidth_bytes >= 0),
    -- Renditions that edges make in a calendar month.
    transforms bigint CHECK (transforms >= 0),
    version bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CALL isolate('quotas');
CALL audit('quotas', 'quota');

-- How much of a quota is known to be used, in parts that somebody is told of. A row of an earlier month says nothing about this one.
CREATE TABLE quota_levels (
    tenant_id uuid NOT NULL REFERENCES quotas ON DELETE CASCADE,
    quota text NOT NULL CHECK (quota IN ('storage', 'files', 'bandwidth', 'transforms')),
    month date NOT NULL,
    -- Percent.
    level smallint NOT NULL CHECK (level IN (0, 80, 100)),
    -- The highest that the tenant was told of in this month.
    told smallint NOT NULL CHECK (told IN (0, 80, 100)),
    PRIMARY KEY (tenant_id, quota)
);
CALL isolate('quota_levels');

-- Only functions and triggers write these.
REVOKE INSERT, UPDATE, DELETE ON usage_days, stored_totals, stored_days FROM calotype_app, calotype_worker;

CREATE FUNCTION utc_day() RETURNS date
LANGUAGE sql STABLE
RETURN (now() AT TIME ZONE 'UTC')::date;

CREATE FUNCTION utc_month() RETURNS date
LANGUAGE sql STABLE
RETURN date_trunc('month', now() AT TIME ZONE 'UTC')::date;

-- Counts a batch of an edge, once; false if it was counted before. Rows are touched in one order, so that edges do not wait for each
-- other in a circle. Left out are those of tenants that are not there, and of days longer ago than lives of edges are remembered
-- (`trim_usage_reports`): a batch that might have been counted before has no other. A day that cannot have come yet is a mistake of the
-- edge's clock, and counts for today.
CREATE FUNCTION take_usage(
    edge_name text, edge_boot uuid, batch bigint, tenants uuid[], days integer[],
    requests bigint[], bytes bigint[], hits bigint[], errors bigint[], transforms bigint[], cpu_us bigint[]
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- Whoever sends the same at this moment waits for this.
    INSERT INTO usage_reports AS known (edge, boot, number) VALUES (edge_name, edge_boot, batch)
    ON CONFLICT (edge, boot) DO UPDATE SET number = EXCLUDED.number, reported_at = now()
    WHERE known.number < EXCLUDED.number;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO usage_days AS known (tenant_id, day, requests, bytes, hits, errors, transforms, cpu_us)
    SELECT said.tenant_id, counted.day, sum(said.requests), sum(said.bytes), sum(said.hits), sum(said.errors),
        sum(said.transforms), sum(said.cpu_us)
    FROM unnest(take_usage.tenants, days, requests, bytes, hits, errors, transforms, cpu_us)
        AS said (tenant_id, day, requests, bytes, hits, errors, transforms, cpu_us)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN date '1970-01-01' + said.day > utc_day() + 1 THEN utc_day() ELSE date '1970-01-01' + said.day END AS day
    ) AS counted
    WHERE counted.day >= utc_day() - 62 AND EXISTS (SELECT FROM tenants WHERE tenants.id = said.tenant_id)
    GROUP BY said.tenant_id, counted.day
    ORDER BY said.tenant_id, counted.day
    ON CONFLICT (tenant_id, day) DO UPDATE SET
        requests = known.requests + EXCLUDED.requests,
        bytes = known.bytes + EXCLUDED.bytes,
        hits = known.hits + EXCLUDED.hits,
        errors = known.errors + EXCLUDED.errors,
        transforms = known.transforms + EXCLUDED.transforms,
        cpu_us = known.cpu_us + EXCLUDED.cpu_us;
    RETURN true;
END
$$;

-- Forgets lives of edges that were not heard of for longer than `take_usage` takes anything from them.
CREATE FUNCTION trim_usage_reports() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    WITH gone AS (DELETE FROM usage_reports WHERE reported_at < now() - interval '90 days' RETURNING 1)
    SELECT count(*) FROM gone;
END;

-- What a page of tenants have used from one day to another, by their names in URLs.
CREATE FUNCTION usage_of_tenants(first date, last date, after text, page_size integer)
RETURNS TABLE (
    slug text, requests bigint, bytes bigint, hits bigint, errors bigint, transforms bigint, cpu_us bigint,
    stored_bytes bigint, stored_files bigint, stored_byte_days bigint
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100
BEGIN ATOMIC
    SELECT page.slug, used.requests, used.bytes, used.hits, used.errors, used.transforms, used.cpu_us,
        coalesce(stored.bytes, 0) - since.bytes, coalesce(stored.files, 0) - since.files,
        coalesce(stored.bytes, 0) * (last - first + 1) - since.byte_days
    FROM (SELECT id, slug FROM tenants WHERE slug > after ORDER BY slug LIMIT least(page_size, 1001)) AS page
    LEFT JOIN stored_totals AS stored ON stored.tenant_id = page.id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(requests), 0)::bigint AS requests, coalesce(sum(bytes), 0)::bigint AS bytes,
            coalesce(sum(hits), 0)::bigint AS hits, coalesce(sum(errors), 0)::bigint AS errors,
            coalesce(sum(transforms), 0)::bigint AS transforms, coalesce(sum(cpu_us), 0)::bigint AS cpu_us
        FROM usage_days WHERE usage_days.tenant_id = page.id AND day BETWEEN first AND last
    ) AS used
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(bytes) FILTER (WHERE day > last), 0)::bigint AS bytes,
            coalesce(sum(files) FILTER (WHERE day > last), 0)::bigint AS files,
            -- A change says nothing about the days before it.
            coalesce(sum(bytes * (least(day, last + 1) - first)), 0)::bigint AS byte_days
        FROM stored_days WHERE stored_days.tenant_id = page.id AND day > first
    ) AS since
    ORDER BY page.slug;
END;

-- How much of each quota is used, of tenants that have one; this month's where it is a month's.
CREATE FUNCTION quota_use(whose uuid[])
RETURNS TABLE (tenant_id uuid, quota text, allowed bigint, used bigint, month date)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 4
BEGIN ATOMIC
    SELECT limits.tenant_id, one.quota, one.allowed, one.used, utc_month()
    FROM quotas AS limits
    LEFT JOIN stored_totals AS stored ON stored.tenant_id = limits.tenant_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(bytes), 0)::bigint AS bytes, coalesce(sum(transforms), 0)::bigint AS transforms
        FROM usage_days
        WHERE usage_days.tenant_id = limits.tenant_id AND (limits.bandwidth_bytes IS NOT NULL OR limits.transforms IS NOT NULL)
            AND day >= utc_month() AND day < utc_month() + interval '1 month'
    ) AS of_month
    CROSS JOIN LATERAL (
        VALUES
            ('storage', limits.storage_bytes, coalesce(stored.bytes, 0)),
            ('files', limits.files, coalesce(stored.files, 0)),
            ('bandwidth', limits.bandwidth_bytes, of_month.bytes),
            ('transforms', limits.transforms, of_month.transforms)
    ) AS one (quota, allowed, used)
    WHERE limits.tenant_id = ANY (whose) AND one.allowed IS NOT NULL;
END;

-- The part of a quota that is used, as somebody is told of it.
CREATE FUNCTION quota_level(used bigint, allowed bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN used >= allowed THEN 100 WHEN used::numeric * 100 >= allowed::numeric * 80 THEN 80 ELSE 0 END;

-- Of these tenants, those of whom more or less of a quota is used than is known.
CREATE FUNCTION due_quotas(whose uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 1
BEGIN ATOMIC
    SELECT DISTINCT use.tenant_id
    FROM quota_use(whose) AS use
    LEFT JOIN quota_levels AS known ON known.tenant_id = use.tenant_id AND known.quota = use.quota AND known.month = use.month
    WHERE quota_level(use.used, use.allowed) <> coalesce(known.level, 0);
END;

-- A page of the tenants that have quotas.
CREATE FUNCTION tenants_with_quotas(after uuid, page_size integer) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100
BEGIN ATOMIC
    SELECT tenant_id FROM quotas WHERE after IS NULL OR tenant_id > after ORDER BY tenant_id LIMIT least(page_size, 1000);
END;

-- What edges are told of quotas that are used up, of these tenants: until when, in Unix seconds.
CREATE FUNCTION exhausted_quotas(whose uuid[]) RETURNS TABLE (tenant_id uuid, exhausted jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 10
BEGIN ATOMIC
    SELECT quota_levels.tenant_id,
        jsonb_object_agg(quota, extract(epoch FROM (month + interval '1 month') AT TIME ZONE 'UTC')::bigint)
    FROM quota_levels
    WHERE quota_levels.tenant_id = ANY (whose) AND quota IN ('bandwidth', 'transforms') AND level = 100
        AND month = utc_month()
    GROUP BY quota_levels.tenant_id;
END;

-- Keeps what is stored true to `media`, and within the quotas, whatever changes it: once for a statement and each of its tenants, after
-- its rows are locked. Two uploads that would go beyond a quota together wait for each other at the tenant's row of totals.
CREATE FUNCTION count_stored() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    change record;
    total stored_totals;
    allowed quotas;
BEGIN
    FOR change IN EXECUTE format(
        'SELECT tenant_id, sum(bytes)::bigint AS bytes, sum(files)::bigint AS files FROM (%s) AS changes'
        ' GROUP BY tenant_id HAVING sum(bytes) <> 0 OR sum(files) <> 0 ORDER BY tenant_id',
        concat_ws(' UNION ALL ',
            CASE WHEN TG_OP <> 'DELETE' THEN 'SELECT tenant_id, bytes, 1 AS files FROM added' END,
            CASE WHEN TG_OP <> 'INSERT' THEN 'SELECT tenant_id, -bytes AS bytes, -1 AS files FROM removed' END))
    LOOP
        IF TG_OP = 'INSERT' THEN
            INSERT INTO stored_totals AS known (tenant_id, bytes, files) VALUES (change.tenant_id, change.bytes, change.files)
            ON CONFLICT (tenant_id) DO UPDATE SET bytes = known.bytes + EXCLUDED.bytes, files = known.files + EXCLUDED.files
            RETURNING * INTO total;
        ELSE
            UPDATE stored_totals SET bytes = bytes + change.bytes, files = files + change.files
            WHERE tenant_id = change.tenant_id RETURNING * INTO total;
            -- The tenant itself is being deleted.
            CONTINUE WHEN NOT FOUND;
        END IF;
        INSERT INTO stored_days AS known (tenant_id, day, bytes, files)
        VALUES (change.tenant_id, utc_day(), change.bytes, change.files)
        ON CONFLICT (tenant_id, day) DO UPDATE SET bytes = known.bytes + EXCLUDED.bytes, files = known.files + EXCLUDED.files;
        SELECT * INTO allowed FROM quotas WHERE tenant_id = change.tenant_id;
        IF change.bytes > 0 AND total.bytes > allowed.storage_bytes THEN
            RAISE 'the quota of stored bytes is used up' USING ERRCODE = 'check_violation', CONSTRAINT = 'quota_storage';
        END IF;
        IF change.files > 0 AND total.files > allowed.files THEN
            RAISE 'the quota of files is used up' USING ERRCODE = 'check_violation', CONSTRAINT = 'quota_files';
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_stored_insert AFTER INSERT ON media
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_stored();
CREATE TRIGGER count_stored_update AFTER UPDATE ON media
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_stored();
CREATE TRIGGER count_stored_delete AFTER DELETE ON media
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_stored();

-- What was there before; nobody changes media until this commits.
INSERT INTO stored_totals (tenant_id, bytes, files) SELECT tenant_id, sum(bytes), count(*) FROM media GROUP BY tenant_id;
INSERT INTO stored_days (tenant_id, day, bytes, files)
SELECT tenant_id, (created_at AT TIME ZONE 'UTC')::date, sum(bytes), count(*) FROM media GROUP BY 1, 2;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION take_usage(
        text, uuid, bigint, uuid[], integer[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[]
    ),
    usage_of_tenants(date, date, text, integer), exhausted_quotas(uuid[]) TO calotype_app;
GRANT EXECUTE ON FUNCTION quota_use(uuid[]), quota_level(bigint, bigint), due_quotas(uuid[]), utc_day(), utc_month()
    TO calotype_app, calotype_worker;
GRANT EXECUTE ON FUNCTION tenants_with_quotas(uuid, integer), trim_usage_reports() TO calotype_worker;
