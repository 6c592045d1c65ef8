"""``lifecycle hold``, against a real store."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import typer

from lifecycle.catalog.load import load_catalog
from lifecycle.cli.targets import parse_id
from support.store import Store

ACCOUNT = "0190a5d2-7c1e-7a41-9d7c-2f6f0c1b2a3d"


def place(
    store: Store, *extra: str, scope: str = "account", target: str = ACCOUNT, check: bool = True
) -> tuple[int, str, str]:
    done = store.cli("hold", "place", "--scope", scope, "--target", target, "--reason", "case 12", *extra, check=check)
    return done.returncode, done.stdout, done.stderr


def test_place_list_release(store: Store) -> None:
    placed = json.loads(place(store, "--by", "counsel", "--at", "2026-08-01T06:00:00+02:00", "--json")[1])
    assert placed == {
        "hold_id": placed["hold_id"],
        "scope": "account",
        "target": ACCOUNT,
        "reason": "case 12",
        "placed_by": "counsel",
        "placed_at": "2026-08-01T04:00:00Z",
        "released_at": None,
    }
    assert json.loads(store.cli("hold", "list", "--json").stdout) == [placed]

    released = json.loads(store.cli("hold", "release", placed["hold_id"], "--at", "2026-08-02", "--json").stdout)
    assert released == placed | {"released_at": "2026-08-02T00:00:00Z"}
    assert json.loads(store.cli("hold", "list", "--json").stdout) == []
    assert json.loads(store.cli("hold", "list", "--all", "--json").stdout) == [released]
    assert store.sql("SELECT hold_id::text, released_at FROM lifecycle.legal_holds") == [
        (placed["hold_id"], datetime(2026, 8, 2, tzinfo=UTC))
    ]


def test_for_people(store: Store) -> None:
    assert store.cli("hold", "list").stdout == "no holds\n"
    assert f"placed on account {ACCOUNT}" in place(store)[1]
    listed = store.cli("hold", "list").stdout
    assert ACCOUNT in listed and "case 12" in listed
    hold_id = store.value("SELECT hold_id FROM lifecycle.legal_holds")
    assert store.cli("hold", "release", hold_id).stdout == f"hold {hold_id} released\n"


def test_without_a_time_it_is_now_and_without_a_name_it_is_the_user(store: Store) -> None:
    before = datetime.now(UTC)
    place(store)
    ((placed_at, placed_by),) = store.sql("SELECT placed_at, placed_by FROM lifecycle.legal_holds")
    assert before <= placed_at <= datetime.now(UTC)
    assert placed_by


@pytest.mark.parametrize("scope", ["account", "conversation", "message"])
def test_targets_are_stored_in_the_spelling_that_runs_compare(store: Store, scope: str) -> None:
    place(store, scope=scope, target=f" {{{ACCOUNT.upper()}}} ")
    assert store.sql("SELECT scope, target FROM lifecycle.legal_holds") == [(scope, ACCOUNT)]


def test_a_text_id_that_looks_like_a_uuid_is_not_spelled_anew() -> None:
    """Text is compared letter by letter: a hold or a request in another spelling would find nothing, and say so to
    nobody."""
    logs = load_catalog(Path(__file__).parents[2] / "include/datasets/litellm.yaml")
    table = logs.tables[0].model_copy(update={"ids": "text", "stages": (), "children": ()})
    text = logs.model_copy(update={"datasets": (table,)})
    mixed = text.model_copy(update={"datasets": (table, table.model_copy(update={"ids": "uuid"}))})
    bare = ACCOUNT.replace("-", "")
    for given in (bare, ACCOUNT.upper(), ACCOUNT, "chatcmpl-1"):
        assert parse_id(f" {given} ", lambda: text, "--target") == given
    for given in (ACCOUNT.upper(), ACCOUNT, "chatcmpl-1"):
        assert parse_id(given, lambda: mixed, "--target") == given
    with pytest.raises(typer.BadParameter, match="may be a UUID or a text id") as told:
        parse_id(bare, lambda: mixed, "--target")
    assert bare not in str(told.value)


@pytest.mark.parametrize("name", ["messages", "app.messages", "request_logs", "accounts", "app.feedback"])
def test_a_dataset_is_held_by_id_or_table(store: Store, name: str) -> None:
    place(store, scope="dataset", target=name)
    assert store.sql("SELECT scope, target FROM lifecycle.legal_holds") == [("dataset", name)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--scope", "dataset", "--target", "app.nothing", "--reason", "r"), "no such dataset"),
        (("--scope", "account", "--target", "somebody@example.com", "--reason", "r"), "not a UUID"),
        (("--scope", "person", "--target", ACCOUNT, "--reason", "r"), "person"),
        (("--scope", "account", "--target", ACCOUNT, "--reason", "  "), "needs a reason"),
        (("--scope", "account", "--target", ACCOUNT), "--reason"),
        (("--scope", "account", "--target", ACCOUNT, "--reason", "r", "--at", "2026-08-01T06:00"), "time zone"),
    ],
)
def test_what_cannot_be_held_is_refused_and_nothing_is_written(
    store: Store, arguments: tuple[str, ...], says: str
) -> None:
    done = store.cli("hold", "place", *arguments, check=False)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert "somebody@example.com" not in done.stderr
    assert store.value("SELECT count(*) FROM lifecycle.legal_holds") == 0


def test_releasing_what_is_unknown_or_released_is_a_clear_error(store: Store) -> None:
    done = store.cli("hold", "release", uuid4(), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no hold with that id" in done.stderr

    place(store)
    hold_id: UUID = store.value("SELECT hold_id FROM lifecycle.legal_holds")
    store.cli("hold", "release", hold_id, "--at", "2026-08-02")
    done = store.cli("hold", "release", hold_id, "--at", "2026-08-03", check=False)
    assert done.returncode == 1
    assert "already been released, at 2026-08-02" in done.stderr
    assert store.value("SELECT released_at FROM lifecycle.legal_holds") == datetime(2026, 8, 2, tzinfo=UTC)

    assert store.cli("hold", "release", "not-an-id", check=False).returncode == 2


def test_a_hold_that_ends_later_is_still_open(store: Store) -> None:
    place(store)
    hold_id = store.value("SELECT hold_id FROM lifecycle.legal_holds")
    store.cli("hold", "release", hold_id, "--at", "9000-01-01")
    assert len(json.loads(store.cli("hold", "list", "--json").stdout)) == 1


def test_case_4_a_hold_waits_for_a_run_that_is_destroying_but_not_for_ever(store: Store) -> None:
    with store.connect() as run, run.transaction():
        run.execute("LOCK TABLE lifecycle.legal_holds IN SHARE MODE")
        started = time.monotonic()
        code, stdout, stderr = place(store, "--wait", "0.3", check=False)
        assert 0.3 <= time.monotonic() - started < 10
    assert (code, stdout) == (1, "")
    assert "the hold was not placed: a run is destroying data right now" in stderr
    assert "--wait" in stderr
    assert store.value("SELECT count(*) FROM lifecycle.legal_holds") == 0
    place(store, "--wait", "0.3")
    assert store.value("SELECT count(*) FROM lifecycle.legal_holds") == 1


def test_case_4_a_hold_is_placed_as_soon_as_the_run_lets_go(store: Store) -> None:
    with store.connect() as run:
        with run.transaction():
            run.execute("LOCK TABLE lifecycle.legal_holds IN SHARE MODE")
            waiting = store.cli_process(
                "hold", "place", "--scope", "account", "--target", ACCOUNT, "--reason", "case 12", "--wait", "60"
            )
            _until_somebody_waits(store)
        stdout, stderr = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, stderr
    assert "placed on account" in stdout
    assert store.value("SELECT count(*) FROM lifecycle.legal_holds") == 1


def _until_somebody_waits(store: Store) -> None:
    """Until another session queues for a lock on the holds."""
    deadline = time.monotonic() + 60
    query = "SELECT count(*) FROM pg_locks WHERE relation = 'lifecycle.legal_holds'::regclass AND NOT granted"
    while store.value(query) == 0:
        assert time.monotonic() < deadline, "the hold never asked for its lock"
        time.sleep(0.05)


def test_a_database_without_the_schema_is_a_clear_error(store: Store) -> None:
    store.sql("DROP SCHEMA lifecycle CASCADE")
    for arguments in (("hold", "list"), ("hold", "release", ACCOUNT), ("erase", "status")):
        done = store.cli(*arguments, check=False)
        assert done.returncode == 1
        assert "lifecycle store create" in done.stderr
