"""Scores go at seven years, feedback at ten, idle accounts at three, training examples with their basis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from dispositions.conftest import RunWorld
from oracle.compare import differences, report
from oracle.dates import TICK, utc, years_later
from oracle.endstate import judge_run
from oracle.facts import Account, Feedback, Hold, Score, Training, World, ident
from oracle.named import AS_OF, DAY, flag, message
from oracle.observe import Observed
from oracle.stores import Servers, look, run

pytestmark = pytest.mark.timeout(300)

SEVEN, TEN, THREE = (years_later(AS_OF, -years, up=False) for years in (7, 10, 3))
# "For 7 years" is both kinds of period: not before its end, and promptly after.
SCORED = {"over": SEVEN - TICK, "just not over": SEVEN, "young": AS_OF - DAY}
SUBMITTED = {"over": TEN - TICK, "just not over": TEN, "young": AS_OF - DAY}
IDLE = {"over": THREE - TICK, "just not over": THREE, "active": AS_OF - DAY}

FLAGGED, PLAIN = message("flagged", age=DAY), message("plain", age=DAY)
CLEARED, OLD = message("cleared", age=DAY), message("old")
BASES = {
    "permission": (PLAIN, "permission", True),
    "safety review, flagged": (FLAGGED, "safety_review", True),
    "safety review, not flagged": (PLAIN, "safety_review", False),
    "safety review, flag cleared": (CLEARED, "safety_review", False),
    "no such basis": (PLAIN, "curiosity", False),
    "permission, message due": (OLD, "permission", False),
}


def _score(name: str, at: datetime, account: object = "s") -> Score:
    return Score(ident("score", name), ident("message of", name), ident("account of", account), "consumer", at)


def _feedback(name: str, at: datetime, **more: object) -> Feedback:
    row = Feedback(ident("feedback", name), ident("account f"), ident("conversation of", name), None, at)
    return replace(row, **more)  # type: ignore[arg-type]


def _account(name: str, last: datetime) -> Account:
    return Account(ident("account", name), "beta", f"{len(name)}@example.org", "Some Body", last - DAY, last)


def records_world() -> World:
    idle_but_referenced = replace(_account("referenced", THREE - DAY), account_id=ident("account of", "s"))
    return World(
        messages=(FLAGGED, PLAIN, CLEARED, OLD),
        flags=(flag(FLAGGED), flag(CLEARED, cleared_at=AS_OF)),
        scores=(
            *(_score(name, at) for name, at in SCORED.items()),
            _score("held", SEVEN - DAY * 100, "held"),
            replace(_score("business", SEVEN - DAY), tier="business"),
            replace(_score("unknown tier", SEVEN - DAY), tier="prototype"),
        ),
        feedback=(
            *(_feedback(name, at) for name, at in SUBMITTED.items()),
            _feedback("withdrawn", AS_OF - DAY * 900, withdrawn_at=AS_OF - DAY),
            _feedback("held", TEN - DAY * 9, conversation_id=ident("held conversation")),
        ),
        accounts=(
            *(_account(name, last) for name, last in IDLE.items()),
            _account("held", THREE - DAY),
            idle_but_referenced,
        ),
        training=tuple(
            Training(ident("training", name), m.message_id, m.account_id, basis, AS_OF - DAY)
            for name, (m, basis, _) in BASES.items()
        ),
        holds=(
            Hold(ident("h1"), "account", str(ident("account of", "held")), AS_OF - DAY),
            Hold(ident("h2"), "conversation", str(ident("held conversation")), AS_OF - DAY),
            Hold(ident("h3"), "account", str(ident("account", "held")), AS_OF - DAY),
        ),
    )


@pytest.fixture(scope="module")
def seen(after_run: RunWorld) -> Iterator[Observed]:
    world = records_world()
    with after_run(world) as (_, observed):
        found = differences(judge_run(world, AS_OF), observed)
        assert not found, report(found)
        yield observed


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("over", False),
        ("just not over", True),
        ("young", True),
        ("held", True),
        ("business", False),
        ("unknown tier", False),
    ],
)
def test_scores_go_at_seven_years(seen: Observed, name: str, stays: bool) -> None:
    assert (ident("score", name) in seen.scores) == stays


@pytest.mark.parametrize(
    ("name", "stays"),
    [("over", False), ("just not over", True), ("young", True), ("withdrawn", True), ("held", True)],
)
def test_feedback_goes_at_ten_years_withdrawn_or_not(seen: Observed, name: str, stays: bool) -> None:
    assert (ident("feedback", name) in seen.feedback) == stays


@pytest.mark.parametrize("name", BASES)
def test_training_examples_have_a_valid_basis(seen: Observed, name: str) -> None:
    assert (ident("training", name) in seen.training) == BASES[name][2]


def test_an_idle_account_that_nothing_refers_to_is_removed(seen: Observed) -> None:
    assert ident("account", "over") not in seen.accounts


def test_an_idle_account_that_something_refers_to_keeps_its_row_without_personal_data(seen: Observed) -> None:
    assert seen.accounts[ident("account of", "s")] == (None, None)


@pytest.mark.parametrize("name", ["just not over", "active", "held"])
def test_other_accounts_keep_their_data(seen: Observed, name: str) -> None:
    assert seen.accounts[ident("account", name)] == (f"{len(name)}@example.org", "Some Body")


def test_an_accounts_row_goes_once_nothing_refers_to_it_any_more(servers: Servers) -> None:
    """The last score that names it falls due a year later."""
    account = _account("a", THREE - DAY)
    score = replace(_score("s", SEVEN + DAY * 300), account_id=account.account_id)
    with servers.store(World(accounts=(account,), scores=(score,))) as store:
        assert run(store, AS_OF).code == 0
        assert look(store).accounts[account.account_id] == (None, None)
        assert run(store, AS_OF + DAY * 310).code == 0
        after = look(store)
    assert (dict(after.accounts), after.scores) == ({}, frozenset())


def test_no_row_goes_with_an_account_by_a_foreign_key_that_nobody_listed(servers: Servers) -> None:
    """Promise 1: the account's data is emptied, its row stays, and so does what PostgreSQL would take along."""
    account = _account("a", THREE - DAY)
    with servers.store(World(accounts=(account,))) as store:
        store.sql("CREATE TABLE app.invoices (account_id uuid REFERENCES app.accounts ON DELETE CASCADE)")
        store.sql("INSERT INTO app.invoices VALUES (%s)", account.account_id)
        done = run(store, AS_OF, scope="records")
        assert done.code == 0 and "invoices_account_id_fkey" in done.stderr and "referenced_by" in done.stderr
        assert look(store).accounts[account.account_id] == (None, None)
        assert store.value("SELECT count(*) FROM app.invoices") == 1


def test_minimums_from_29_february_end_on_1_march_case_11(servers: Servers) -> None:
    """Seven years and three years from a leap day: all day long on 28 February it is too early."""
    leap = utc(2016, 2, 29, 8)
    account = _account("leap", utc(2020, 2, 29, 8))
    world = World(accounts=(account,), scores=(_score("leap", leap),))
    with servers.store(world) as store:
        assert run(store, utc(2023, 3, 1, 8)).code == 0
        before = look(store)
        assert run(store, utc(2023, 3, 1, 8) + TICK).code == 0
        after = look(store)
    assert (len(before.scores), len(before.accounts)) == (1, 1)
    assert (len(after.scores), len(after.accounts)) == (0, 0)


@pytest.mark.parametrize(
    ("dataset", "part"),
    [
        ("feedback", "feedback"),
        ("app.feedback", "feedback"),
        ("safety_scores", "scores"),
        ("app.safety_scores", "scores"),
        ("accounts", "accounts"),
        ("app.accounts", "accounts"),
        ("training_examples", "training"),
    ],
)
def test_a_dataset_under_hold_keeps_all_its_records(servers: Servers, dataset: str, part: str) -> None:
    m = message("m", age=DAY)
    world = World(
        messages=(m,),
        accounts=(_account("idle", THREE - DAY),),
        scores=(_score("over", SEVEN - DAY),),
        feedback=(_feedback("over", TEN - DAY),),
        training=(Training(ident("t"), m.message_id, m.account_id, "curiosity", AS_OF - DAY),),
        holds=(Hold(ident("h"), "dataset", dataset, AS_OF - DAY),),
    )
    with servers.store(world) as store:
        assert run(store, AS_OF).code == 0
        after = look(store)
    left = {name: len(getattr(after, name)) for name in ("feedback", "scores", "accounts", "training")}
    assert left == {name: int(name == part) for name in left}
