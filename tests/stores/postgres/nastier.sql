-- What nasty.sql leaves out. The partition lies in a schema of its own, and in a tablespace of its own.
CREATE ROLE nastier_owner; CREATE ROLE nastier_reader; CREATE ROLE nastier_writer; CREATE ROLE nastier_friend;
CREATE ROLE nastier_runner;
CREATE SCHEMA mart; CREATE SCHEMA parts; CREATE SCHEMA other;
GRANT ALL ON SCHEMA parts TO nastier_owner; GRANT USAGE, CREATE ON SCHEMA other TO nastier_owner;
CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler;
CREATE DOMAIN mart.score AS int CHECK (VALUE >= 0);
CREATE TYPE mart.mood AS ENUM ('good', 'bad');
CREATE TABLE mart.tenants (tenant int, region text, PRIMARY KEY (tenant, region));
INSERT INTO mart.tenants SELECT g, 'eu' FROM generate_series(1, 3) g;
CREATE TABLE mart.events (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tier text NOT NULL,
    at timestamptz NOT NULL,
    tenant int,
    region text DEFAULT 'eu',
    mood mart.mood NOT NULL DEFAULT 'good',
    points mart.score DEFAULT 1,
    tags text[] DEFAULT '{}',
    body jsonb,
    PRIMARY KEY (tier, at, id),
    CONSTRAINT whose FOREIGN KEY (tenant, region) REFERENCES mart.tenants ON UPDATE CASCADE ON DELETE SET NULL
        DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT fair CHECK (points < 1000)
) PARTITION BY LIST (tier);
CREATE TABLE mart.events_gold PARTITION OF mart.events FOR VALUES IN ('gold') PARTITION BY RANGE (at);
CREATE TABLE mart.events_rest PARTITION OF mart.events_gold DEFAULT;
CREATE INDEX only_above ON ONLY mart.events (tenant);

-- Made first, attached later: NOT NULL and a check of its own beside the inherited ones, a number of its own.
CREATE TABLE parts."Day one" (LIKE mart.events INCLUDING DEFAULTS) USING heap_too TABLESPACE nastier_space;
ALTER TABLE parts."Day one" ADD CONSTRAINT fair CHECK (points < 1000);
ALTER TABLE parts."Day one" ADD CONSTRAINT alone CHECK (tags IS NOT NULL) NO INHERIT;
ALTER TABLE parts."Day one" ALTER COLUMN tenant SET NOT NULL;
CREATE SEQUENCE parts.line; CREATE SEQUENCE parts."Own line" INCREMENT 7;
ALTER TABLE parts."Day one" ALTER COLUMN points SET DEFAULT nextval('parts."Own line"');
ALTER SEQUENCE parts."Own line" OWNED BY parts."Day one".points;
ALTER TABLE mart.events_gold ATTACH PARTITION parts."Day one" FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
ALTER TABLE parts."Day one" OWNER TO nastier_owner;
CREATE INDEX elsewhere ON parts."Day one" USING hash (id) TABLESPACE nastier_space;
CREATE INDEX of_body ON parts."Day one" USING gin (body jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX of_time ON parts."Day one" USING brin (at timestamptz_minmax_ops) WITH (pages_per_range = 16);
CREATE UNIQUE INDEX "once per mood" ON parts."Day one" (mood, lower(region) COLLATE "C" DESC, id) INCLUDE (tenant) WHERE points > 5;
ALTER TABLE parts."Day one" ADD CONSTRAINT "not twice" EXCLUDE USING btree (id WITH =) WHERE (mood = 'bad') DEFERRABLE;
ALTER TABLE parts."Day one" ADD CONSTRAINT "of old" FOREIGN KEY (tenant, region) REFERENCES mart.tenants NOT VALID;
CREATE STATISTICS other.far (dependencies) ON tenant, region FROM parts."Day one";
ALTER STATISTICS other.far OWNER TO nastier_owner;
CREATE FUNCTION mart.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER "at the end" AFTER INSERT OR UPDATE ON parts."Day one" DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION mart.look();
COMMENT ON TRIGGER "at the end" ON parts."Day one" IS 'checks late';
COMMENT ON COLUMN parts."Day one".points IS 'points';
COMMENT ON SEQUENCE parts."Own line" IS 'line';
ALTER TABLE parts."Day one" ENABLE ROW LEVEL SECURITY;
ALTER TABLE parts."Day one" FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone ON parts."Day one" USING (true);
ALTER TABLE parts."Day one" REPLICA IDENTITY FULL;
GRANT USAGE ON SEQUENCE parts."Own line" TO nastier_writer;
GRANT USAGE ON SCHEMA parts TO nastier_writer;
GRANT SELECT, UPDATE ON parts."Day one" TO nastier_writer WITH GRANT OPTION;
GRANT UPDATE (mood) ON parts."Day one" TO nastier_friend WITH GRANT OPTION;
GRANT USAGE ON SCHEMA parts TO nastier_friend;
SET ROLE nastier_writer;
GRANT SELECT ON parts."Day one" TO nastier_friend;
SET ROLE nastier_friend;
GRANT UPDATE (mood) ON parts."Day one" TO nastier_reader;
RESET ROLE;
CREATE PUBLICATION nastier_pub FOR TABLE mart.events WITH (publish_via_partition_root = true);
CREATE PUBLICATION nastier_part FOR TABLE ONLY parts."Day one" WITH (publish = 'insert');
INSERT INTO parts."Day one" (tier, at, tenant, body)
    SELECT 'gold', timestamptz '2026-01-01 00:00+00' + g * interval '1 minute', g % 3 + 1, '{}' FROM generate_series(1, 100) g;
-- Whatever is made from now on is given to others; the partition was not.
ALTER DEFAULT PRIVILEGES GRANT SELECT, DELETE ON TABLES TO nastier_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA parts GRANT TRUNCATE ON TABLES TO PUBLIC;
