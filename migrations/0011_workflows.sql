-- Workflows: what is found out of the bytes of a medium before edges may serve them, or while they do.

CREATE TABLE workflows (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- Of which media; 'any': of those whose kind has none of its own.
    kind text NOT NULL CHECK (kind IN ('image', 'video', 'audio', 'document', 'file', 'any')),
    -- In their order, without what is secret.
    steps jsonb NOT NULL,
    -- What is, by the names of steps, sealed with the master key; NULL when there is nothing.
    secrets bytea,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind)
);
CALL isolate('workflows');
CALL audit('workflows', 'workflow');

-- 'quarantined': its bytes have not passed yet, and are not served; 'rejected': they have not passed, and are deleted after a while.
ALTER TABLE media
    DROP CONSTRAINT media_state_check,
    ADD CONSTRAINT media_state_check
        CHECK (state IN ('quarantined', 'processing', 'playable', 'ready', 'failed', 'rejected')),
    -- How its workflow has gone, and by which job; NULL where there was none.
    ADD COLUMN scan jsonb,
    -- The revision of which the bytes are deleted though it is the medium's: they were rejected, and nobody let them through in time.
    ADD COLUMN swept uuid;
CREATE INDEX media_in_state ON media (tenant_id, state, id);
CREATE INDEX media_quarantined ON media (stored_at) WHERE state = 'quarantined';

-- Bytes that are to take the place of those that are served, once they have passed. They are described as in `media`, and
-- have a `scan` of their own.
CREATE TABLE replacements (
    tenant_id uuid NOT NULL,
    media_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'quarantined' CHECK (state IN ('quarantined', 'rejected')),
    scan jsonb NOT NULL,
    kind text NOT NULL CHECK (kind IN ('image', 'video', 'audio', 'document', 'file')),
    revision uuid NOT NULL,
    content_type text NOT NULL CHECK (octet_length(content_type) BETWEEN 1 AND 255),
    bytes bigint NOT NULL CHECK (bytes > 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    stored_at timestamptz NOT NULL DEFAULT now(),
    width integer CHECK (width > 0),
    height integer CHECK (height > 0),
    filename text CHECK (octet_length(filename) BETWEEN 1 AND 255),
    swept uuid,
    PRIMARY KEY (tenant_id, media_id),
    FOREIGN KEY (tenant_id, media_id) REFERENCES media ON DELETE CASCADE
);
CREATE INDEX replacements_in_state ON replacements (tenant_id, state, media_id);
CREATE INDEX replacements_quarantined ON replacements (stored_at) WHERE state = 'quarantined';
CALL isolate('replacements');
CALL audit('replacements', 'replacement', quiet => '{stored_at,swept}');

-- 'rejected': a medium leads to it, or a replacement, but it has not passed: it will be doomed, unless somebody lets it through after all.
ALTER TABLE stored_objects
    DROP CONSTRAINT stored_objects_state_check,
    ADD CONSTRAINT stored_objects_state_check CHECK (state IN ('pending', 'doomed', 'rejected'));

-- Whether edges may serve a medium of this state.
CREATE FUNCTION is_served(state text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN state NOT IN ('quarantined', 'rejected');
GRANT EXECUTE ON FUNCTION is_served(text) TO calotype_app, calotype_worker;

-- How many bytes a row of this size has stored.
CREATE FUNCTION stored_bytes(bytes bigint, revision uuid, swept uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN swept = revision THEN 0 ELSE bytes END;

-- Has an object deleted that nothing leads to any more. Edges may be sending the bytes, or know the old pointer.
CREATE PROCEDURE doom_object(tenant uuid, medium uuid, which uuid)
LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO stored_objects AS known (tenant_id, media_id, revision, state, due_at)
    VALUES (tenant, medium, which, 'doomed', now() + interval '1 hour')
    ON CONFLICT (tenant_id, media_id, revision) DO UPDATE SET
        state = 'doomed', due_at = least(known.due_at, EXCLUDED.due_at);
END;

-- As before, but that media may be there and not be served, and that objects of theirs may be on their way out already.
CREATE OR REPLACE FUNCTION follow_media() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tenant uuid := coalesce(NEW.tenant_id, OLD.tenant_id);
    changed text[] := '{}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        changed := ARRAY[NEW.public_id];
    ELSIF TG_OP = 'DELETE' THEN
        changed := ARRAY[OLD.public_id];
    ELSIF (NEW.public_id, NEW.revision, NEW.content_type, NEW.expires_at, NEW.tags, is_served(NEW.state))
        IS DISTINCT FROM (OLD.public_id, OLD.revision, OLD.content_type, OLD.expires_at, OLD.tags, is_served(OLD.state))
    THEN
        changed := ARRAY[OLD.public_id, NEW.public_id];
    END IF;
    -- In one order, so that two changes do not wait for each other.
    INSERT INTO pointers AS known (tenant_id, public_id, generation)
    SELECT tenant, ids.id, nextval('pointer_generations')
    FROM (SELECT DISTINCT id FROM unnest(changed) AS all_ids (id) ORDER BY id) AS ids
    ON CONFLICT (tenant_id, public_id) DO UPDATE SET
        generation = nextval('pointer_generations'),
        tries = 0,
        -- Whoever is writing it keeps it.
        try_at = CASE WHEN known.claim IS NULL THEN EXCLUDED.try_at ELSE known.try_at END;

    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.revision <> OLD.revision) THEN
        CALL doom_object(OLD.tenant_id, OLD.id, OLD.revision);
    END IF;

    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND NEW.tags <> OLD.tags) THEN
        DELETE FROM media_tags WHERE tenant_id = NEW.tenant_id AND media_id = NEW.id AND tag <> ALL (NEW.tags);
        INSERT INTO media_tags (tenant_id, tag, media_id)
        SELECT NEW.tenant_id, tag, NEW.id FROM unnest(NEW.tags) AS tags (tag)
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

-- A replacement that is no more has become the medium's own bytes, or nothing leads to its object.
CREATE FUNCTION follow_replacements() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.revision = OLD.revision THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (
        SELECT FROM media WHERE tenant_id = OLD.tenant_id AND id = OLD.media_id AND revision = OLD.revision
    ) THEN
        CALL doom_object(OLD.tenant_id, OLD.media_id, OLD.revision);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER follow_replacements AFTER UPDATE OR DELETE ON replacements
    FOR EACH ROW EXECUTE FUNCTION follow_replacements();

-- As before, but that bytes of media may be deleted though the media are there, and that bytes which take the place of others have been
-- counted beside those: whoever lets them be served stores nothing more. They have to be there until they have taken it.
CREATE OR REPLACE FUNCTION count_stored() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    change record;
    total stored_totals;
    allowed quotas;
    beside bigint;
BEGIN
    FOR change IN EXECUTE format(
        'SELECT tenant_id, sum(bytes)::bigint AS bytes, sum(files)::bigint AS files FROM (%s) AS changes'
        ' GROUP BY tenant_id HAVING sum(bytes) <> 0 OR sum(files) <> 0 ORDER BY tenant_id',
        concat_ws(' UNION ALL ',
            CASE WHEN TG_OP <> 'DELETE' THEN
                'SELECT tenant_id, stored_bytes(bytes, revision, swept) AS bytes, 1 AS files FROM added' END,
            CASE WHEN TG_OP <> 'INSERT' THEN
                'SELECT tenant_id, -stored_bytes(bytes, revision, swept) AS bytes, -1 AS files FROM removed' END))
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
            SELECT coalesce(sum(waiting.bytes), 0) INTO beside
            FROM added JOIN replacements AS waiting
                ON waiting.tenant_id = added.tenant_id AND waiting.media_id = added.id AND waiting.revision = added.revision
            WHERE added.tenant_id = change.tenant_id;
            IF change.bytes > beside THEN
                RAISE 'the quota of stored bytes is used up' USING ERRCODE = 'check_violation', CONSTRAINT = 'quota_storage';
            END IF;
        END IF;
        IF change.files > 0 AND total.files > allowed.files THEN
            RAISE 'the quota of files is used up' USING ERRCODE = 'check_violation', CONSTRAINT = 'quota_files';
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- Counts bytes that wait beside others as stored, and holds them to the tenant's quota. They are deleted here when they have taken the
-- place of the others, in the same transaction.
CREATE FUNCTION count_replacement() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tenant uuid := coalesce(NEW.tenant_id, OLD.tenant_id);
    more bigint := coalesce(stored_bytes(NEW.bytes, NEW.revision, NEW.swept), 0)
        - coalesce(stored_bytes(OLD.bytes, OLD.revision, OLD.swept), 0);
    total stored_totals;
BEGIN
    UPDATE stored_totals SET bytes = bytes + more WHERE tenant_id = tenant RETURNING * INTO total;
    -- The tenant itself is being deleted.
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO stored_days AS known (tenant_id, day, bytes, files) VALUES (tenant, utc_day(), more, 0)
    ON CONFLICT (tenant_id, day) DO UPDATE SET bytes = known.bytes + EXCLUDED.bytes;
    IF more > 0 AND total.bytes > (SELECT storage_bytes FROM quotas WHERE tenant_id = tenant) THEN
        RAISE 'the quota of stored bytes is used up' USING ERRCODE = 'check_violation', CONSTRAINT = 'quota_storage';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_replacement AFTER INSERT OR DELETE OR UPDATE OF bytes, revision, swept ON replacements
    FOR EACH ROW EXECUTE FUNCTION count_replacement();

-- How many bytes wait to be judged, and since when the oldest of them: of all tenants, for whoever runs the scanner.
CREATE FUNCTION quarantine(OUT waiting bigint, OUT oldest timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    SELECT count(*), min(stored_at) FROM (
        SELECT stored_at FROM media WHERE state = 'quarantined'
        UNION ALL
        SELECT stored_at FROM replacements WHERE state = 'quarantined'
    ) AS quarantined;
END;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quarantine() TO calotype_app;
