"""The choke point: one writer per unit, holds that win, and no way around it (hard cases 4 and 27)."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

import lifecycle
from lifecycle.config import load_configuration
from lifecycle.dispositions.gate import open_gate, take_lease, through_gate
from lifecycle.errors import FencedOutError, RunInProgressError
from lifecycle.ledger import runs
from lifecycle.orchestration import steps
from lifecycle.stores.postgres.connect import Connection, connect
from support.store import Store

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
CATALOG = load_configuration().catalog


@pytest.fixture
def planned(store: Store) -> Iterator[tuple[Store, Connection, int, str]]:
    """A planned run with one unit to expire."""
    store.insert_message(tier="business", received_at=AS_OF - timedelta(days=40))
    run_id = steps.begin("business", AS_OF, run_key="test/1")
    steps.partition(run_id)
    steps.plan(run_id)
    (unit,) = steps.units(run_id)
    with connect() as conn:
        yield store, conn, run_id, unit


def test_a_zombie_whose_unit_was_taken_over_destroys_nothing(planned: tuple[Store, Connection, int, str]) -> None:
    """Case 27: the old try finds its token outdated at the gate."""
    _, conn, run_id, unit = planned
    zombie = take_lease(conn, run_id, unit)
    take_lease(conn, run_id, unit)
    with pytest.raises(FencedOutError) as caught, open_gate(conn, CATALOG, zombie):
        pytest.fail("the gate opened for a zombie")
    assert caught.value.token == zombie.token


def test_a_takeover_waits_until_the_gate_of_the_old_try_is_closed(planned: tuple[Store, Connection, int, str]) -> None:
    """Case 27: a try that is in the middle of destroying finishes first; the new one never overlaps it."""
    _, conn, run_id, unit = planned
    old = take_lease(conn, run_id, unit)
    order: list[str] = []

    def take_over() -> None:
        with connect() as other:
            take_lease(other, run_id, unit)
            order.append("taken over")

    thread = threading.Thread(target=take_over)
    with open_gate(conn, CATALOG, old) as gate:
        thread.start()
        thread.join(timeout=0.5)
        gate.check()
        order.append("gate closes")
    thread.join(timeout=10)
    assert order == ["gate closes", "taken over"]


def test_a_permit_is_worthless_once_its_gate_is_closed(planned: tuple[Store, Connection, int, str]) -> None:
    _, conn, run_id, unit = planned
    with open_gate(conn, CATALOG, take_lease(conn, run_id, unit)) as gate:
        gate.check()
    with pytest.raises(FencedOutError):
        gate.check()


def test_a_hold_that_comes_while_the_gate_is_open_waits(planned: tuple[Store, Connection, int, str]) -> None:
    """Case 4: whoever commits first wins; a later hold waits instead of being overlooked."""
    store, conn, run_id, unit = planned
    lease = take_lease(conn, run_id, unit)
    with open_gate(conn, CATALOG, lease), store.connect() as other:
        other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(
                "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by)"
                " VALUES ('dataset', 'messages', 'r', 'p')"
            )


def test_a_hold_that_commits_after_the_plan_and_before_the_act_wins(
    planned: tuple[Store, Connection, int, str],
) -> None:
    """Case 4: the plan was to delete; the hold committed first; the record stays."""
    store, _, run_id, unit = planned
    store.sql(
        "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by)"
        " VALUES ('dataset', 'app.messages', 'r', 'p')"
    )
    steps.expire(run_id, unit)
    assert store.value("SELECT count(*) FROM app.messages") == 1
    assert store.sql("SELECT 1 FROM lifecycle.ledger WHERE (counts->>'records')::int > 0") == []


def test_the_gate_is_tried_again_while_its_locks_are_busy(planned: tuple[Store, Connection, int, str]) -> None:
    """Case 19: never a queue of blocked queries behind ours; we step back and come again."""
    store, conn, run_id, unit = planned
    lease = take_lease(conn, run_id, unit)
    busy, entered = threading.Event(), threading.Event()

    def write_a_hold_slowly() -> None:
        with store.connect() as other, other.transaction():
            other.execute(
                "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by)"
                " VALUES ('message', '00000000-0000-0000-0000-000000000000', 'r', 'p')"
            )
            busy.set()
            entered.wait(timeout=2)

    thread = threading.Thread(target=write_a_hold_slowly)
    thread.start()
    assert busy.wait(timeout=10)
    through_gate(conn, CATALOG, lease, lambda gate: gate.check())
    entered.set()
    thread.join(timeout=10)


def test_two_runs_of_a_scope_at_once_are_refused(planned: tuple[Store, Connection, int, str]) -> None:
    with pytest.raises(RunInProgressError) as caught:
        steps.begin("business", AS_OF, run_key="test/2")
    assert caught.value.run_key == "test/1"


def test_a_run_whose_process_died_can_be_followed_at_once(store: Store) -> None:
    """The life of a command-line run is that of its connection: nobody waits for a lease after a SIGKILL."""
    with connect() as owner:
        first = steps.begin("beta", AS_OF, owner=owner)
        with pytest.raises(RunInProgressError), connect() as rival:
            steps.begin("beta", AS_OF - timedelta(days=1), owner=rival)
    with connect() as heir:
        assert steps.begin("beta", AS_OF, owner=heir) == first


def test_a_later_run_writes_down_what_a_dead_one_had_done(store: Store) -> None:
    """Promise 5: acts of a run that is never resumed still reach the ledger, as that run's."""
    store.insert_message(tier="business", received_at=AS_OF - timedelta(days=40), object_body="x")
    with connect() as owner:
        dead = steps.begin("business", AS_OF - timedelta(days=1), owner=owner)
        steps.partition(dead)
        steps.plan(dead)
        (unit,) = steps.units(dead)
        take_lease(owner, dead, unit)
        owner.execute(
            "UPDATE lifecycle.plan_units SET progress = %s WHERE unit = %s",
            ('{"delete:business_default": {"records": 1}}', unit),
        )
    steps.begin("business", AS_OF, run_key="test/next")
    found = store.sql("SELECT entry, counts->>'records' FROM lifecycle.ledger WHERE run_id = %s", dead)
    assert ("outcome", "1") in found
    assert store.value("SELECT status FROM lifecycle.runs WHERE run_id = %s", dead) == "abandoned"


def test_a_run_is_resumed_only_under_the_policy_it_was_planned_under(store: Store) -> None:
    with store.connect() as conn:
        facts = {"scope": "beta", "as_of": AS_OF, "run_key": "test/p", "dry_run": False, "owner": None}
        runs.begin(conn, hashes=("a", "b"), **facts)  # type: ignore[arg-type]
        with pytest.raises(Exception, match="another policy"):
            runs.begin(conn, hashes=("other", "b"), **facts)  # type: ignore[arg-type]


# -- nothing goes around the gate ---------------------------------------------------------------------------------

_PACKAGE = Path(lifecycle.__file__).parent
_S3_DESTROYERS = {"destroy_keys", "destroy_versions", "rewrite_object"}


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            yield name, node


def test_every_destructive_s3_call_passes_a_gate() -> None:
    """Case 4: the permit of `destroy_keys` and `rewrite_object` is, in every disposition, the gate itself."""
    seen = 0
    for path in (_PACKAGE / "dispositions").glob("*.py"):
        for name, call in _calls(ast.parse(path.read_text(encoding="utf-8"))):
            if name in _S3_DESTROYERS:
                seen += 1
                permit = call.args[1]
                # Between threads the gate is shared by one wrapper, which is made of nothing else.
                shared = "SharedPermit(gate)" in path.read_text(encoding="utf-8")
                allowed = {"gate", "permit"} if shared else {"gate"}
                assert isinstance(permit, ast.Name) and permit.id in allowed, f"{path.name}:{call.lineno}"
    assert seen >= 6


def test_boto3s_own_delete_calls_stand_in_the_s3_engine_only() -> None:
    """Case 4: there is one place that sends DeleteObject(s) requests, and it asks a permit before each."""
    wanted = {"delete_object", "delete_objects"}
    found = {
        path.relative_to(_PACKAGE).parts[:2]
        for path in _PACKAGE.rglob("*.py")
        for name, _ in _calls(ast.parse(path.read_text(encoding="utf-8")))
        if name in wanted
    }
    assert found <= {("stores", "s3")}, found


def test_sql_that_destroys_application_data_is_reached_through_the_gate_only() -> None:
    """Case 4: every function of the dispositions that calls a deleting SQL helper has a gate in hand."""
    deleting = {
        "delete_rows",
        "delete_children",
        "delete_moved_children",
        "delete_children_of_dropped",
        "swap_in",
        "put_in_place",
        "drop_partition",
        "_remove",
        "forget",
        "restore_row",
    }
    for path in (_PACKAGE / "dispositions").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            called = {name for name, _ in _calls(function)} & deleting
            arguments = {argument.arg for argument in function.args.args}
            if called:
                assert "gate" in arguments, f"{path.name}: {function.name} calls {sorted(called)} without a gate"
