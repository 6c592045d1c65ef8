"""Two databases in one deployment: asked together, told apart, and never in each other's way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from typer.testing import CliRunner, Result

from lifecycle.cli.main import app
from lifecycle.demo.servers import Postgres, S3Server
from lifecycle.deployment import using
from lifecycle.errors import LifecycleError
from lifecycle.orchestration import steps
from lifecycle.orchestration.neighbours import SharedBucketError
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from lifecycle.stores.postgres.connect import connect
from lifecycle.stores.postgres.identity import WrongStoreError
from reference_store.create import BucketSpec
from support.buckets import fresh_buckets
from support.servers import fresh_database

pytestmark = pytest.mark.timeout(300)
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
DEAD = "postgres://nobody@127.0.0.1:1/nothing"


@dataclass(frozen=True)
class Pair:
    """Stores ``chat`` and ``shop``, each with a database; ``file`` lists them."""

    file: Path
    conninfo: dict[str, str]

    def cli(self, *words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    def json(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cli(*words, "--json").stdout)
        return found

    def rows(self, store: str, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.conninfo[store], autocommit=True) as conn:
            return conn.execute(query.encode()).fetchall()


@pytest.fixture(scope="module")
def pair(
    postgres_server: Postgres,
    s3_server: S3Server,
    s3_session_client: Any,
    buckets: tuple[BucketSpec, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    fresh_buckets(s3_server, s3_session_client, buckets)
    folder = tmp_path_factory.mktemp("stores")
    text = shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")
    (folder / "chat.yaml").write_text(text, encoding="utf-8")
    (folder / "shop.yaml").write_text(text, encoding="utf-8")
    file = folder / "stores.yaml"
    file.write_text(
        f"version: 1\npolicy: {shipped('policies/retention.yaml')}\nstores:\n"
        "  - {name: chat, datasets: chat.yaml, postgres: lifecycle_postgres_chat}\n"
        "  - {name: shop, datasets: shop.yaml, postgres: lifecycle_postgres_shop}\n",
        encoding="utf-8",
    )
    with (
        fresh_database(postgres_server) as chat,
        fresh_database(postgres_server) as shop,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, database in (("CHAT", chat), ("SHOP", shop)):
            connection = json.dumps(postgres_server.airflow_connection(database))
            patch.setenv(f"AIRFLOW_CONN_LIFECYCLE_POSTGRES_{name}", connection)
        patch.setenv("AIRFLOW_CONN_LIFECYCLE_S3", json.dumps(s3_server.airflow_connection()))
        patch.setenv("LIFECYCLE_STORES", str(file))
        for name in ("LIFECYCLE_STORE", "LIFECYCLE_POLICY", "LIFECYCLE_DATASETS", "AIRFLOW_CONN_LIFECYCLE_POSTGRES"):
            patch.delenv(name, raising=False)
        yield Pair(file, {"chat": postgres_server.conninfo(chat), "shop": postgres_server.conninfo(shop)})


@pytest.fixture
def shop_is_down(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LIFECYCLE_POSTGRES_SHOP", DEAD)


@pytest.fixture
def own_buckets(pair: Pair) -> Iterator[None]:
    """For a while the shop has buckets of its own (which are not there)."""
    path = pair.file.parent / "shop.yaml"
    text = path.read_text(encoding="utf-8")
    for bucket in ("product-data", "product-logs", "quarantine", "lifecycle-evidence", "research"):
        text = text.replace(f"bucket: {bucket}", f"bucket: shop-{bucket}")
    before = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    yield
    path.write_text(before, encoding="utf-8")


def hold_in(pair: Pair, store: str, target: str) -> list[tuple[Any, ...]]:
    return pair.rows(store, f"SELECT hold_id::text, released_at FROM lifecycle.legal_holds WHERE target = '{target}'")


def place(pair: Pair, target: str, *more: str) -> dict[str, Any]:
    return pair.json("hold", "place", "--scope", "account", "--target", target, "--reason", "case 12", *more)


def test_one_store_is_chosen_by_name(pair: Pair) -> None:
    target = str(uuid4())
    held = place(pair, target, "--store", "shop")
    assert hold_in(pair, "shop", target) == [(held["hold_id"], None)]
    assert hold_in(pair, "chat", target) == []


def test_with_several_stores_a_command_without_one_does_nothing(pair: Pair) -> None:
    target = str(uuid4())
    done = pair.cli("hold", "place", "--scope", "account", "--target", target, "--reason", "case 12")
    assert done.exit_code == 2
    assert "Choose with --store one of: chat, shop" in done.stderr
    assert hold_in(pair, "chat", target) == hold_in(pair, "shop", target) == []


def test_an_unknown_store_is_refused_before_the_known_ones_are_touched(pair: Pair) -> None:
    target = str(uuid4())
    done = pair.cli(
        *("hold", "place", "--scope", "account", "--target", target, "--reason", "r", "--store", "chat,shoop")
    )
    assert done.exit_code == 2 and "there is no store 'shoop'" in done.stderr
    assert hold_in(pair, "chat", target) == []


def test_a_hold_on_a_person_in_all_stores_has_one_id_and_is_placed_once(pair: Pair) -> None:
    target = str(uuid4())
    first = place(pair, target, "--store", "all")
    again = place(pair, target, "--store", "all")
    [hold_id] = {each["result"]["hold_id"] for each in first["stores"]}
    assert first["passed"] and [each["store"] for each in first["stores"]] == ["chat", "shop"]
    assert {each["result"]["hold_id"] for each in again["stores"]} == {hold_id}
    assert hold_in(pair, "chat", target) == hold_in(pair, "shop", target) == [(hold_id, None)]

    assert pair.cli("hold", "release", hold_id, "--store", "all").exit_code == 0
    assert pair.cli("hold", "release", hold_id, "--store", "all").exit_code == 0, "again is as once"
    assert [each[1] is None for store in ("chat", "shop") for each in hold_in(pair, store, target)] == [False, False]


def test_when_one_store_fails_the_others_are_done_and_the_command_is_red(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = str(uuid4())
    good = _connection("CHAT")
    monkeypatch.setenv("AIRFLOW_CONN_LIFECYCLE_POSTGRES_CHAT", DEAD)
    done = pair.cli(
        *("hold", "place", "--scope", "account", "--target", target, "--reason", "case 12", "--store", "all")
    )
    assert done.exit_code == 1
    assert "AIRFLOW_CONN_LIFECYCLE_POSTGRES_CHAT" in done.stderr
    assert "failed in 1 of 2 stores: chat" in done.stderr
    [(hold_id, _)] = hold_in(pair, "shop", target)

    monkeypatch.setenv("AIRFLOW_CONN_LIFECYCLE_POSTGRES_CHAT", good)
    assert place(pair, target, "--store", "all")["passed"]
    assert hold_in(pair, "chat", target) == [(hold_id, None)], "the second try goes on with the id of the first"
    assert hold_in(pair, "shop", target) == [(hold_id, None)]


def _connection(name: str) -> str:
    return os.environ[f"AIRFLOW_CONN_LIFECYCLE_POSTGRES_{name}"]


def test_an_erasure_request_in_all_stores_is_entered_once(pair: Pair) -> None:
    target = str(uuid4())
    words = ("erase", "request", "--scope", "account", "--target", target, "--store", "all")
    found = [pair.json(*words), pair.json(*words)]
    [request_id] = {each["result"]["request_id"] for one in found for each in one["stores"]}
    for store in ("chat", "shop"):
        query = f"SELECT request_id::text FROM lifecycle.erasure_requests WHERE target = '{target}'"
        assert pair.rows(store, query) == [(request_id,)]
    status = pair.json("erase", "status", request_id, "--store", "all")
    assert [each["result"]["outcome"] for each in status["stores"]] == [None, None]


def test_the_audit_goes_over_all_and_tells_per_store(pair: Pair, own_buckets: None) -> None:
    """The shop's buckets are not there: its audit cannot be made, which is no pass, and the chat's is made."""
    done = pair.cli("audit", "--as-of", "2026-11-01", "--store", "all", "--json")
    chat, shop = json.loads(done.stdout)["stores"]
    assert done.exit_code == 1
    assert chat["result"]["checks"]
    assert (shop["passed"], shop["result"]) == (False, None)
    assert "NoSuchBucket" in shop["error"]


def test_a_command_that_is_no_reading_takes_one_store(pair: Pair) -> None:
    done = pair.cli("store", "create", "--store", "all")
    assert done.exit_code == 2 and "one store at a time" in done.stderr


def test_two_stores_may_not_share_a_bucket(pair: Pair) -> None:
    """What the chat does not know would be an orphan to the shop (case 13)."""
    with using("chat"), pytest.raises(SharedBucketError, match="product-data") as caught:
        steps.begin("records", AS_OF)
    assert caught.value.other == "shop"


def test_two_names_of_one_database_are_found_out(
    pair: Pair, own_buckets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with using("chat"):
        steps.fail(steps.begin("records", AS_OF, run_key="one"))
    monkeypatch.setenv("AIRFLOW_CONN_LIFECYCLE_POSTGRES_SHOP", _connection("CHAT"))
    with using("shop"), pytest.raises(WrongStoreError, match="database of store 'chat'"):
        steps.begin("records", AS_OF, run_key="two")
    target = str(uuid4())
    done = pair.cli("hold", "place", "--scope", "account", "--target", target, "--reason", "r", "--store", "shop")
    assert done.exit_code == 1 and "database of store 'chat'" in done.stderr
    assert hold_in(pair, "chat", target) == []


def test_a_renamed_store_adopts_its_database(pair: Pair) -> None:
    pair.rows("shop", "INSERT INTO lifecycle.store_identity (name) VALUES ('old_shop') RETURNING name")
    assert pair.json("stores", "adopt", "--store", "shop") == {"store": "shop", "before": "old_shop"}
    assert pair.rows("shop", "SELECT name FROM lifecycle.store_identity") == [("shop",)]


def test_a_store_that_is_down_stops_no_run_of_another(pair: Pair, own_buckets: None, shop_is_down: None) -> None:
    with using("chat"):
        steps.fail(steps.begin("erasure", AS_OF, run_key="three"))
    with using("shop"), pytest.raises((LifecycleError, psycopg.OperationalError)):
        steps.begin("erasure", AS_OF)


def test_stores_lists_each_with_its_state(pair: Pair, shop_is_down: None) -> None:
    done = pair.cli("stores", "--json")
    chat, shop = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (chat["name"], chat["postgres"], chat["problem"]) == ("chat", "lifecycle_postgres_chat", None)
    assert chat["state"] in ("fine", "at risk", "broken") and chat["holds"] >= 0
    assert (shop["state"], shop["problem"]) == ("unreadable", "PostgreSQL: OperationalError")


def test_the_pools_of_all_stores_are_printed_for_airflow(pair: Pair) -> None:
    made = json.loads(pair.cli("stores", "pools").stdout)
    assert set(made) == {f"retention_{store}_{what}" for store in ("chat", "shop") for what in ("postgres", "s3")}
    assert all(pool["slots"] > 0 for pool in made.values())


def test_the_console_shows_one_store_at_a_time(pair: Pair) -> None:
    from fastapi import Depends
    from fastapi.testclient import TestClient

    from lifecycle.console.app import create_app

    target = str(uuid4())
    before = _holds_open(client := TestClient(create_app([Depends(lambda: None)])), "shop")
    place(pair, target, "--store", "shop")
    assert _holds_open(client, "shop") == before + 1
    page = client.get("/?store=shop").text
    assert 'href="?store=chat"' in page and 'href="explain?store=shop"' in page
    assert client.get("/api/overview?store=none").status_code == 404
    with using("chat"), connect() as conn:
        row = conn.execute("SELECT count(*) FROM lifecycle.legal_holds WHERE target = %s", (target,)).fetchone()
    assert row == (0,)


def _holds_open(client: Any, store: str) -> int:
    found: int = client.get(f"/api/overview?store={store}").json()["queues"]["holds_open"]
    return found
