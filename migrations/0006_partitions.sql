-- Tables that grow for ever, kept in a part for each month: what is old goes with its part, and no row is looked for.
--
-- A worker makes the parts of months to come. Rows of a month that has none go into one part for all others, so that nothing is refused for
-- want of a part; the worker moves them. A part whose time is over is taken out of the table, which hides it from everybody, written to
-- the object store, and dropped once the store is known to have every row. Whoever is killed in between, another worker goes on.

CREATE TABLE monthly_tables (
    relation text PRIMARY KEY,
    -- The column that tells a row's month: a date or a time.
    time_column name NOT NULL,
    -- How long rows are kept at least, in months, unless the operator says.
    keep_months integer NOT NULL CHECK (keep_months BETWEEN 1 AND 1200)
);
GRANT SELECT ON monthly_tables TO calotype_app, calotype_worker;

-- Parts that were taken out of their table; what is in the object store is told of for ever.
CREATE TABLE retired_parts (
    id uuid PRIMARY KEY,
    relation text NOT NULL,
    month date NOT NULL,
    retired_at timestamptz NOT NULL DEFAULT now(),
    -- Who is writing it to the store, and when that one is not believed in any more.
    claim uuid,
    claimed_until timestamptz,
    -- Where its rows are, in how many bytes; NULL where they were not to be kept.
    object text,
    rows bigint,
    bytes bigint,
    sha256 bytea,
    dropped_at timestamptz
);
CREATE INDEX retired_parts_waiting ON retired_parts (claimed_until) WHERE dropped_at IS NULL;

-- The table that a part becomes when it is taken out.
CREATE FUNCTION retired_table(part uuid) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN 'retired_' || replace(part::text, '-', '');

-- The months that a table has parts of.
CREATE FUNCTION months_of(wanted text) RETURNS SETOF date
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT to_date(right(parts.relname, 7), 'YYYY_MM')
    FROM pg_inherits JOIN pg_class AS parts ON parts.oid = pg_inherits.inhrelid
    WHERE pg_inherits.inhparent = format('public.%I', wanted)::regclass AND parts.relname <> wanted || '_other';
END;

-- Makes nobody see a part by itself: who may see which rows is said by the table that it is a part of.
CREATE PROCEDURE close_part(part text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', part);
    EXECUTE format('CREATE POLICY all_rows ON public.%I TO calotype_owner USING (true) WITH CHECK (true)', part);
END
$$;

-- Makes the part of a month and moves the rows there that went to the others. It is made beside the table, so that nobody who reads or
-- writes waits for more than the moment in which it is put in.
CREATE PROCEDURE make_part(wanted text, month date)
LANGUAGE plpgsql AS $$
DECLARE
    part text := wanted || to_char(month, '_YYYY_MM');
    time_column name;
    -- A date reads the same text as a time.
    bounds text[] := ARRAY[to_char(month, 'YYYY-MM-01 00:00:00+00'), to_char(month + interval '1 month', 'YYYY-MM-01 00:00:00+00')];
    columns text;
    has_strays boolean;
BEGIN
    SELECT monthly_tables.time_column INTO STRICT time_column FROM monthly_tables WHERE relation = wanted;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL EXCLUDING IDENTITY)', part, wanted);
    CALL close_part(part);
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE %2$I >= %3$L AND %2$I < %4$L)',
        wanted || '_other', time_column, bounds[1], bounds[2]) INTO has_strays;
    IF has_strays THEN
        SELECT string_agg(quote_ident(attname), ', ') INTO columns FROM pg_attribute
        WHERE attrelid = format('public.%I', part)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
        EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', wanted || '_other');
        EXECUTE format(
            'WITH moved AS (DELETE FROM public.%I WHERE %2$I >= %3$L AND %2$I < %4$L RETURNING %5$s)'
            ' INSERT INTO public.%6$I (%5$s) SELECT %5$s FROM moved',
            wanted || '_other', time_column, bounds[1], bounds[2], columns, part);
    END IF;
    EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        wanted, part, bounds[1], bounds[2]);
END
$$;

-- Makes the parts that a table lacks: of the last month, of this one, of three to come, and of rows that went to the others. How many
-- were made.
CREATE FUNCTION make_parts(wanted text) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    this_month date := date_trunc('month', now() AT TIME ZONE 'UTC');
    time_column name;
    month date;
    made integer := 0;
BEGIN
    SELECT monthly_tables.time_column INTO STRICT time_column FROM monthly_tables WHERE relation = wanted;
    FOR month IN EXECUTE format(
        'SELECT ($1 + months * interval ''1 month'')::date FROM generate_series(-1, 3) AS months'
        ' UNION SELECT * FROM (SELECT DISTINCT date_trunc(''month'', %I)::date FROM public.%I LIMIT 24) AS strays'
        ' EXCEPT SELECT months_of($2) ORDER BY 1',
        time_column, wanted || '_other')
        USING this_month, wanted
    LOOP
        CALL make_part(wanted, month);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Keeps a table, which was made with PARTITION BY RANGE of one date or time, in a part for each month. Its rows are dropped when their
-- month ended so long ago.
CREATE PROCEDURE keep_by_month(relation regclass, months integer DEFAULT 24)
LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    table_name text;
    time_column name;
BEGIN
    SELECT relname, attname INTO table_name, time_column
    FROM pg_partitioned_table
    JOIN pg_class ON pg_class.oid = partrelid
    JOIN pg_attribute ON attrelid = partrelid AND attnum = partattrs[0]
    WHERE partrelid = relation AND partstrat = 'r' AND partnatts = 1 AND attnotnull
        AND atttypid IN ('date'::regtype, 'timestamptz'::regtype);
    IF NOT FOUND OR octet_length(table_name) > 50 THEN
        RAISE 'the table % is not partitioned by the range of one date or timestamptz that is never null, or its name is too long', relation;
    END IF;
    INSERT INTO monthly_tables (relation, time_column, keep_months) VALUES (table_name, time_column, months);
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I DEFAULT', table_name || '_other', table_name);
    CALL close_part(table_name || '_other');
    PERFORM make_parts(table_name);
END
$$;

-- One worker at a time makes and retires parts; nobody waits for it for long, nor it for anybody.
CREATE FUNCTION hold_parts() RETURNS boolean
LANGUAGE sql
RETURN pg_try_advisory_xact_lock(hashtextextended('calotype parts', 0));

-- Makes the parts that a table lacks; how many those were.
CREATE FUNCTION roll_parts(wanted text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' SET timezone = 'UTC' AS $$
BEGIN
    IF NOT hold_parts() THEN
        RETURN 0;
    END IF;
    RETURN make_parts(wanted);
END
$$;

-- Takes the oldest part that ended so many months ago out of its table; which month that was, or NULL.
CREATE FUNCTION retire_part(wanted text, months integer) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' SET timezone = 'UTC' AS $$
DECLARE
    oldest date;
    part text;
    id uuid := gen_random_uuid();
BEGIN
    IF months < 1 OR NOT hold_parts() THEN
        RETURN NULL;
    END IF;
    PERFORM FROM monthly_tables WHERE relation = wanted;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT min(month) INTO oldest FROM months_of(wanted) AS month WHERE month + (months + 1) * interval '1 month' <= now();
    IF oldest IS NULL THEN
        RETURN NULL;
    END IF;
    part := wanted || to_char(oldest, '_YYYY_MM');
    EXECUTE format('ALTER TABLE public.%I DETACH PARTITION public.%I', wanted, part);
    EXECUTE format('ALTER TABLE public.%I RENAME TO %I', part, retired_table(id));
    INSERT INTO retired_parts (id, relation, month) VALUES (id, wanted, oldest);
    RETURN oldest;
END
$$;

-- Gives a retired part to a worker, for a quarter of an hour after it was last heard of.
CREATE FUNCTION claim_retired_part()
RETURNS TABLE (id uuid, relation text, month date, claim uuid, columns text[], blocks bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 1 AS $$
#variable_conflict use_column
DECLARE
    claimed retired_parts;
    part regclass;
BEGIN
    UPDATE retired_parts SET claim = gen_random_uuid(), claimed_until = now() + interval '15 minutes'
    WHERE id = (
        SELECT id FROM retired_parts
        WHERE dropped_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
        ORDER BY claimed_until NULLS FIRST LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING * INTO claimed;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    part := format('public.%I', retired_table(claimed.id))::regclass;
    RETURN QUERY SELECT claimed.id, claimed.relation, claimed.month, claimed.claim,
        (
            SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = part AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
        ),
        pg_relation_size(part) / current_setting('block_size')::bigint;
END
$$;

-- Says that the worker that has a retired part is still at it; false when it is another one's by now.
CREATE FUNCTION renew_retired_part(part uuid, holder uuid) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    WITH renewed AS (
        UPDATE retired_parts SET claimed_until = now() + interval '15 minutes' WHERE id = part AND claim = holder RETURNING 1
    )
    SELECT count(*) = 1 FROM renewed;
END;

-- The rows of some blocks of a retired part, as texts that the types of the columns read back.
CREATE FUNCTION read_retired_part(part uuid, holder uuid, columns text[], first_block bigint, block_count integer)
RETURNS SETOF text[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET intervalstyle = 'postgres' AS $$
DECLARE
    texts text;
BEGIN
    IF NOT renew_retired_part(part, holder) THEN
        RAISE 'the part % is another worker''s by now', part USING ERRCODE = 'lock_not_available';
    END IF;
    SELECT string_agg(format('%I::text', name), ', ' ORDER BY place) INTO texts
    FROM unnest(columns) WITH ORDINALITY AS names (name, place);
    RETURN QUERY EXECUTE format('SELECT ARRAY[%s] FROM public.%I WHERE ctid >= %L::tid AND ctid < %L::tid',
        texts, retired_table(part), format('(%s,0)', first_block), format('(%s,0)', first_block + least(block_count, 4096)));
END
$$;

-- Drops a retired part whose rows are in the store, or are not to be kept (`object` is NULL); false, and it stays, if they are not so many.
CREATE FUNCTION drop_retired_part(
    part uuid, holder uuid, object text, row_count bigint, byte_count bigint, hash bytea
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    there bigint;
BEGIN
    PERFORM FROM retired_parts WHERE id = part AND claim = holder AND dropped_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', retired_table(part));
    EXECUTE format('SELECT count(*) FROM public.%I', retired_table(part)) INTO there;
    IF object IS NOT NULL AND there <> row_count THEN
        -- To be written anew at once.
        UPDATE retired_parts SET claim = NULL, claimed_until = NULL WHERE id = part;
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE public.%I', retired_table(part));
    UPDATE retired_parts SET
        object = drop_retired_part.object, rows = there, bytes = byte_count, sha256 = hash,
        claim = NULL, claimed_until = NULL, dropped_at = now()
    WHERE id = part;
    RETURN true;
END
$$;

-- For how many months to come each table has parts, whether rows had to go to the others, and how many parts wait to be dropped.
CREATE FUNCTION state_of_parts() RETURNS TABLE (relation text, months_ahead integer, has_strays boolean, retired bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
#variable_conflict use_column
BEGIN
    FOR relation IN SELECT monthly_tables.relation FROM monthly_tables ORDER BY 1 LOOP
        SELECT count(*) INTO months_ahead FROM months_of(state_of_parts.relation) AS month WHERE month > now();
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', state_of_parts.relation || '_other') INTO has_strays;
        SELECT count(*) INTO retired FROM retired_parts AS parts
        WHERE parts.relation = state_of_parts.relation AND parts.dropped_at IS NULL;
        RETURN NEXT;
    END LOOP;
END
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION roll_parts(text), retire_part(text, integer), claim_retired_part(), renew_retired_part(uuid, uuid),
    read_retired_part(uuid, uuid, text[], bigint, integer),
    drop_retired_part(uuid, uuid, text, bigint, bigint, bytea) TO calotype_worker;
GRANT EXECUTE ON FUNCTION state_of_parts() TO calotype_app;
