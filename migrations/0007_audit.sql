-- The audit log: who has changed what of a tenant, from what to what.
--
-- Triggers write it in the transaction that makes the change, so there is neither without the other, and no statement can forget it. Who
-- it is, and by which request, is said by that transaction when it begins, as `crates/isolation` does.

CREATE SEQUENCE audit_numbers;

CREATE TABLE audit_log (
    -- No reference: the log of a tenant outlives it.
    tenant_id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    -- Tells entries of the same moment apart, in their order.
    seq bigint NOT NULL DEFAULT nextval('audit_numbers'),
    -- 'key:…' with the key's id, 'operator', 'job:…' with the job's, 'worker', 'system:…' with a command; or 'database:…' with the
    -- user of whoever has changed it by hand.
    actor text COLLATE "C" NOT NULL,
    -- Method and pattern of the path, or what a worker was about.
    operation text,
    request_id uuid,
    client text,
    action text NOT NULL CHECK (action IN ('create', 'update', 'delete')),
    -- The kind of thing, and which: its key without the tenant.
    resource text COLLATE "C" NOT NULL,
    resource_id text COLLATE "C" NOT NULL,
    -- The columns that differ; NULL where there was or is nothing.
    before jsonb,
    after jsonb,
    PRIMARY KEY (tenant_id, at, seq)
) PARTITION BY RANGE (at);
CALL isolate('audit_log');
-- It is only read; the triggers write as the owner.
REVOKE INSERT, UPDATE, DELETE ON audit_log FROM calotype_app, calotype_worker;
CALL keep_by_month('audit_log', 24);
CREATE INDEX audit_log_resource ON audit_log (tenant_id, resource, resource_id, at, seq);
CREATE INDEX audit_log_actor ON audit_log (tenant_id, actor, at, seq);
CREATE INDEX audit_log_operator ON audit_log (at, seq) WHERE actor = 'operator';

-- What of one row the other has not alike, without the quiet columns: of a document only the fields that differ, of what is hidden only that it
-- is there, of what is long only its beginning.
CREATE FUNCTION audit_difference(one jsonb, other jsonb, hidden text[], quiet text[]) RETURNS jsonb
-- Unlike that of a function in SQL, its plan is kept from one transaction to the next.
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    difference jsonb := CASE WHEN other IS NULL THEN one - quiet ELSE '{}' END;
    name text;
    field jsonb;
BEGIN
    -- What there was or is nothing else of is taken as a whole: that is what every upload waits for.
    IF other IS NULL AND octet_length(difference::text) <= 2048 THEN
        FOREACH name IN ARRAY hidden LOOP
            CONTINUE WHEN coalesce(difference -> name, 'null') = 'null';
            difference := jsonb_set(difference, ARRAY[name], '"…"');
        END LOOP;
        RETURN difference;
    END IF;
    FOR name, field IN
        SELECT key, value FROM jsonb_each(one) WHERE key <> ALL (quiet) AND value IS DISTINCT FROM other -> key
    LOOP
        IF field <> 'null' AND name = ANY (hidden) THEN
            field := '"…"';
        ELSIF jsonb_typeof(field) = 'object' AND jsonb_typeof(other -> name) = 'object' THEN
            SELECT coalesce(jsonb_object_agg(key, value), '{}') INTO field
            FROM jsonb_each(field) WHERE value IS DISTINCT FROM other -> name -> key;
        END IF;
        IF octet_length(field::text) > 2048 THEN
            field := to_jsonb(left(field::text, 500) || '…');
        END IF;
        difference := jsonb_set(difference, ARRAY[name], field);
    END LOOP;
    RETURN nullif(difference, '{}');
END
$$;

-- Writes an entry about a row. Its arguments are those of `audit`.
CREATE FUNCTION audit_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    was jsonb := to_jsonb(OLD);
    became jsonb := to_jsonb(NEW);
    -- It is called what it was called before.
    known jsonb := coalesce(was, became);
    hidden text[] := TG_ARGV[3];
    quiet text[] := TG_ARGV[4];
    before jsonb := CASE WHEN was IS NOT NULL THEN audit_difference(was, became, hidden, quiet) END;
    after jsonb := CASE WHEN became IS NOT NULL THEN audit_difference(became, was, hidden, quiet) END;
BEGIN
    IF before IS NULL AND after IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO audit_log (tenant_id, actor, operation, request_id, client, action, resource, resource_id, before, after)
    VALUES (
        (known ->> TG_ARGV[1])::uuid,
        coalesce(nullif(current_setting('calotype.actor', true), ''), 'database:' || session_user),
        nullif(current_setting('calotype.operation', true), ''),
        nullif(current_setting('calotype.request', true), '')::uuid,
        nullif(current_setting('calotype.client', true), ''),
        CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'update' ELSE 'delete' END,
        TG_ARGV[0],
        coalesce((SELECT string_agg(known ->> key, '/' ORDER BY place)
            FROM unnest(TG_ARGV[2]::text[]) WITH ORDINALITY AS keys (key, place)), ''),
        before,
        after
    );
    RETURN NULL;
END
$$;

-- Has every change of a table's rows written down, as one of this kind of thing (the table's name, unless said). What is in the columns `hidden`
-- never appears, nor what is bytes: hashes and sealed secrets. Changes of nothing but `quiet` columns are none. What goes or changes
-- with something else, by a reference or a trigger, is told of by that.
CREATE PROCEDURE audit(
    relation regclass,
    resource text DEFAULT NULL,
    hidden text[] DEFAULT '{}',
    quiet text[] DEFAULT '{}',
    key text[] DEFAULT NULL,
    events text DEFAULT 'INSERT OR UPDATE OR DELETE',
    only_if text DEFAULT 'true'
)
LANGUAGE plpgsql AS $$
DECLARE
    table_name text;
    tenant_column text;
    bytes text[];
BEGIN
    SELECT relname INTO STRICT table_name FROM pg_class WHERE oid = relation;
    tenant_column := CASE table_name WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END;
    SELECT coalesce(array_agg(attname::text), '{}') INTO bytes FROM pg_attribute
    WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND atttypid = 'bytea'::regtype;
    IF key IS NULL THEN
        SELECT coalesce(array_agg(attname::text ORDER BY array_position(conkey, attnum)), '{}') INTO key
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
        WHERE conrelid = relation AND contype = 'p' AND attname <> tenant_column;
    END IF;
    EXECUTE format(
        'CREATE TRIGGER audit_change AFTER %s ON %s FOR EACH ROW WHEN (pg_trigger_depth() = 0 AND (%s))'
        ' EXECUTE FUNCTION audit_change(%L, %L, %L, %L, %L)',
        events, relation, only_if, coalesce(resource, table_name), tenant_column, key::text, (hidden || bytes)::text,
        (quiet || ARRAY[tenant_column, 'version', 'created_at', 'updated_at'])::text);
END
$$;

CALL audit('tenants', 'tenant', key => '{slug}');
CALL audit('policies', 'policy');
CALL audit('api_keys', 'api_key', quiet => '{last_used_at}');
CALL audit('signing_keys', 'signing_key');
CALL audit('domains', 'domain', hidden => '{challenge}', quiet => '{checked_at}');
CALL audit('presets', 'preset');
CALL audit('images', 'image');
CALL audit('origins', 'origin');
CALL audit('folders', 'folder', quiet => '{parent}');
CALL audit('media', 'media', quiet => '{stored_at,swept}');
-- That a key has ordered, cancelled or retried it; what it does is told under its own name.
CALL audit('jobs', 'job', hidden => '{payload,result}',
    quiet => '{attempts,attempts_max,run_at,leased_until,started_at,finished_at,token,worker,progress,waits_for,error,trace}',
    events => 'INSERT OR UPDATE OF cancel_requested', only_if => $$current_setting('calotype.actor', true) LIKE 'key:%'$$);
CALL audit('feed_events', 'purge', quiet => '{id,seq,kind,name,announced_at}', events => 'INSERT', only_if => $$NEW.kind = 'purge'$$);

-- The last of so many entries that `operator_audit_log` has to look at; none when there are fewer.
CREATE FUNCTION operator_audit_reach(
    wanted_tenant uuid, earliest timestamptz, before_at timestamptz, before_seq bigint, look integer
) RETURNS TABLE (at timestamptz, seq bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 1 AS $$
#variable_conflict use_column
BEGIN
    IF wanted_tenant IS NULL THEN
        RETURN QUERY SELECT at, seq FROM audit_log
        WHERE actor = 'operator' AND at >= earliest AND (at, seq) < (before_at, before_seq)
        ORDER BY at DESC, seq DESC OFFSET least(look, 100000) - 1 LIMIT 1;
    ELSE
        RETURN QUERY SELECT at, seq FROM audit_log
        WHERE tenant_id = wanted_tenant AND at >= earliest AND (at, seq) < (before_at, before_seq)
        ORDER BY at DESC, seq DESC OFFSET least(look, 100000) - 1 LIMIT 1;
    END IF;
END
$$;

-- A page of what the operator has changed, or of everything that became of one tenant, newest first: from `earliest` and
-- `earliest_seq` on. `before_at` and `before_seq` are the last entry of the page before.
CREATE FUNCTION operator_audit_log(
    wanted_tenant uuid, wanted_actor text, wanted_resource text, wanted_id text, wanted_action text,
    earliest timestamptz, earliest_seq bigint, before_at timestamptz, before_seq bigint, page_size integer
) RETURNS SETOF audit_log
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100 AS $$
BEGIN
    IF wanted_tenant IS NULL THEN
        RETURN QUERY SELECT * FROM audit_log
        WHERE actor = 'operator' AND at >= earliest AND (at, seq) >= (earliest, earliest_seq) AND (at, seq) < (before_at, before_seq)
            AND (wanted_resource IS NULL OR resource = wanted_resource) AND (wanted_id IS NULL OR resource_id = wanted_id)
            AND (wanted_action IS NULL OR action = wanted_action)
            AND (wanted_actor IS NULL OR actor = wanted_actor)
        ORDER BY at DESC, seq DESC LIMIT least(page_size, 1001);
    ELSE
        RETURN QUERY SELECT * FROM audit_log
        WHERE tenant_id = wanted_tenant AND at >= earliest AND (at, seq) >= (earliest, earliest_seq) AND (at, seq) < (before_at, before_seq)
            AND (wanted_resource IS NULL OR resource = wanted_resource) AND (wanted_id IS NULL OR resource_id = wanted_id)
            AND (wanted_action IS NULL OR action = wanted_action)
            AND (wanted_actor IS NULL OR actor = wanted_actor)
        ORDER BY at DESC, seq DESC LIMIT least(page_size, 1001);
    END IF;
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION operator_audit_reach(uuid, timestamptz, timestamptz, bigint, integer),
    operator_audit_log(uuid, text, text, text, text, timestamptz, bigint, timestamptz, bigint, integer) TO calotype_app;
