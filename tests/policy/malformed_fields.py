"""Policies in which one period, key, name or choice is wrong."""

from __future__ import annotations

from policy.malformed import Malformed

_BUSINESS = "    period: P28D\n"
_PRECEDENCE = "precedence: [hold, case, flag, erasure, consent, agreement, default]\n"

FIELDS = [
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
]
