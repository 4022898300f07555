-- Media: what tenants have uploaded, the folders it is in, what public ids mean, and which objects of the store nothing leads to.
--
-- The bytes are in the object store, under names that `crates/uploads` gives. Two rules hold at every moment, whoever is killed when:
-- no row of `media` is without its bytes, and every object that no row leads to has a row in `stored_objects`.

CREATE TABLE folders (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- Names with slashes between them.
    path text COLLATE "C" NOT NULL CHECK (octet_length(path) BETWEEN 1 AND 512),
    -- The folder that it is in; NULL at the top.
    parent text COLLATE "C"
        GENERATED ALWAYS AS (CASE WHEN strpos(path, '/') > 0 THEN regexp_replace(path, '/[^/]*$', '') END) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, path),
    CONSTRAINT folders_parent FOREIGN KEY (tenant_id, parent) REFERENCES folders
);
CREATE INDEX folders_children ON folders (tenant_id, parent);
CALL isolate('folders');

CREATE TABLE media (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- Later ones are greater (UUID version 7): lists go by it.
    id uuid NOT NULL,
    -- The name in URLs.
    public_id text COLLATE "C" NOT NULL CHECK (octet_length(public_id) BETWEEN 1 AND 512),
    -- NULL at the top.
    folder text COLLATE "C",
    kind text NOT NULL CHECK (kind IN ('image', 'video', 'audio', 'document', 'file')),
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('processing', 'playable', 'ready', 'failed')),
    -- Which object has the bytes.
    revision uuid NOT NULL,
    content_type text NOT NULL CHECK (octet_length(content_type) BETWEEN 1 AND 255),
    bytes bigint NOT NULL CHECK (bytes > 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    stored_at timestamptz NOT NULL DEFAULT now(),
    -- As it is looked at: turned as its EXIF data says. NULL where it is not known.
    width integer CHECK (width > 0),
    height integer CHECK (height > 0),
    -- What the file was called by whoever sent it.
    filename text CHECK (octet_length(filename) BETWEEN 1 AND 255),
    tags text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 50),
    metadata jsonb NOT NULL DEFAULT '{}',
    expires_at timestamptz,
    -- Grows with each change, for ETags.
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT media_public_id UNIQUE (tenant_id, public_id),
    CONSTRAINT media_folder FOREIGN KEY (tenant_id, folder) REFERENCES folders
);
CREATE INDEX media_in_folder ON media (tenant_id, folder, id);
CREATE INDEX media_of_kind ON media (tenant_id, kind, id);
CREATE INDEX media_expires_at ON media (expires_at) WHERE expires_at IS NOT NULL;
CALL isolate('media');

-- `media.tags`, one a row, so that a list by tag goes by an index: operators of arrays may not be used before rows of other tenants
-- are left out.
CREATE TABLE media_tags (
    tenant_id uuid NOT NULL,
    tag text COLLATE "C" NOT NULL CHECK (octet_length(tag) BETWEEN 1 AND 128),
    media_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, tag, media_id),
    FOREIGN KEY (tenant_id, media_id) REFERENCES media ON DELETE CASCADE
);
CREATE INDEX media_tags_media ON media_tags (tenant_id, media_id);
CALL isolate('media_tags');

-- Public ids whose pointer in the store is to be written. A pointer that says "gone" has no row once it is written.
-- No reference to the tenant: its pointers have to be written after its end.
CREATE TABLE pointers (
    tenant_id uuid NOT NULL,
    public_id text COLLATE "C" NOT NULL,
    -- Grows with each change of what the id means, and is never given twice, not even to a row that was deleted meanwhile.
    generation bigint NOT NULL,
    -- What the pointer says, unless somebody is writing it.
    published bigint NOT NULL DEFAULT 0,
    -- Who is writing it; nobody else may before `try_at`, because writes could then overtake each other.
    claim uuid,
    -- Not before; the process that made the change writes the pointer itself, unless it dies.
    try_at timestamptz NOT NULL DEFAULT now() + interval '10 seconds',
    tries integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, public_id)
);
CREATE INDEX pointers_unpublished ON pointers (try_at) WHERE published < generation OR claim IS NOT NULL;
CREATE SEQUENCE pointer_generations;
CALL isolate('pointers');

-- Objects that no medium leads to: not yet, or not any more.
-- No reference to the tenant: its objects have to be deleted after its end.
CREATE TABLE stored_objects (
    tenant_id uuid NOT NULL,
    media_id uuid NOT NULL,
    revision uuid NOT NULL,
    -- 'pending': it is being written, and will be doomed if nothing comes of it; 'doomed': it is to be deleted.
    state text NOT NULL CHECK (state IN ('pending', 'doomed')),
    due_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, media_id, revision)
);
CREATE INDEX stored_objects_due_at ON stored_objects (due_at);
CALL isolate('stored_objects');

-- Keeps the other tables true to `media`, whatever changes it; the end of a tenant, too.
CREATE FUNCTION follow_media() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tenant uuid := coalesce(NEW.tenant_id, OLD.tenant_id);
    changed text[] := '{}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        changed := ARRAY[NEW.public_id];
    ELSIF TG_OP = 'DELETE' THEN
        changed := ARRAY[OLD.public_id];
    ELSIF (NEW.public_id, NEW.revision, NEW.content_type, NEW.expires_at, NEW.tags)
        IS DISTINCT FROM (OLD.public_id, OLD.revision, OLD.content_type, OLD.expires_at, OLD.tags)
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

    -- Edges may be sending the bytes, or know the old pointer.
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.revision <> OLD.revision) THEN
        INSERT INTO stored_objects (tenant_id, media_id, revision, state, due_at)
        VALUES (OLD.tenant_id, OLD.id, OLD.revision, 'doomed', now() + interval '1 hour');
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
CREATE TRIGGER follow_media AFTER INSERT OR UPDATE OR DELETE ON media FOR EACH ROW EXECUTE FUNCTION follow_media();

-- Gives pointers that are due to a worker, for a minute, and longer from try to try.
CREATE FUNCTION claim_unpublished_pointers(page_size integer) RETURNS SETOF pointers
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100
BEGIN ATOMIC
    WITH due AS (
        SELECT tenant_id, public_id FROM pointers
        WHERE (published < generation OR claim IS NOT NULL) AND try_at <= now()
        ORDER BY try_at LIMIT least(page_size, 1000) FOR UPDATE SKIP LOCKED
    )
    UPDATE pointers SET
        claim = gen_random_uuid(),
        tries = pointers.tries + 1,
        try_at = now() + interval '1 minute' * least(pointers.tries + 1, 10)
    FROM due WHERE pointers.tenant_id = due.tenant_id AND pointers.public_id = due.public_id
    RETURNING pointers.*;
END;

-- Gives objects that are due to a worker, which deletes the object and then the row; if it does not, they are due again soon. An
-- upload that has not become a medium by now will not any more.
CREATE FUNCTION claim_due_objects(page_size integer) RETURNS SETOF stored_objects
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100
BEGIN ATOMIC
    WITH due AS (
        SELECT tenant_id, media_id, revision FROM stored_objects
        WHERE due_at <= now()
        ORDER BY due_at LIMIT least(page_size, 1000) FOR UPDATE SKIP LOCKED
    )
    UPDATE stored_objects SET state = 'doomed', due_at = now() + interval '5 minutes'
    FROM due
    WHERE stored_objects.tenant_id = due.tenant_id AND stored_objects.media_id = due.media_id
        AND stored_objects.revision = due.revision
    RETURNING stored_objects.*;
END;

-- Media whose time is over.
CREATE FUNCTION expired_media(page_size integer) RETURNS TABLE (tenant_id uuid, id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100
BEGIN ATOMIC
    SELECT media.tenant_id, media.id FROM media
    WHERE media.expires_at <= now() ORDER BY media.expires_at LIMIT least(page_size, 1000);
END;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_unpublished_pointers(integer), claim_due_objects(integer), expired_media(integer)
    TO calotype_worker;
