-- The reference store: what an AI product keeps (DESIGN.md, "The reference store"). Idempotent.
-- Only what identifies a record and what a period counts from is mandatory; there are no foreign keys and no checks on
-- tier, role or basis, because a product's tables hold what its services wrote, not what the policy expects.
CREATE SCHEMA IF NOT EXISTS app;
CREATE SCHEMA IF NOT EXISTS research;

CREATE TABLE IF NOT EXISTS app.accounts (
    account_id          uuid PRIMARY KEY,
    tier                text NOT NULL,
    email               text,
    display_name        text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    last_interaction_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS accounts_last_interaction ON app.accounts (last_interaction_at);

-- LIST (tier) -> RANGE (received_at), one partition per UTC day: app.messages_<tier>_<YYYYMMDD>. Every level has a default
-- partition, so that an insert never fails; the run drains the defaults of known tiers.
CREATE TABLE IF NOT EXISTS app.messages (
    message_id      uuid NOT NULL,
    conversation_id uuid NOT NULL,
    account_id      uuid NOT NULL,
    tier            text NOT NULL,
    role            text NOT NULL,
    received_at     timestamptz NOT NULL,
    model           text,
    client_ip       inet,
    body            text,
    object_key      text,
    PRIMARY KEY (tier, received_at, message_id)
) PARTITION BY LIST (tier);
CREATE INDEX IF NOT EXISTS messages_message ON app.messages (message_id);
CREATE INDEX IF NOT EXISTS messages_account ON app.messages (account_id, received_at);
CREATE INDEX IF NOT EXISTS messages_conversation ON app.messages (conversation_id);
CREATE INDEX IF NOT EXISTS messages_received ON app.messages (received_at);
-- For finding what still lies in landing, and objects that no row names.
CREATE INDEX IF NOT EXISTS messages_object ON app.messages (object_key text_pattern_ops) WHERE object_key IS NOT NULL;

CREATE TABLE IF NOT EXISTS app.messages_consumer PARTITION OF app.messages
    FOR VALUES IN ('consumer') PARTITION BY RANGE (received_at);
CREATE TABLE IF NOT EXISTS app.messages_beta PARTITION OF app.messages
    FOR VALUES IN ('beta') PARTITION BY RANGE (received_at);
CREATE TABLE IF NOT EXISTS app.messages_evaluation PARTITION OF app.messages
    FOR VALUES IN ('evaluation') PARTITION BY RANGE (received_at);
CREATE TABLE IF NOT EXISTS app.messages_business PARTITION OF app.messages
    FOR VALUES IN ('business') PARTITION BY RANGE (received_at);
CREATE TABLE IF NOT EXISTS app.messages_default PARTITION OF app.messages DEFAULT;
CREATE TABLE IF NOT EXISTS app.messages_consumer_default PARTITION OF app.messages_consumer DEFAULT;
CREATE TABLE IF NOT EXISTS app.messages_beta_default PARTITION OF app.messages_beta DEFAULT;
CREATE TABLE IF NOT EXISTS app.messages_evaluation_default PARTITION OF app.messages_evaluation DEFAULT;
CREATE TABLE IF NOT EXISTS app.messages_business_default PARTITION OF app.messages_business DEFAULT;

-- A child of messages without a foreign key, as products have them (hard case 24).
CREATE TABLE IF NOT EXISTS app.message_tools (
    message_id uuid NOT NULL,
    tool_name  text NOT NULL,
    PRIMARY KEY (message_id, tool_name)
);

CREATE TABLE IF NOT EXISTS app.safety_flags (
    message_id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    classifier text,
    flagged_at timestamptz NOT NULL,
    cleared_at timestamptz
);
CREATE INDEX IF NOT EXISTS safety_flags_account ON app.safety_flags (account_id);

CREATE TABLE IF NOT EXISTS app.safety_scores (
    score_id   uuid PRIMARY KEY,
    message_id uuid NOT NULL,
    account_id uuid NOT NULL,
    tier       text NOT NULL,
    classifier text,
    score      double precision,
    scored_at  timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS safety_scores_message ON app.safety_scores (message_id);
CREATE INDEX IF NOT EXISTS safety_scores_account ON app.safety_scores (account_id);
CREATE INDEX IF NOT EXISTS safety_scores_scored ON app.safety_scores (scored_at);

CREATE TABLE IF NOT EXISTS app.feedback (
    feedback_id     uuid PRIMARY KEY,
    account_id      uuid NOT NULL,
    conversation_id uuid NOT NULL,
    message_id      uuid,
    rating          integer,
    comment         text,
    submitted_at    timestamptz NOT NULL,
    withdrawn_at    timestamptz
);
CREATE INDEX IF NOT EXISTS feedback_account ON app.feedback (account_id);
CREATE INDEX IF NOT EXISTS feedback_conversation ON app.feedback (conversation_id);
CREATE INDEX IF NOT EXISTS feedback_message ON app.feedback (message_id);
CREATE INDEX IF NOT EXISTS feedback_submitted ON app.feedback (submitted_at);

CREATE TABLE IF NOT EXISTS app.agreements (
    agreement_id   uuid PRIMARY KEY,
    account_id     uuid NOT NULL,
    category       text NOT NULL,
    retain         interval NOT NULL,
    effective_from timestamptz NOT NULL,
    effective_to   timestamptz
);
CREATE INDEX IF NOT EXISTS agreements_account ON app.agreements (account_id);

CREATE TABLE IF NOT EXISTS app.enforcement_cases (
    case_id    uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    opened_at  timestamptz NOT NULL,
    closed_at  timestamptz
);
CREATE INDEX IF NOT EXISTS enforcement_cases_account ON app.enforcement_cases (account_id);

CREATE TABLE IF NOT EXISTS app.training_examples (
    example_id uuid PRIMARY KEY,
    message_id uuid NOT NULL,
    account_id uuid NOT NULL,
    basis      text NOT NULL,
    added_at   timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS training_examples_message ON app.training_examples (message_id);
CREATE INDEX IF NOT EXISTS training_examples_account ON app.training_examples (account_id);

-- What is left of an evaluation message: no identifier, no time finer than a month.
CREATE TABLE IF NOT EXISTS research.messages (
    tier           text,
    model          text,
    role           text,
    received_month date,
    body_chars     bigint
);
