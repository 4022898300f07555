-- Collections: media put together by hand, in an order of its own. A medium may be in any number of them, and none owns it.

CREATE TABLE collections (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- Later ones are greater (UUID version 7): lists go by it.
    id uuid NOT NULL,
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    description text NOT NULL DEFAULT '' CHECK (octet_length(description) <= 4096),
    metadata jsonb NOT NULL DEFAULT '{}',
    -- When what was in it was last put into another order.
    arranged_at timestamptz,
    -- Grows with each change, also of what is in it, for ETags; not when a medium in it is deleted.
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CALL isolate('collections');
CALL audit('collections', 'collection');

CREATE TABLE collection_media (
    tenant_id uuid NOT NULL,
    collection_id uuid NOT NULL,
    media_id uuid NOT NULL,
    -- Its place: there is room between two, so that others can be put there without touching these.
    position bigint NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, collection_id, media_id),
    CONSTRAINT collection_media_collection FOREIGN KEY (tenant_id, collection_id) REFERENCES collections ON DELETE CASCADE,
    CONSTRAINT collection_media_media FOREIGN KEY (tenant_id, media_id) REFERENCES media ON DELETE CASCADE
);
CREATE INDEX collection_media_order ON collection_media (tenant_id, collection_id, position, media_id);
-- The collections that a medium is in, the newest first; also for when it is deleted.
CREATE INDEX collection_media_of ON collection_media (tenant_id, media_id, collection_id);
CALL isolate('collection_media');
-- Another order is told of by `arranged_at`: it may move thousands.
CALL audit('collection_media', quiet => '{position}');

-- Counts what was sent of an archive to what the transaction's tenant has used today.
CREATE FUNCTION count_download(sent bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    INSERT INTO usage_days AS known (tenant_id, day, requests, bytes)
    SELECT id, utc_day(), 1, greatest(sent, 0) FROM tenants WHERE id = current_setting('calotype.tenant')::uuid
    ON CONFLICT (tenant_id, day) DO UPDATE SET
        requests = known.requests + EXCLUDED.requests,
        bytes = known.bytes + EXCLUDED.bytes;
END;
REVOKE EXECUTE ON FUNCTION count_download(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION count_download(bigint) TO calotype_app;
