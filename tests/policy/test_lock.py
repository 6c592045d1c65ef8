"""A locked policy: a maximum can be shortened, a minimum lengthened, and nothing else."""

from __future__ import annotations

import pytest

from lifecycle.policy.lock import loosened, no_longer, violations
from lifecycle.policy.periods import Period
from support.edits import Edit, lead, locked, narrowed, order, period, put, renamed, rule, shipped_policy, without

LOCKED = shipped_policy(locked)
OTHER_ORDER = order("hold", "flag", "case", "erasure", "consent", "agreement", "default")


def words(document: dict[str, object]) -> None:
    rule(document, "feedback")["basis"] = "the same in other words"


def another(document: dict[str, object]) -> None:
    rules = document["rules"]
    assert isinstance(rules, list)
    rules.append(
        rule(document, "safety_scores") | {"id": "more", "trigger": "erasure", "kind": "maximum", "clock": "requested"}
    )


def minimum(value: str) -> Edit:
    def edit(document: dict[str, object]) -> None:
        rule(document, "feedback").update(kind="minimum", period=value)

    return edit


@pytest.mark.parametrize(
    "edits",
    [
        (period("consumer_default", "P89D"),),
        (period("consumer_default", "P2M"),),
        (period("safety_flagged", "P23M"),),
        (period("safety_flagged", "P700D"),),
        (period("erasure_request", "P5D"),),
        (lead("failed_runs", "P2D"),),
        (words,),
        (put("approval", records=5, share=0.001, four_eyes=True, approvers=["counsel"]),),
        (put("limits", records=1000, factor=2.0),),
        (put("thresholds", k_anonymity=20),),
    ],
    ids=lambda edits: getattr(edits[0], "__qualname__", ""),
)
def test_what_a_lock_lets_through(edits: tuple[Edit, ...]) -> None:
    assert list(violations(LOCKED, shipped_policy(locked, *edits))) == []


@pytest.mark.parametrize(
    ("edits", "where"),
    [
        ((period("consumer_default", "P91D"),), "period"),
        ((period("consumer_default", "P3M"),), "period"),
        ((period("safety_flagged", "P731D"),), "period"),
        ((period("safety_scores", "P6Y"),), "period"),
        ((period("safety_scores", "P8Y"),), "period"),
        ((period("feedback", "P9Y"),), "period"),
        ((without("research"),), "rules"),
        ((without("usage_policy_enforcement"),), "rules"),
        ((renamed("consumer_default", "other_default"),), "id"),
        ((another,), "id"),
        ((narrowed("erasure_request", "consumer", "business"),), "category"),
        ((OTHER_ORDER,), "precedence"),
        ((lead("failed_runs", "P0D"),), "failed_runs"),
        ((put("approval", records=101),), "records"),
        ((put("limits", share=0.6),), "share"),
        ((put("thresholds", k_anonymity=4),), "k_anonymity"),
        ((minimum("P10Y"),), "kind"),
    ],
)
def test_what_a_lock_refuses(edits: tuple[Edit, ...], where: str) -> None:
    found = list(violations(LOCKED, shipped_policy(locked, *edits)))
    assert where in {item.where[-1] for item in found}
    assert all(item.message and item.remedy for item in found)


def test_the_lock_is_never_removed() -> None:
    assert [item.where for item in violations(LOCKED, shipped_policy())] == [("locked",)]


def test_a_locked_minimum_can_only_be_lengthened() -> None:
    old = shipped_policy(locked, minimum("P10Y"))
    assert list(violations(old, shipped_policy(locked, minimum("P11Y")))) == []
    assert [item.where[-1] for item in violations(old, shipped_policy(locked, minimum("P9Y")))] == ["period"]


def test_without_a_lock_everything_may_change() -> None:
    assert (
        list(violations(shipped_policy(), shipped_policy(period("consumer_default", "P400D"), without("research"))))
        == []
    )


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [("P2M", "P90D", True), ("P3M", "P90D", False), ("P11M", "P1Y", True), ("P365D", "P1Y", True),
     ("P364D", "P1Y", True), ("P1Y", "P366D", True), ("P1Y", "P365D", False), ("PT24H", "P1D", True)],
)  # fmt: skip
def test_no_longer_holds_from_every_day_of_the_calendar_case_11(new: str, old: str, expected: bool) -> None:
    assert no_longer(Period.parse(new), Period.parse(old)) is expected


def test_what_loosens_the_safeguards_is_named() -> None:
    assert loosened(LOCKED, shipped_policy(OTHER_ORDER, without("research"), put("approval", share=0.5))) == (
        "approval.share",
        "locked",
        "precedence",
        "rules.research",
    )
    assert loosened(LOCKED, shipped_policy(locked, period("consumer_default", "P5D"))) == ()


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (period("consumer_default", "P91D"), "rules.consumer_default"),
        (minimum("P9Y"), "rules.feedback"),
        (lead("failed_runs", "PT0S"), "lead.failed_runs"),
    ],
)
def test_what_keeps_longer_or_protects_less_never_approves_itself(edit: Edit, named: str) -> None:
    old = shipped_policy(minimum("P10Y")) if named == "rules.feedback" else shipped_policy()
    assert loosened(old, shipped_policy(edit)) == (named,)
