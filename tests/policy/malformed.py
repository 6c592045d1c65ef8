"""Edits that make a shipped configuration file wrong in one way, and the one problem each must give."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Malformed:
    """Replace the first ``old`` by ``new``. The problem must name the line of ``at``, else the last line of ``new``."""

    name: str
    old: str
    new: str
    field: str
    says: str
    remedy: str
    at: str | None = None

    def apply(self, text: str) -> tuple[str, int]:
        """The malformed text, and the line that its problem must name."""
        before, found, after = text.partition(self.old)
        assert found, f"the shipped file no longer has {self.old!r}"
        changed = before + self.new + after
        end = len(before + self.new.rstrip("\n")) if self.at is None else changed.index(self.at)
        return changed, changed.count("\n", 0, end) + 1


_BUSINESS = "    period: P28D\n"
_TIERS = "    tiers: [consumer, beta, evaluation, business]\n"
_SCORES = "  - id: safety_scores\n    category: [safety_scores]\n"
_PRECEDENCE = "precedence: [hold, case, flag, erasure, consent, agreement, default]\n"

POLICIES = [
    # periods
    Malformed("a bare number", _BUSINESS, "    period: 28\n", "rules[7].period", "'28' has no unit", "Write P28D"),
    Malformed("a number as text", _BUSINESS, '    period: "3"\n', "rules[7].period", "'3' has no unit", "Write P3D"),
    Malformed("days in words", _BUSINESS, "    period: 28 days\n", "rules[7].period", "not an ISO", "Write P28D"),
    Malformed(
        "years in words",
        "period: P2Y\n",
        "period: 2 years\n",
        "rules[2].period",
        "not an ISO 8601",
        "Write P2Y",
        "2 years",
    ),
    Malformed(
        "hours in short", "longest_run: PT12H", "longest_run: 12h", "lead.longest_run", "not an ISO", "Write PT12H"
    ),
    Malformed("minutes in short", "PT30S", "5 min", "thresholds.clock_skew", "not an ISO", "Write PT5M", "5 min"),
    Malformed("lower case", _BUSINESS, "    period: p28d\n", "rules[7].period", "not an ISO 8601", "Write P28D"),
    Malformed("negative", _BUSINESS, "    period: -P28D\n", "rules[7].period", "not an ISO 8601", "for example P28D"),
    Malformed("a fraction", _BUSINESS, "    period: P1.5D\n", "rules[7].period", "not an ISO 8601", "for example P28D"),
    Malformed(
        "a float", _BUSINESS, "    period: 1.5\n", "rules[7].period", "a period is an ISO 8601", "for example P28D"
    ),
    Malformed("a list", _BUSINESS, "    period: [P28D]\n", "rules[7].period", "in text", "for example P28D"),
    Malformed("too long", _BUSINESS, "    period: P999Y\n", "rules[7].period", "longer than 200 years", "P28D"),
    Malformed("sexagesimal", _BUSINESS, "    period: 1:30\n", "rules[7].period", "notation of its own", "quotes"),
    Malformed("octal", "k_anonymity: 5", "k_anonymity: 05", "thresholds.k_anonymity", "notation of its own", "digits"),
    Malformed("no period", _BUSINESS, "", "rules[7].period", "needs a period", "P28D", "- id: business_default"),
    Malformed(
        "an empty period", _BUSINESS, "    period:   \n", "rules[7].period", "needs a period", "P28D", "period:   "
    ),
    Malformed(
        "an empty lead",
        "failed_runs: P1D",
        "failed_runs:    ",
        "lead.failed_runs",
        "has no value",
        "`failed_runs: P1D`",
        "failed_runs",
    ),
    Malformed(
        "a lead as long as a period", _BUSINESS, "    period: P3D\n", "rules[7].period", "not shorter", "Shorten"
    ),
    Malformed(
        "a period on a hold",
        "    clock: placed\n",
        "    period: P1Y\n    clock: placed\n",
        "rules[0].period",
        "the exception itself",
        "Remove the period",
        "period: P1Y",
    ),
    Malformed(
        "a period on a variant",
        "    instead_of: consumer_default\n",
        "    instead_of: consumer_default\n    period: P1Y\n",
        "rules[8].period",
        "the rule it replaces",
        "Remove the period",
    ),
    # keys
    Malformed(
        "a misspelt key",
        "    kind: both\n",
        "    knid: both\n    kind: both\n",
        "rules[4].knid",
        "not a known key",
        "Did you mean 'kind'?",
        "knid",
    ),
    Malformed(
        "an unknown key",
        "name: retention\n",
        "owner: me\nname: retention\n",
        "owner",
        "not a known key",
        "Remove it; known keys are: version, name, lead",
        "owner: me",
    ),
    Malformed(
        "an unknown lead term",
        "  backup_retention:",
        "  replicas: P1D\n  backup_retention:",
        "lead.replicas",
        "not a known key",
        "known keys are: schedule_interval",
        "replicas",
    ),
    Malformed("a missing key", "name: retention\n", "", "name", "is missing", "`name: retention`", "version: 1"),
    Malformed(
        "a missing key of a rule", "    kind: both\n", "", "rules[4].kind", "is missing", "`kind: ", "- id: feedback"
    ),
    Malformed(
        "a missing lead term",
        "  failed_runs: P1D",
        "  # gone P1D",
        "lead.failed_runs",
        "is missing",
        "`failed_runs: P1D`",
        "lead:",
    ),
    Malformed(
        "a key twice",
        "name: retention\n",
        "name: retention\nname: other\n",
        "name",
        "already there at line 4",
        "Keep one",
        "name: other",
    ),
    Malformed(
        "a key twice in a rule",
        "    kind: both\n",
        "    kind: both\n    kind:  maximum\n",
        "rules[4].kind",
        "already there",
        "Keep one",
    ),
    Malformed(
        "a number as key", "name: retention\n", "name: retention\n1: x\n", "file", "the key '1' is not text", "quotes"
    ),
    Malformed(
        "a truth value as key", "name: retention\n", "name: retention\non: x\n", "file", "'on' is not text", "quotes"
    ),
    # names and choices
    Malformed(
        "a version of the future", "version: 1\n", "version: 2\n", "version", "less than or equal to 1", "version: 1"
    ),
    Malformed("a version as text", "version: 1\n", 'version: "1"\n', "version", "valid integer", "version: 1"),
    Malformed("a truth value as version", "version: 1\n", "version: true\n", "version", "valid integer", "version: 1"),
    Malformed(
        "a name with blanks", "name: retention\n", "name: my policy\n", "name", "is not a name", "example retention"
    ),
    Malformed(
        "a number as name", "name: retention\n", "name: 12\n", "name", "must be text, not '12'", "Put it in quotes"
    ),
    Malformed("yes as a name", "name: retention\n", "name: yes\n", "name", "read as a truth value", "text in quotes"),
    Malformed(
        "a rule id with a hyphen",
        "id: business_default",
        "id: business-default",
        "rules[7].id",
        "not a name",
        "for example legal_obligation",
    ),
    Malformed(
        "a rule id that quotes",
        "id: business_default",
        'id: "x\'; DROP TABLE y"',
        "rules[7].id",
        "not a name",
        "for example legal_obligation",
    ),
    Malformed(
        "a misspelt tier",
        "tiers: [business]",
        "tiers: [busines]",
        "rules[1].tiers[0]",
        "'busines' is not allowed",
        "Did you mean 'business'?",
    ),
    Malformed(
        "an unknown tier",
        "tiers: [business]",
        "tiers: [free]",
        "rules[1].tiers[0]",
        "'free' is not allowed",
        "Write one of: consumer, beta, evaluation, business",
    ),
    Malformed(
        "a tier that is no list",
        "tiers: [business]",
        "tiers: business",
        "rules[1].tiers",
        "must be a list",
        "`tiers: [",
    ),
    Malformed("no tiers", "tiers: [business]", "tiers: []", "rules[1].tiers", "is empty", "at least one"),
    Malformed(
        "an unknown kind",
        "    kind: both\n",
        "    kind: forever\n",
        "rules[4].kind",
        "'forever' is not allowed",
        "Write one of: maximum, minimum, both",
    ),
    Malformed(
        "an unknown disposition",
        "disposition: quarantine",
        "disposition: quarantined",
        "rules[2].disposition",
        "is not allowed",
        "Did you mean 'quarantine'?",
    ),
    Malformed(
        "an unknown clock", "clock: scored", "clock: created_at", "rules[9].clock", "is not allowed", "Write one of"
    ),
    Malformed(
        "a basis too short",
        'basis: "a business account with other terms: as agreed, fewer days, zero, or more"',
        "basis: agreed",
        "rules[5].basis",
        "at least 10 characters",
        "`basis: ",
    ),
    Malformed(
        "precedence as text", _PRECEDENCE, "precedence: hold\n", "precedence", "must be a list", "`precedence: ["
    ),
    # what contradicts
    Malformed(
        "a rule id twice", "id: business_default", "id: consumer_default", "rules[7].id", "used twice", "id of its own"
    ),
    Malformed(
        "rivals",
        "    tiers: [business]\n    trigger: default",
        "    tiers: [business, beta]\n    trigger: default",
        "rules[7]",
        "consumer_default, business_default all apply",
        "narrow",
        "- id: business_default",
    ),
    Malformed(
        "a tier without default",
        "    tiers: [consumer, beta, evaluation]\n    trigger: default",
        "    tiers: [beta, evaluation]\n    trigger: default",
        "rules",
        "no default rule covers",
        "Add a rule",
        "rules:",
    ),
    Malformed(
        "a trigger twice",
        _PRECEDENCE,
        _PRECEDENCE.replace("case,", "case, case,"),
        "precedence",
        "case is listed twice",
        "once",
    ),
    Malformed(
        "default not last",
        _PRECEDENCE,
        "precedence: [hold, default, case, flag, erasure, consent, agreement]\n",
        "precedence",
        "'default' does not come last",
        "Move 'default'",
    ),
    Malformed(
        "hold not first",
        _PRECEDENCE,
        "precedence: [erasure, hold, case, flag, consent, agreement, default]\n",
        "precedence",
        "'hold' does not come first",
        "legal hold",
    ),
    Malformed(
        "a trigger without rank",
        _PRECEDENCE,
        "precedence: [hold, case, flag, erasure, consent, default]\n",
        "rules[5].trigger",
        "has no place in precedence",
        "Add it",
        "trigger: agreement",
    ),
    Malformed(
        "a variant of nothing",
        "instead_of: consumer_default",
        "instead_of: consumer",
        "rules[8].instead_of",
        "no rule is called 'consumer'",
        "existing rule",
    ),
    Malformed(
        "a variant of an exception",
        "instead_of: consumer_default",
        "instead_of: safety_flagged",
        "rules[8].instead_of",
        "not the default rule",
        "trigger 'default'",
    ),
    Malformed(
        "a variant wider than its rule",
        "instead_of: consumer_default",
        "instead_of: business_default",
        "rules[8].instead_of",
        "does not cover",
        "Narrow",
    ),
    Malformed(
        "a flag that deletes",
        "disposition: quarantine",
        "disposition: delete",
        "rules[2].disposition",
        "can only quarantine",
        "disposition: quarantine",
    ),
    Malformed(
        "a hold that is a maximum",
        "    kind: minimum\n    clock: placed",
        "    kind: maximum\n    clock: placed",
        "rules[0].kind",
        "cannot be a 'maximum'",
        "kind: minimum",
        "kind: maximum",
    ),
    Malformed(
        "a clock the code does not read",
        "clock: scored",
        "clock: received",
        "rules[9].clock",
        "counts from scored",
        "clock: scored",
    ),
    Malformed(
        "scores by tier",
        _SCORES + _TIERS,
        _SCORES + "    tiers: [consumer, beta]\n",
        "rules[9].tiers",
        "must cover all tiers; evaluation, business",
        "tiers: [consumer",
        "tiers: [consumer, beta]\n",
    ),
    # YAML
    Malformed(
        "an anchor", "name: retention\n", "name: &n retention\n", "&n", "anchors are not allowed", "Write the value out"
    ),
    Malformed("a tag", "name: retention\n", "name: !!str retention\n", "!str", "tags are not allowed", "plain value"),
    Malformed(
        "code in a tag",
        "name: retention\n",
        "name: !!python/object/apply:os.system [id]\n",
        "!python/object/apply:os.system",
        "tags are not allowed",
        "plain value",
    ),
    Malformed(
        "a merge", "name: retention\n", "name: retention\n<<: {a: 1}\n", "<<", "merge keys", "Write the keys out"
    ),
    Malformed(
        "an unclosed list",
        "tiers: [business]\n",
        "tiers: [business\n",
        "file",
        "not valid YAML",
        "brackets",
        "    trigger: case",
    ),
    Malformed(
        "a tab",
        "name: retention\n",
        "name: retention\nlead:\n\tschedule: P1D\n",
        "file",
        "not valid YAML",
        "Check",
        "\tschedule",
    ),
    Malformed("two documents", "rules:\n", "---\nrules:\n", "file", "more than one document", "'---'", "---"),
    Malformed(
        "deep nesting", "name: retention\n", f"name: {'[' * 40}{']' * 40}\n", "file", "nests deeper", "extra levels"
    ),
]

_OBJECTS = '      partitioned: "tier={tier}/date={date}/{record}.json"\n'
_SCORES_TABLE = "    table: app.safety_scores\n"

DATASETS = [
    Malformed(
        "an unknown type",
        "type: logs",
        "type: log",
        "datasets[5].type",
        "type 'log' is not known",
        "Did you mean 'logs'?",
    ),
    Malformed("no type", "    type: logs\n", "", "datasets[5]", "has no type", "`type: table`", "- id: request_logs"),
    Malformed(
        "a table without schema",
        _SCORES_TABLE,
        "    table: safety_scores\n",
        "datasets[1].table",
        "not a table name",
        "app.safety_scores",
    ),
    Malformed(
        "a table that injects",
        _SCORES_TABLE,
        "    table: 'app.x; DROP TABLE app.y'\n",
        "datasets[1].table",
        "not a table name",
        "app.safety_scores",
    ),
    Malformed(
        "a column that quotes", "key: score_id", "key: 'score\"id'", "datasets[1].key", "not a column name", "score_id"
    ),
    Malformed(
        "a column with a blank",
        "clock: scored_at",
        "clock: scored at",
        "datasets[1].clock",
        "not a column",
        "scored_at",
    ),
    Malformed(
        "a bucket in capitals",
        "evidence_bucket: lifecycle-evidence",
        "evidence_bucket: Evidence",
        "evidence_bucket",
        "not a bucket name",
        "lifecycle-evidence",
    ),
    Malformed(
        "a prefix without slash",
        "prefix: requests/",
        "prefix: requests",
        "datasets[5].prefix",
        "not a key prefix",
        "requests/",
    ),
    Malformed(
        "a missing column",
        "    clock: scored_at\n",
        "",
        "datasets[1].clock",
        "is missing",
        "`clock: scored_at`",
        "- id: safety_scores",
    ),
    Malformed(
        "a missing column of objects",
        "      column: object_key\n",
        "",
        "datasets[0].objects.column",
        "is missing",
        "`column: object_key`",
        "objects:",
    ),
    Malformed(
        "a misspelt column",
        "    subject: account_id\n    record: message_id\n    tier",
        "    subjct: x\n    subject: account_id\n    record: message_id\n    tier",
        "datasets[1].subjct",
        "not a known key",
        "Did you mean 'subject'?",
        "subjct",
    ),
    Malformed(
        "a misspelt key of a child",
        "key: message_id, moves: true",
        "key: message_id, move: true, moves: true",
        "datasets[0].children[0].move",
        "not a known key",
        "Did you mean 'moves'?",
    ),
    Malformed(
        "a misspelt exception",
        "cleared: cleared_at",
        "cleard: x, cleared: cleared_at",
        "exceptions.flags.cleard",
        "not a known key",
        "Did you mean 'cleared'?",
    ),
    Malformed(
        "yes for true", "moves: true", "moves: yes", "datasets[0].children[0].moves", "truth value", "Write true"
    ),
    Malformed(
        "a text for true", "moves: true", "moves: 'true'", "datasets[0].children[0].moves", "boolean", "moves: true"
    ),
    Malformed(
        "an unknown category",
        "category: safety_scores",
        "category: scores",
        "datasets[1].category",
        "'scores' is not allowed",
        "safety_scores",
    ),
    Malformed(
        "a category of another type",
        "category: safety_scores",
        "category: account_data",
        "datasets[1].category",
        "cannot hold account_data",
        "safety_scores",
    ),
    Malformed(
        "an id twice",
        "id: safety_scores",
        "id: feedback",
        "datasets[2].id",
        "used twice",
        "of its own",
        "- id: feedback\n    type: table\n    category: feedback",
    ),
    Malformed(
        "a table twice",
        "    table: app.feedback\n    key",
        "    table: app.safety_scores\n    key",
        "datasets[2].table",
        "already dataset 'safety_scores'",
        "once",
        "table: app.safety_scores\n    key: feedback_id",
    ),
    Malformed(
        "an unknown name in a layout",
        _OBJECTS,
        _OBJECTS.replace("{date}", "{day}"),
        "datasets[0].objects.partitioned",
        "{day} stands for nothing",
        "{tier}, {date}, {record}",
    ),
    Malformed(
        "a layout without date",
        _OBJECTS,
        _OBJECTS.replace("date={date}/", ""),
        "datasets[0].objects.partitioned",
        "{date} is missing",
        "tier={tier}/date={date}/{record}.json",
    ),
    Malformed(
        "a layout without record",
        _OBJECTS,
        _OBJECTS.replace("{record}", "all"),
        "datasets[0].objects.partitioned",
        "{record} is missing",
        "{record}",
    ),
    Malformed(
        "a layout with a format",
        _OBJECTS,
        _OBJECTS.replace("{record}", "{record:>9}"),
        "datasets[0].objects.partitioned",
        "{record:>9} stands for nothing",
        "{record}",
    ),
    Malformed(
        "a layout with a stray brace",
        _OBJECTS,
        _OBJECTS.replace("{record}", "{record}}"),
        "datasets[0].objects.partitioned",
        "not safe",
        "letters",
    ),
    Malformed(
        "a layout with the record first",
        _OBJECTS,
        '      partitioned: "{record}/tier={tier}/date={date}"\n',
        "datasets[0].objects.partitioned",
        "must come last",
        "{record}.json",
    ),
    Malformed(
        "a layout that mixes",
        _OBJECTS,
        '      partitioned: "t={tier}-{date}/{record}.json"\n',
        "datasets[0].objects.partitioned",
        "one part of the path",
        "Separate",
    ),
    Malformed(
        "a quarantine that is no prefix",
        'prefix: "tier={tier}/date={date}/{record}/"',
        'prefix: "tier={tier}/date={date}/{record}"',
        "datasets[0].quarantine.prefix",
        "must come last",
        "{record}/",
    ),
    Malformed(
        "landing over partitions",
        "landing: landing/",
        "landing: tier=x/",
        "datasets[0].objects.partitioned",
        "cannot be told from",
        "text of its own",
        "partitioned:",
    ),
    Malformed(
        "quarantine in the data",
        "      bucket: quarantine\n",
        "      bucket: product-data\n",
        "datasets[0].quarantine.bucket",
        "used for other data",
        "of its own",
    ),
    Malformed(
        "logs in the evidence",
        "bucket: product-logs",
        "bucket: lifecycle-evidence",
        "datasets[5].bucket",
        "the evidence's",
        "of their own",
    ),
    Malformed(
        "a child of itself",
        "{table: app.message_tools,",
        "{table: app.messages,",
        "datasets[0].children[0].table",
        "refers to itself",
        "refers to this one",
    ),
    Malformed(
        "a child twice",
        "{table: app.safety_flags, key: message_id}",
        "{table: app.message_tools, key: message_id}",
        "datasets[0].children[1].table",
        "listed twice",
        "once",
    ),
    Malformed(
        "accounts as a child",
        "{table: app.message_tools,",
        "{table: app.accounts,",
        "datasets[0].children[0].table",
        "holds accounts",
        "Remove it",
    ),
    Malformed(
        "research in the data",
        "table: research.messages",
        "table: app.feedback",
        "datasets[0].research.table",
        "with identifiers",
        "of its own",
    ),
    Malformed(
        "a key that is personal",
        "[email, display_name]",
        "[email, account_id]",
        "datasets[4].personal",
        "account_id would be nulled",
        "Remove it",
    ),
    Malformed("nothing personal", "[email, display_name]", "[]", "datasets[4].personal", "is empty", "email"),
    Malformed(
        "training without basis",
        "    basis: basis\n",
        "",
        "datasets[3].basis",
        "need 'basis'",
        "`basis: basis`",
        "- id: training_examples",
    ),
    Malformed(
        "an exception missing",
        "  cases: {table",
        "  # {table",
        "exceptions.cases",
        "is missing",
        "`cases: {table",
        "exceptions:",
    ),
    Malformed(
        "an exception as text",
        "  cases: {table: app.enforcement_cases, subject: account_id, opened: opened_at, closed: closed_at}",
        "  cases: app.enforcement_cases",
        "exceptions.cases",
        "must be a mapping",
        "`cases: {table",
    ),
    Malformed(
        "a naive create-ahead", "create_ahead: P7D", "create_ahead: 7", "datasets[0].create_ahead", "no unit", "P7D"
    ),
]
