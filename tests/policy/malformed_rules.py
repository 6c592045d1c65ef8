"""Policies whose rules contradict each other, and YAML that is refused whatever it says."""

from __future__ import annotations

from policy.malformed import Malformed

_TIERS = "    tiers: [consumer, beta, evaluation, business]\n"
_SCORES = "  - id: safety_scores\n    category: [safety_scores]\n"
_PRECEDENCE = "precedence: [hold, case, flag, erasure, consent, agreement, default]\n"

RULES = [
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
