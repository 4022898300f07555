-- Edits of many media: how much there is by folder and by tag, and how far a job has come.

-- How much media there is in each folder and with each tag, kept true by triggers on `media`: whoever asks reads a row for each name, and
-- not one for each medium. A name without any has no row.
CREATE TABLE media_counts (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- 'folder': of what is in it, and in none within it; the top is ''. 'tag': of what has it.
    kind text NOT NULL CHECK (kind IN ('folder', 'tag')),
    name text COLLATE "C" NOT NULL,
    media bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (tenant_id, kind, name)
);
CALL isolate('media_counts');
-- Only triggers write these.
REVOKE INSERT, UPDATE, DELETE ON media_counts FROM calotype_app, calotype_worker;

-- Counts what a statement has changed.
CREATE FUNCTION count_names() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    change record;
    gate uuid;
    remaining bigint;
BEGIN
    FOR change IN EXECUTE format(
        'SELECT tenant_id, kind, name, sum(media)::bigint AS media, sum(bytes)::bigint AS bytes FROM (%s) AS changes'
        ' CROSS JOIN LATERAL ('
        '   SELECT ''folder'' AS kind, coalesce(folder, '''') AS name UNION ALL SELECT ''tag'', tag FROM unnest(tags) AS all_tags (tag)'
        ' ) AS names'
        ' GROUP BY tenant_id, kind, name HAVING sum(media) <> 0 OR sum(bytes) <> 0 ORDER BY tenant_id, kind, name',
        concat_ws(' UNION ALL ',
            CASE WHEN TG_OP <> 'DELETE' THEN 'SELECT tenant_id, folder, tags, bytes, 1 AS media FROM added' END,
            CASE WHEN TG_OP <> 'INSERT' THEN 'SELECT tenant_id, folder, tags, -bytes AS bytes, -1 AS media FROM removed' END))
    LOOP
        -- Whoever changes counts of a tenant holds its totals first, as `count_stored` does: so nobody waits for a count of somebody who waits
        -- for one of theirs.
        IF gate IS DISTINCT FROM change.tenant_id THEN
            gate := change.tenant_id;
            PERFORM FROM stored_totals WHERE tenant_id = gate FOR NO KEY UPDATE;
        END IF;
        IF change.media > 0 THEN
            INSERT INTO media_counts AS known (tenant_id, kind, name, media, bytes)
            VALUES (change.tenant_id, change.kind, change.name, change.media, change.bytes)
            ON CONFLICT (tenant_id, kind, name) DO UPDATE SET
                media = known.media + EXCLUDED.media, bytes = known.bytes + EXCLUDED.bytes;
        ELSE
            -- There is none when the tenant itself is being deleted.
            UPDATE media_counts SET media = media + change.media, bytes = bytes + change.bytes
            WHERE tenant_id = change.tenant_id AND kind = change.kind AND name = change.name
            RETURNING media INTO remaining;
            IF remaining = 0 THEN
                DELETE FROM media_counts WHERE tenant_id = change.tenant_id AND kind = change.kind AND name = change.name;
            END IF;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
-- By its name, the first comes after that of `count_stored`, which makes the totals of a tenant.
CREATE TRIGGER count_stored_names_insert AFTER INSERT ON media
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_names();
CREATE TRIGGER count_stored_names_update AFTER UPDATE ON media
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_names();
CREATE TRIGGER count_stored_names_delete AFTER DELETE ON media
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_names();

-- What was there before; nobody changes media until this commits.
INSERT INTO media_counts (tenant_id, kind, name, media, bytes)
SELECT tenant_id, 'folder', coalesce(folder, ''), count(*), sum(bytes) FROM media GROUP BY 1, 3
UNION ALL
SELECT tenant_id, 'tag', tag, count(*), sum(bytes) FROM media, unnest(tags) AS all_tags (tag) GROUP BY 1, 3;

-- Folders of one folder come in their order.
CREATE INDEX folders_by_parent ON folders (tenant_id, parent, path);
DROP INDEX folders_children;

-- How far a job has come, by its own word: written with what it has done, so that whoever goes on begins there.
ALTER TABLE jobs ADD COLUMN checkpoint jsonb;
-- As before, and it is nothing for the audit log.
DROP TRIGGER audit_change ON jobs;
CALL audit('jobs', 'job', hidden => '{payload,result}',
    quiet => '{attempts,attempts_max,run_at,leased_until,started_at,finished_at,token,worker,progress,waits_for,error,trace,checkpoint}',
    events => 'INSERT OR UPDATE OF cancel_requested', only_if => $$current_setting('calotype.actor', true) LIKE 'key:%'$$);

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
