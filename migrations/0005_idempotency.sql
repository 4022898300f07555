-- Answers to requests that came with an `Idempotency-Key`: whoever sends the same again is answered the same.
--
-- A row is part of the transaction that does what was asked, so that neither is there without the other. While that runs it holds
-- an advisory lock for the key, which ends with it in whatever way: nothing is left over of a server that has died.

CREATE TABLE idempotency_keys (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- Method and pattern of the path, as the program names it.
    route text NOT NULL,
    key text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    -- SHA-256 of the path and the body.
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    -- Only what has been done is kept.
    status smallint NOT NULL CHECK (status BETWEEN 200 AND 299),
    etag text,
    location text,
    body bytea NOT NULL,
    -- The body has a secret, and is sealed with the master key.
    is_sealed boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, route, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
CALL isolate('idempotency_keys');

-- Forgets answers that nobody asks for again.
CREATE FUNCTION trim_idempotency_keys(older_than timestamptz, page_size integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    WITH old AS (
        SELECT tenant_id, route, key FROM idempotency_keys WHERE created_at < older_than
        ORDER BY created_at LIMIT page_size FOR UPDATE SKIP LOCKED
    ),
    gone AS (
        DELETE FROM idempotency_keys AS kept USING old
        WHERE kept.tenant_id = old.tenant_id AND kept.route = old.route AND kept.key = old.key
        RETURNING 1
    )
    SELECT count(*)::integer FROM gone;
END;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION trim_idempotency_keys(timestamptz, integer) TO calotype_worker;
