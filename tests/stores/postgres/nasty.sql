-- A partition with one of everything that a table can have.
CREATE ROLE nasty_owner; CREATE ROLE nasty_reader; CREATE ROLE nasty_writer;
CREATE SCHEMA shop; GRANT ALL ON SCHEMA shop TO nasty_owner;
CREATE COLLATION shop.loud (provider = libc, locale = 'C');
CREATE TABLE shop.owners (owner_id int PRIMARY KEY);
INSERT INTO shop.owners SELECT generate_series(1, 3);
CREATE TABLE shop."Mess ages" (
    gone_first text,
    id bigint GENERATED ALWAYS AS IDENTITY,
    "Tier" text NOT NULL,
    at timestamptz NOT NULL,
    owner_id int REFERENCES shop.owners,
    body text COLLATE shop.loud DEFAULT 'it''s',
    size int GENERATED ALWAYS AS (octet_length(body)) STORED,
    during tstzrange,
    gone_middle int,
    note varchar(40),
    PRIMARY KEY ("Tier", at, id),
    CONSTRAINT short CHECK (length(body) < 1000)
) PARTITION BY LIST ("Tier");
ALTER TABLE shop."Mess ages" DROP COLUMN gone_first;
CREATE TABLE shop.mess_gold PARTITION OF shop."Mess ages" FOR VALUES IN ('gold') PARTITION BY RANGE (at);
ALTER TABLE shop."Mess ages" DROP COLUMN gone_middle;
CREATE TABLE shop.mess_gold_rest PARTITION OF shop.mess_gold DEFAULT;
CREATE INDEX by_owner ON shop."Mess ages" (owner_id DESC NULLS LAST) INCLUDE (note);
CREATE INDEX by_owner_too ON shop."Mess ages" (owner_id DESC NULLS LAST) INCLUDE (note);

-- A partition that was a table of its own: other columns, other order, other names.
CREATE TABLE shop."Gold 1" (
    extra_gone int,
    note varchar(40) COMPRESSION pglz,
    during tstzrange,
    "Tier" text NOT NULL,
    at timestamptz CONSTRAINT "at needed" NOT NULL,
    id bigint NOT NULL,
    body text COLLATE shop.loud DEFAULT 'other' CONSTRAINT short CHECK (length(body) < 1000),
    size int GENERATED ALWAYS AS (octet_length(body)) STORED,
    owner_id int
) WITH (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_vacuum_threshold = 99);
ALTER TABLE shop."Gold 1" DROP COLUMN extra_gone;
CREATE INDEX "twin of by_owner" ON shop."Gold 1" (owner_id DESC NULLS LAST) INCLUDE (note) WITH (fillfactor = 50);
ALTER TABLE shop."Gold 1" ADD CONSTRAINT "key of gold" PRIMARY KEY ("Tier", at, id);
ALTER TABLE shop."Gold 1" ADD CONSTRAINT "one body" UNIQUE NULLS NOT DISTINCT (id, note) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE shop."Gold 1" ADD CONSTRAINT "no overlap" EXCLUDE USING gist (during WITH &&) WITH (fillfactor = 60) WHERE (id > 1000);
ALTER TABLE shop."Gold 1" ADD CONSTRAINT "owner known" FOREIGN KEY (owner_id) REFERENCES shop.owners ON DELETE SET NULL;
ALTER TABLE shop.mess_gold ATTACH PARTITION shop."Gold 1" FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
INSERT INTO shop."Gold 1" (note, "Tier", at, id, owner_id) OVERRIDING SYSTEM VALUE
    SELECT 'n', 'gold', timestamptz '2026-01-01 00:00+00' + g * interval '1 minute', g, g % 3 + 1 FROM generate_series(1, 1000) g;
SELECT setval(pg_get_serial_sequence('shop."Mess ages"', 'id'), 5000);
ALTER TABLE shop."Gold 1" ADD CONSTRAINT "later only" CHECK (id > 1) NOT VALID;
CREATE INDEX ON shop."Gold 1" ((lower(body)) text_pattern_ops) WHERE note IS NOT NULL;
CREATE INDEX "whole row" ON shop."Gold 1" (("Gold 1" IS NOT NULL));
CREATE INDEX "a third twin" ON shop."Gold 1" (owner_id DESC NULLS LAST) INCLUDE (note);
ALTER INDEX shop."Gold 1_lower_idx" ALTER COLUMN 1 SET STATISTICS 77;
ALTER TABLE shop."Gold 1" ALTER COLUMN note SET STATISTICS 500, ALTER COLUMN owner_id SET (n_distinct = -0.5),
    ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE shop."Gold 1" CLUSTER ON "key of gold";
ALTER TABLE shop."Gold 1" REPLICA IDENTITY USING INDEX "key of gold";
CREATE STATISTICS shop."gold's stats" (ndistinct, mcv) ON owner_id, (lower(body)) FROM shop."Gold 1";
ALTER STATISTICS shop."gold's stats" SET STATISTICS 42;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(NEW, OLD); END $$;
CREATE TRIGGER of_parent BEFORE INSERT ON shop."Mess ages" FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TRIGGER of_parent_2 AFTER UPDATE ON shop."Mess ages" FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TRIGGER own BEFORE UPDATE OF note ON shop."Gold 1" FOR EACH ROW WHEN (OLD.note IS NOT NULL) EXECUTE FUNCTION shop.touch();
CREATE TRIGGER own_off AFTER DELETE ON shop."Gold 1" REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION shop.touch();
ALTER TABLE shop."Gold 1" DISABLE TRIGGER own_off;
ALTER TABLE shop."Gold 1" ENABLE ALWAYS TRIGGER own;
ALTER TABLE shop."Gold 1" DISABLE TRIGGER of_parent_2;
CREATE RULE "no deletes of 1" AS ON DELETE TO shop."Gold 1" WHERE OLD.id = 1 DO INSTEAD NOTHING;
ALTER TABLE shop."Gold 1" DISABLE RULE "no deletes of 1";
CREATE POLICY "own rows" ON shop."Gold 1" AS RESTRICTIVE FOR SELECT TO nasty_reader, PUBLIC
    USING (EXISTS (SELECT FROM shop.owners o WHERE o.owner_id = "Gold 1".owner_id));
CREATE POLICY writes ON shop."Gold 1" FOR INSERT TO nasty_writer WITH CHECK (note = 'x');
ALTER TABLE shop."Gold 1" ENABLE ROW LEVEL SECURITY;
ALTER TABLE shop."Gold 1" OWNER TO nasty_owner;
GRANT SELECT, INSERT ON shop."Gold 1" TO nasty_writer WITH GRANT OPTION;
GRANT SELECT (note, at), UPDATE (body) ON shop."Gold 1" TO nasty_reader;
GRANT TRIGGER ON shop."Gold 1" TO PUBLIC;
REVOKE TRUNCATE ON shop."Gold 1" FROM nasty_owner;
CREATE PUBLICATION nasty_pub FOR TABLE shop."Gold 1" ("Tier", at, id, note) WHERE (id > 0 AND "Tier" = 'gold' );
COMMENT ON TABLE shop."Gold 1" IS 'a nasty ''one''';
COMMENT ON COLUMN shop."Gold 1".note IS 'of note';
COMMENT ON CONSTRAINT "key of gold" ON shop."Gold 1" IS 'the key';
COMMENT ON CONSTRAINT short ON shop."Gold 1" IS 'short';
COMMENT ON INDEX shop."a third twin" IS 'third';
COMMENT ON TRIGGER of_parent ON shop."Gold 1" IS 'from above';
COMMENT ON POLICY writes ON shop."Gold 1" IS 'policy';
COMMENT ON RULE "no deletes of 1" ON shop."Gold 1" IS 'rule';
COMMENT ON STATISTICS shop."gold's stats" IS 'stats';
ALTER TABLE shop."Gold 1" ALTER COLUMN note SET NOT NULL;
