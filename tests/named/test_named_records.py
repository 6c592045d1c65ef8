"""A held, a flagged, a consented, an agreed (0, 7, 365 days), an enforced and an erased record of each tier, by name.

Each was received on the same day; runs at telling ages follow it. The tables below are the policy, read by hand. What
is due goes up to three days before its deadline (the lead), so a business message is gone by day 27 and a consumer
message by day 89.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from psycopg import Connection

from oracle.change import apply_changes
from oracle.compare import place_of
from oracle.dates import utc, years_later
from oracle.facts import TIERS, Agreement, Case, Erasure, Feedback, Flag, Hold, Message, Retain, World, ident
from oracle.stores import Servers, at, full_run, look, run
from support.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RECEIVED = utc(2015, 3, 2, 9)
DAY = timedelta(days=1)
AGES = {
    "day 1": RECEIVED + DAY,
    "day 5": RECEIVED + DAY * 5,
    "day 27": RECEIVED + DAY * 27,
    "day 28": RECEIVED + DAY * 28,
    "day 89": RECEIVED + DAY * 89,
    "day 90": RECEIVED + DAY * 90,
    "2 years": years_later(RECEIVED, 2, up=True),
    "10 years": years_later(RECEIVED, 10, up=True),
    "10 years and 2 days": years_later(RECEIVED, 10, up=True) + DAY * 2,
}
# The runs whose validations have to pass as well.
VALIDATED = ("day 28", "10 years")
# What happens on the way: the erasure is asked for, and at last the hold is released.
ERASED_AT, RELEASED_AT = RECEIVED + DAY * 26, years_later(RECEIVED, 10, up=True) + DAY

KINDS = ("ordinary", "held", "flagged", "consented", "agreed 0", "agreed 7", "agreed 365", "enforced", "erased")

# Per kind: where the record is after each run. app: readable in the store; box: in quarantine; --: gone.
#                day 1   5    27   28   89   90   2 y  10 y 10 y + 2 d
CONSUMER = {
    "ordinary":   "app app app app --  --  --  --  --",
    "held":       "app app app app app app app app --",
    "flagged":    "box box box box box box --  --  --",
    "consented":  "app app app app app app app app --",
    "agreed 0":   "app app app app --  --  --  --  --",
    "agreed 7":   "app app app app --  --  --  --  --",
    "agreed 365": "app app app app --  --  --  --  --",
    "enforced":   "app app app app --  --  --  --  --",
    "erased":     "app app --  --  --  --  --  --  --",
}  # fmt: skip
BUSINESS = {
    "ordinary":   "app app --  --  --  --  --  --  --",
    "held":       "app app app app app app app app --",
    "flagged":    "app app --  --  --  --  --  --  --",
    "consented":  "app app app app app app app app --",
    "agreed 0":   "--  --  --  --  --  --  --  --  --",
    "agreed 7":   "app --  --  --  --  --  --  --  --",
    "agreed 365": "app app app app app app --  --  --",
    "enforced":   "app app app app app app app app app",
    "erased":     "app app --  --  --  --  --  --  --",
}  # fmt: skip
# An evaluation message that its default takes leaves a de-identified row; a flag's end or an erasure leaves nothing.
LEAVES_RESEARCH = {kind for kind in KINDS if kind not in ("flagged", "erased")}

RULES = {
    "ordinary": ("consumer_default", "business_default"),
    "held": ("legal_obligation", "legal_obligation"),
    "flagged": ("safety_flagged", "business_default"),
    "consented": ("feedback", "feedback"),
    "agreed 0": ("consumer_default", "business_agreement"),
    "agreed 7": ("consumer_default", "business_agreement"),
    "agreed 365": ("consumer_default", "business_agreement"),
    "enforced": ("consumer_default", "usage_policy_enforcement"),
    "erased": ("consumer_default", "business_default"),
}


def record(tier: str, kind: str) -> Message:
    """The record by its name. Each has a body of its own length, by which its research row is known again."""
    length = 100 + TIERS.index(tier) * len(KINDS) + KINDS.index(kind)
    return Message(
        message_id=ident("named", tier, kind),
        conversation_id=ident("named", tier, kind, "conversation"),
        account_id=ident("named", tier, kind, "account"),
        tier=tier,
        role="prompt",
        received_at=RECEIVED,
        body="x" * length,
    )


def befall(m: Message, kind: str) -> World:
    """What makes the record what its kind says, from the first day on."""
    name = ident("of", m.message_id)
    if kind == "held":
        return World(holds=(Hold(name, "account", str(m.account_id), RECEIVED),))
    if kind == "flagged":
        return World(flags=(Flag(m.message_id, m.account_id, RECEIVED),))
    if kind == "consented":
        return World(feedback=(Feedback(name, m.account_id, m.conversation_id, m.message_id, RECEIVED + DAY),))
    if kind.startswith("agreed"):
        days = int(kind.split()[1])
        return World(agreements=(Agreement(name, m.account_id, Retain(days=days), RECEIVED - DAY),))
    if kind == "enforced":
        return World(cases=(Case(name, m.account_id, RECEIVED),))
    return World()


def first_day() -> World:
    world = World()
    for tier in TIERS:
        for kind in KINDS:
            m = record(tier, kind)
            world = world + World(messages=(m,)) + befall(m, kind)
    return world


@dataclass
class Journal:
    """Where each record was after each run, and which rule was said to decide it before."""

    places: dict[tuple[str, str], dict[str, str]]
    research: dict[str, frozenset[int]]
    explained: dict[tuple[str, str, str], dict[str, object]]


@pytest.fixture(scope="module")
def journal(servers: Servers) -> Iterator[Journal]:
    world = first_day()
    kept = Journal({(tier, kind): {} for tier in TIERS for kind in KINDS}, {}, {})
    with servers.store(world) as store, store.connect() as conn:
        for age, as_of in AGES.items():
            world = happen(conn, world, age)
            if age in ("day 1", "day 27"):
                explain_all(store, kept, age)
            done = (full_run if age in VALIDATED else run)(store, as_of)
            assert done.code == 0, f"{age}\n{done}"
            seen = look(store)
            for tier, kind in kept.places:
                kept.places[tier, kind][age] = str(place_of(record(tier, kind).message_id, seen))
            kept.research[age] = frozenset(row.body_chars for row in seen.research)
        yield kept


def happen(conn: Connection[tuple[object, ...]], world: World, age: str) -> World:
    """What people did before the run at this age."""
    later = world
    if age == "day 27":
        asked = [ident("named", tier, "erased", "account") for tier in TIERS]
        later = replace(
            world, erasures=tuple(Erasure(ident("e", account), "account", str(account), ERASED_AT) for account in asked)
        )
    if age == "10 years and 2 days":
        later = replace(world, holds=tuple(replace(hold, released_at=RELEASED_AT) for hold in world.holds))
    apply_changes(conn, world, later)
    return later


def explain_all(store: Store, kept: Journal, age: str) -> None:
    import json

    for tier, kind in kept.places:
        message_id = record(tier, kind).message_id
        done = store.cli("explain", message_id, "--as-of", at(AGES[age]), "--json", check=False)
        kept.explained[tier, kind, age] = json.loads(done.stdout)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_named_record_through_the_years(journal: Journal, tier: str, kind: str) -> None:
    table = BUSINESS if tier == "business" else CONSUMER
    names = {"app": "app", "box": "quarantine", "--": "gone"}
    expected = dict(zip(AGES, (names[word] for word in table[kind].split()), strict=True))
    assert journal.places[tier, kind] == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_record_leaves_a_research_row_when_its_default_takes_it(journal: Journal, tier: str, kind: str) -> None:
    length = len(record(tier, kind).body or "")
    for age, place in journal.places[tier, kind].items():
        left = tier == "evaluation" and kind in LEAVES_RESEARCH and place == "gone"
        assert (length in journal.research[age]) == left, age


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", TIERS)
def test_explain_names_the_rule_that_decides(journal: Journal, tier: str, kind: str) -> None:
    said = journal.explained[tier, kind, "day 1"]
    wanted = RULES[kind][tier == "business"]
    # The research rule is the evaluation tier's variant of the consumer default: either names the decision.
    also = {"research"} if tier == "evaluation" and wanted == "consumer_default" else set()
    assert said["deciding_rule"] in {wanted} | also
    assert said["tier"] == tier
    assert said["location"] == "app"
    assert said["due"] is (tier == "business" and kind == "agreed 0")


@pytest.mark.parametrize("tier", TIERS)
def test_explain_names_the_erasure_once_it_is_asked_for(journal: Journal, tier: str) -> None:
    said = journal.explained[tier, "erased", "day 27"]
    assert (said["deciding_rule"], said["due"]) == ("erasure_request", True)


@pytest.mark.parametrize("tier", ["consumer", "beta", "evaluation"])
def test_explain_finds_a_flagged_record_in_quarantine(journal: Journal, tier: str) -> None:
    said = journal.explained[tier, "flagged", "day 27"]
    assert (said["deciding_rule"], said["location"], said["due"]) == ("safety_flagged", "quarantine", False)
    assert str(said["deadline"]).startswith("2017-03-02")
