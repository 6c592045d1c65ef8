"""What no single field of a policy shows: duplicates, gaps, rivals, rules that cannot be carried out. Pure and fast.

The whole path from a file to a problem with line and remedy is tested in test_malformed.py; this is each check by
itself, and what it must let pass.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lifecycle.contradiction import Contradiction
from lifecycle.policy.models import Category, Kind, Lead, Policy, Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.shipped import SHIPPED_POLICY, shipped

DATA: dict[str, Any] = yaml.safe_load(shipped(SHIPPED_POLICY).read_text(encoding="utf-8"))
INDEX = {rule["id"]: index for index, rule in enumerate(DATA["rules"])}
TIERS = ["consumer", "beta", "evaluation", "business"]
Edit = Callable[[dict[str, Any]], object]


def found(*edits: Edit) -> list[Contradiction]:
    """What the checks say of the shipped policy after some edits; nothing when it is sound."""
    data = deepcopy(DATA)
    for edit in edits:
        edit(data)
    try:
        Policy.model_validate(data)
    except ValidationError as error:
        return [item for problem in error.errors() for item in problem["ctx"]["found"]]
    return []


def rule(name: str, **fields: Any) -> Edit:
    """Set fields of a rule; a field set to None is taken out."""

    def edit(data: dict[str, Any]) -> None:
        for field, value in fields.items():
            if value is None:
                data["rules"][INDEX[name]].pop(field)
            else:
                data["rules"][INDEX[name]][field] = value

    return edit


def lead(**fields: str) -> Edit:
    return lambda data: data["lead"].update(fields)


def precedence(*order: str) -> Edit:
    return lambda data: data.update(precedence=list(order))


def without(*names: str) -> Edit:
    return lambda data: data.update(rules=[item for item in data["rules"] if item["id"] not in names])


def another(name: str, **fields: Any) -> Edit:
    """A copy of a rule under another id, at the end."""

    def edit(data: dict[str, Any]) -> None:
        data["rules"].append(deepcopy(data["rules"][INDEX[name]]) | {"id": "another"} | fields)

    return edit


def test_the_shipped_policy_is_sound() -> None:
    assert found() == []


_TO_THE_FRONT = "Move 'hold' to the front: nothing destroys what is under a legal hold"
_PROMPTS = "prompts_and_outputs"
SOUND: dict[str, tuple[Edit, ...]] = {
    "consent that is only a minimum": (rule("feedback", kind="minimum"),),
    "a place without a rule": (without("business_agreement"),),
    "another order behind the hold": (
        precedence("hold", "consent", "agreement", "erasure", "flag", "case", "default"),
    ),
    "one tier split off": (
        rule("consumer_default", tiers=["consumer", "evaluation"]),
        another("consumer_default", tiers=["beta"], period="P60D"),
    ),
    "a period a second longer than the lead": (rule("business_default", period="P3DT1S"),),
    "a request with little more time than the lead": (rule("erasure_request", period="P4D"),),
    "no research": (without("research"),),
    "a minimum shorter than the lead": (rule("feedback", kind="minimum", period="P1D"),),
    "a period that is both, shorter than the lead": (rule("safety_scores", period="P1D"),),
    "no rule but for prompts and outputs": (
        lambda data: data.update(
            rules=[item | {"category": [_PROMPTS]} for item in data["rules"] if _PROMPTS in item["category"]]
        ),
    ),
    "two variants of different tiers": (another("research", tiers=["beta"]),),
    "a variant for all tiers of its default": (rule("research", tiers=["consumer", "beta", "evaluation"]),),
    "months longer than the lead": (rule("business_default", period="P1M"),),
}


@pytest.mark.parametrize("edits", SOUND.values(), ids=SOUND)
def test_what_must_pass(edits: tuple[Edit, ...]) -> None:
    assert found(*edits) == []


UNSOUND: dict[str, tuple[tuple[Edit, ...], list[tuple[tuple[str | int, ...], str, str]]]] = {
    "an id twice": (
        (lambda data: data["rules"].append(data["rules"][INDEX["safety_scores"]]),),
        [(("rules", 12, "id"), "rule id 'safety_scores' is used twice", "Give each rule an id of its own")],
    ),
    "an id three times": (
        (lambda data: data["rules"].extend([data["rules"][INDEX["safety_scores"]]] * 2),),
        [
            (("rules", 12, "id"), "rule id 'safety_scores' is used twice", "Give each rule an id of its own"),
            (("rules", 13, "id"), "rule id 'safety_scores' is used twice", "Give each rule an id of its own"),
        ],
    ),
    "a trigger twice": (
        (precedence("hold", "case", "flag", "flag", "case", "erasure", "consent", "agreement", "default"),),
        [(("precedence",), "case, flag is listed twice", "List each trigger once, highest first")],
    ),
    "the default not last": (
        (precedence("hold", "case", "flag", "erasure", "consent", "default", "agreement"),),
        [(("precedence",), "'default' does not come last", "Move 'default' to the end of the list")],
    ),
    "the hold not first": (
        (precedence("case", "hold", "flag", "erasure", "consent", "agreement", "default"),),
        [(("precedence",), "'hold' does not come first", _TO_THE_FRONT)],
    ),
    "a trigger without a place": (
        (precedence("hold", "case", "flag", "erasure", "agreement", "default"),),
        [
            (
                ("rules", INDEX["feedback"], "trigger"),
                "trigger 'consent' has no place in precedence",
                "Add it to the list 'precedence', highest first",
            )
        ],
    ),
    "no period": (
        (rule("business_default", period=None),),
        [
            (
                ("rules", INDEX["business_default"], "period"),
                "this rule needs a period",
                "Write an ISO 8601 duration, for example `period: P28D`",
            )
        ],
    ),
    "a period as long as the lead": (
        (rule("business_default", period="P3D"),),
        [
            (
                ("rules", INDEX["business_default"], "period"),
                "the lead (P3D) is not shorter than the period (P3D): all data would go at once",
                "Shorten the lead or lengthen the period",
            )
        ],
    ),
    "a period shorter than the lead": (
        (rule("business_default", period="P2D"),),
        [
            (
                ("rules", INDEX["business_default"], "period"),
                "the lead (P3D) is not shorter than the period (P2D): all data would go at once",
                "Shorten the lead or lengthen the period",
            )
        ],
    ),
    "a month that may be shorter than the lead": (
        (lead(backup_retention="P25D"), rule("business_default", period="P1M"), rule("erasure_request", period="P60D")),
        [
            (
                ("rules", INDEX["business_default"], "period"),
                "the lead (P28D) is not shorter than the period (P1M): all data would go at once",
                "Shorten the lead or lengthen the period",
            )
        ],
    ),
    **{
        f"{name} with a period": (
            (rule(name, period="P30D"),),
            [
                (
                    ("rules", INDEX[name], "period"),
                    f"this rule has a period, but {source} says how long",
                    "Remove the period",
                )
            ],
        )
        for name, source in (
            ("legal_obligation", "the exception itself, or the basis of the data,"),
            ("usage_policy_enforcement", "the exception itself, or the basis of the data,"),
            ("business_agreement", "the exception itself, or the basis of the data,"),
            ("training_use", "the exception itself, or the basis of the data,"),
            ("research", "the rule it replaces"),
        )
    },
    **{
        f"{name} of kind {kind}": (
            (rule(name, kind=kind),),
            [
                (
                    ("rules", INDEX[name], "kind"),
                    f"a rule of trigger '{trigger}' cannot be a '{kind}'",
                    f"Write kind: {wanted}",
                )
            ],
        )
        for name, trigger, wanted, kinds in (
            ("legal_obligation", "hold", "minimum", ("maximum", "both")),
            ("usage_policy_enforcement", "case", "minimum", ("maximum", "both")),
            ("safety_flagged", "flag", "maximum", ("minimum", "both")),
            ("erasure_request", "erasure", "maximum", ("minimum", "both")),
            ("feedback", "consent", "both", ("maximum",)),
            ("business_agreement", "agreement", "maximum", ("minimum", "both")),
        )
        for kind in kinds
    },
    **{
        f"{name} counted from {wrong}": (
            (rule(name, clock=wrong),),
            [
                (
                    ("rules", INDEX[name], "clock"),
                    f"a rule of trigger '{trigger}' for {', '.join(DATA['rules'][INDEX[name]]['category'])} "
                    f"counts from {right}, not from '{wrong}'",
                    f"Write clock: {right}",
                )
            ],
        )
        for name, trigger, right, wrong in (
            ("legal_obligation", "hold", "placed", "received"),
            ("usage_policy_enforcement", "case", "opened", "placed"),
            ("safety_flagged", "flag", "received", "requested"),
            ("erasure_request", "erasure", "requested", "received"),
            ("feedback", "consent", "submitted", "received"),
            ("business_agreement", "agreement", "received", "submitted"),
            ("consumer_default", "default", "received", "scored"),
            ("safety_scores", "default", "scored", "received"),
            ("account_data", "default", "last_interaction", "received"),
            ("training_use", "default", "added", "received"),
        )
    },
    **{
        f"{name} that does {wrong}": (
            (rule(name, disposition=wrong),),
            [
                (
                    ("rules", INDEX[name], "disposition"),
                    f"this rule can only {right}, not {wrong}",
                    f"Write disposition: {right}",
                )
            ],
        )
        for name, right, wrong in (
            ("legal_obligation", "keep", "delete"),
            ("usage_policy_enforcement", "keep", "quarantine"),
            ("safety_flagged", "quarantine", "delete"),
            ("erasure_request", "delete", "deidentify"),
            ("feedback", "delete", "keep"),
            ("business_agreement", "delete", "keep"),
            ("consumer_default", "delete", "deidentify"),
            ("safety_scores", "delete", "keep"),
            ("account_data", "deidentify", "delete"),
            ("training_use", "delete", "keep"),
            ("research", "deidentify", "delete"),
        )
    },
    "two clocks in one rule": (
        (rule("safety_scores", category=["safety_scores", "account_data"]), without("account_data")),
        [
            (
                ("rules", INDEX["safety_scores"], "clock"),
                "a rule of trigger 'default' for safety_scores, account_data counts from last_interaction or scored, "
                "not from 'scored'",
                "Write a rule of its own for each category",
            ),
            (
                ("rules", INDEX["safety_scores"], "disposition"),
                "this rule can only deidentify or delete, not delete",
                "Write a rule of its own for each category",
            ),
        ],
    ),
    "a variant of nothing": (
        (rule("research", instead_of="nobody"),),
        [
            (
                ("rules", INDEX["research"], "instead_of"),
                "no rule is called 'nobody'",
                "Name the id of an existing rule",
            )
        ],
    ),
    "a variant of no default": (
        (rule("research", instead_of="feedback"),),
        [
            (
                ("rules", INDEX["research"], "instead_of"),
                "'feedback' is not the default rule of a tier",
                "Name a rule with trigger 'default'",
            )
        ],
    ),
    "a variant of a flag": (
        (rule("research", instead_of="safety_flagged"),),
        [
            (
                ("rules", INDEX["research"], "instead_of"),
                "'safety_flagged' is not the default rule of a tier",
                "Name a rule with trigger 'default'",
            )
        ],
    ),
    "a variant that is an agreement": (
        (rule("research", trigger="agreement"),),
        [
            (
                ("rules", INDEX["research"], "trigger"),
                "a rule with instead_of must be a default",
                "Write trigger: default",
            )
        ],
    ),
    "a request after the default": (
        (precedence("hold", "case", "flag", "consent", "agreement", "default", "erasure"),),
        [(("precedence",), "'default' does not come last", "Move 'default' to the end of the list")],
    ),
    "a variant of a variant": (
        (another("research", instead_of="research"),),
        [
            (
                ("rules", 12, "instead_of"),
                "'research' is not the default rule of a tier",
                "Name a rule with trigger 'default'",
            )
        ],
    ),
    "a variant wider than its default": (
        (rule("research", tiers=["evaluation", "business"]),),
        [
            (
                ("rules", INDEX["research"], "instead_of"),
                "'consumer_default' does not cover all tiers and categories of this rule",
                "Narrow 'tiers' and 'category' of this rule to those of the rule it replaces",
            )
        ],
    ),
    "a variant of more categories": (
        (
            rule(
                "research", category=["prompts_and_outputs", "training_use"], tiers=TIERS, instead_of="business_default"
            ),
            rule("business_default", tiers=TIERS),
            without("consumer_default"),
        ),
        [
            (
                ("rules", INDEX["research"] - 1, "clock"),
                "a rule of trigger 'default' for prompts_and_outputs, training_use counts from added or received, "
                "not from 'received'",
                "Write a rule of its own for each category",
            ),
            (
                ("rules", INDEX["research"] - 1, "instead_of"),
                "'business_default' does not cover all tiers and categories of this rule",
                "Narrow 'tiers' and 'category' of this rule to those of the rule it replaces",
            ),
        ],
    ),
    "a variant that is no default": (
        (rule("research", trigger="flag"),),
        [
            (
                ("rules", INDEX["research"], "trigger"),
                "a rule with instead_of must be a default",
                "Write trigger: default",
            )
        ],
    ),
    "scores of some tiers": (
        (rule("safety_scores", tiers=["consumer", "business"]),),
        [
            (
                ("rules", INDEX["safety_scores"], "tiers"),
                "a rule for safety_scores must cover all tiers; beta, evaluation is missing",
                "Write tiers: [consumer, beta, evaluation, business], or a rule of its own for prompts_and_outputs",
            )
        ],
    ),
    "a hold of some tiers": (
        (rule("legal_obligation", tiers=["consumer", "beta", "evaluation"]),),
        [
            (
                ("rules", INDEX["legal_obligation"], "tiers"),
                "a rule for safety_scores, feedback, account_data, training_use must cover all tiers; "
                "business is missing",
                "Write tiers: [consumer, beta, evaluation, business], or a rule of its own for prompts_and_outputs",
            )
        ],
    ),
    "no hold at all": (
        (without("legal_obligation"), precedence("case", "flag", "erasure", "consent", "agreement", "default")),
        [
            (
                ("rules",),
                "no rule has the trigger 'hold', so a legal hold would keep nothing",
                "Add one, for example the rule legal_obligation of the shipped policy",
            )
        ],
    ),
    "a trigger of several rules without a place": (
        (
            rule("consumer_default", tiers=["consumer", "evaluation"]),
            another("consumer_default", tiers=["beta"]),
            precedence("hold", "case", "flag", "erasure", "consent", "agreement"),
        ),
        [
            (("precedence",), "'default' does not come last", "Move 'default' to the end of the list"),
            (
                ("rules", INDEX["consumer_default"], "trigger"),
                "trigger 'default' has no place in precedence",
                "Add it to the list 'precedence', highest first",
            ),
        ],
    ),
    "a word of the ledger as a name": (
        (
            another("consumer_default", id="unclassified", tiers=["beta"]),
            rule("consumer_default", tiers=["consumer", "evaluation"]),
        ),
        [(("rules", 12, "id"), "'unclassified' has a meaning of its own in the ledger", "Give it another id")],
    ),
    "a tier twice": (
        (rule("research", tiers=["evaluation", "evaluation"]),),
        [(("rules", INDEX["research"], "tiers"), "evaluation is listed twice", "List each once")],
    ),
    "a category twice": (
        (rule("research", category=["prompts_and_outputs", "prompts_and_outputs"]),),
        [(("rules", INDEX["research"], "category"), "prompts_and_outputs is listed twice", "List each once")],
    ),
    "a rule for research data": (
        (rule("erasure_request", category=["prompts_and_outputs", "research"]),),
        [
            (
                ("rules", INDEX["erasure_request"], "category"),
                "no dataset holds research: de-identified data has no limit",
                "Remove it; to de-identify instead of delete, write a rule with instead_of",
            )
        ],
    ),
    "two variants of one tier": (
        (another("research", tiers=["beta", "evaluation"]),),
        [
            (
                ("rules", 12, "instead_of"),
                "'research' already replaces 'consumer_default' for tier evaluation",
                "Keep one, or narrow their tiers",
            )
        ],
    ),
    "two defaults for one tier": (
        (another("business_default", tiers=["beta", "consumer"]),),
        [
            (
                ("rules", 12),
                "rules consumer_default, another all apply to prompts_and_outputs of tier consumer by trigger default",
                "Keep one, or narrow their tiers or categories",
            )
        ],
    ),
    "rivals of two kinds": (
        (another("business_default", tiers=["consumer", "business"]),),
        [
            (
                ("rules", 12),
                "rules consumer_default, another all apply to prompts_and_outputs of tier consumer by trigger default",
                "Keep one, or narrow their tiers or categories",
            ),
            (
                ("rules", 12),
                "rules business_default, another all apply to prompts_and_outputs of tier business by trigger default",
                "Keep one, or narrow their tiers or categories",
            ),
        ],
    ),
    "a tier without a default": (
        (rule("consumer_default", tiers=["consumer", "evaluation"]),),
        [
            (
                ("rules",),
                "no default rule covers prompts_and_outputs of tier beta",
                "Add a rule with trigger 'default' for each such tier",
            )
        ],
    ),
}


@pytest.mark.parametrize(("edits", "expected"), UNSOUND.values(), ids=UNSOUND)
def test_what_must_be_refused_is_named_with_its_place_and_its_remedy(
    edits: tuple[Edit, ...], expected: list[tuple[tuple[str | int, ...], str, str]]
) -> None:
    assert [(item.where, item.message, item.remedy) for item in found(*edits)] == expected


# The helpers that look rules up ------------------------------------------------------------------------------------


def test_rules_are_found_by_id_by_trigger_and_by_what_they_cover() -> None:
    policy = Policy.model_validate(DATA)
    assert policy.rule("feedback").trigger is Trigger.CONSENT
    with pytest.raises(KeyError):
        policy.rule("nobody")
    for tier, name in (
        ("consumer", "consumer_default"),
        ("evaluation", "consumer_default"),
        ("business", "business_default"),
    ):
        chosen = policy.rule_for(Trigger.DEFAULT, Category.PROMPTS_AND_OUTPUTS, Tier(tier))
        assert chosen is not None and chosen.id == name
    assert policy.rule_for(Trigger.CASE, Category.PROMPTS_AND_OUTPUTS, Tier.BETA) is None
    assert policy.rule_for(Trigger.CASE, Category.FEEDBACK, Tier.BUSINESS) is None


def test_a_variant_is_never_found_as_a_rule_even_where_it_comes_first() -> None:
    data = deepcopy(DATA)
    data["rules"].insert(0, data["rules"].pop(INDEX["research"]))
    policy = Policy.model_validate(data)
    default = policy.rule_for(Trigger.DEFAULT, Category.PROMPTS_AND_OUTPUTS, Tier.EVALUATION)
    assert default is not None and default.id == "consumer_default"
    variant = policy.variant_of(default, Tier.EVALUATION)
    assert variant is not None and variant.id == "research"
    assert policy.variant_of(default, Tier.BETA) is None
    assert policy.variant_of(policy.rule("business_default"), Tier.EVALUATION) is None


def test_the_strictest_default_is_the_shortest_of_its_category_and_no_variant() -> None:
    policy = Policy.model_validate(DATA)
    assert policy.strictest(Category.PROMPTS_AND_OUTPUTS).id == "business_default"
    assert policy.strictest(Category.SAFETY_SCORES).id == "safety_scores"
    assert [item.id for item in policy.defaults(Category.PROMPTS_AND_OUTPUTS)] == [
        "consumer_default",
        "business_default",
    ]
    assert policy.defaults(Category.FEEDBACK) == []
    data = deepcopy(DATA)
    rule("business_default", period="P4M")(data)
    assert Policy.model_validate(data).strictest(Category.PROMPTS_AND_OUTPUTS).id == "consumer_default"


def test_a_minimum_and_what_is_both_round_up_and_a_maximum_rounds_down() -> None:
    policy = Policy.model_validate(DATA)
    assert [policy.rule(name).round_up for name in ("legal_obligation", "feedback", "safety_flagged")] == [
        True,
        True,
        False,
    ]
    assert {kind.value for kind in Kind} == {"minimum", "both", "maximum"}


def test_the_lead_is_the_sum_of_its_terms() -> None:
    terms = {
        "schedule_interval": "P1D",
        "longest_run": "P2D",
        "failed_runs": "P4D",
        "store_lag": "PT8H",
        "backup_retention": "P1M",
    }
    data = deepcopy(DATA)
    data["lead"] = terms
    for item in data["rules"]:
        if item["kind"] == "maximum" and "period" in item:
            item["period"] = "P2Y"
    assert Policy.model_validate(data).lead.total == Period(months=1, days=7, seconds=8 * 3600)


# Bounds of single fields -------------------------------------------------------------------------------------------


def taken(*edits: Edit) -> bool:
    """Whether a policy is taken after some edits."""
    data = deepcopy(DATA)
    for edit in edits:
        edit(data)
    try:
        Policy.model_validate(data)
    except ValidationError:
        return False
    return True


def top(**fields: Any) -> Edit:
    return lambda data: data.update(fields)


def section(name: str, **fields: Any) -> Edit:
    return lambda data: data.update({name: {**data.get(name, {}), **fields}})


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (top(version=1), True),
        (top(version=0), False),
        (top(version=2), False),
        (top(version="1"), False),
        (top(version=True), False),
        (top(surprise=1), False),
        (top(name="a"), False),
        (top(name="ab"), True),
        (top(name="A" * 5), False),
        (top(locked="yes"), False),
        (top(locked=True), True),
        (section("thresholds", k_anonymity=0), False),
        (section("thresholds", k_anonymity=1), True),
        (section("thresholds", k_anonymity="5"), False),
        (section("approval", records=-1), False),
        (section("approval", records=0), True),
        (section("approval", records=10**15), True),
        (section("approval", records=10**15 + 1), False),
        (section("approval", records="7"), False),
        (section("approval", share=-0.01), False),
        (section("approval", share=0.0), True),
        (section("approval", share=1.0), True),
        (section("approval", share=1.01), False),
        (section("approval", share="0.5"), False),
        (section("approval", four_eyes="yes"), False),
        (section("approval", approvers=["a.person@example.org"]), True),
        (section("approval", approvers=[" a"]), False),
        (section("limits", factor=0.99), False),
        (section("limits", factor=1.0), True),
        (section("limits", factor=1_000_000.0), True),
        (section("limits", factor=1_000_000.5), False),
        (section("limits", factor="2"), False),
        (section("limits", history=0), False),
        (section("limits", history=1), True),
        (section("limits", history=1000), True),
        (section("limits", history=1001), False),
        (section("limits", history="7"), False),
        (rule("research", category=[]), False),
        (rule("research", tiers=[]), False),
        (top(precedence=[]), False),
        (rule("consumer_default", basis="nine char"), False),
        (rule("consumer_default", basis="ten charac"), True),
        (rule("consumer_default", basis="   ten char   "), False),
        (rule("consumer_default", period=90), False),
        (rule("consumer_default", period=""), False),
        (rule("safety_scores", id="s"), False),
        (rule("safety_scores", id="ss"), True),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else "edit",  # a function's own text is its address
)
def test_a_single_field_is_taken_within_its_bounds_only(edit: Edit, expected: bool) -> None:
    assert taken(edit) == expected


def test_what_a_policy_does_not_say_about_approvals_and_limits() -> None:
    """These numbers are documented: whoever leaves the sections out gets them."""
    data = {name: value for name, value in DATA.items() if name not in ("approval", "limits", "locked")}
    policy = Policy.model_validate(data)
    assert (policy.approval.records, policy.approval.share, policy.approval.four_eyes) == (100, 0.01, False)
    assert (policy.approval.approvers, policy.approval.answer_within) == ((), Period(days=1))
    limits = policy.limits
    assert (limits.floor, limits.records, limits.share) == (10_000, 50_000_000, 0.5)
    assert (limits.factor, limits.history, policy.locked) == (10.0, 7, False)


def test_a_period_may_be_given_as_one() -> None:
    terms = {name: Period(days=1) for name in DATA["lead"]}
    assert Lead.model_validate(terms).total == Period(days=5)


def test_a_policy_cannot_be_changed() -> None:
    policy = Policy.model_validate(DATA)
    for item, field in ((policy, "name"), (policy.rules[0], "period"), (policy.lead, "longest_run")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(item, field, None)


def test_a_rule_covers_a_category_and_a_tier_together() -> None:
    default = Policy.model_validate(DATA).rule("business_default")
    assert default.covers(Category.PROMPTS_AND_OUTPUTS, Tier.BUSINESS)
    assert not default.covers(Category.PROMPTS_AND_OUTPUTS, Tier.BETA)
    assert not default.covers(Category.FEEDBACK, Tier.BUSINESS)


def test_a_period_is_written_and_read_as_text() -> None:
    policy = Policy.model_validate(DATA)
    written = policy.model_dump(mode="json")
    assert written["rules"][INDEX["safety_flagged"]]["period"] == "P2Y"
    assert written["rules"][INDEX["legal_obligation"]]["period"] is None
    assert Policy.model_validate(written) == policy
