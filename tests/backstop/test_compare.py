"""Our rules beside those of others: carried over, compared, and called by name when they take what stays. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from backstop.test_compile import SHIPPED, TICKETED
from lifecycle.backstop.compare import (
    Approved,
    changes,
    findings,
    foreign,
    merged,
    normal,
    notes,
    too_early,
    wanted_digest,
)
from lifecycle.backstop.compile import compile_backstop
from lifecycle.backstop.models import OWN, NativeRule

BACKSTOP = compile_backstop(SHIPPED.policy, TICKETED)
DATA, EVIDENCE = SHIPPED.catalog.messages.objects.bucket, SHIPPED.catalog.evidence_bucket
RULES = BACKSTOP.rules(DATA)
OURS = [rule.as_s3() for rule in RULES]
TIDY: dict[str, Any] = {
    "ID": "exports",
    "Status": "Enabled",
    "Filter": {"Prefix": "exports/"},
    "Expiration": {"Days": 3},
    "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}],
    "NewElementOfTomorrow": {"A": 1},
}


def other(prefix: str = "", status: str = "Enabled", **actions: Any) -> dict[str, Any]:
    return {"ID": "theirs", "Status": status, "Filter": {"Prefix": prefix}, **actions}


def test_rules_of_others_are_carried_over_as_they_are() -> None:
    stale = {"ID": f"{OWN}stale", "Status": "Enabled", "Filter": {"Prefix": "x"}, "Expiration": {"Days": 1}}
    found = merged([stale, TIDY], RULES)
    assert found[0] == TIDY
    assert found[1:] == OURS
    assert merged(found, ()) == [TIDY]


def test_a_change_is_told_rule_by_rule() -> None:
    altered = [OURS[0] | {"Expiration": {"Days": 5}}, *OURS[2:], {"ID": f"{OWN}stale", "Status": "Enabled"}, TIDY]
    kinds = {change.id: change.kind for change in changes(DATA, altered, RULES)}
    assert kinds == {RULES[0].id: "change", RULES[1].id: "add", f"{OWN}stale": "remove"}
    assert changes(DATA, [*reversed(OURS), TIDY], RULES) == []


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"Filter": {"Prefix": "a/"}}, {"Prefix": "a/"}),
        ({"Filter": {"And": {"Prefix": "a/", "ObjectSizeGreaterThan": 0}}}, {"Filter": {"Prefix": "a/"}}),
        ({"Filter": {}, "Expiration": {"Days": 1, "ExpiredObjectDeleteMarker": False}}, {"Expiration": {"Days": 1}}),
        ({"Expiration": {"Date": datetime(2026, 1, 1, tzinfo=UTC)}}, {"Expiration": {"Date": "2026-01-01"}}),
        (
            {"Filter": {"And": {"Tags": [{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "1"}]}}},
            {"Filter": {"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]}}},
        ),
        ({"Filter": {"Tag": {"Key": "a", "Value": "1"}}}, {"Filter": {"And": {"Tags": [{"Key": "a", "Value": "1"}]}}}),
    ],
)
def test_servers_spellings_of_one_rule_are_equal(one: dict[str, Any], same: dict[str, Any]) -> None:
    assert normal(one) == normal(same)


@pytest.mark.parametrize(
    "altered",
    [
        {"Status": "Disabled"},
        {"Filter": {"Prefix": "tier=consumer/"}},
        {"Filter": {"Prefix": "exports/", "ObjectSizeGreaterThan": 5}},
        {"Expiration": {"Days": 4}},
        {"NewElementOfTomorrow": {"A": 2}},
    ],
)
def test_what_differs_in_meaning_differs(altered: dict[str, Any]) -> None:
    assert normal(TIDY | altered) != normal(TIDY)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (other("tier=consumer/", Expiration={"Days": 400}), "after 400 days what lies in messages of consumer"),
        (other("tier=business/date=2026-01-01/", Expiration={"Date": "2027-01-01"}), "from 2027-01-01 on"),
        (other("landing/", NoncurrentVersionExpiration={"NoncurrentDays": 1}), "once it is replaced or deleted"),
        (other("", Expiration={"Days": 4000}), "messages of evaluation"),
    ],
)
def test_a_rule_of_others_that_takes_what_stays_is_called_by_name(rule: dict[str, Any], says: str) -> None:
    """Whatever its day: a hold has no end, so there is none late enough."""
    found = list(foreign(BACKSTOP, DATA, [rule]))
    assert found
    assert {each.rule for each in found} == {"theirs"}
    assert any(says in each.what for each in found)


@pytest.mark.parametrize(
    "rule",
    [
        other("exports/", Expiration={"Days": 1}),
        other("", "Disabled", Expiration={"Days": 1}),
        other("", Expiration={"ExpiredObjectDeleteMarker": True}),
        other("", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}),
        other("", Transitions=[{"Days": 1, "StorageClass": "GLACIER"}]),
        *OURS,
    ],
)
def test_a_rule_that_removes_nothing_of_ours_is_none_of_our_business(rule: dict[str, Any]) -> None:
    assert list(foreign(BACKSTOP, DATA, [rule])) == []


def test_evidence_must_not_expire_and_research_may() -> None:
    assert list(foreign(BACKSTOP, EVIDENCE, [other("", Expiration={"Days": 3650})]))
    assert not list(foreign(BACKSTOP, "research", [other("", Expiration={"Days": 30})]))
    assert "no limit" in notes(BACKSTOP, "research", [other("", Expiration={"Days": 30})])[0]
    assert "storage class" in notes(BACKSTOP, DATA, [other("", Transitions=[{"Days": 1}])])[0]


DIGEST = wanted_digest(RULES)


@pytest.mark.parametrize(
    ("there", "approved", "wrong"),
    [
        ([], None, None),
        ([], Approved(None), None),
        (OURS, Approved(DIGEST), None),
        ([*reversed(OURS), TIDY], Approved(DIGEST), None),
        (OURS, None, "nobody approved"),
        (OURS, Approved(None), "nobody approved"),
        ([], Approved(DIGEST), "are not those that were approved"),
        (OURS[1:], Approved(DIGEST), "are not those that were approved"),
        ([OURS[0] | {"Status": "Disabled"}, *OURS[1:]], Approved(DIGEST), "are not those that were approved"),
        (OURS[:1], Approved(wanted_digest(RULES[:1])), "ask for other rules"),
    ],
)
def test_drift(there: list[dict[str, Any]], approved: Approved | None, wrong: str | None) -> None:
    found = findings(BACKSTOP, DATA, there, approved)
    assert [wrong in each.what for each in found] == [True] if wrong else found == []
    assert all("--apply" in each.remedy and "--remove" in each.remedy for each in found)


EXPIRE = next(rule for rule in RULES if rule.id == f"{OWN}messages-business-expire")
MINIMUM = [replace(EXPIRE, noncurrent_days=28)]


@pytest.mark.parametrize(
    ("there", "wanted", "early"),
    [
        (EXPIRE, [EXPIRE], False),
        (replace(EXPIRE, expire_days=29), [EXPIRE], False),
        (replace(EXPIRE, expire_days=27), [EXPIRE], True),
        (replace(EXPIRE, prefix="tier="), [EXPIRE], True),
        (replace(EXPIRE, ticket=None), [EXPIRE], True),
        (replace(EXPIRE, id=f"{OWN}former-expire"), [EXPIRE], True),
        (EXPIRE, MINIMUM, True),
        (replace(EXPIRE, expire_days=None), MINIMUM, True),
        (EXPIRE, [], True),
        (RULES[-1], [], False),  # leftovers hold no record
    ],
)
def test_a_rule_of_ours_that_a_configuration_does_not_allow_is_too_early(
    there: NativeRule, wanted: list[NativeRule], early: bool
) -> None:
    assert too_early(there.as_s3(), wanted) is early
    assert not too_early(there.as_s3() | {"Status": "Disabled"}, wanted)
    assert not too_early(there.as_s3() | {"ID": "theirs"}, wanted)
