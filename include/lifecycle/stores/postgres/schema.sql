-- The project's own schema. Idempotent: run by `lifecycle store create` and by the check step of every run.
-- Not IF NOT EXISTS: that asks for the right to create schemas even where there is nothing to create.
DO $$ BEGIN
    IF to_regnamespace('lifecycle') IS NULL THEN
        CREATE SCHEMA lifecycle;
    END IF;
END $$;

-- What people and other systems write is part of the contract (DESIGN.md, "The reference store").
CREATE TABLE IF NOT EXISTS lifecycle.legal_holds (
    hold_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    scope       text NOT NULL CHECK (scope IN ('account', 'conversation', 'message', 'dataset')),
    target      text NOT NULL,
    reason      text NOT NULL,
    placed_by   text NOT NULL,
    placed_at   timestamptz NOT NULL DEFAULT now(),
    released_at timestamptz
);
CREATE INDEX IF NOT EXISTS legal_holds_open ON lifecycle.legal_holds (scope, target) WHERE released_at IS NULL;

CREATE TABLE IF NOT EXISTS lifecycle.erasure_requests (
    request_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    scope        text NOT NULL CHECK (scope IN ('account', 'conversation', 'message')),
    target       text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    outcome      text
);
CREATE INDEX IF NOT EXISTS erasure_requests_scope ON lifecycle.erasure_requests (scope, target);
-- As fates and deadlines ask: whatever the spelling of a target, one probe per row.
CREATE INDEX IF NOT EXISTS erasure_requests_named ON lifecycle.erasure_requests (scope, lower(btrim(target)));
CREATE INDEX IF NOT EXISTS legal_holds_named ON lifecycle.legal_holds (scope, lower(btrim(target)));
-- Compared letter by letter: a line's end that came along with an id would make a hold that keeps nothing.
CREATE OR REPLACE FUNCTION lifecycle.trim_target() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.target := pg_catalog.regexp_replace(NEW.target, '^[[:space:]]+|[[:space:]]+$', '', 'g');
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER legal_holds_trim BEFORE INSERT OR UPDATE OF target ON lifecycle.legal_holds
    FOR EACH ROW EXECUTE FUNCTION lifecycle.trim_target();
CREATE OR REPLACE TRIGGER erasure_requests_trim BEFORE INSERT OR UPDATE OF target ON lifecycle.erasure_requests
    FOR EACH ROW EXECUTE FUNCTION lifecycle.trim_target();
ALTER TABLE lifecycle.legal_holds ENABLE ALWAYS TRIGGER legal_holds_trim;
ALTER TABLE lifecycle.erasure_requests ENABLE ALWAYS TRIGGER erasure_requests_trim;
UPDATE lifecycle.legal_holds SET target = target WHERE target ~ '^[[:space:]]|[[:space:]]$';
UPDATE lifecycle.erasure_requests SET target = target WHERE target ~ '^[[:space:]]|[[:space:]]$';

-- One row per run. run_key names the run for its caller: an Airflow "dag_id/run_id" or "cli/<n>".
CREATE TABLE IF NOT EXISTS lifecycle.runs (
    run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_key      text NOT NULL UNIQUE,
    scope        text NOT NULL,
    as_of        timestamptz NOT NULL,
    policy_hash  text NOT NULL,
    catalog_hash text NOT NULL,
    dry_run      boolean NOT NULL DEFAULT false,
    status       text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'succeeded', 'failed', 'abandoned')),
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    lease_until  timestamptz,
    owner_pid    integer,
    owner_start  timestamptz,
    planned_at   timestamptz,
    summary      jsonb
);
CREATE INDEX IF NOT EXISTS runs_scope ON lifecycle.runs (scope, as_of);
-- What the run found past its deadline: simply late, and late because of a hold or a case, or of another exception.
ALTER TABLE lifecycle.runs ADD COLUMN IF NOT EXISTS late jsonb;

-- The frozen plan: exactly these units are executed. Progress is kept in the transaction that makes it.
CREATE TABLE IF NOT EXISTS lifecycle.plan_units (
    run_id      bigint NOT NULL REFERENCES lifecycle.runs,
    unit        text NOT NULL,          -- 'messages/consumer/2026-08-01', 'feedback', 'request_logs/2026-08-01' ...
    dataset     text NOT NULL,
    tier        text,
    day         date,
    method      text NOT NULL,          -- swap, rows, quarantine, restore, records, accounts, logs
    cutoff      timestamptz,
    deadline    timestamptz,            -- the earliest deadline in the unit
    planned     jsonb NOT NULL,         -- counts per disposition and rule, and of what is kept and why
    progress    jsonb NOT NULL DEFAULT '{}',
    fence       bigint NOT NULL DEFAULT 0,
    status      text NOT NULL DEFAULT 'planned' CHECK (status IN ('planned', 'running', 'done', 'failed')),
    started_at  timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (run_id, unit)
);

-- Append-only and hash-chained (promise 5). No content and no identifier of a person or record.
CREATE TABLE IF NOT EXISTS lifecycle.ledger (
    seq         bigint PRIMARY KEY,
    run_id      bigint NOT NULL,
    run_key     text NOT NULL,
    as_of       timestamptz NOT NULL,
    entry       text NOT NULL CHECK (entry IN ('intent', 'outcome')),
    scope       text NOT NULL,
    dataset     text NOT NULL,
    unit        text NOT NULL,
    disposition text NOT NULL CHECK (disposition IN ('delete', 'deidentify', 'quarantine', 'restore', 'move')),
    rule        text NOT NULL,
    counts      jsonb NOT NULL,
    cutoff      timestamptz,
    policy_hash text NOT NULL,
    started_at  timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    prev_hash   text NOT NULL,
    hash        text NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_run ON lifecycle.ledger (run_id, unit);

CREATE OR REPLACE FUNCTION lifecycle.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'lifecycle.ledger is append-only';
END $$;
CREATE OR REPLACE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE ON lifecycle.ledger
    FOR EACH ROW EXECUTE FUNCTION lifecycle.refuse_change();
CREATE OR REPLACE TRIGGER ledger_no_truncate BEFORE TRUNCATE ON lifecycle.ledger
    FOR EACH STATEMENT EXECUTE FUNCTION lifecycle.refuse_change();

-- What is in the quarantine bucket, so that clears, holds and ends are found without listing it.
CREATE TABLE IF NOT EXISTS lifecycle.quarantine (
    message_id      uuid PRIMARY KEY,
    conversation_id uuid NOT NULL,
    account_id      uuid NOT NULL,
    tier            text NOT NULL,
    received_at     timestamptz NOT NULL,
    quarantined_at  timestamptz NOT NULL,
    prefix          text NOT NULL,
    record_sha256   text NOT NULL,
    object_sha256   text,
    legal_hold      boolean NOT NULL DEFAULT false,
    published       boolean NOT NULL DEFAULT false  -- its de-identified form is written
);
CREATE INDEX IF NOT EXISTS quarantine_received ON lifecycle.quarantine (tier, received_at);
CREATE INDEX IF NOT EXISTS quarantine_account ON lifecycle.quarantine (account_id);
CREATE INDEX IF NOT EXISTS quarantine_conversation ON lifecycle.quarantine (conversation_id);
-- Of accounts that are no uuids (subject_ids), the id as text, instead of account_id.
ALTER TABLE lifecycle.quarantine ADD COLUMN IF NOT EXISTS account text;
ALTER TABLE lifecycle.quarantine ALTER COLUMN account_id DROP NOT NULL;
CREATE INDEX IF NOT EXISTS quarantine_other_account ON lifecycle.quarantine (account) WHERE account IS NOT NULL;

-- Verdict of each validation of a run, for the console and the certificate. Counts only.
CREATE TABLE IF NOT EXISTS lifecycle.validations (
    run_id      bigint NOT NULL,
    name        text NOT NULL,
    promise     text NOT NULL,
    severity    text NOT NULL CHECK (severity IN ('critical', 'warning')),
    violations  bigint NOT NULL,
    success     boolean NOT NULL,
    checked_at  timestamptz NOT NULL,
    PRIMARY KEY (run_id, name)
);

-- The end of a calendar period in UTC; the SQL twin of policy/periods.py, held to it by a differential test. Between the
-- years 1 and 9999, which every client can read: an agreement may be for 'infinity' or for ten thousand years.
CREATE OR REPLACE FUNCTION lifecycle.period_end(start timestamptz, period interval, round_up boolean)
RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN start IS NULL OR period IS NULL THEN NULL
        WHEN period > interval '10000 years' OR start > timestamptz '9999-12-31Z' THEN timestamptz '9999-12-31Z'
        WHEN period < interval '-4700 years' OR start < timestamptz '0001-01-02Z' THEN timestamptz '0001-01-02Z'
        ELSE (
            SELECT greatest(timestamptz '0001-01-02Z', least(timestamptz '9999-12-31Z',
                (CASE WHEN round_up AND extract(day FROM m.landed) < extract(day FROM m.began)
                      THEN m.landed + interval '1 day' ELSE m.landed END
                 + make_interval(days => extract(day FROM period)::int)
                 + (extract(epoch FROM period - date_trunc('day', period)) * interval '1 second')) AT TIME ZONE 'UTC'))
            FROM (SELECT start AT TIME ZONE 'UTC' AS began, (start AT TIME ZONE 'UTC')
                + make_interval(months => (extract(year FROM period) * 12 + extract(month FROM period))::int) AS landed) m
        ) END
$$;

-- Lengths of object bodies, committed before the object goes, so that a kill in between loses no research row.
CREATE TABLE IF NOT EXISTS lifecycle.research_staging (
    record     uuid PRIMARY KEY,
    body_chars bigint NOT NULL
);

-- What is about to leave a many-record object, committed before it is rewritten. Keys are hashed.
CREATE TABLE IF NOT EXISTS lifecycle.log_intents (
    run_id     bigint NOT NULL,
    unit       text NOT NULL,
    key_sha256 text NOT NULL,
    etag       text NOT NULL,
    counts     jsonb NOT NULL,
    PRIMARY KEY (run_id, unit, key_sha256)
);

-- Many-record objects that were read whole and held nothing due, while they stand as they were. Keys are hashed; accounts
-- and ids are 32-bit signs, which go with what they stand for.
CREATE TABLE IF NOT EXISTS lifecycle.log_index (
    bucket     text NOT NULL,
    key_sha256 text NOT NULL,
    state      text NOT NULL,
    dataset    text NOT NULL,
    day        date NOT NULL,
    rows       bigint NOT NULL,
    oldest     jsonb NOT NULL,
    subjects   bytea,
    records    bytea,
    PRIMARY KEY (bucket, key_sha256)
);

-- What a plan found in objects that a cluster prepares: the rest that comes back is held to it. `contents` is a checksum
-- of what stays, and goes once the object is done; `outcome` is 'taken over' or why the rest was refused.
CREATE TABLE IF NOT EXISTS lifecycle.log_rests (
    run_id       bigint NOT NULL,
    bucket       text NOT NULL,
    key_sha256   text NOT NULL,
    dataset      text NOT NULL,
    digest       text NOT NULL,
    version_id   text NOT NULL,
    etag         text NOT NULL,
    before       bigint NOT NULL,
    kept         bigint NOT NULL,
    unclassified bigint NOT NULL,
    removed      jsonb NOT NULL,
    contents     text,
    outcome      text,
    PRIMARY KEY (run_id, bucket, key_sha256)
);

-- Every configuration ever loaded by a run, so that an approved one can be compiled again. No secrets: both are files.
CREATE TABLE IF NOT EXISTS lifecycle.policies (
    policy_hash   text NOT NULL,
    catalog_hash  text NOT NULL,
    policy        jsonb NOT NULL,
    catalog       jsonb NOT NULL,
    first_seen_at timestamptz NOT NULL,
    PRIMARY KEY (policy_hash, catalog_hash)
);

-- What waits for a yes, and who said yes or no: to a configuration, or to part of a plan. Numbers, dates and rule ids only.
CREATE TABLE IF NOT EXISTS lifecycle.approvals (
    approval_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject      text NOT NULL CHECK (subject IN ('policy', 'plan')),
    policy_hash  text NOT NULL,
    catalog_hash text NOT NULL,
    run_id       bigint,                -- the run that asked; null when somebody asked by hand
    scope        text,                  -- of a plan: the scope of its run
    units        jsonb NOT NULL DEFAULT '{}',   -- of a plan: the records that each waiting unit would destroy
    shown        jsonb NOT NULL,        -- the diff, or the numbers, in front of whoever decides
    shown_hash   text NOT NULL,         -- SHA-256 of it: an answer is to what was shown
    status       text NOT NULL DEFAULT 'pending'
                 CHECK (status IN ('pending', 'approved', 'rejected', 'automatic', 'superseded')),
    deadline     timestamptz,           -- the earliest deadline of what waits
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    decided_at   timestamptz,
    decided_by   text,
    comment      text
);
CREATE INDEX IF NOT EXISTS approvals_subject ON lifecycle.approvals (subject, status);

-- The configuration in force when a run began, where it is not the run's own: the run does only what both decide alike.
ALTER TABLE lifecycle.runs ADD COLUMN IF NOT EXISTS guard_policy text;
ALTER TABLE lifecycle.runs ADD COLUMN IF NOT EXISTS guard_catalog text;
-- A partition of very many objects is cut into units by key: those behind keys_after, up to and including keys_until.
-- Both are the shortest text that lies between two neighbours, and seldom a whole key.
ALTER TABLE lifecycle.plan_units ADD COLUMN IF NOT EXISTS keys_after text;
ALTER TABLE lifecycle.plan_units ADD COLUMN IF NOT EXISTS keys_until text;
ALTER TABLE lifecycle.plan_units DROP CONSTRAINT IF EXISTS plan_units_status_check;
ALTER TABLE lifecycle.plan_units ADD CONSTRAINT plan_units_status_check
    CHECK (status IN ('planned', 'running', 'done', 'failed', 'awaiting'));
ALTER TABLE lifecycle.ledger DROP CONSTRAINT IF EXISTS ledger_entry_check;
ALTER TABLE lifecycle.ledger ADD CONSTRAINT ledger_entry_check CHECK (entry IN ('intent', 'outcome', 'decision'));
ALTER TABLE lifecycle.ledger DROP CONSTRAINT IF EXISTS ledger_disposition_check;
ALTER TABLE lifecycle.ledger ADD CONSTRAINT ledger_disposition_check
    CHECK (disposition IN ('delete', 'deidentify', 'quarantine', 'restore', 'move', 'approve', 'reject'));

-- Tables on their way from ordinary to partitioned, `lifecycle postgres partition`. `position` is where the copy is.
CREATE TABLE IF NOT EXISTS lifecycle.partitionings (
    partitioning_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_schema    text NOT NULL,
    table_name      text NOT NULL,
    clock           text NOT NULL,
    tier            text,
    tiers           text[] NOT NULL DEFAULT '{}',
    interval        text NOT NULL CHECK (interval IN ('day', 'month')),
    ahead           interval NOT NULL,
    accepted        jsonb NOT NULL DEFAULT '{}',
    phase           text NOT NULL CHECK (phase IN ('building', 'built', 'mirrored', 'copied', 'verified', 'switched',
                                                   'finishing', 'finished', 'reverting', 'reverted')),
    structure       text NOT NULL,      -- of the ordinary table when it began; of the tree once it has switched
    key             text[] NOT NULL,    -- the columns that order the copy
    indexes         text[] NOT NULL,
    foreign_keys    jsonb NOT NULL DEFAULT '[]',
    position        text[],
    copied          bigint NOT NULL DEFAULT 0,
    checked         bigint NOT NULL DEFAULT 0,
    snapshots       text[],             -- transactions that were open when the copy ended and may not see all of it
    started_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    switched_at     timestamptz,
    finished_at     timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS partitionings_open ON lifecycle.partitionings (table_schema, table_name)
    WHERE phase NOT IN ('finished', 'reverted');

-- Where rows were taken out, and since when no version of them is left in the table, its indexes and its TOAST (hard case 18): null until
-- a vacuum has left nothing behind. ``lsn``: the write-ahead log up to here can hold what was deleted.
CREATE TABLE IF NOT EXISTS lifecycle.physical_erasure (
    run_id       bigint NOT NULL,
    unit         text NOT NULL,
    relation     text NOT NULL,
    deleted_at   timestamptz NOT NULL,
    lsn          pg_lsn,
    bound        xid8 NOT NULL,         -- every transaction that deleted came before this one
    reclaimed_at timestamptz,
    PRIMARY KEY (run_id, unit, relation)
);
-- The file that the rows were in; 0 where it went with its table. A vacuum leaves their bytes in it, as free space.
ALTER TABLE lifecycle.physical_erasure ADD COLUMN IF NOT EXISTS filenode oid;
CREATE INDEX IF NOT EXISTS physical_erasure_pending ON lifecycle.physical_erasure (relation) WHERE reclaimed_at IS NULL;

-- Materialized views that are made from disposed data: when a run last refreshed each, in the clock of the ledger.
CREATE TABLE IF NOT EXISTS lifecycle.refreshed_views (
    name         text PRIMARY KEY,
    refreshed_at timestamptz NOT NULL
);

-- Which store of a deployment with several this database belongs to; empty where there is a single one.
CREATE TABLE IF NOT EXISTS lifecycle.store_identity (
    name text NOT NULL,
    one  boolean PRIMARY KEY DEFAULT true CHECK (one)
);

-- Lifecycle rules that runs have put into buckets, each for one day of one tier (``expire: native``). Written down before the
-- rule is in the bucket, and ended after it is out, so that none stands there that is not known here. Counts are of the
-- listing before.
CREATE TABLE IF NOT EXISTS lifecycle.native_rules (
    native_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule_id    text NOT NULL,           -- in the bucket; a second rule of the same ID and a suffix drops delete markers
    bucket     text NOT NULL,
    prefix     text NOT NULL,
    dataset    text NOT NULL,
    tier       text NOT NULL,
    day        date NOT NULL,
    days       int NOT NULL CHECK (days >= 1),
    rule       text NOT NULL,           -- of the policy
    run_id     bigint NOT NULL,
    objects    bigint NOT NULL,
    versions   bigint NOT NULL,
    bytes      bigint NOT NULL,
    placed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    outcome    text CHECK (outcome IN ('emptied', 'withdrawn', 'taken over'))
);
CREATE UNIQUE INDEX IF NOT EXISTS native_rules_standing ON lifecycle.native_rules (bucket, prefix) WHERE ended_at IS NULL;
