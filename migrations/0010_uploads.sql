-- Uploads on their way in: what is said of them, what has come, and where it waits to be made a medium.
--
-- Their bytes are objects below `u/{tenant}/{upload}/` (crates/uploads). A medium never leads there: once all bytes are in, they are read
-- once more, checked, and written to an object of the medium's own. What is below `u/` may be lost or overwritten at any moment after that.
--
-- Whatever becomes of an upload, its row outlives every URL that was given out for it, and what lies below its name is deleted once
-- more when the row goes. That is why there is no reference to the tenant: its objects have to be deleted after its end.

CREATE TABLE uploads (
    tenant_id uuid NOT NULL,
    -- Later ones are greater (UUID version 7).
    id uuid NOT NULL,
    protocol text NOT NULL CHECK (protocol IN ('direct', 'tus')),
    -- 'open': bytes may come; 'completing': all are there, and a medium is made of them; 'done': it is; 'failed': they cannot become one;
    -- 'expired', 'aborted': they never will. In the last four, nothing below its name is needed.
    state text NOT NULL DEFAULT 'open'
        CHECK (state IN ('open', 'completing', 'done', 'failed', 'expired', 'aborted')),
    -- How many there will be. NULL while a client of tus has not said.
    bytes bigint CHECK (bytes > 0),
    -- How many have come without a gap, with tus.
    received bigint NOT NULL DEFAULT 0 CHECK (received >= 0 AND received <= coalesce(bytes, received)),
    -- Size of the parts but the last, of a direct upload.
    part_bytes bigint CHECK (part_bytes > 0),
    -- What the bucket calls its upload in parts.
    multipart text,
    -- What the bytes have to have.
    sha256 bytea CHECK (octet_length(sha256) = 32),
    filename text CHECK (octet_length(filename) BETWEEN 1 AND 255),
    -- What is said of the medium, as it was ordered.
    said jsonb NOT NULL DEFAULT '{}',
    -- The same as a client of tus has put it, to be told again.
    tus_metadata text CHECK (octet_length(tus_metadata) <= 32768),
    -- What it becomes: a medium of the upload's own id, or other bytes for one that is there.
    media_id uuid NOT NULL,
    replaces boolean NOT NULL DEFAULT false,
    -- The only version that it may replace.
    media_version bigint,
    -- Who receives bytes of it, with tus; whoever else has this set to another one keeps nothing more.
    writer uuid,
    -- Somebody else wants to be the writer.
    writer_wanted boolean NOT NULL DEFAULT false,
    -- A part of another upload, or one that is made of such (tus, concatenation).
    concat text CHECK (concat IN ('partial', 'final')),
    -- Which upload this is a part of, and its place in there.
    final_id uuid,
    place integer,
    -- Who makes the medium, where that takes longer than a request.
    job_id uuid,
    -- Who reads its bytes for that at the moment, and for how long nobody else does unless it is heard of again.
    copier uuid,
    copied_until timestamptz,
    -- How many jobs workers have put in of their own accord, because the one before had failed.
    rounds smallint NOT NULL DEFAULT 0,
    -- Why that did not work, the last time: a code of the API, and a text.
    error_code text,
    error text,
    -- When somebody had to change something else first, for the first time. It does not expire before an hour after that.
    refused_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- No URL is good for longer.
    expires_at timestamptz NOT NULL,
    -- When a worker looks at it next.
    due_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX uploads_open ON uploads (tenant_id) WHERE state IN ('open', 'completing');
CREATE INDEX uploads_final ON uploads (tenant_id, final_id, place) WHERE final_id IS NOT NULL;
CREATE INDEX uploads_due_at ON uploads (due_at);
CALL isolate('uploads');

-- What has come of an upload, where we have received it ourselves. Each write is an object of its own, so that of two writers at the
-- same moment the row decides, and a writer that nobody waits for any more changes nothing.
CREATE TABLE upload_parts (
    tenant_id uuid NOT NULL,
    upload_id uuid NOT NULL,
    -- From 1, in the order of the bytes.
    number integer NOT NULL CHECK (number BETWEEN 1 AND 10000),
    object uuid NOT NULL,
    bytes bigint NOT NULL CHECK (bytes > 0),
    -- Of a part of a direct upload: what its entity tag is made of.
    sha256 bytea CHECK (octet_length(sha256) = 32),
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, upload_id, number),
    FOREIGN KEY (tenant_id, upload_id) REFERENCES uploads ON DELETE CASCADE
);
CALL isolate('upload_parts');

-- What the URLs are signed with that take parts where the store cannot sign any: 244 random bits, in one row.
CREATE TABLE upload_url_keys (
    key bytea NOT NULL CHECK (octet_length(key) = 32)
);
ALTER TABLE upload_url_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE upload_url_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON upload_url_keys TO calotype_owner USING (true) WITH CHECK (true);
INSERT INTO upload_url_keys
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

CREATE FUNCTION upload_url_key() RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    SELECT key FROM upload_url_keys LIMIT 1;
END;

-- Gives uploads that are due to a worker; if it does nothing, they are due again soon. One that nobody has completed by now is expired.
CREATE FUNCTION claim_due_uploads(page_size integer) RETURNS TABLE (tenant_id uuid, id uuid, state text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp ROWS 100
BEGIN ATOMIC
    WITH due AS (
        SELECT uploads.tenant_id, uploads.id FROM uploads
        WHERE uploads.due_at <= now()
        ORDER BY uploads.due_at LIMIT least(page_size, 1000) FOR UPDATE SKIP LOCKED
    )
    UPDATE uploads SET
        state = CASE WHEN uploads.state = 'open' THEN 'expired' ELSE uploads.state END,
        writer = NULL,
        due_at = now() + interval '5 minutes'
    FROM due WHERE uploads.tenant_id = due.tenant_id AND uploads.id = due.id
    RETURNING uploads.tenant_id, uploads.id, uploads.state;
END;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION upload_url_key() TO calotype_app;
GRANT EXECUTE ON FUNCTION claim_due_uploads(integer) TO calotype_worker;
