"""More ways to get a policy or a dataset file wrong; each edit changes the shipped file in one way."""

from __future__ import annotations

from policy.malformed import Malformed

_BUSINESS = "    period: P28D\n"
_LAYOUT = '      partitioned: "tier={tier}/date={date}/{record}.json"\n'
_SCORES_TABLE = "    table: app.safety_scores\n"
_HOLD = (
    "  - id: legal_obligation\n"
    "    category: [prompts_and_outputs, safety_scores, feedback, account_data, training_use]\n"
    "    tiers: [consumer, beta, evaluation, business]\n"
    "    trigger: hold\n"
    "    kind: minimum\n"
    "    clock: placed\n"
    "    disposition: keep\n"
    '    basis: "anything in scope of a hold: as required by law, until the hold is released"\n'
)
_K, _LOGS = "k_anonymity: 5", "bucket: product-logs"
_END = "    clock: received_at\n"  # of the last dataset; exclusions follow


def _period(name: str, value: str, says: str = "not an ISO 8601", remedy: str = "for example P28D") -> Malformed:
    return Malformed(name, _BUSINESS, f"    period: {value}\n", "rules[7].period", says, remedy)


def _number(name: str, value: str, says: str) -> Malformed:
    return Malformed(name, _K, f"k_anonymity: {value}", "thresholds.k_anonymity", says, "k_anonymity: 5")


MORE_POLICIES = [
    _period("a period that overflows", "P99999999D"),
    _period("years that overflow", "P9999Y", "longer than 200 years"),
    _period("seconds that overflow", "PT9999999999S"),
    _period("negative within", "P-28D"),
    _period("no digits", "P"),
    _period("a time without digits", "PT"),
    _period("other scripts' digits", "P２８D"),
    _period("a date for a period", "2026-01-01"),
    _period("infinity", ".inf"),
    _period("a truth value for a period", "true", "a period is an ISO 8601 duration in text"),
    _period("a mapping for a period", "{days: 28}", "a period is an ISO 8601 duration in text"),
    _period("blanks within", '"P 28 D"'),
    _period("zero days", "P0D", "the lead (P3D) is not shorter than the period (P0D)", "Shorten the lead"),
    Malformed(
        "a truth value for a lead",
        "failed_runs: P1D",
        "failed_runs: true",
        "lead.failed_runs",
        "in text",
        "for example P28D",
    ),
    Malformed(
        "a negative lead", "failed_runs: P1D", "failed_runs: -P1D", "lead.failed_runs", "not an ISO 8601", "P28D"
    ),
    Malformed(
        "a lead longer than the service level",
        "store_lag: PT12H",
        "store_lag: P5D",
        "rules[3].period",
        "the lead (P7DT12H) is not shorter than the period (P7D)",
        "Shorten the lead",
        "period: P7D",
    ),
    Malformed("a margin in words", "orphan_margin: P2D", "orphan_margin: soon", "thresholds.orphan_margin", "ISO", "P"),
    _number("a truth value for a number", "true", "valid integer"),
    _number("a fraction for a number", "5.0", "valid integer"),
    _number("text for a number", '"5"', "valid integer"),
    _number("zero for a number", "0", "greater than or equal to 1"),
    _number("less than nothing", "-3", "greater than or equal to 1"),
    Malformed(
        "a number without end",
        _K,
        f"k_anonymity: {'9' * 40}",
        "thresholds.k_anonymity",
        "notation of its own",
        "digits",
    ),
    Malformed("version zero", "version: 1\n", "version: 0\n", "version", "greater than or equal to 1", "version: 1"),
    Malformed("a fraction as version", "version: 1\n", "version: 1.0\n", "version", "valid integer", "version: 1"),
    Malformed("no version", "version: 1\n", "", "version", "is missing", "`version: 1`", "name: retention"),
    Malformed(
        "no precedence",
        "precedence: [hold, case, flag, erasure, consent, agreement, default]\n",
        "",
        "precedence",
        "is missing",
        "`precedence: [hold",
        "version: 1",
    ),
    Malformed(
        "an empty precedence",
        "precedence: [hold, case, flag, erasure, consent, agreement, default]\n",
        "precedence: []\n",
        "precedence",
        "is empty",
        "`precedence: [hold",
    ),
    Malformed(
        "an unknown trigger in precedence",
        "[hold, case, flag,",
        "[hold, case, flags,",
        "precedence[2]",
        "'flags' is not allowed",
        "Did you mean 'flag'?",
    ),
    Malformed(
        "hold without rank",
        "precedence: [hold, case,",
        "precedence: [case,",
        "rules[0].trigger",
        "has no place in precedence",
        "Add it",
        "trigger: hold",
    ),
    Malformed(
        "no clock",
        "    clock: scored\n",
        "",
        "rules[9].clock",
        "is missing",
        "`clock: ",
        "- id: safety_scores",
    ),
    Malformed("an empty clock", "clock: scored\n", "clock:\n", "rules[9].clock", "has no value", "`clock: "),
    Malformed(
        "no basis",
        '    basis: "a business account with other terms: as agreed, fewer days, zero, or more"\n',
        "",
        "rules[5].basis",
        "is missing",
        "`basis: ",
        "- id: business_agreement",
    ),
    Malformed(
        "a basis of blanks",
        'basis: "a business account with other terms: as agreed, fewer days, zero, or more"',
        'basis: "                    "',
        "rules[5].basis",
        "at least 10 characters",
        "`basis: ",
    ),
    Malformed(
        "a number as basis",
        'basis: "a business account with other terms: as agreed, fewer days, zero, or more"',
        "basis: 12345678901",
        "rules[5].basis",
        "must be text",
        "quotes",
    ),
    Malformed(
        "a category twice",
        "category: [safety_scores]",
        "category: [safety_scores, safety_scores]",
        "rules[9].category",
        "safety_scores is listed twice",
        "once",
    ),
    Malformed(
        "a tier twice",
        "tiers: [business]",
        "tiers: [business, business]",
        "rules[1].tiers",
        "business is listed twice",
        "once",
    ),
    Malformed(
        "an unknown category",
        "category: [safety_scores]",
        "category: [scores]",
        "rules[9].category[0]",
        "'scores' is not allowed",
        "Did you mean 'safety_scores'?",
    ),
    Malformed(
        "a rule for what has no limit",
        "category: [safety_scores]",
        "category: [safety_scores, research]",
        "rules[9].category",
        "no dataset holds research",
        "instead_of",
    ),
    Malformed(
        "an unknown trigger",
        "trigger: case",
        "trigger: cases",
        "rules[1].trigger",
        "not allowed",
        "Did you mean 'case'?",
    ),
    Malformed("a list as trigger", "trigger: case", "trigger: [case]", "rules[1].trigger", "a list", "'case'"),
    Malformed(
        "a variant of itself",
        "instead_of: consumer_default",
        "instead_of: research",
        "rules[8].instead_of",
        "not the default rule",
        "trigger 'default'",
    ),
    Malformed(
        "two variants of one rule",
        "  - id: safety_scores\n",
        "  - id: statistics\n    category: [prompts_and_outputs]\n    tiers: [evaluation]\n    trigger: default\n"
        "    kind: maximum\n    clock: received\n    disposition: deidentify\n    instead_of: consumer_default\n"
        '    basis: "where the policy file allows it"\n\n  - id: safety_scores\n',
        "rules[9].instead_of",
        "'research' already replaces 'consumer_default' for tier evaluation",
        "Keep one",
        '    instead_of: consumer_default\n    basis: "where the policy file allows it"\n',
    ),
    Malformed(
        "an id that the ledger uses",
        "id: business_agreement",
        "id: unclassified",
        "rules[5].id",
        "a meaning of its own",
        "another id",
    ),
    Malformed(
        "an id in another script", "id: business_default", "id: бизнес", "rules[7].id", "not a name", "legal_obligation"
    ),
    Malformed(
        "an id over two lines",
        "id: business_default",
        'id: "a\\nb"',
        "rules[7].id",
        "not a name",
        "legal_obligation",
    ),
    Malformed(
        "holds that keep nothing",
        _HOLD,
        "",
        "rules",
        "no rule has the trigger 'hold'",
        "legal_obligation",
        "rules:",
    ),
    Malformed("nothing as key", "name: retention\n", "name: retention\n~: x\n", "file", "'~' is not text", "quotes"),
    Malformed("a list as key", "name: retention\n", "name: retention\n[a]: x\n", "file", "is not text", "quotes"),
    Malformed(
        "an undefined alias", "name: retention\n", "name: *n\n", "*n", "aliases are not allowed", "Write the value"
    ),
]


def _layout(name: str, layout: str, says: str, remedy: str = "tier={tier}/date={date}/{record}.json") -> Malformed:
    line = f'      partitioned: "{layout}"\n'
    return Malformed(name, _LAYOUT, line, "datasets[0].objects.partitioned", says, remedy)


def _bucket(name: str, value: str, says: str = "not a bucket name", remedy: str = "product-logs") -> Malformed:
    return Malformed(name, _LOGS, f"bucket: {value}", "datasets[5].bucket", says, remedy)


def _table(name: str, value: str, says: str = "not a table name", remedy: str = "app.safety_scores") -> Malformed:
    return Malformed(name, _SCORES_TABLE, f"    table: {value}\n", "datasets[1].table", says, remedy)


def _exclusion(name: str, entry: str, field: str, says: str, remedy: str) -> Malformed:
    return Malformed(
        f"exclusion: {name}",
        f"    tier: tier\n{_END}",
        f"    tier: tier\n{_END}exclusions:\n  - {entry}\n",
        f"exclusions[0]{field}",
        says,
        remedy,
        f"- {entry}",
    )


_WHY = 'reason: "a price list of ours", until: 2027-06-30'
MORE_DATASETS = [
    _layout("a layout that climbs", "tier={tier}/../date={date}/{record}.json", "empty, '.' or '..'"),
    _layout("a layout with a dot", "tier={tier}/./date={date}/{record}.json", "empty, '.' or '..'"),
    _layout("a layout with an empty part", "tier={tier}//date={date}/{record}.json", "empty, '.' or '..'"),
    _layout("a layout from the root", "/tier={tier}/date={date}/{record}.json", "empty, '.' or '..'"),
    _layout("a layout with a name twice", "tier={tier}/date={date}/{tier}/{record}.json", "{tier} stands there twice"),
    _layout("an empty layout", "", "{tier} is missing"),
    _layout(
        "a layout with an attribute", "tier={tier}/date={date}/{record.x}.json", "{record.x} stands for", "{record}"
    ),
    _layout("a layout with a date form", "tier={tier}/date={date:%Y}/{record}.json", "{date:%Y} stands for", "{date}"),
    _layout("a layout without a name", "tier={tier}/date={date}/{}{record}.json", "{} stands for nothing", "{record}"),
    _layout(
        "a layout without end", f"{'a' * 600}/tier={{tier}}/date={{date}}/{{record}}.json", "longer than", "Shorten"
    ),
    _layout("a layout in another script", "tiér={tier}/date={date}/{record}.json", "not safe in a key", "letters"),
    Malformed(
        "a quarantine that climbs",
        'prefix: "tier={tier}/date={date}/{record}/"',
        'prefix: "../tier={tier}/date={date}/{record}/"',
        "datasets[0].quarantine.prefix",
        "empty, '.' or '..'",
        "tier={tier}",
    ),
    Malformed(
        "landing that climbs",
        "landing: landing/",
        "landing: ../",
        "datasets[0].objects.landing",
        "'.' or '..'",
        "whole",
    ),
    Malformed(
        "landing as a number",
        "landing: landing/",
        "landing: 5",
        "datasets[0].objects.landing",
        "must be text",
        "landing/",
    ),
    Malformed(
        "a prefix that climbs",
        "prefix: requests/",
        "prefix: requests/../",
        "datasets[5].prefix",
        "'.' or '..'",
        "requests/",
    ),
    Malformed(
        "a prefix from the root",
        "prefix: requests/",
        "prefix: /requests/",
        "datasets[5].prefix",
        "not a key prefix",
        "requests/",
    ),
    _bucket("a bucket with two dots", "product..logs", "no two dots", "true name"),
    _bucket("a bucket that is an address", "192.168.0.1", "not an address", "true name"),
    _bucket("a bucket with an underscore", "product_logs"),
    _bucket("a bucket too long", "a" * 64),
    _bucket("a bucket too short", "ab"),
    _bucket("a bucket as ARN", '"arn:aws:s3:::product-logs"'),
    _bucket("a bucket with a key", "product-logs/requests"),
    _bucket("a number as bucket", "123", "must be text", "product-logs"),
    _table("a table of three parts", "db.app.safety_scores"),
    _table("a table in quotes", '\'"app"."scores"\''),
    _table("a table over two lines", '"app.scores\\n"'),
    _table("a table too long", f"app.{'s' * 64}", "longer than 63 bytes", "true name"),
    _table("a list of tables", "[app.safety_scores]", "must be text"),
    _table("a system table", "pg_catalog.pg_authid", "belongs to PostgreSQL", "of the product"),
    _table("the ledger as a dataset", "lifecycle.ledger", "belongs to this project", "of the product"),
    Malformed(
        "the ledger as a child",
        "{table: app.message_tools,",
        "{table: lifecycle.ledger,",
        "datasets[0].children[0].table",
        "belongs to this project",
        "of the product",
    ),
    Malformed(
        "cases as a child",
        "{table: app.message_tools,",
        "{table: app.enforcement_cases,",
        "datasets[0].children[0].table",
        "outlive a message",
        "Remove it",
    ),
    Malformed(
        "feedback as a child",
        "{table: app.message_tools,",
        "{table: app.feedback,",
        "datasets[0].children[0].table",
        "a period of its own",
        "Remove it",
    ),
    Malformed(
        "accounts that refer to themselves",
        "{table: app.safety_scores, key: account_id}",
        "{table: app.accounts, key: account_id}",
        "datasets[4].referenced_by[2].table",
        "refers to itself",
        "refers to this one",
    ),
    Malformed(
        "flags that nobody removes",
        "      - {table: app.safety_flags, key: message_id}\n",
        "",
        "exceptions.flags.table",
        "flags would outlive messages",
        "`- {table: app.safety_flags, key: message_id}`",
        "flags:",
    ),
    Malformed(
        "messages as cases",
        "cases: {table: app.enforcement_cases",
        "cases: {table: app.messages",
        "exceptions.cases.table",
        "already holds the messages",
        "whose rows are",
    ),
    Malformed(
        "one column for two things",
        "    clock: scored_at\n",
        "    clock: score_id\n",
        "datasets[1].clock",
        "column score_id is already the 'key'",
        "holds this",
    ),
    Malformed(
        "a begin that is the end",
        "opened: opened_at, closed: closed_at",
        "opened: opened_at, closed: opened_at",
        "exceptions.cases.closed",
        "already the 'opened'",
        "holds this",
    ),
    Malformed(
        "a column that is nothing", "clock: scored_at", "clock: ~", "datasets[1].clock", "has no value", "scored_at"
    ),
    Malformed("a column that is true", "clock: scored_at", "clock: true", "datasets[1].clock", "not true", "quotes"),
    Malformed(
        "a column that is no name", "clock: scored_at", "clock: 7", "datasets[1].clock", "must be text", "quotes"
    ),
    Malformed(
        "a personal column twice",
        "[email, display_name]",
        "[email, email]",
        "datasets[4].personal",
        "email is listed twice",
        "once",
    ),
    Malformed(
        "personal as text", "[email, display_name]", "email", "datasets[4].personal", "must be a list", "`personal: ["
    ),
    Malformed("no days ahead", "create_ahead: P7D", "create_ahead: P0D", "datasets[0].create_ahead", "between", "P7D"),
    Malformed("hours ahead", "create_ahead: P7D", "create_ahead: PT5H", "datasets[0].create_ahead", "between", "P7D"),
    Malformed("years ahead", "create_ahead: P7D", "create_ahead: P5Y", "datasets[0].create_ahead", "between", "P7D"),
    Malformed("days back", "create_ahead: P7D", "create_ahead: -P7D", "datasets[0].create_ahead", "not an ISO", "P28D"),
    Malformed(
        "an id that is a tier", "id: safety_scores", "id: beta", "datasets[1].id", "something else", "another id"
    ),
    Malformed(
        "an id that plans use", "id: safety_scores", "id: landing", "datasets[1].id", "something else", "another"
    ),
    Malformed("an id that quotes", "id: safety_scores", 'id: "a\'; --"', "datasets[1].id", "not a name", "example"),
    Malformed("an id with a slash", "id: safety_scores", "id: a/b", "datasets[1].id", "not a name", "example"),
    Malformed("one for true", "moves: true", "moves: 1", "datasets[0].children[0].moves", "boolean", "moves: true"),
    Malformed("a version to come", "version: 1\n", "version: 2\n", "version", "less than or equal to 1", "version: 1"),
    Malformed(
        "no evidence",
        "evidence_bucket: lifecycle-evidence\n",
        "",
        "evidence_bucket",
        "is missing",
        "`evidence",
        "version",
    ),
    Malformed(
        "research in the evidence",
        "bucket: research",
        "bucket: lifecycle-evidence",
        "datasets[0].research.bucket",
        "or the evidence",
        "of its own",
    ),
    Malformed(
        "a mapping as type",
        "type: logs",
        "type: {logs: product, of: all, that: requests, said: once, and: more}",
        "datasets[5].type",
        "type a mapping is not known",
        "Write one of",
    ),
    Malformed(
        "an anchor", "    type: logs", "    type: &l logs", "&l", "anchors are not allowed", "Write the value out"
    ),
    Malformed(
        "a key twice",
        "    key: score_id\n",
        "    key: score_id\n    key: other\n",
        "datasets[1].key",
        "already there at line",
        "Keep one",
    ),
    _exclusion("without reason", "{table: app.plans, until: 2027-06-30}", ".reason", "is missing", "`reason: "),
    _exclusion(
        "a short reason", "{table: app.plans, reason: why, until: 2027-06-30}", ".reason", "10 char", "reason: "
    ),
    _exclusion(
        "a blank reason", '{table: a.b, reason: "           ", until: 2027-06-30}', ".reason", "10 char", "reason"
    ),
    _exclusion(
        "without end", '{table: app.plans, reason: "a price list of ours"}', ".until", "is missing", "`until: 2"
    ),
    _exclusion(
        "no such day", '{table: a.b, reason: "a price list", until: 2027-02-30}', ".until", "not a date", "YYYY"
    ),
    _exclusion(
        "a German date", '{table: a.b, reason: "a price list", until: 30.6.2027}', ".until", "not a date", "YYYY"
    ),
    _exclusion(
        "a number as end", '{table: a.b, reason: "a price list", until: 20270630}', ".until", "not a date", "YYYY"
    ),
    _exclusion(
        "a time as end", '{table: a.b, reason: "a price list", until: 2027-06-30T01:00:00Z}', ".until", "date", "Y"
    ),
    _exclusion("a period as end", '{table: a.b, reason: "a price list", until: P1Y}', ".until", "not a date", "YYYY"),
    _exclusion("of nothing", f"{{{_WHY}}}", "", "names nothing", "Write table"),
    _exclusion("of a lone column", f"{{column: a, {_WHY}}}", "", "a column needs the table", "Write table"),
    _exclusion("of a lone prefix", f"{{prefix: a/, {_WHY}}}", "", "a prefix needs the bucket", "Write table"),
    _exclusion("of two things", f"{{table: a.b, bucket: exports, {_WHY}}}", "", "a table and a bucket", "Write table"),
    _exclusion("of a lone trigger", f"{{trigger: keep, {_WHY}}}", "", "a trigger needs the table", "Write table"),
    _exclusion(
        "a trigger of a schema", f'{{table: "a.*", trigger: keep, {_WHY}}}', "", "a trigger needs the table", "Write"
    ),
    _exclusion("a table's publication", f"{{table: a.b, publication: p, {_WHY}}}", "", "excluded whole", "Write table"),
    _exclusion("a column of a schema", f'{{table: "a.*", column: b, {_WHY}}}', "", "not a schema", "Write table"),
    _exclusion("of what is bound", f"{{table: app.feedback, {_WHY}}}", ".table", "is bound by dataset", "Remove"),
    _exclusion("of a bound schema", f'{{table: "app.*", {_WHY}}}', ".table", "covers app.", "Name single tables"),
    _exclusion("of an owned bucket", f"{{bucket: product-logs, {_WHY}}}", ".bucket", "belongs to", "name a prefix"),
    _exclusion("of everything", f'{{table: "*", {_WHY}}}', ".table", "not a table name", "app.plans"),
    _exclusion(
        "a prefix with a blank", f'{{bucket: exports, prefix: "a b", {_WHY}}}', ".prefix", "beginning of a", "exp"
    ),
    _exclusion("a misspelt key", f"{{tables: a.b, {_WHY}}}", ".tables", "not a known key", "Did you mean 'table'?"),
]
